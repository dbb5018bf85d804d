-- What ../0006_key_usage.sql makes, in PostgreSQL's words.

-- Which peer sealed to which of our opening keys: whether a key is still needed; docs/keys.md.
CREATE TABLE key_usage (
    agency        TEXT NOT NULL,
    kid           BYTEA NOT NULL,
    peer          TEXT NOT NULL,
    uses          BIGINT NOT NULL,            -- envelopes, notes among them
    first         BIGINT NOT NULL,            -- milliseconds
    latest        BIGINT NOT NULL,
    PRIMARY KEY (agency, kid, peer)
);

-- Keys that are being destroyed, or were: nothing sealed to one is taken in any more.
CREATE TABLE closed_keys (
    agency        TEXT NOT NULL,
    kid           BYTEA NOT NULL,
    at            BIGINT NOT NULL,
    PRIMARY KEY (agency, kid)
);
