"""Promise 2 at the recipient: each message is held once, handed over once, answered once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.messages import AgencyId, EnvelopeId, Header, MessageId, Stage
from gateway.store.base import Session

WAITING = "waiting"
"""Opened and verified, but some chunks of its attachments are not here yet: not `received`, not visible."""


@dataclass(frozen=True, slots=True)
class Held:
    """A message in the inbox, without its body."""

    sequence: int
    header: Header
    received: int
    stage: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class HeldBody:
    """A message in the inbox with its sealed body (None once it is final)."""

    held: Held
    body: bytes | None = field(repr=False)


OFFERED = (
    "stage = 'received' AND NOT EXISTS (SELECT 1 FROM reconciliations r WHERE r.agency = inbox.agency"
    " AND r.peer = inbox.sender AND r.answered IS NULL AND inbox.sequence <= r.held)"
)
"""Condition: not yet acknowledged, and not one that may have been handed over before a restore."""
_COLUMNS = (
    "sequence, message_id, envelope_id, type, version, sender, agency, case_id, in_reply_to, created,"
    " expires, purpose, lawful_basis, received, stage, digest"
)


def _held(row: Sequence[object]) -> Held:
    sequence, *header, received, stage, digest = row
    return Held(
        sequence=int(str(sequence)),
        header=Header(*header),  # type: ignore[arg-type]  # the columns stand in the header's order
        received=int(str(received)),
        stage=str(stage),
        digest=digest if isinstance(digest, bytes) else b"",
    )


def add(session: Session, header: Header, *, received: int, stage: str, digest: bytes, body: bytes) -> bool:
    """Hold a message; False when this envelope, or another of the same message, is held already."""
    cursor = session.execute(
        "INSERT INTO inbox (message_id, envelope_id, type, version, sender, agency, case_id, in_reply_to,"
        " created, expires, purpose, lawful_basis, received, stage, digest, body)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            header.message_id,
            header.envelope_id,
            header.type,
            header.version,
            header.sender,
            header.recipient,
            header.case,
            header.in_reply_to,
            header.created,
            header.expires,
            header.purpose,
            header.lawful_basis,
            received,
            stage,
            digest,
            body,
        ),
    )
    return cursor.rowcount == 1


def get(session: Session, agency: AgencyId, message_id: MessageId) -> HeldBody | None:
    """One message of an agency's inbox, whatever its stage, unless it still waits for chunks.

    Message ids are their senders' to choose: should two have chosen the same, each is reached in its turn.
    """
    row = session.execute(
        f"SELECT {_COLUMNS}, body FROM inbox WHERE agency = ? AND message_id = ? AND stage <> ?"
        " ORDER BY CASE stage WHEN 'received' THEN 0 ELSE 1 END, sequence LIMIT 1",
        (agency, message_id, WAITING),
    ).fetchone()
    return HeldBody(_held(row[:-1]), row[-1]) if row else None


def waiting(session: Session, agency: AgencyId, *, after: int, limit: int) -> list[Held]:
    """Messages not yet acknowledged, oldest first.

    After a restore, those of a sender that has not been heard yet are left out: they may have been handed
    over in the time that is missing.
    """
    rows = session.execute(
        f"SELECT {_COLUMNS} FROM inbox WHERE agency = ? AND sequence > ? AND {OFFERED}"
        " ORDER BY sequence LIMIT ?",
        (agency, after, limit),
    ).fetchall()
    return [_held(row) for row in rows]


def finish(session: Session, held: Held, stage: Stage) -> None:
    """A final stage: the sealed body and chunks are no longer needed and are dropped."""
    envelope_id = held.header.envelope_id
    session.execute("UPDATE inbox SET stage = ?, body = NULL WHERE sequence = ?", (stage, held.sequence))
    session.execute(
        "DELETE FROM inbound_chunks WHERE (agency, chunk_id) IN"
        " (SELECT agency, chunk_id FROM inbox_chunks WHERE envelope_id = ?)",
        (envelope_id,),
    )
    session.execute("DELETE FROM inbox_chunks WHERE envelope_id = ?", (envelope_id,))


def complete(session: Session, envelope_id: EnvelopeId, *, received: int) -> bool:
    """All chunks are here and verified: the message becomes visible. False when it was already."""
    cursor = session.execute(
        "UPDATE inbox SET stage = 'received', received = ? WHERE envelope_id = ? AND stage = ?",
        (received, envelope_id, WAITING),
    )
    return cursor.rowcount == 1


def body_of(session: Session, envelope_id: EnvelopeId) -> HeldBody | None:
    """A held message by its envelope, whatever its stage."""
    row = session.execute(
        f"SELECT {_COLUMNS}, body FROM inbox WHERE envelope_id = ?", (envelope_id,)
    ).fetchone()
    return HeldBody(_held(row[:-1]), row[-1]) if row else None


def not_final(session: Session, agency: AgencyId, message_id: MessageId) -> tuple[Held, bytes] | None:
    """One message of an agency that is neither acknowledged nor expired, and its sealed body.

    Also one that still waits for chunks; of several with this id the one that `get` finds.
    """
    row = session.execute(
        f"SELECT {_COLUMNS}, body FROM inbox WHERE agency = ? AND message_id = ? AND body IS NOT NULL"
        " ORDER BY CASE stage WHEN 'received' THEN 0 ELSE 1 END, sequence LIMIT 1",
        (agency, message_id),
    ).fetchone()
    return (_held(row[:-1]), bytes(row[-1])) if row else None


def expired(session: Session, now: int, *, limit: int) -> list[Held]:
    """Messages nobody collected in time."""
    rows = session.execute(
        f"SELECT {_COLUMNS} FROM inbox WHERE stage IN ('waiting', 'received') AND expires <= ?"
        " ORDER BY expires LIMIT ?",
        (now, limit),
    ).fetchall()
    return [_held(row) for row in rows]


def backlog(session: Session) -> list[tuple[AgencyId, int, int]]:
    """For each agency: messages not yet acknowledged, and when the oldest of them came."""
    rows = session.execute(
        "SELECT agency, COUNT(*), MIN(received) FROM inbox WHERE stage = 'received' GROUP BY agency"
    ).fetchall()
    return [(AgencyId(agency), int(count), int(oldest)) for agency, count, oldest in rows]


# --- attachments on their way in ---


def add_chunk(
    session: Session, chunk_id: EnvelopeId, *, agency: AgencyId, expires: int, body: bytes
) -> EnvelopeId | None:
    """Store a sealed chunk once; the envelope that has all its chunks now, if this one belongs to it."""
    session.execute(
        "INSERT INTO inbound_chunks (agency, chunk_id, expires, body) VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        (agency, chunk_id, expires, body),
    )
    row = session.execute(
        "SELECT envelope_id FROM inbox_chunks WHERE agency = ? AND chunk_id = ?", (agency, chunk_id)
    ).fetchone()
    return EnvelopeId(row[0]) if row and not chunks_missing(session, row[0]) else None


def expect_chunks(
    session: Session, envelope_id: EnvelopeId, agency: AgencyId, chunks: Sequence[EnvelopeId]
) -> None:
    """Note which chunks an envelope's attachments are made of."""
    session.executemany(
        "INSERT INTO inbox_chunks (agency, chunk_id, envelope_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        [(agency, chunk, envelope_id) for chunk in chunks],
    )


def chunks_missing(session: Session, envelope_id: EnvelopeId) -> bool:
    """Whether a chunk of this envelope has not arrived yet."""
    row = session.execute(
        "SELECT 1 FROM inbox_chunks x WHERE x.envelope_id = ? AND NOT EXISTS (SELECT 1 FROM inbound_chunks c"
        " WHERE c.agency = x.agency AND c.chunk_id = x.chunk_id) LIMIT 1",
        (envelope_id,),
    ).fetchone()
    return row is not None


def chunk(session: Session, agency: AgencyId, chunk_id: EnvelopeId) -> bytes | None:
    """A sealed chunk."""
    row = session.execute(
        "SELECT body FROM inbound_chunks WHERE agency = ? AND chunk_id = ?", (agency, chunk_id)
    ).fetchone()
    return bytes(row[0]) if row else None


def drop_expired_chunks(session: Session, now: int) -> None:
    """Chunks whose time is over, whether or not their envelope ever came."""
    session.execute("DELETE FROM inbound_chunks WHERE expires <= ?", (now,))
