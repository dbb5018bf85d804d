"""Exchanges and queues on RabbitMQ, declared in one place, never on the hot path. docs/broker.md.

A quorum queue declared moments before a crash can stay unusable, so `gateway broker apply` declares, and
nodes only check.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractQueueIterator
from pamqp.common import FieldTable

from gateway.messages import AgencyId
from gateway.transport.base import Lane, TransportUnavailable

EXCHANGE: Final = "gateway"
DEAD: Final = "gateway.dead"
"""Exchange and queue of what was refused, expired or killed its consumer too often."""

DELIVERY_LIMIT: Final = 20
"""Times a delivery may come back unanswered (its consumer died) before it is set aside."""
MAX_LENGTH: Final = {Lane.MESSAGES: 100_000, Lane.RECEIPTS: 1_000_000}
"""Envelopes in one queue; beyond it the broker refuses (reject-publish) rather than drops."""
MAX_BYTES: Final = 8 * 1024**3
"""Bytes in one queue."""
TIMEOUT: Final = 15.0
"""Seconds for each step of declaring."""


def queue_name(agency: AgencyId, lane: Lane) -> str:
    """The queue an agency's node consumes."""
    return f"gateway.{agency}.{lane.value}"


def routing_key(agency: AgencyId, lane: Lane) -> str:
    """The routing key that leads there."""
    return f"{agency}.{lane.value}"


async def declare(url: str, agencies: Sequence[AgencyId], *, max_length: int | None = None) -> None:
    """Declare everything for these agencies; safe to repeat. Raises TransportUnavailable.

    `max_length` replaces MAX_LENGTH in both lanes.
    """
    with _wrapped():
        async with await aio_pika.connect(url, timeout=TIMEOUT) as connection:
            channel = await connection.channel()
            await _declare_dead(channel)
            exchange = await channel.declare_exchange(
                EXCHANGE, aio_pika.ExchangeType.DIRECT, durable=True, timeout=TIMEOUT
            )
            for agency in agencies:
                for lane in Lane:
                    queue = await channel.declare_queue(
                        queue_name(agency, lane),
                        durable=True,
                        arguments=_arguments(max_length or MAX_LENGTH[lane]),
                        timeout=TIMEOUT,
                    )
                    await queue.bind(exchange, routing_key(agency, lane), timeout=TIMEOUT)


@contextlib.asynccontextmanager
async def copies(url: str, agencies: Sequence[AgencyId]) -> AsyncIterator[AbstractQueueIterator]:
    """A copy of everything published to these agencies from now on: tap.py. Raises TransportUnavailable.

    Its queue ends with the connection. While it exists, an agency without queues is not unroutable.
    """
    with _wrapped():
        async with await aio_pika.connect(url, timeout=TIMEOUT) as connection:
            channel = await connection.channel()
            exchange = await channel.get_exchange(EXCHANGE)
            queue = await channel.declare_queue(exclusive=True, auto_delete=True, timeout=TIMEOUT)
            for agency in agencies:
                for lane in Lane:
                    await queue.bind(exchange, routing_key(agency, lane), timeout=TIMEOUT)
            async with queue.iterator(no_ack=True) as messages:
                yield messages


@contextlib.contextmanager
def _wrapped() -> Iterator[None]:
    try:
        yield
    except (aio_pika.exceptions.AMQPError, OSError, TimeoutError):
        raise TransportUnavailable("the broker cannot be reached, or it refused the declaration") from None


def _arguments(max_length: int) -> FieldTable:
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-max-length": max_length,
        "x-max-length-bytes": MAX_BYTES,
        # At-least-once dead-lettering demands reject-publish: a full queue says no, it drops nothing.
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": DEAD,
        "x-dead-letter-strategy": "at-least-once",
    }


async def _declare_dead(channel: AbstractChannel) -> None:
    exchange = await channel.declare_exchange(
        DEAD, aio_pika.ExchangeType.FANOUT, durable=True, timeout=TIMEOUT
    )
    queue = await channel.declare_queue(
        DEAD, durable=True, arguments={"x-queue-type": "quorum"}, timeout=TIMEOUT
    )
    await queue.bind(exchange, timeout=TIMEOUT)
