"""Promise 1 at the sender: what was accepted, what is still to be sent, how far each envelope has come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.messages import FINAL_STAGES, AgencyId, CaseId, EnvelopeId, MessageId, Stage
from gateway.store.base import SKIP_LOCKED, Session
from gateway.store.claims import CLAIMABLE, NOBODY, UNSENT, Claim


@dataclass(frozen=True, slots=True)
class OutboundMessage:
    """A message this node accepted. Pseudonymous metadata only."""

    message_id: MessageId
    agency: AgencyId
    case: CaseId
    type: str
    version: int
    in_reply_to: MessageId | None
    created: int
    expires: int
    purpose: str
    lawful_basis: str
    recalled: int | None = None
    """When the sender's system asked for it back."""
    recovered: int = 0
    """1: known again from what its recipients said after a restore."""


@dataclass(frozen=True, slots=True)
class OutboundEnvelope:
    """One recipient's envelope of a message."""

    envelope_id: EnvelopeId
    message_id: MessageId
    position: int
    recipient: AgencyId
    stage: Stage
    presumed: bool
    digest: bytes
    size: int
    expires: int
    sent: bool
    attempts: int


@dataclass(frozen=True, slots=True)
class Unsent:
    """An envelope that is due to be published, with its body."""

    envelope_id: EnvelopeId
    recipient: AgencyId
    expires: int
    attempts: int
    chunked: bool
    size: int
    body: bytes = field(repr=False)
    claimant: str = NOBODY
    """Who has it in hand."""


_ENVELOPE = (
    "envelope_id, message_id, position, recipient, stage, presumed, digest, size, expires, sent, attempts"
)


def _envelope(row: Sequence[object]) -> OutboundEnvelope:
    envelope_id, message_id, position, recipient, stage, presumed, digest, size, expires, sent, attempts = row
    return OutboundEnvelope(
        EnvelopeId(str(envelope_id)),
        MessageId(str(message_id)),
        int(str(position)),
        AgencyId(str(recipient)),
        Stage(str(stage)),
        bool(presumed),
        digest if isinstance(digest, bytes) else b"",
        int(str(size)),
        int(str(expires)),
        bool(sent),
        int(str(attempts)),
    )


def add_message(session: Session, message: OutboundMessage) -> None:
    """Record an accepted message."""
    session.execute(
        "INSERT INTO outbound_messages (message_id, agency, case_id, type, version, in_reply_to, created,"
        " expires, purpose, lawful_basis) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            message.message_id,
            message.agency,
            message.case,
            message.type,
            message.version,
            message.in_reply_to,
            message.created,
            message.expires,
            message.purpose,
            message.lawful_basis,
        ),
    )


def add_envelope(
    session: Session, envelope: OutboundEnvelope, body: bytes, *, due: int, claim: Claim
) -> None:
    """Record a sealed envelope that is to be published, by the claimant first of all."""
    session.execute(
        f"INSERT INTO outbound_envelopes ({_ENVELOPE}, body, due, claimant, claimed_until)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            envelope.envelope_id,
            envelope.message_id,
            envelope.position,
            envelope.recipient,
            envelope.stage,
            int(envelope.presumed),
            envelope.digest,
            envelope.size,
            envelope.expires,
            int(envelope.sent),
            envelope.attempts,
            body,
            due,
            claim.claimant,
            claim.until,
        ),
    )


def message(session: Session, agency: AgencyId, message_id: MessageId) -> OutboundMessage | None:
    """A message, if this agency sent it."""
    row = session.execute(
        "SELECT message_id, agency, case_id, type, version, in_reply_to, created, expires, purpose,"
        " lawful_basis, recalled, recovered FROM outbound_messages WHERE message_id = ? AND agency = ?",
        (message_id, agency),
    ).fetchone()
    return OutboundMessage(*row) if row else None


def mark_recalled(session: Session, message_id: MessageId, *, at: int) -> None:
    """The sender's system asked for it back."""
    session.execute("UPDATE outbound_messages SET recalled = ? WHERE message_id = ?", (at, message_id))


def envelopes(session: Session, message_id: MessageId) -> list[OutboundEnvelope]:
    """The envelopes of a message, in the order the recipients were named."""
    rows = session.execute(
        f"SELECT {_ENVELOPE} FROM outbound_envelopes WHERE message_id = ? ORDER BY position", (message_id,)
    ).fetchall()
    return [_envelope(row) for row in rows]


