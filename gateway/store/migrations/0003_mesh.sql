-- The MESH face: what was sent from its mailboxes, and which authorization tokens were used.

CREATE TABLE mesh_sent (
    message_id    TEXT PRIMARY KEY,            -- written before the message is accepted: it may never come
    agency        TEXT NOT NULL,
    report_id     TEXT NOT NULL UNIQUE,        -- of the REPORT, should it come to nothing
    mailbox       TEXT NOT NULL,
    recipient     TEXT NOT NULL,               -- the mailbox it is for
    workflow      TEXT NOT NULL,
    local_mac     BLOB,                        -- HMAC of the local id: senders put anything into it
    details       BLOB NOT NULL,               -- sealed: local id, file name, subject
    created       INTEGER NOT NULL,
    closed        INTEGER                      -- when it was delivered, or its REPORT acknowledged
);
CREATE INDEX mesh_sent_open ON mesh_sent (agency, mailbox, created) WHERE closed IS NULL;
CREATE INDEX mesh_sent_local ON mesh_sent (agency, mailbox, local_mac);
CREATE INDEX mesh_sent_age ON mesh_sent (created);

CREATE TABLE mesh_tokens (
    digest        BLOB PRIMARY KEY,            -- SHA-256 of mailbox, nonce and count
    until         INTEGER NOT NULL             -- from then on its timestamp refuses it
);
CREATE INDEX mesh_tokens_age ON mesh_tokens (until);
