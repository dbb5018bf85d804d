-- Messages of the inbox that were pushed in vain, or that a process is pushing.
CREATE TABLE pushes (
    sequence      BIGINT PRIMARY KEY,          -- of the inbox
    attempts      BIGINT NOT NULL,
    due           BIGINT NOT NULL,             -- when to try (again)
    claimant      TEXT NOT NULL DEFAULT '',
    claimed_until BIGINT NOT NULL DEFAULT 0
);
