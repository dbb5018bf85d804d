"""Who has a row in hand: of several processes on one database, exactly one sends each thing.

A claim is a lease. Its holder renews it while it lives; when it died, another takes over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.store.base import SKIP_LOCKED, Session

NOBODY: Final = ""
CLAIMABLE: Final = "(claimed_until <= ? OR claimant = ?)"
"""Condition with the values (now, own name): free, or in hand already."""
UNSENT: Final = "sent = 0 AND stage IN ('accepted', 'received')"
"""Condition: an envelope the transport has not confirmed, for the first time or again (a partial index's)."""
_TABLES: Final = ("outbound_envelopes", "owed_receipts", "owed_notes", "pushes")


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim to be written into a row."""

    claimant: str
    until: int
    """Milliseconds since the epoch."""


UNCLAIMED: Final = Claim(NOBODY, 0)


def take(session: Session, table: str, ids: Sequence[int], now: int, claim: Claim) -> set[int]:
    """Claim those of these rows of `owed_receipts` or `owed_notes` that are still there and free."""
    taken = set()
    for id_ in ids:
        cursor = session.execute(
            f"UPDATE {table} SET claimant = ?, claimed_until = ? WHERE id IN"
            f" (SELECT id FROM {table} WHERE id = ? AND {CLAIMABLE} {SKIP_LOCKED})",
            (claim.claimant, claim.until, id_, now, claim.claimant),
        )
        if cursor.rowcount == 1:
            taken.add(id_)
    return taken


def renew(session: Session, claim: Claim) -> None:
    """Lengthen every claim of this claimant."""
    for table in _TABLES:
        unsent = f" AND {UNSENT}" if table == "outbound_envelopes" else ""
        session.execute(
            f"UPDATE {table} SET claimed_until = ? WHERE claimant = ? AND claimed_until > 0{unsent}",
            (claim.until, claim.claimant),
        )
