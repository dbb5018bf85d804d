"""When to try again: a pure decision from the number of attempts so far."""

from __future__ import annotations

FIRST = 200
"""Milliseconds before the second attempt."""
LONGEST = 60_000
"""Milliseconds; delays double up to this."""


def delay(attempts: int, jitter: float) -> int:
    """Milliseconds to wait after `attempts` failed attempts (>= 1).

    `jitter` in [0, 1) comes from outside and spreads retries over the upper half of the step, so that
    nodes which lost the same broker do not all return at once ("equal jitter").
    """
    step = min(LONGEST, FIRST * 2 ** min(attempts - 1, 16))
    return int(step / 2 + step / 2 * jitter)


def full_jitter(attempts: int, jitter: float, *, first: int, longest: int) -> int:
    """Milliseconds to wait after `attempts` failed attempts (>= 1) at somebody else's server.

    Anywhere in [0, step), the step doubling from `first` up to `longest` milliseconds: what failed together
    does not come back together ("full jitter"). `jitter` in [0, 1) comes from outside.
    """
    return int(min(longest, first << min(attempts - 1, 32)) * jitter)
