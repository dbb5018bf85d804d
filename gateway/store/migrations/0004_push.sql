-- Messages of the inbox that were pushed in vain, or that a process is pushing.
CREATE TABLE pushes (
    sequence      INTEGER PRIMARY KEY,         -- of the inbox
    attempts      INTEGER NOT NULL,
    due           INTEGER NOT NULL,            -- when to try (again)
    claimant      TEXT NOT NULL DEFAULT '',
    claimed_until INTEGER NOT NULL DEFAULT 0
);
