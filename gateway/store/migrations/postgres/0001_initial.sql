-- What ../0001_initial.sql makes, in PostgreSQL's words: SQLite's INTEGER holds 64 bits (BIGINT), its BLOB
-- is BYTEA, its AUTOINCREMENT an identity. Times are milliseconds since the epoch. Bodies are sealed envelopes
-- or chunks. No personal data.

CREATE TABLE outbound_messages (
    message_id    TEXT PRIMARY KEY,
    agency        TEXT NOT NULL,
    case_id       TEXT NOT NULL,
    type          TEXT NOT NULL,
    version       BIGINT NOT NULL,
    in_reply_to   TEXT,
    created       BIGINT NOT NULL,
    expires       BIGINT NOT NULL,
    purpose       TEXT NOT NULL,
    lawful_basis  TEXT NOT NULL
);

CREATE TABLE outbound_envelopes (
    envelope_id   TEXT PRIMARY KEY,
    message_id    TEXT NOT NULL REFERENCES outbound_messages (message_id),
    position      BIGINT NOT NULL,
    recipient     TEXT NOT NULL,
    stage         TEXT NOT NULL,
    presumed      BIGINT NOT NULL DEFAULT 0,   -- 1: the stage is our own conclusion, not the recipient's word
    digest        BYTEA NOT NULL,              -- SHA-256 of the body
    body          BYTEA,                       -- dropped once the recipient's node holds it
    size          BIGINT NOT NULL,             -- bytes of body and chunks
    expires       BIGINT NOT NULL,
    sent          BIGINT NOT NULL DEFAULT 0,   -- 1: the transport confirmed it
    attempts      BIGINT NOT NULL DEFAULT 0,
    due           BIGINT NOT NULL,             -- when to try (again)
    UNIQUE (message_id, recipient)
);
CREATE INDEX outbound_due ON outbound_envelopes (due) WHERE sent = 0 AND stage = 'accepted';
CREATE INDEX outbound_open ON outbound_envelopes (expires) WHERE stage IN ('accepted', 'received');

CREATE TABLE outbound_chunks (
    chunk_id      TEXT PRIMARY KEY,
    envelope_id   TEXT NOT NULL,               -- its envelope; the envelope's row follows when the upload is whole
    position      BIGINT NOT NULL,
    created       BIGINT NOT NULL,
    sent          BIGINT NOT NULL DEFAULT 0,
    body          BYTEA NOT NULL
);
CREATE INDEX outbound_chunks_of ON outbound_chunks (envelope_id, position);

CREATE TABLE idempotency (
    agency        TEXT NOT NULL,
    key_mac       BYTEA NOT NULL,              -- HMAC of the key: callers put anything into keys
    fingerprint   BYTEA NOT NULL,              -- HMAC of the request
    message_id    TEXT NOT NULL,
    warnings      TEXT NOT NULL,               -- JSON: pointers and rules of the first answer
    created       BIGINT NOT NULL,
    PRIMARY KEY (agency, key_mac)
);
CREATE INDEX idempotency_age ON idempotency (created);

CREATE TABLE inbox (
    sequence      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    agency        TEXT NOT NULL,
    message_id    TEXT NOT NULL,
    envelope_id   TEXT NOT NULL UNIQUE,
    sender        TEXT NOT NULL,
    case_id       TEXT NOT NULL,
    type          TEXT NOT NULL,
    version       BIGINT NOT NULL,
    in_reply_to   TEXT,
    created       BIGINT NOT NULL,
    expires       BIGINT NOT NULL,
    purpose       TEXT NOT NULL,
    lawful_basis  TEXT NOT NULL,
    received      BIGINT NOT NULL,
    stage         TEXT NOT NULL,               -- 'waiting' until every chunk is here; then a ladder stage
    digest        BYTEA NOT NULL,
    body          BYTEA,                       -- dropped at a final stage
    UNIQUE (agency, message_id, sender)
);
CREATE INDEX inbox_waiting ON inbox (agency, sequence) WHERE stage = 'received';
CREATE INDEX inbox_open ON inbox (expires) WHERE stage IN ('waiting', 'received');

CREATE TABLE inbound_chunks (
    agency        TEXT NOT NULL,
    chunk_id      TEXT NOT NULL,
    expires       BIGINT NOT NULL,
    body          BYTEA NOT NULL,
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
    id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    envelope_id   TEXT NOT NULL,
    stage         TEXT NOT NULL,
    issuer        TEXT NOT NULL,
    at            BIGINT NOT NULL,
    reason        TEXT,
    cose          BYTEA NOT NULL,
    UNIQUE (envelope_id, stage, issuer)
);

-- Receipts that still have to reach the sender's node.
CREATE TABLE owed_receipts (
    id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    issuer        TEXT NOT NULL,
    recipient     TEXT NOT NULL,
    cose          BYTEA NOT NULL
);

-- What was refused, as far as it may be known: never the content.
CREATE TABLE dead_letters (
    id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    envelope_id   TEXT NOT NULL,
    agency        TEXT NOT NULL,
    reason        TEXT NOT NULL,
    at            BIGINT NOT NULL,
    size          BIGINT NOT NULL
);
