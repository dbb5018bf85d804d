-- Emergency openings (docs/break-glass.md): the receipts `opened` this node made or got.
-- A message may be opened more than once, so they do not stand among the receipts, of which there is one a stage.

CREATE TABLE openings (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    envelope_id   TEXT NOT NULL,
    issuer        TEXT NOT NULL,
    at            INTEGER NOT NULL,
    reason        TEXT NOT NULL,
    cose          BLOB NOT NULL,
    announced     INTEGER NOT NULL DEFAULT 0,  -- 1: a running node has logged and counted it
    UNIQUE (envelope_id, issuer, at)
);
CREATE INDEX openings_new ON openings (id) WHERE announced = 0;
