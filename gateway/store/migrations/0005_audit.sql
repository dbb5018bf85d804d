-- The audit log: entries are only ever added; docs/audit.md.
CREATE TABLE audit_entries (
    number        INTEGER PRIMARY KEY,         -- from 0, without gaps: every write holds the one write lock
    body          TEXT NOT NULL,               -- JSON, without its number, exactly as it is hashed
    subject       TEXT                         -- to look entries up: a message, or `directory-changed`
);
CREATE INDEX audit_entries_of ON audit_entries (subject, number) WHERE subject IS NOT NULL;

-- Hashes of complete subtrees up to the latest checkpoint; the lowest levels are made from the entries.
CREATE TABLE audit_nodes (
    level         INTEGER NOT NULL,
    position      INTEGER NOT NULL,
    hash          BLOB NOT NULL,
    PRIMARY KEY (level, position)
);

-- Every checkpoint, as signed.
CREATE TABLE audit_checkpoints (
    origin        TEXT NOT NULL,
    size          INTEGER NOT NULL,
    at            INTEGER NOT NULL,
    note          TEXT NOT NULL,
    PRIMARY KEY (origin, size)
);

-- What was last entered of things that seldom change (directory, settings, keys), and the log's origin.
CREATE TABLE audit_facts (
    name          TEXT PRIMARY KEY,
    value         TEXT NOT NULL
);

-- The latest checkpoint of each peer's log, and every one that contradicts what it had shown before.
CREATE TABLE peer_checkpoints (
    peer          TEXT NOT NULL,
    origin        TEXT NOT NULL,
    size          INTEGER NOT NULL,
    root          TEXT NOT NULL,               -- hex
    at            INTEGER NOT NULL,            -- when it came
    fork          INTEGER NOT NULL DEFAULT 0,  -- 1: evidence, kept for good
    note          TEXT NOT NULL,
    PRIMARY KEY (peer, origin, size, root)
);

-- How much of our log each peer has confirmed, and when it was last sent a checkpoint.
CREATE TABLE audit_peers (
    agency        TEXT NOT NULL,
    peer          TEXT NOT NULL,
    origin        TEXT NOT NULL,
    confirmed     INTEGER NOT NULL DEFAULT 0,
    sent          INTEGER NOT NULL DEFAULT 0,  -- milliseconds
    PRIMARY KEY (agency, peer)
);
