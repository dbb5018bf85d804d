"""Which messages of an inbox are to be pushed now, and by whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.messages import AgencyId, MessageId
from gateway.store.base import Session
from gateway.store.claims import NOBODY, Claim
from gateway.store.inbox import OFFERED


@dataclass(frozen=True, slots=True)
class Due:
    """A message to push."""

    sequence: int
    message_id: MessageId
    sender: AgencyId
    attempts: int
    """Made so far, in vain."""
    claimant: str = NOBODY


def due(session: Session, agency: AgencyId, now: int, *, limit: int, claimant: str) -> list[Due]:
    """Messages to push now that no other process has in hand, oldest first."""
    rows = session.execute(
        "SELECT sequence, message_id, sender, COALESCE((SELECT attempts FROM pushes p"
        f" WHERE p.sequence = inbox.sequence), 0) FROM inbox WHERE agency = ? AND {OFFERED}"
        " AND NOT EXISTS (SELECT 1 FROM pushes p WHERE p.sequence = inbox.sequence"
        " AND (p.due > ? OR (p.claimed_until > ? AND p.claimant <> ?))) ORDER BY sequence LIMIT ?",
        (agency, now, now, claimant, limit),
    ).fetchall()
    return [Due(int(row[0]), MessageId(row[1]), AgencyId(row[2]), int(row[3])) for row in rows]


def claim(session: Session, sequence: int, now: int, claim: Claim) -> bool:
    """Take a message in hand; False when another process was quicker."""
    cursor = session.execute(
        "INSERT INTO pushes (sequence, attempts, due, claimant, claimed_until) VALUES (?, 0, ?, ?, ?)"
        " ON CONFLICT (sequence) DO UPDATE SET claimant = excluded.claimant,"
        " claimed_until = excluded.claimed_until"
        " WHERE pushes.due <= ? AND (pushes.claimed_until <= ? OR pushes.claimant = excluded.claimant)",
        (sequence, now, claim.claimant, claim.until, now, now),
    )
    return cursor.rowcount == 1


def put_off(session: Session, sequence: int, *, attempts: int, due: int) -> None:
    """After so many attempts in vain: nobody has it in hand until `due`."""
    session.execute(
        "INSERT INTO pushes (sequence, attempts, due) VALUES (?, ?, ?) ON CONFLICT (sequence) DO UPDATE SET"
        " attempts = excluded.attempts, due = excluded.due, claimant = '', claimed_until = 0",
        (sequence, attempts, due),
    )


def forget(session: Session, sequences: Sequence[int]) -> None:
    """Nothing more to push there."""
    session.executemany("DELETE FROM pushes WHERE sequence = ?", [(one,) for one in sequences])


def tidy(session: Session) -> None:
    """Drop the rows of messages that are final: acknowledged, expired, recalled."""
    session.execute(
        "DELETE FROM pushes WHERE NOT EXISTS"
        " (SELECT 1 FROM inbox i WHERE i.sequence = pushes.sequence AND i.stage = 'received')"
    )


def oldest(session: Session, agency: AgencyId) -> int | None:
    """When the oldest message that waits came in."""
    row = session.execute(
        "SELECT MIN(received) FROM inbox WHERE agency = ? AND stage = 'received'", (agency,)
    ).fetchone()
    return None if row[0] is None else int(row[0])
