"""Exchanges and queues on RabbitMQ, stated in one place, never declared on the hot path. docs/broker.md.

A quorum queue declared moments before a crash can stay unusable, so `gateway broker apply` declares, and
nodes only check. Two ways lead there: `declare` speaks AMQP and makes what stands here, no more;
definitions.py makes of the same constants a document with accounts and permissions for the management API.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractQueue, AbstractQueueIterator
from pamqp.common import FieldTable

from gateway.messages import AgencyId
from gateway.transport.base import Lane, TransportUnavailable

EXCHANGE: Final = "gateway"
DEAD: Final = "gateway.dead"
"""Exchange and queue of what was refused, expired or killed its consumer too often."""

PROBE: Final = b"referral-gateway probe"
"""Goes through each queue once when it is declared; a node that gets it acknowledges and forgets it."""

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


def queue_arguments(lane: Lane, max_length: int | None = None) -> FieldTable:
    """The arguments of an agency's queue; `max_length` replaces MAX_LENGTH."""
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-max-length": max_length or MAX_LENGTH[lane],
        "x-max-length-bytes": MAX_BYTES,
        # At-least-once dead-lettering demands reject-publish: a full queue says no, it drops nothing.
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": DEAD,
        "x-dead-letter-strategy": "at-least-once",
    }


def dead_arguments() -> FieldTable:
    """The arguments of the queue of dead letters: no limit, since at its limit it would drop the oldest."""
    return {"x-queue-type": "quorum"}


async def declare(
    url: str,
    agencies: Sequence[AgencyId],
    *,
    max_length: int | None = None,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Declare everything for these agencies; safe to repeat. Raises TransportUnavailable.

    `max_length` replaces MAX_LENGTH in both lanes; `tls` is for amqps://.
    """
    with _wrapped():
        async with await aio_pika.connect(url, timeout=TIMEOUT, ssl_context=tls) as connection:
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
                        arguments=queue_arguments(lane, max_length),
                        timeout=TIMEOUT,
                    )
                    await queue.bind(exchange, routing_key(agency, lane), timeout=TIMEOUT)
                    await _settle(channel, queue)


async def _settle(channel: AbstractChannel, queue: AbstractQueue) -> None:
    """Send something through a new queue, so that it is there after a crash too.

    RabbitMQ 3.10 was seen to come back, when killed seconds after a declaration, with a quorum queue that
    takes no consumer. One entry in its log that the broker has synced makes that rarer.
    """
    state = queue.declaration_result
    if state.consumer_count or state.message_count:
        return  # in use
    probe = aio_pika.Message(PROBE, delivery_mode=aio_pika.DeliveryMode.PERSISTENT, expiration=60)
    await channel.default_exchange.publish(probe, queue.name, timeout=TIMEOUT)
    came = await queue.get(timeout=TIMEOUT, fail=False)
    if came is not None and came.body != PROBE:
        await came.reject(requeue=True)  # somebody was quicker than our probe: it is theirs
    elif came is not None:
        await came.ack()


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


async def _declare_dead(channel: AbstractChannel) -> None:
    exchange = await channel.declare_exchange(
        DEAD, aio_pika.ExchangeType.FANOUT, durable=True, timeout=TIMEOUT
    )
    queue = await channel.declare_queue(DEAD, durable=True, arguments=dead_arguments(), timeout=TIMEOUT)
    await queue.bind(exchange, timeout=TIMEOUT)
