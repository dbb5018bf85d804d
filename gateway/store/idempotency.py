"""Promise 2 at intake: the same key and request get the first answer again, also after a crash."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.messages import AgencyId, MessageId
from gateway.store.base import Session


@dataclass(frozen=True, slots=True)
class Remembered:
    """What an earlier request under this key came to."""

    fingerprint: bytes
    message_id: MessageId
    warnings: str


class KeyTaken(Exception):
    """Another request under this key was accepted first; nothing of this one was stored."""


def remember(session: Session, agency: AgencyId, key_mac: bytes, entry: Remembered, *, created: int) -> None:
    """Take the key. Raises KeyTaken, which undoes the whole job."""
    cursor = session.execute(
        "INSERT INTO idempotency (agency, key_mac, fingerprint, message_id, warnings, created)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (agency, key_mac, entry.fingerprint, entry.message_id, entry.warnings, created),
    )
    if cursor.rowcount != 1:
        raise KeyTaken


def recall(session: Session, agency: AgencyId, key_mac: bytes) -> Remembered | None:
    """The request accepted under this key, if any."""
    row = session.execute(
        "SELECT fingerprint, message_id, warnings FROM idempotency WHERE agency = ? AND key_mac = ?",
        (agency, key_mac),
    ).fetchone()
    return Remembered(row[0], MessageId(row[1]), row[2]) if row else None


def forget(session: Session, *, before: int) -> None:
    """Drop keys taken before that time."""
    session.execute("DELETE FROM idempotency WHERE created < ?", (before,))