def find(session: Session, envelope_id: EnvelopeId) -> tuple[OutboundEnvelope, AgencyId] | None:
    """An envelope and the agency that sent it."""
    columns = ", ".join(f"e.{name.strip()}" for name in _ENVELOPE.split(","))
    row = session.execute(
        f"SELECT {columns}, m.agency FROM outbound_envelopes e"
        " JOIN outbound_messages m ON m.message_id = e.message_id WHERE e.envelope_id = ?",
        (envelope_id,),
    ).fetchone()
    return (_envelope(row[:-1]), AgencyId(row[-1])) if row else None


_DUE = f"{UNSENT} AND due <= ? AND expires > ? AND {CLAIMABLE}"


def due(
    session: Session, now: int, *, limit: int, exclude: frozenset[EnvelopeId], claimant: str = NOBODY
) -> list[Unsent]:
    """Envelopes that are due and free, or the claimant's own, oldest first, except those under way."""
    rows = session.execute(
        "SELECT envelope_id, recipient, expires, attempts, size, body,"
        " EXISTS (SELECT 1 FROM outbound_chunks c WHERE c.envelope_id = e.envelope_id), claimant"
        f" FROM outbound_envelopes e WHERE {_DUE} ORDER BY due LIMIT ?",
        (now, now, now, claimant, limit + len(exclude)),
    ).fetchall()
    return [
        Unsent(EnvelopeId(id_), AgencyId(to), expires, attempts, bool(chunked), size, body, owner)
        for id_, to, expires, attempts, size, body, chunked, owner in rows
        if id_ not in exclude
    ][:limit]


def claim(session: Session, envelope_id: EnvelopeId, now: int, claim: Claim) -> bool:
    """Take an envelope that is still due and free; False when somebody else was quicker."""
    cursor = session.execute(
        "UPDATE outbound_envelopes SET claimant = ?, claimed_until = ? WHERE envelope_id IN"
        f" (SELECT envelope_id FROM outbound_envelopes WHERE envelope_id = ? AND {_DUE} {SKIP_LOCKED})",
        (claim.claimant, claim.until, envelope_id, now, now, now, claim.claimant),
    )
    return cursor.rowcount == 1


def mark_sent(session: Session, envelope_id: EnvelopeId) -> None:
    """The transport confirmed it."""
    session.execute("UPDATE outbound_envelopes SET sent = 1 WHERE envelope_id = ?", (envelope_id,))


def put_off(session: Session, envelope_id: EnvelopeId, *, due: int) -> None:
    """An attempt failed; try again at `due`."""
    session.execute(
        "UPDATE outbound_envelopes SET attempts = attempts + 1, due = ?, claimed_until = 0"
        " WHERE envelope_id = ?",
        (due, envelope_id),
    )


def set_stage(session: Session, envelope_id: EnvelopeId, stage: Stage, *, presumed: bool) -> None:
    """Record how far an envelope has come.

    Its sealed body and chunks stay until the stage is final: should the recipient have to restore an older
    copy of its database, it asks for them again.
    """
    session.execute(
        "UPDATE outbound_envelopes SET stage = ?, presumed = ?, sent = 1 WHERE envelope_id = ?",
        (stage, int(presumed), envelope_id),
    )
    if stage in FINAL_STAGES:
        session.execute("UPDATE outbound_envelopes SET body = NULL WHERE envelope_id = ?", (envelope_id,))
        session.execute("DELETE FROM outbound_chunks WHERE envelope_id = ?", (envelope_id,))


def send_again(session: Session, envelope_id: EnvelopeId, *, due: int) -> bool:
    """Publish once more, chunks too, what its recipient asks for; False when it is final or unsent anyway."""
    cursor = session.execute(
        "UPDATE outbound_envelopes SET sent = 0, attempts = 0, due = ?, claimed_until = 0"
        " WHERE envelope_id = ? AND sent = 1 AND stage IN ('accepted', 'received') AND body IS NOT NULL",
        (due, envelope_id),
    )
    if cursor.rowcount == 1:
        session.execute("UPDATE outbound_chunks SET sent = 0 WHERE envelope_id = ?", (envelope_id,))
    return cursor.rowcount == 1


