-- Which peer sealed to which of our opening keys: whether a key is still needed; docs/keys.md.
CREATE TABLE key_usage (
    agency        TEXT NOT NULL,
    kid           BLOB NOT NULL,
    peer          TEXT NOT NULL,
    uses          INTEGER NOT NULL,            -- envelopes, notes among them
    first         INTEGER NOT NULL,            -- milliseconds
    latest        INTEGER NOT NULL,
    PRIMARY KEY (agency, kid, peer)
);

-- Keys that are being destroyed, or were: nothing sealed to one is taken in any more.
CREATE TABLE closed_keys (
    agency        TEXT NOT NULL,
    kid           BLOB NOT NULL,
    at            INTEGER NOT NULL,
    PRIMARY KEY (agency, kid)
);
