"""Where the API says no rather than drops: requests at once, requests a second, bytes, seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gateway.errors import Unavailable

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds."""

    message_bytes: int = 4 * MIB
    attachment_bytes: int = 100 * MIB
    attachments: int = 20
    requests: int = 256
    read_timeout: float = 30.0
    """Pause within a body."""
    body_timeout: float = 900.0
    """The whole body, attachments included."""
    rate: float = 1000.0
    """Requests a second for one token, on average."""
    burst: float = 2000.0


class RateLimit:
    """A token bucket for each caller (time is an argument, in seconds of a clock that only grows)."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: dict[str, tuple[float, float]] = {}

    def admit(self, caller: str, now: float) -> None:
        """Raises Unavailable("rate-limited") when this caller asks too often."""
        level, since = self._buckets.get(caller, (self._burst, now))
        level = min(self._burst, level + (now - since) * self._rate)
        if level < 1:
            self._buckets[caller] = (level, now)
            raise Unavailable("rate-limited", retry_after=max(1, math.ceil((1 - level) / self._rate)))
        self._buckets[caller] = (level - 1, now)


class InFlight:
    """Requests under way at once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0

    def __enter__(self) -> None:
        if self._count >= self._most:
            raise Unavailable("busy", retry_after=1)
        self._count += 1

    def __exit__(self, *_: object) -> None:
        self._count -= 1