def overdue(session: Session, *, before: int, limit: int) -> list[tuple[OutboundEnvelope, AgencyId]]:
    """Envelopes that expired before that time without a final receipt, with their sending agency."""
    columns = ", ".join(f"e.{name.strip()}" for name in _ENVELOPE.split(","))
    rows = session.execute(
        f"SELECT {columns}, m.agency FROM outbound_envelopes e"
        " JOIN outbound_messages m ON m.message_id = e.message_id"
        " WHERE e.stage IN ('accepted', 'received') AND e.expires < ? ORDER BY e.expires LIMIT ?",
        (before, limit),
    ).fetchall()
    return [(_envelope(row[:-1]), AgencyId(row[-1])) for row in rows]


def backlog(session: Session) -> tuple[int, int]:
    """Envelopes not yet confirmed by the transport: how many, how many bytes."""
    count, size = session.execute(
        f"SELECT COUNT(*), COALESCE(SUM(size), 0) FROM outbound_envelopes WHERE {UNSENT}"
    ).fetchone()
    return int(count), int(size)


def oldest_due(session: Session) -> int | None:
    """When the oldest envelope not yet confirmed was created."""
    (created,) = session.execute(
        "SELECT MIN(m.created) FROM outbound_envelopes e JOIN outbound_messages m"
        f" ON m.message_id = e.message_id WHERE {UNSENT}"
    ).fetchone()
    return int(created) if created is not None else None


# --- attachments on their way out ---


@dataclass(frozen=True, slots=True)
class OutboundChunk:
    """A sealed chunk that is to be published before its envelope."""

    chunk_id: EnvelopeId
    body: bytes = field(repr=False)


def add_chunk(
    session: Session, chunk: OutboundChunk, *, envelope_id: EnvelopeId, position: int, created: int
) -> None:
    """Store a sealed chunk while its upload is still running."""
    session.execute(
        "INSERT INTO outbound_chunks (chunk_id, envelope_id, position, created, body) VALUES (?, ?, ?, ?, ?)",
        (chunk.chunk_id, envelope_id, position, created, chunk.body),
    )


def next_chunk(session: Session, envelope_id: EnvelopeId) -> OutboundChunk | None:
    """The next chunk of an envelope that the transport has not confirmed."""
    row = session.execute(
        "SELECT chunk_id, body FROM outbound_chunks WHERE envelope_id = ? AND sent = 0"
        " ORDER BY position LIMIT 1",
        (envelope_id,),
    ).fetchone()
    return OutboundChunk(EnvelopeId(row[0]), row[1]) if row else None


def mark_chunk_sent(session: Session, chunk_id: EnvelopeId) -> None:
    """The transport confirmed this chunk."""
    session.execute("UPDATE outbound_chunks SET sent = 1 WHERE chunk_id = ?", (chunk_id,))


def drop_chunks(session: Session, envelope_id: EnvelopeId) -> None:
    """The upload came to nothing; chunks of an envelope that was accepted after all stay."""
    session.execute(
        "DELETE FROM outbound_chunks WHERE envelope_id = ? AND NOT EXISTS"
        " (SELECT 1 FROM outbound_envelopes e WHERE e.envelope_id = outbound_chunks.envelope_id)",
        (envelope_id,),
    )


def drop_chunks_from(session: Session, envelope_id: EnvelopeId, *, position: int) -> None:
    """One attachment came to nothing; those before it, in a message not accepted yet, stay."""
    session.execute(
        "DELETE FROM outbound_chunks WHERE envelope_id = ? AND position >= ? AND NOT EXISTS"
        " (SELECT 1 FROM outbound_envelopes e WHERE e.envelope_id = outbound_chunks.envelope_id)",
        (envelope_id, position),
    )


def drop_orphan_chunks(session: Session, *, before: int) -> None:
    """Drop chunks of uploads that never became a message (the process died)."""
    session.execute(
        "DELETE FROM outbound_chunks WHERE created < ? AND NOT EXISTS (SELECT 1 FROM outbound_envelopes e"
        " WHERE e.envelope_id = outbound_chunks.envelope_id)",
        (before,),
    )
