"""The life of a key, from its dates alone: pending, active, retiring, and revoked from any of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class KeyState(StrEnum):
    """What a key is good for."""

    PENDING = "pending"
    """Published, so that everybody knows it; nothing is sealed to it or signed with it yet."""
    ACTIVE = "active"
    """What is new is sealed to it or signed with it."""
    RETIRING = "retiring"
    """A newer one took over; what was sealed to it still opens, what it signed still verifies."""
    REVOKED = "revoked"
    """Nobody seals to it, and no signature of it counts."""


@dataclass(frozen=True, slots=True)
class Dates:
    """Of one key, in milliseconds since the epoch."""

    starts: int
    revoked: bool = False


def states(keys: Sequence[Dates], now: int) -> list[KeyState]:
    """The state of each of an agency's keys of one use, in the order given; at most one is active."""
    usable = [i for i, key in enumerate(keys) if not key.revoked and key.starts <= now]
    # Of two that start at once the later in the list is the newer.
    active = max(usable, key=lambda i: (keys[i].starts, i)) if usable else None
    return [_state(key, now, i == active) for i, key in enumerate(keys)]


def _state(key: Dates, now: int, active: bool) -> KeyState:
    if key.revoked:
        return KeyState.REVOKED
    if active:
        return KeyState.ACTIVE
    return KeyState.PENDING if key.starts > now else KeyState.RETIRING
