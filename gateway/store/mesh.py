"""What the MESH face must not forget: what was sent from its mailboxes, and which tokens were used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.messages import FINAL_STAGES, AgencyId, MessageId, Stage
from gateway.store.base import Session

_UNDELIVERED = ", ".join(f"'{stage}'" for stage in sorted(FINAL_STAGES - {Stage.DELIVERED}))


@dataclass(frozen=True, slots=True)
class MeshSent:
    """A message that a MESH mailbox sent, or was about to send: it counts only if it was accepted."""

    message_id: MessageId
    agency: AgencyId
    report_id: str
    mailbox: str
    recipient: str
    """The mailbox it is for."""
    workflow: str
    local_mac: bytes | None
    details: bytes = field(repr=False)
    """Sealed."""
    created: int


_COLUMNS = "message_id, agency, report_id, mailbox, recipient, workflow, local_mac, details, created"


def _sent(row: Sequence[object]) -> MeshSent:
    return MeshSent(*row)  # type: ignore[arg-type]  # the columns stand in the fields' order


def add(session: Session, sent: MeshSent) -> None:
    """Note what is about to be sent; the first note of a message stays."""
    session.execute(
        f"INSERT INTO mesh_sent ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            sent.message_id,
            sent.agency,
            sent.report_id,
            sent.mailbox,
            sent.recipient,
            sent.workflow,
            sent.local_mac,
            sent.details,
            sent.created,
        ),
    )


def find(session: Session, agency: AgencyId, mailbox: str, message_id: str) -> MeshSent | None:
    """A message by its own identifier or its report's, if this mailbox sent it."""
    row = session.execute(
        f"SELECT {_COLUMNS} FROM mesh_sent WHERE agency = ? AND mailbox = ?"
        " AND (message_id = ? OR report_id = ?)",
        (agency, mailbox, message_id, message_id),
    ).fetchone()
    return _sent(row) if row else None


def by_local_id(session: Session, agency: AgencyId, mailbox: str, mac: bytes) -> list[MeshSent]:
    """The accepted messages this mailbox sent under a local identifier: two are enough to say `several`."""
    rows = session.execute(
        f"SELECT {_COLUMNS} FROM mesh_sent WHERE agency = ? AND mailbox = ? AND local_mac = ?"
        " AND EXISTS (SELECT 1 FROM outbound_messages m WHERE m.message_id = mesh_sent.message_id)"
        " ORDER BY created, message_id LIMIT 2",
        (agency, mailbox, mac),
    ).fetchall()
    return [_sent(row) for row in rows]


def reports(session: Session, agency: AgencyId, mailbox: str, *, limit: int) -> list[MeshSent]:
    """What this mailbox sent in vain and has not been told, or has not acknowledged."""
    rows = session.execute(
        f"SELECT {_COLUMNS} FROM mesh_sent WHERE agency = ? AND mailbox = ? AND closed IS NULL"
        " AND EXISTS (SELECT 1 FROM outbound_envelopes e WHERE e.message_id = mesh_sent.message_id"
        f" AND e.stage IN ({_UNDELIVERED})) ORDER BY created, message_id LIMIT ?",
        (agency, mailbox, limit),
    ).fetchall()
    return [_sent(row) for row in rows]


def close(session: Session, message_id: MessageId, *, at: int) -> None:
    """Its report was acknowledged."""
    session.execute(
        "UPDATE mesh_sent SET closed = ? WHERE message_id = ? AND closed IS NULL", (at, message_id)
    )


def use_token(session: Session, digest: bytes, *, until: int) -> bool:
    """Note that a token was used; False when it had been."""
    cursor = session.execute(
        "INSERT INTO mesh_tokens (digest, until) VALUES (?, ?) ON CONFLICT DO NOTHING", (digest, until)
    )
    return cursor.rowcount == 1


def free_token(session: Session, digest: bytes) -> None:
    """Nothing came of the request it was used for."""
    session.execute("DELETE FROM mesh_tokens WHERE digest = ?", (digest,))


def waiting(session: Session, agency: AgencyId) -> int:
    """How many messages the agency has not acknowledged, whatever their type."""
    row = session.execute(
        "SELECT COUNT(*) FROM inbox WHERE agency = ? AND stage = 'received'", (agency,)
    ).fetchone()
    return int(row[0])


def tidy(session: Session, *, now: int, before: int) -> None:
    """Close what was delivered; drop used tokens that no longer open anything, and old messages."""
    session.execute(
        "UPDATE mesh_sent SET closed = ? WHERE closed IS NULL AND EXISTS (SELECT 1 FROM outbound_envelopes e"
        " WHERE e.message_id = mesh_sent.message_id AND e.stage = 'delivered')",
        (now,),
    )
    session.execute("DELETE FROM mesh_tokens WHERE until <= ?", (now,))
    session.execute("DELETE FROM mesh_sent WHERE created < ?", (before,))
