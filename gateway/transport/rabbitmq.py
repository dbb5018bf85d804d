"""RabbitMQ as the transport, through aio-pika.

Publishing waits for the broker's confirm; consuming is answered by hand, after the inbox commit. The broker
is given a routing key, a random message id, an expiration and bytes: no headers, no timestamp.

Recovery is one loop of our own over plain connections: whatever is lost (a connection, a channel, a consumer
that ended without a sound), everything is closed, connected and subscribed again, at the next address.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

import aio_pika
from aio_pika.abc import (
    AbstractChannel,
    AbstractExchange,
    AbstractIncomingMessage,
    AbstractQueue,
    ConsumerTag,
)

from gateway.messages import AgencyId
from gateway.transport.base import Handler, Lane, Sealed, TransportError, TransportFull, TransportUnavailable
from gateway.transport.links import CLOSE_TIMEOUT, Links, connect, wrapped
from gateway.transport.rabbit_delivery import RabbitDelivery, sealed_in
from gateway.transport.supervisor import Supervisor
from gateway.transport.topology import EXCHANGE, PROBE, queue_name, routing_key

CONNECT_TIMEOUT = 15.0
"""Seconds to connect, and for each step of subscribing."""
CONFIRM_TIMEOUT = 10.0
"""Seconds to wait for a confirm; afterwards the outcome is unknown and the envelope is published again."""
WATCH = 5.0
"""Seconds between looks at the subscriptions."""
STALLED = 120.0
"""Seconds that messages may wait in a queue while its consumer has room and gets none, before the consumer
counts as dead. Long, because the largest envelope may take as long on a slow line."""
REFUSED = 15.0
"""Seconds that a queue may refuse before publishing goes on over a new channel: the broker's half of a
channel that met a queue without a leader has been seen to go on refusing for it when all was well again.
Longer than CONFIRM_TIMEOUT: what is under way on the old channel ends there."""
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
    under_way: int = 0
    """Deliveries that its handler has now."""
    fed: float = 0.0
    """When it last was not waiting for what stands in the queue, by the monotonic clock."""


@dataclass(slots=True)
class RabbitTransport:
    """Implements Transport over two connections to one node of the broker.

    `external` logs in by the certificate in `tls`. `user_id` is the account, stated on each message; the
    broker refuses any other. `patient`: a broker that is away, or a queue that cannot be used yet, is no
    error at the start either; it goes on trying, and says meanwhile that it is not connected.
    """

    url: str = field(repr=False)
    more_urls: tuple[str, ...] = field(default=(), repr=False)
    """Other nodes of the same broker."""
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    external: bool = False
    user_id: str = ""
    patient: bool = False
    connect_timeout: float = CONNECT_TIMEOUT
    """For each address."""
    confirm_timeout: float = CONFIRM_TIMEOUT
    _addresses: deque[str] = field(init=False, repr=False)
    """In the order they are tried; the first is next."""
    _links: Links | None = field(default=None, init=False)
    _exchange: AbstractExchange | None = field(default=None, init=False)
    """The exchange on the publishing channel; None while there is no connection."""
    _channel: AbstractChannel | None = field(default=None, init=False)
    """The publishing channel."""
    _retired: AbstractChannel | None = field(default=None, init=False)
    """The one before, open until the next."""
    _refusing: dict[str, float] = field(default_factory=dict, init=False)
    """Since when a queue refuses, by routing key and the monotonic clock."""
    _lost: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _subscriptions: list[_Subscription] = field(default_factory=list, init=False)
    _under_way: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _tasks: Supervisor = field(default_factory=Supervisor, init=False)
    _closing: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        # In random order, so that a hundred nodes do not all go to the first broker of the list.
        addresses = [self.url, *self.more_urls]
        self._addresses = deque(random.SystemRandom().sample(addresses, len(addresses)))

    async def start(self) -> None:
        """See Transport.start. The exchange must exist: `gateway broker apply` declares it."""
        try:
            await self._connect()
        except TransportUnavailable:
            if not self.patient:
                raise
            self._lost.set()
        self._tasks.start(self._keep_connected())

    @property
    def connected(self) -> bool:
        """See Transport.connected. False also while the broker takes nothing (it is out of memory or disk)
        and while one of our queues is not usable.
        """
        links = self._links
        if links is None or self._exchange is None or links.lost.is_set() or links.blocked:
            return False
        return all(subscription.queue is not None for subscription in self._subscriptions)

    async def publish(self, sealed: Sealed) -> None:
        """See Transport.publish."""
        if self._links is None or self._exchange is None or self._lost.is_set():
            raise TransportUnavailable("there is no connection to the broker")
        if self._links.blocked:
            raise TransportUnavailable(
                "the broker takes nothing at the moment: it is short of memory or disk"
            )
        left = max(1, sealed.expires - time.time_ns() // 1_000_000)
        message = aio_pika.Message(
            sealed.body,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            message_id=sealed.envelope_id,
            expiration=timedelta(milliseconds=left),
            user_id=self.user_id or None,
        )
        key = routing_key(sealed.recipient, sealed.lane)
        try:
            with wrapped():
                await self._exchange.publish(message, key, mandatory=True, timeout=self.confirm_timeout)
        except TransportFull:
            self._refusing.setdefault(key, time.monotonic())
            raise
        self._refusing.pop(key, None)

    async def consume(self, agency: AgencyId, lane: Lane, handler: Handler, *, prefetch: int) -> None:
        """See Transport.consume."""
        subscription = _Subscription(agency, lane, handler, prefetch)
        try:
            if self._links is None:
                raise TransportUnavailable("there is no connection to the broker")
            await self._subscribe(self._links, subscription)
        except TransportUnavailable:
            if not self.patient:
                raise
        self._subscriptions.append(subscription)

    async def _connect(self) -> None:
        """Try each address once. Raises what the last one said."""
        for left in reversed(range(len(self._addresses))):
            address = self._addresses[0]
            self._addresses.rotate(-1)
            try:
                await self._connect_to(address)
            except TransportError:
                if not left:
                    raise
            else:
                return

    async def _connect_to(self, address: str) -> None:
        links = await connect(address, self.tls, external=self.external, timeout=self.connect_timeout)
        self._links, self._lost = links, links.lost
        try:
            # One queue that is not usable must not keep the others, nor what is to be published, waiting.
            self._exchange = await self._open_exchange(links)
            for subscription in self._subscriptions:
                subscription.queue = None
            await asyncio.gather(*(self._try_subscribe(links, one) for one in self._subscriptions))
        except BaseException:
            await self._disconnect()
            raise

    async def _open_exchange(self, links: Links) -> AbstractExchange:
        with wrapped():
            async with asyncio.timeout(self.connect_timeout):
                channel = await links.publishing.channel(publisher_confirms=True, on_return_raises=True)
                channel.close_callbacks.add(lambda *_: self._publisher_closed(links, channel))
                exchange = await channel.get_exchange(EXCHANGE)
        self._retired, self._channel = self._channel, channel
        return exchange

    def _publisher_closed(self, links: Links, channel: AbstractChannel) -> None:
        if channel is self._channel:
            links.lost.set()

    async def _renew_exchange(self, links: Links) -> None:
        """Publish on a new channel if a queue refuses for long."""
        if links.blocked or not any(time.monotonic() - since > REFUSED for since in self._refusing.values()):
            return
        self._refusing.clear()
        oldest = self._retired
        self._exchange = await self._open_exchange(links)
        if oldest is not None:
            with wrapped():
                await oldest.close()

    async def _try_subscribe(self, links: Links, subscription: _Subscription) -> None:
        """The next look tries again."""
        with contextlib.suppress(TransportError):
            await self._subscribe(links, subscription)

    async def _subscribe(self, links: Links, subscription: _Subscription) -> None:
        with wrapped():
            async with asyncio.timeout(self.connect_timeout):
                channel = await links.consuming.channel()
                underlay = await channel.get_underlay_channel()
                # The broker ends a consumer whose queue is deleted or loses its leader.
                underlay.on_consumer_cancel_callbacks.add(lambda *_: links.lost.set())
                await channel.set_qos(prefetch_count=subscription.prefetch)
                queue = await channel.get_queue(queue_name(subscription.agency, subscription.lane))
                subscription.fed = time.monotonic()
                subscription.tag = await queue.consume(partial(self._take, subscription))
                subscription.queue = queue
        links.watch(channel)

    async def _take(self, subscription: _Subscription, message: AbstractIncomingMessage) -> None:
        """Run the handler; aio-pika gives each message a task, and prefetch bounds how many there are."""
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        subscription.under_way += 1
        subscription.fed = time.monotonic()
        delivery = RabbitDelivery(message, sealed_in(message, subscription.agency, subscription.lane))
        try:
            if message.body == PROBE:
                await delivery.ack()
            else:
                await subscription.handler(delivery)
        finally:
            subscription.under_way -= 1

    async def _keep_connected(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH):
                    await self._lost.wait()
            # Whatever a library raises: this is the only loop that brings the connection back.
            with contextlib.suppress(Exception):
                if not self._lost.is_set() and await self._well():
                    continue
            await self._disconnect()
            with contextlib.suppress(Exception):
                await self._connect()
                continue
            await asyncio.sleep(RECONNECT)

    async def _well(self) -> bool:
        """Whether publishing works and every queue still has our consumer, as far as can be told."""
        if self._links is None:
            return False
        try:
            await self._renew_exchange(self._links)
            with wrapped():
                for subscription in self._subscriptions:
                    if subscription.queue is None:
                        await self._try_subscribe(self._links, subscription)
                        continue
                    async with asyncio.timeout(self.connect_timeout):
                        if not await _served(subscription.queue, subscription):
                            return False
        except TransportError:
            return False
        return True

    async def _disconnect(self) -> None:
        links, self._links = self._links, None
        self._exchange = self._channel = self._retired = None
        self._refusing.clear()
        self._lost.set()
        if links is not None:
            await links.close()

    async def close(self) -> None:
        """See Transport.close. What handlers have not answered when it ends is delivered again."""
        if self._closing:
            return
        self._closing = True
        await self._tasks.stop()
        for subscription in self._subscriptions:
            if subscription.queue is not None and subscription.tag is not None and not self._lost.is_set():
                with contextlib.suppress(TransportError), wrapped():
                    await subscription.queue.cancel(subscription.tag, timeout=CLOSE_TIMEOUT)
        if self._under_way:
            _, unfinished = await asyncio.wait(self._under_way, timeout=CLOSE_TIMEOUT)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
        await self._disconnect()


async def _served(queue: AbstractQueue, subscription: _Subscription) -> bool:
    """Whether our consumer is there, as the broker sees it, and is not passed over.

    The broker only counts consumers, so another node's would hide that ours is gone. What no count hides is
    that messages wait while ours has room.
    """
    state = await queue.declare()
    if not state.consumer_count:
        return False
    if not state.message_count or subscription.under_way >= subscription.prefetch:
        subscription.fed = time.monotonic()
    return time.monotonic() - subscription.fed < STALLED
