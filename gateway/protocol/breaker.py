"""When to leave a destination alone: a circuit breaker as a pure state machine.

Closed, it lets everything through. After TRIPS failures in a row it opens: nothing goes out for a while. Then
one request may try (half-open): if it succeeds the breaker closes, if not it opens for twice as long.
Times are milliseconds of a clock that never goes back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

TRIPS: Final = 5
"""Failures in a row that open it."""
FIRST_REST: Final = 5_000
"""Milliseconds it stays open the first time."""
LONGEST_REST: Final = 120_000
"""Milliseconds; rests double up to this."""


class State(IntEnum):
    """The numbers are what the metric shows."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


@dataclass(frozen=True, slots=True)
class Breaker:
    """One destination's breaker; every step makes a new one."""

    state: State = State.CLOSED
    failures: int = 0
    """In a row, while closed."""
    rests: int = 0
    """How often it opened since it was last closed."""
    until: int = 0
    """While open: when a request may try again."""


def room(breaker: Breaker, now: int, most: int) -> int:
    """How many requests may start, of `most` that could."""
    if breaker.state is State.CLOSED:
        return most
    return min(most, 1) if breaker.state is State.OPEN and now >= breaker.until else 0


def begin(breaker: Breaker, now: int) -> Breaker | None:
    """A request wants to start: the breaker with it under way, or None when it must not."""
    if not room(breaker, now, 1):
        return None
    return breaker if breaker.state is State.CLOSED else replace(breaker, state=State.HALF_OPEN)


def succeeded(_breaker: Breaker) -> Breaker:
    """A request that had started was answered by a destination that works."""
    return Breaker()


def failed(breaker: Breaker, now: int) -> Breaker:
    """A request that had started found the destination not working."""
    if breaker.state is State.OPEN:
        return breaker  # it started before the breaker opened
    failures = breaker.failures + 1
    if breaker.state is State.CLOSED and failures < TRIPS:
        return replace(breaker, failures=failures)
    rest = min(LONGEST_REST, FIRST_REST << min(breaker.rests, 16))
    return Breaker(State.OPEN, 0, breaker.rests + 1, now + rest)


def abandoned(breaker: Breaker, now: int) -> Breaker:
    """A request that had started ended without saying anything about the destination."""
    if breaker.state is State.HALF_OPEN:
        return replace(breaker, state=State.OPEN, until=now)
    return breaker
