"""RabbitMQ as the transport, through aio-pika.

Publishing waits for the broker's confirm; consuming is answered by hand, after the inbox commit. The broker
is given a routing key, a random message id, an expiration and bytes: no headers, no timestamp.

Recovery is one loop of our own over a plain connection: whatever is lost (the connection, a channel, a
consumer that ended without a sound), everything is closed, connected and subscribed again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

import aio_pika
from aio_pika.abc import (
    AbstractConnection,
    AbstractExchange,
    AbstractIncomingMessage,
    AbstractQueue,
    ConsumerTag,
)
from aiormq.exceptions import ChannelInvalidStateError, DeliveryError

from gateway.messages import AgencyId, EnvelopeId
from gateway.transport.base import (
    Handler,
    Lane,
    Sealed,
    TransportError,
    TransportFull,
    TransportUnavailable,
    Unroutable,
)
from gateway.transport.supervisor import Supervisor
from gateway.transport.topology import EXCHANGE, queue_name, routing_key

CONNECT_TIMEOUT = 15.0
"""Seconds to connect, and for each step of subscribing."""
CONFIRM_TIMEOUT = 10.0
"""Seconds to wait for a confirm; afterwards the outcome is unknown and the envelope is published again."""
CLOSE_TIMEOUT = 10.0
"""Seconds that handlers under way get to finish, and that closing may take."""
WATCH = 5.0
"""Seconds between looks at the subscriptions."""
RECONNECT = 1.0
"""Seconds between attempts to reconnect."""


@dataclass(slots=True)
class _Subscription:
    """One queue this node consumes."""

    agency: AgencyId
    lane: Lane
    handler: Handler
    prefetch: int
    queue: AbstractQueue | None = None
    tag: ConsumerTag | None = None


class RabbitDelivery:
    """A message of a queue, not yet answered."""

    def __init__(self, message: AbstractIncomingMessage, sealed: Sealed) -> None:
        self._message = message
        self.sealed = sealed
        self.redelivered = bool(message.redelivered)

    async def ack(self) -> None:
        """See Delivery.ack. When the channel is gone the broker delivers again; the inbox knows it then."""
        with contextlib.suppress(aio_pika.exceptions.AMQPError, ChannelInvalidStateError, OSError):
            await self._message.ack()

    async def requeue(self) -> None:
        """See Delivery.requeue."""
        with contextlib.suppress(aio_pika.exceptions.AMQPError, ChannelInvalidStateError, OSError):
            await self._message.nack(requeue=True)

    async def dead_letter(self) -> None:
        """See Delivery.dead_letter: the queue's dead-letter exchange takes it."""
        with contextlib.suppress(aio_pika.exceptions.AMQPError, ChannelInvalidStateError, OSError):
            await self._message.reject(requeue=False)


