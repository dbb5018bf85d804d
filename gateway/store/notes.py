"""Signed notes to other nodes that are not receipts: recalls, and questions and answers after a restore."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.messages import AgencyId
from gateway.store import claims
from gateway.store.base import Session
from gateway.store.claims import CLAIMABLE, NOBODY, Claim


@dataclass(frozen=True, slots=True)
class Note:
    """A note that still has to reach `recipient`'s node."""

    id: int
    type: str
    agency: AgencyId
    recipient: AgencyId
    body: bytes = field(repr=False)


def owe(session: Session, kind: str, agency: AgencyId, recipient: AgencyId, body: bytes) -> None:
    """Promise a note; written in the transaction that makes it true."""
    session.execute(
        "INSERT INTO owed_notes (type, agency, recipient, body) VALUES (?, ?, ?, ?)",
        (kind, agency, recipient, body),
    )


def owed(session: Session, *, limit: int, now: int = 0, claimant: str = NOBODY) -> list[Note]:
    """The oldest notes still owed that are free, or the claimant's own."""
    rows = session.execute(
        f"SELECT id, type, agency, recipient, body FROM owed_notes WHERE {CLAIMABLE} ORDER BY id LIMIT ?",
        (now, claimant, limit),
    ).fetchall()
    return [Note(id_, kind, AgencyId(agency), AgencyId(to), body) for id_, kind, agency, to, body in rows]


def claim(session: Session, ids: Sequence[int], now: int, claim: Claim) -> set[int]:
    """Take those of these notes that are still owed and free."""
    return claims.take(session, "owed_notes", ids, now, claim)


def settle(session: Session, id_: int) -> None:
    """It has been published."""
    session.execute("DELETE FROM owed_notes WHERE id = ?", (id_,))


# --- recalls that came before their envelope ---


def expect_no_more(
    session: Session, envelope_id: str, *, sender: AgencyId, agency: AgencyId, at: int
) -> None:
    """Remember that the sender withdrew an envelope which has not arrived."""
    session.execute(
        "INSERT INTO recalls (envelope_id, sender, agency, at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (envelope_id, sender, agency, at),
    )


def is_recalled(session: Session, envelope_id: str, *, sender: AgencyId) -> bool:
    """Whether its own sender withdrew this envelope before it arrived."""
    row = session.execute(
        "SELECT 1 FROM recalls WHERE envelope_id = ? AND sender = ?", (envelope_id, sender)
    ).fetchone()
    return row is not None


def forget_recalls(session: Session, *, before: int) -> None:
    """Drop recalls from before that time: what they meant has expired."""
    session.execute("DELETE FROM recalls WHERE at < ?", (before,))
