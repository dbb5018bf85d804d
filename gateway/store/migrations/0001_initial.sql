-- Times are milliseconds since the epoch. Bodies are sealed envelopes or chunks. No personal data.

CREATE TABLE outbound_messages (
    message_id    TEXT PRIMARY KEY,
    agency        TEXT NOT NULL,
    case_id       TEXT NOT NULL,
    type          TEXT NOT NULL,
    version       INTEGER NOT NULL,
    in_reply_to   TEXT,
    created       INTEGER NOT NULL,
    expires       INTEGER NOT NULL,
    purpose       TEXT NOT NULL,
    lawful_basis  TEXT NOT NULL
);

CREATE TABLE outbound_envelopes (
    envelope_id   TEXT PRIMARY KEY,
    message_id    TEXT NOT NULL REFERENCES outbound_messages (message_id),
    position      INTEGER NOT NULL,
    recipient     TEXT NOT NULL,
    stage         TEXT NOT NULL,
    presumed      INTEGER NOT NULL DEFAULT 0,  -- 1: the stage is our own conclusion, not the recipient's word
    digest        BLOB NOT NULL,               -- SHA-256 of the body
    body          BLOB,                        -- dropped once the recipient's node holds it
    size          INTEGER NOT NULL,            -- bytes of body and chunks
    expires       INTEGER NOT NULL,
    sent          INTEGER NOT NULL DEFAULT 0,  -- 1: the transport confirmed it
    attempts      INTEGER NOT NULL DEFAULT 0,
    due           INTEGER NOT NULL,            -- when to try (again)
    UNIQUE (message_id, recipient)
);
CREATE INDEX outbound_due ON outbound_envelopes (due) WHERE sent = 0 AND stage = 'accepted';
CREATE INDEX outbound_open ON outbound_envelopes (expires) WHERE stage IN ('accepted', 'received');

CREATE TABLE outbound_chunks (
    chunk_id      TEXT PRIMARY KEY,
    envelope_id   TEXT NOT NULL,               -- its envelope; the envelope's row follows when the upload is whole
    position      INTEGER NOT NULL,
    created       INTEGER NOT NULL,
    sent          INTEGER NOT NULL DEFAULT 0,
    body          BLOB NOT NULL
);
CREATE INDEX outbound_chunks_of ON outbound_chunks (envelope_id, position);

CREATE TABLE idempotency (
    agency        TEXT NOT NULL,
    key_mac       BLOB NOT NULL,               -- HMAC of the key: callers put anything into keys
    fingerprint   BLOB NOT NULL,               -- HMAC of the request
    message_id    TEXT NOT NULL,
    warnings      TEXT NOT NULL,               -- JSON: pointers and rules of the first answer
    created       INTEGER NOT NULL,
    PRIMARY KEY (agency, key_mac)
);
CREATE INDEX idempotency_age ON idempotency (created);

CREATE TABLE inbox (
    sequence      INTEGER PRIMARY KEY AUTOINCREMENT,
    agency        TEXT NOT NULL,
    message_id    TEXT NOT NULL,
    envelope_id   TEXT NOT NULL UNIQUE,
    sender        TEXT NOT NULL,
    case_id       TEXT NOT NULL,
    type          TEXT NOT NULL,
    version       INTEGER NOT NULL,
    in_reply_to   TEXT,
    created       INTEGER NOT NULL,
    expires       INTEGER NOT NULL,
    purpose       TEXT NOT NULL,
    lawful_basis  TEXT NOT NULL,
    received      INTEGER NOT NULL,
    stage         TEXT NOT NULL,               -- 'waiting' until every chunk is here; then a ladder stage
    digest        BLOB NOT NULL,
    body          BLOB,                        -- dropped at a final stage
    UNIQUE (agency, message_id, sender)
);
CREATE INDEX inbox_waiting ON inbox (agency, sequence) WHERE stage = 'received';
CREATE INDEX inbox_open ON inbox (expires) WHERE stage IN ('waiting', 'received');

CREATE TABLE inbound_chunks (
    agency        TEXT NOT NULL,
    chunk_id      TEXT NOT NULL,
    expires       INTEGER NOT NULL,
    body          BLOB NOT NULL,
    PRIMARY KEY (agency, chunk_id)
);
CREATE INDEX inbound_chunks_age ON inbound_chunks (expires);

-- Which chunks an envelope's manifest lists, so that it is complete, and later dropped, as a whole.
CREATE TABLE inbox_chunks (
    agency        TEXT NOT NULL,
    chunk_id      TEXT NOT NULL,
    envelope_id   TEXT NOT NULL,
    PRIMARY KEY (agency, chunk_id)
);
CREATE INDEX inbox_chunks_of ON inbox_chunks (envelope_id);

-- Every receipt this node made or got, as signed, in the order it did.
CREATE TABLE receipts (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    envelope_id   TEXT NOT NULL,
    stage         TEXT NOT NULL,
    issuer        TEXT NOT NULL,
    at            INTEGER NOT NULL,
    reason        TEXT,
    cose          BLOB NOT NULL,
    UNIQUE (envelope_id, stage, issuer)
);

-- Receipts that still have to reach the sender's node.
CREATE TABLE owed_receipts (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    issuer        TEXT NOT NULL,
    recipient     TEXT NOT NULL,
    cose          BLOB NOT NULL
);

-- What was refused, as far as it may be known: never the content.
CREATE TABLE dead_letters (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    envelope_id   TEXT NOT NULL,
    agency        TEXT NOT NULL,
    reason        TEXT NOT NULL,
    at            INTEGER NOT NULL,
    size          INTEGER NOT NULL
);
