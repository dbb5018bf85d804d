-- Several processes on one database: who has an envelope or a receipt in hand, and until when.
ALTER TABLE outbound_envelopes ADD COLUMN claimant TEXT NOT NULL DEFAULT '';
ALTER TABLE outbound_envelopes ADD COLUMN claimed_until INTEGER NOT NULL DEFAULT 0;
ALTER TABLE owed_receipts ADD COLUMN claimant TEXT NOT NULL DEFAULT '';
ALTER TABLE owed_receipts ADD COLUMN claimed_until INTEGER NOT NULL DEFAULT 0;

-- An envelope may be sent again after it was received: its recipient restored an older copy and asks for it.
DROP INDEX outbound_due;
CREATE INDEX outbound_due ON outbound_envelopes (due) WHERE sent = 0 AND stage IN ('accepted', 'received');

-- When the sender asked for the message back.
ALTER TABLE outbound_messages ADD COLUMN recalled INTEGER;

-- 1: known again from what its recipients said after a restore.
ALTER TABLE outbound_messages ADD COLUMN recovered INTEGER NOT NULL DEFAULT 0;

-- Recalls of envelopes that have not arrived here yet: they are refused when they do.
CREATE TABLE recalls (
    envelope_id   TEXT NOT NULL,
    sender        TEXT NOT NULL,               -- nobody recalls what another sent
    agency        TEXT NOT NULL,
    at            INTEGER NOT NULL,
    PRIMARY KEY (envelope_id, sender)
);
CREATE INDEX recalls_age ON recalls (at);

-- Signed notes between nodes other than receipts (recalls, questions and answers after a restore).
CREATE TABLE owed_notes (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    type          TEXT NOT NULL,
    agency        TEXT NOT NULL,               -- of this node, who signs it
    recipient     TEXT NOT NULL,
    body          BLOB NOT NULL,
    claimant      TEXT NOT NULL DEFAULT '',
    claimed_until INTEGER NOT NULL DEFAULT 0
);

-- What was refused stays, sealed, until an operator replays or drops it, or its time is over.
ALTER TABLE dead_letters ADD COLUMN lane TEXT NOT NULL DEFAULT 'messages';
ALTER TABLE dead_letters ADD COLUMN expires INTEGER NOT NULL DEFAULT 0;
ALTER TABLE dead_letters ADD COLUMN body BLOB;
ALTER TABLE dead_letters ADD COLUMN replay INTEGER NOT NULL DEFAULT 0;
CREATE INDEX dead_letters_replay ON dead_letters (id) WHERE replay = 1;

-- After a restore: which peers still have to say what they know of the time that is missing.
CREATE TABLE reconciliations (
    agency        TEXT NOT NULL,
    peer          TEXT NOT NULL,
    since         INTEGER NOT NULL,            -- what happened from here on may be missing
    held          INTEGER NOT NULL,            -- inbox sequences up to here wait for the peer's word
    due           INTEGER NOT NULL,            -- when to ask (again)
    attempts      INTEGER NOT NULL DEFAULT 0,
    answered      INTEGER,                     -- when the peer answered
    PRIMARY KEY (agency, peer)
);
