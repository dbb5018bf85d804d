"""What was refused on arrival: metadata and reason for an operator, and the sealed body for a replay."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.messages import AgencyId, EnvelopeId, Reason
from gateway.store import audit
from gateway.store.base import Session

KEEP_BYTES = 256 * 1024 * 1024
"""Bytes of sealed bodies kept, all dead letters together; beyond it only the metadata is."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One refused envelope, without its body."""

    id: int
    envelope_id: EnvelopeId
    agency: AgencyId
    lane: str
    reason: Reason
    at: int
    expires: int
    size: int
    kept: bool
    """Whether the sealed body is still here, so that it can be replayed."""
    replay: bool
    """Whether an operator asked for that."""


@dataclass(frozen=True, slots=True)
class Refused:
    """What is to be set aside."""

    envelope_id: EnvelopeId
    agency: AgencyId
    lane: str
    reason: Reason
    at: int
    expires: int
    body: bytes = field(repr=False)


def add(session: Session, refused: Refused) -> None:
    """Set a refused envelope aside, with an entry in the audit log."""
    audit.record(
        session,
        "envelope-refused",
        agency=refused.agency,
        envelope_id=refused.envelope_id,
        lane=refused.lane,
        reason=refused.reason,
    )
    (kept,) = session.execute(
        "SELECT COALESCE(SUM(size), 0) FROM dead_letters WHERE body IS NOT NULL"
    ).fetchone()
    session.execute(
        "INSERT INTO dead_letters (envelope_id, agency, lane, reason, at, expires, size, body)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            refused.envelope_id,
            refused.agency,
            refused.lane,
            refused.reason,
            refused.at,
            refused.expires,
            len(refused.body),
            refused.body if int(kept) + len(refused.body) <= KEEP_BYTES else None,
        ),
    )


def newest(session: Session, *, limit: int) -> list[DeadLetter]:
    """The latest dead letters, newest first."""
    rows = session.execute(
        "SELECT id, envelope_id, agency, lane, reason, at, expires, size,"
        " CASE WHEN body IS NULL THEN 0 ELSE 1 END, replay FROM dead_letters ORDER BY id DESC LIMIT ?",
        (limit,),
    ).fetchall()
    return [
        DeadLetter(
            id_,
            EnvelopeId(envelope_id),
            AgencyId(agency),
            lane,
            Reason(reason),
            at,
            expires,
            size,
            bool(kept),
            bool(replay),
        )
        for id_, envelope_id, agency, lane, reason, at, expires, size, kept, replay in rows
    ]


def ask_replay(session: Session, id_: int) -> bool:
    """An operator wants it taken again; False when it is not there or its body is gone."""
    cursor = session.execute("UPDATE dead_letters SET replay = 1 WHERE id = ? AND body IS NOT NULL", (id_,))
    return cursor.rowcount == 1


def to_replay(session: Session, *, limit: int) -> list[tuple[int, Refused]]:
    """What operators asked to have taken again, oldest first."""
    rows = session.execute(
        "SELECT id, envelope_id, agency, lane, reason, at, expires, body FROM dead_letters"
        " WHERE replay = 1 AND body IS NOT NULL ORDER BY id LIMIT ?",
        (limit,),
    ).fetchall()
    return [
        (id_, Refused(EnvelopeId(envelope_id), AgencyId(agency), lane, Reason(reason), at, expires, body))
        for id_, envelope_id, agency, lane, reason, at, expires, body in rows
    ]


def drop(session: Session, id_: int) -> bool:
    """Forget one; False when it is not there."""
    return session.execute("DELETE FROM dead_letters WHERE id = ?", (id_,)).rowcount == 1


def drop_old(session: Session, *, before: int) -> None:
    """Forget those set aside before that time."""
    session.execute("DELETE FROM dead_letters WHERE at < ?", (before,))


def count(session: Session) -> int:
    """How many wait for an operator."""
    (found,) = session.execute("SELECT COUNT(*) FROM dead_letters").fetchone()
    return int(found)
