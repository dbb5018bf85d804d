"""Times that the rules depend on, in milliseconds; `now` is always an argument."""

from __future__ import annotations

from gateway.messages import Header, Reason

SECOND = 1000
DAY = 24 * 3600 * SECOND

MAX_CLOCK_SKEW = 5 * 60 * SECOND
"""How far two nodes' clocks may differ. A message created further in the future is refused, because its
expiry and the order of events could not be trusted."""

MAX_LIFETIME = 30 * DAY
"""Longest time between `created` and `expires` that a node accepts from a peer."""

RECEIPT_LIFETIME = 30 * DAY
"""How long a batch of receipts may wait for the sender's node to come back."""


def judge(header: Header, now: int) -> Reason | None:
    """Whether an envelope that arrives at `now` is refused for its times."""
    if header.created > now + MAX_CLOCK_SKEW:
        return Reason.CLOCK_SKEW
    if header.expires <= header.created or header.expires - header.created > MAX_LIFETIME:
        return Reason.INVALID
    if header.expires <= now:
        return Reason.EXPIRED
    return None