@dataclass(slots=True)
class RabbitTransport:
    """Implements Transport over one connection."""

    url: str = field(repr=False)
    connect_timeout: float = CONNECT_TIMEOUT
    confirm_timeout: float = CONFIRM_TIMEOUT
    _connection: AbstractConnection | None = field(default=None, init=False)
    _exchange: AbstractExchange | None = field(default=None, init=False)
    """The exchange on the publishing channel; None while there is no connection."""
    _lost: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _subscriptions: list[_Subscription] = field(default_factory=list, init=False)
    _under_way: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _tasks: Supervisor = field(default_factory=Supervisor, init=False)
    _closing: bool = field(default=False, init=False)

    async def start(self) -> None:
        """See Transport.start. The exchange must exist: `gateway broker apply` declares it."""
        await self._connect()
        self._tasks.start(self._keep_connected())

    @property
    def connected(self) -> bool:
        """See Transport.connected."""
        return self._exchange is not None and not self._lost.is_set()

    async def publish(self, sealed: Sealed) -> None:
        """See Transport.publish."""
        if self._exchange is None or self._lost.is_set():
            raise TransportUnavailable("there is no connection to the broker")
        left = max(1, sealed.expires - time.time_ns() // 1_000_000)
        message = aio_pika.Message(
            sealed.body,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            message_id=sealed.envelope_id,
            expiration=timedelta(milliseconds=left),
        )
        with _wrapped():
            await self._exchange.publish(
                message,
                routing_key(sealed.recipient, sealed.lane),
                mandatory=True,
                timeout=self.confirm_timeout,
            )

    async def consume(self, agency: AgencyId, lane: Lane, handler: Handler, *, prefetch: int) -> None:
        """See Transport.consume."""
        subscription = _Subscription(agency, lane, handler, prefetch)
        await self._subscribe(subscription)
        self._subscriptions.append(subscription)

    async def _connect(self) -> None:
        lost = asyncio.Event()
        with _wrapped():
            async with asyncio.timeout(self.connect_timeout):
                self._connection = await aio_pika.connect(self.url)
            self._connection.close_callbacks.add(lambda *_: lost.set())
        try:
            self._lost = lost
            with _wrapped():
                async with asyncio.timeout(self.connect_timeout):
                    channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
                    channel.close_callbacks.add(lambda *_: lost.set())
                    exchange = await channel.get_exchange(EXCHANGE)
            for subscription in self._subscriptions:
                await self._subscribe(subscription)
            self._exchange = exchange
        except BaseException:
            await self._disconnect()
            raise

    async def _subscribe(self, subscription: _Subscription) -> None:
        if self._connection is None:
            raise TransportUnavailable("there is no connection to the broker")
        lost = self._lost
        with _wrapped():
            async with asyncio.timeout(self.connect_timeout):
                channel = await self._connection.channel()
                channel.close_callbacks.add(lambda *_: lost.set())
                await channel.set_qos(prefetch_count=subscription.prefetch)
                queue = await channel.get_queue(queue_name(subscription.agency, subscription.lane))
                subscription.tag = await queue.consume(partial(self._take, subscription))
                subscription.queue = queue

    async def _take(self, subscription: _Subscription, message: AbstractIncomingMessage) -> None:
        """Run the handler; aio-pika gives each message a task, and prefetch bounds how many there are."""
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        await subscription.handler(RabbitDelivery(message, _sealed(subscription, message)))

    async def _keep_connected(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH):
                    await self._lost.wait()
            if not self._lost.is_set() and await self._consuming():
                continue
            await self._disconnect()
            with contextlib.suppress(TransportError):
                await self._connect()
                continue
            await asyncio.sleep(RECONNECT)

    async def _consuming(self) -> bool:
        """Whether every queue still has a consumer, as the broker sees it."""
        try:
            with _wrapped():
                for subscription in self._subscriptions:
                    if subscription.queue is None:
                        return False
                    async with asyncio.timeout(self.connect_timeout):
                        state = await subscription.queue.declare(timeout=self.connect_timeout)
                    if not state.consumer_count:
                        return False
        except TransportError:
            return False
        return True

    async def _disconnect(self) -> None:
        connection, self._connection, self._exchange = self._connection, None, None
        self._lost.set()
        if connection is not None:
            with contextlib.suppress(TransportError), _wrapped():
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await connection.close()

    async def close(self) -> None:
        """See Transport.close. What handlers have not answered when it ends is delivered again."""
        if self._closing:
            return
        self._closing = True
        await self._tasks.stop()
        for subscription in self._subscriptions:
            if subscription.queue is not None and subscription.tag is not None and not self._lost.is_set():
                with contextlib.suppress(TransportError), _wrapped():
                    await subscription.queue.cancel(subscription.tag, timeout=CLOSE_TIMEOUT)
        if self._under_way:
            _, unfinished = await asyncio.wait(self._under_way, timeout=CLOSE_TIMEOUT)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
        await self._disconnect()


def _sealed(subscription: _Subscription, message: AbstractIncomingMessage) -> Sealed:
    left = message.expiration
    lifetime = left.total_seconds() if isinstance(left, timedelta) else float(left or 0)  # type: ignore[arg-type]
    return Sealed(
        EnvelopeId(message.message_id or ""),
        subscription.agency,
        subscription.lane,
        time.time_ns() // 1_000_000 + int(lifetime * 1000),
        message.body,
    )


@contextlib.contextmanager
def _wrapped() -> Iterator[None]:
    """Every foreign exception becomes one of ours, once, here."""
    try:
        yield
    except aio_pika.exceptions.PublishError:
        raise Unroutable("the recipient has no queue on the broker") from None
    except DeliveryError:
        raise TransportFull("the recipient's queue is at its limit") from None
    except aio_pika.exceptions.ChannelNotFoundEntity:
        raise Unroutable("an exchange or queue does not exist: run `gateway broker apply`") from None
    except (aio_pika.exceptions.AMQPError, ChannelInvalidStateError, OSError, TimeoutError, RuntimeError):
        # aiormq raises RuntimeError for a connection that closed under a call.
        raise TransportUnavailable("the broker cannot be reached or did not confirm in time") from None
