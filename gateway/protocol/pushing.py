"""What an agency's own server said to a push, and what follows: pure rules (docs/push.md)."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final

from gateway.messages import MessageId
from gateway.protocol.retry import full_jitter

LONGEST_RETRY_AFTER: Final = 900_000
"""Milliseconds: a Retry-After (RFC 9110 section 10.2.3) counts up to this."""
_SOON: Final = (500, 60_000)
_SLOWLY: Final = (60_000, 3_600_000)


class Outcome(StrEnum):
    """How an attempt ended."""

    DELIVERED = "delivered"
    DUPLICATE = "duplicate"
    BUSY = "busy"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed-out"
    REFUSED = "refused"
    DENIED = "denied"
    REDIRECTED = "redirected"
    UNSENDABLE = "unsendable"


DONE: Final = frozenset({Outcome.DELIVERED, Outcome.DUPLICATE})
"""The agency's server has it: the message is acknowledged."""
LASTING: Final = frozenset({Outcome.REFUSED, Outcome.DENIED, Outcome.REDIRECTED, Outcome.UNSENDABLE})
"""Nothing will change until a person changes something: tried again slowly."""
BROKEN: Final = frozenset(
    {
        Outcome.BUSY,
        Outcome.FAILED,
        Outcome.UNREACHABLE,
        Outcome.TIMED_OUT,
        Outcome.DENIED,
        Outcome.REDIRECTED,
    }
)
"""It is the destination's fault, not this message's: counts for the breaker."""

_PASSING: Final = frozenset({408, 409, 425})
_DENYING: Final = frozenset({401, 403, 404, 405, 407, 410})


def judge(status: int, *, duplicate: bool = False) -> Outcome:
    """What a status code means (RFC 9110 section 15). `duplicate`: a 409 says that it was there before."""
    if 200 <= status < 300:
        return Outcome.DELIVERED
    if 300 <= status < 400:
        return Outcome.REDIRECTED
    if status == 409 and duplicate:
        return Outcome.DUPLICATE
    if status in {429, 503}:
        return Outcome.BUSY
    if status in _DENYING:
        return Outcome.DENIED
    return Outcome.REFUSED if 400 <= status < 500 and status not in _PASSING else Outcome.FAILED


@dataclass(frozen=True, slots=True)
class Wait:
    """When to try again, milliseconds from now."""

    message: int
    """This message."""
    destination: int
    """Anything at this destination."""


def wait(outcome: Outcome, attempts: int, retry_after: int | None, jitter: float) -> Wait:
    """After `attempts` attempts (>= 1), the last of which ended so.

    `retry_after` in milliseconds; jitter in [0, 1).
    """
    first, longest = _SLOWLY if outcome in LASTING else _SOON
    asked = min(retry_after or 0, LONGEST_RETRY_AFTER)
    delay = max(asked, full_jitter(attempts, jitter, first=first, longest=longest))
    return Wait(delay, asked if outcome is Outcome.BUSY else 0)


def retry_after(field: str | None, now: int) -> int | None:
    """A Retry-After field as milliseconds from `now` (since the epoch); None for anything else."""
    text = (field or "").strip()
    if text.isascii() and text.isdigit():
        return min(int(text[:9]) * 1000, LONGEST_RETRY_AFTER)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at.replace(tzinfo=at.tzinfo or UTC)
    return min(max(0, int(at.timestamp() * 1000) - now), LONGEST_RETRY_AFTER)


def request_id(message_id: MessageId) -> str:
    """BaRS's X-Request-Id: the same UUID at every attempt (RFC 9562 version 5, of the message's)."""
    return str(uuid.uuid5(uuid.UUID(message_id), "push"))
