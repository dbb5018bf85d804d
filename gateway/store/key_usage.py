"""Which peer sealed to which opening key, and keys that nothing is taken in for any more (docs/keys.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.messages import AgencyId
from gateway.store import audit
from gateway.store.base import Session

_LISTED: Final = "listed/"
"""Begins the name of the fact since when peers do not seal to a key; agency and key id follow."""
_STILL: Final = "still"


@dataclass(frozen=True, slots=True)
class Usage:
    """What one peer sealed to one key."""

    agency: AgencyId
    kid: bytes
    peer: AgencyId
    uses: int
    first: int
    """Milliseconds since the epoch, as the next."""
    latest: int


def note(session: Session, agency: AgencyId, kid: bytes, peer: AgencyId, now: int) -> None:
    """An envelope of this peer was opened with this key."""
    session.execute(
        "INSERT INTO key_usage (agency, kid, peer, uses, first, latest) VALUES (?, ?, ?, 1, ?, ?)"
        " ON CONFLICT (agency, kid, peer) DO UPDATE SET uses = key_usage.uses + 1, latest = excluded.latest",
        (agency, kid, peer, now, now),
    )


def of_agency(session: Session, agency: AgencyId) -> list[Usage]:
    """Who used which key, the latest first."""
    rows = session.execute(
        "SELECT kid, peer, uses, first, latest FROM key_usage WHERE agency = ?"
        " ORDER BY latest DESC, peer, kid",
        (agency,),
    ).fetchall()
    return [
        Usage(agency, bytes(kid), AgencyId(peer), int(uses), int(first), int(latest))
        for kid, peer, uses, first, latest in rows
    ]


def note_listed(session: Session, agency: AgencyId, kid: bytes, listed: bool, now: int) -> None:
    """By the directory peers seal to this key, or no longer do. Only a change is written."""
    name = f"{_LISTED}{agency}/{kid.hex()}"
    before = audit.fact(session, name)
    if listed and before != _STILL:
        audit.set_fact(session, name, _STILL)
    elif not listed and (before in {None, _STILL} or int(str(before)) > now):  # or a clock ran ahead
        audit.set_fact(session, name, str(now))


def let_go(session: Session, agency: AgencyId, kid: bytes) -> int | None:
    """Since when the node has had a directory by which nobody seals to this key.

    Milliseconds since the epoch. None while somebody does, or when the node has not run since it could tell.
    """
    since = audit.fact(session, f"{_LISTED}{agency}/{kid.hex()}")
    return None if since in {None, _STILL} else int(str(since))


def close(session: Session, agency: AgencyId, kid: bytes, now: int) -> None:
    """Take in nothing more that is sealed to this key: it is about to be destroyed."""
    session.execute(
        "INSERT INTO closed_keys (agency, kid, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (agency, kid, now),
    )


def is_closed(session: Session, agency: AgencyId, kid: bytes) -> bool:
    """Whether nothing more is taken in for this key."""
    row = session.execute("SELECT 1 FROM closed_keys WHERE agency = ? AND kid = ?", (agency, kid)).fetchone()
    return row is not None
