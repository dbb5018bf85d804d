"""What a transport is: sealed things go in at one node and come out at another, at least once.

A transport knows the recipient agency, a random identifier, an expiry and bytes. It must not be given
more (design.md, Envelope). Every foreign exception is wrapped into the three below.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from gateway.messages import AgencyId, EnvelopeId


class Lane(StrEnum):
    """Two queues for each agency, so that receipts never wait behind bulk."""

    MESSAGES = "messages"
    RECEIPTS = "receipts"


@dataclass(frozen=True, slots=True)
class Sealed:
    """One sealed thing on its way: an envelope, or a sealed chunk of an attachment."""

    envelope_id: EnvelopeId
    recipient: AgencyId
    lane: Lane
    expires: int
    """Milliseconds since the epoch; the transport may drop it into the dead letters afterwards."""
    body: bytes = field(repr=False)


class Delivery(Protocol):
    """A sealed thing that arrived. Exactly one of the three answers must be given."""

    @property
    def sealed(self) -> Sealed: ...
    @property
    def redelivered(self) -> bool:
        """The transport may have handed it over before (no answer reached it)."""
        ...

    async def ack(self) -> None:
        """It is durable here; the transport forgets it."""

    async def requeue(self) -> None:
        """Not now (our store is unavailable): hand it over again later."""

    async def dead_letter(self) -> None:
        """Never: set it aside where an operator can look at it."""


Handler = Callable[[Delivery], Awaitable[None]]
"""Called concurrently, at most `prefetch` at a time. It answers the delivery itself and does not raise."""


class TransportError(Exception):
    """Base of what a transport raises. Arguments are constant sentences, never message content."""


class Unroutable(TransportError):
    """The recipient has no queue on this transport."""


class TransportFull(TransportError):
    """The recipient's queue is at its limit: it says no rather than drops."""


class TransportUnavailable(TransportError):
    """Not reachable, or no confirmation came in time: whether it was taken is unknown, so publish it
    again under the same envelope_id; the recipient's inbox removes duplicates.
    """


class Transport(Protocol):
    """One interface, two implementations (rabbitmq.py, embedded.py); tests/transport runs both."""

    async def start(self) -> None:
        """Connect. Raises TransportUnavailable when that fails within the connect timeout."""

    async def close(self) -> None:
        """Stop consuming, let handlers under way finish (bounded), disconnect. Safe to call twice."""

    async def publish(self, sealed: Sealed) -> None:
        """Return once the transport has it durably.

        Raises Unroutable, TransportFull or TransportUnavailable.
        """

    async def consume(self, agency: AgencyId, lane: Lane, handler: Handler, *, prefetch: int) -> None:
        """Hand every sealed thing of that queue to `handler` until close(). Returns once subscribed.

        Survives reconnection. Raises Unroutable when the queue does not exist.
        """

    @property
    def connected(self) -> bool:
        """Whether the transport is usable at the moment, for /readyz."""
        ...
