"""The life of a key, from its dates alone: pending, active, retiring, retired; and revoked or destroyed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Final

from gateway.protocol.deadlines import DAY, MAX_LIFETIME

OVERLAP: Final = MAX_LIFETIME + DAY
"""Milliseconds from when a newer key takes over until an older one is retired, unless settings say otherwise:
the longest that an envelope may live, and a day for peers that still have the directory of before."""


class KeyState(StrEnum):
    """What a key is good for."""

    PENDING = "pending"
    """Published, so that everybody knows it; nothing is sealed to it or signed with it yet."""
    ACTIVE = "active"
    """What is new is sealed to it or signed with it."""
    RETIRING = "retiring"
    """A newer one took over; what was sealed to it still opens, what it signed still verifies."""
    RETIRED = "retired"
    """Nothing that was sealed to it can still be on its way: its secret may be destroyed."""
    REVOKED = "revoked"
    """Nobody seals to it, and no signature of it counts."""
    DESTROYED = "destroyed"
    """Its secret is gone; what was sealed to it opens no more, what it signed still verifies."""


@dataclass(frozen=True, slots=True)
class Dates:
    """Of one key, in milliseconds since the epoch."""

    starts: int
    revoked: bool = False
    destroyed: int | None = None


@dataclass(frozen=True, slots=True)
class Life:
    """Where a key stands."""

    state: KeyState
    since: int | None
    """Milliseconds since the epoch; of a pending key: from when on it is used. None for a revoked one."""


def lives(keys: Sequence[Dates], now: int, overlap: int = OVERLAP) -> list[Life]:
    """Where each of an agency's keys of one use stands, in the order given; at most one is active."""
    usable = [i for i, key in enumerate(keys) if _counts(key) and key.starts <= now]
    # Of two that start at once the later in the list is the newer.
    usable.sort(key=lambda i: (keys[i].starts, i))
    following = dict(pairwise(usable))
    return [
        _life(key, now, keys[following[i]].starts if i in following else None, overlap)
        for i, key in enumerate(keys)
    ]


def _counts(key: Dates) -> bool:
    """Whether anybody may seal to it or believe it: a revoked key takes over from none."""
    return not key.revoked and key.destroyed is None


def _life(key: Dates, now: int, replaced: int | None, overlap: int) -> Life:
    """`replaced`: when the next newer key took over."""
    if key.destroyed is not None:
        return Life(KeyState.DESTROYED, key.destroyed)
    if key.revoked:
        return Life(KeyState.REVOKED, None)
    if key.starts > now:
        return Life(KeyState.PENDING, key.starts)
    if replaced is None:
        return Life(KeyState.ACTIVE, key.starts)
    if now < replaced + overlap:
        return Life(KeyState.RETIRING, replaced)
    return Life(KeyState.RETIRED, replaced + overlap)
