-- What ../0007_openings.sql makes, in PostgreSQL's words.

CREATE TABLE openings (
    id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    envelope_id   TEXT NOT NULL,
    issuer        TEXT NOT NULL,
    at            BIGINT NOT NULL,
    reason        TEXT NOT NULL,
    cose          BYTEA NOT NULL,
    announced     BIGINT NOT NULL DEFAULT 0,  -- 1: a running node has logged and counted it
    UNIQUE (envelope_id, issuer, at)
);
CREATE INDEX openings_new ON openings (id) WHERE announced = 0;
