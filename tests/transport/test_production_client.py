"""Our transport on the broker as deploy/rabbitmq ships it: certificates, several addresses, a broker that
takes nothing, and consumers that end without a sound.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from aio_pika.abc import AbstractChannel

from gateway.transport import rabbitmq, topology
from gateway.transport.base import Delivery, Lane, TransportUnavailable
from gateway.transport.rabbitmq import RabbitTransport
from tests.transport.ground import (
    COUNCIL,
    PATIENCE,
    POLICE,
    Collector,
    publish_when_it_works,
    sealed,
    unanswered,
)
from tests.transport.production import Production, wanted

pytestmark = pytest.mark.xdist_group("production")

MESSAGES = topology.queue_name(POLICE, Lane.MESSAGES)


@pytest.fixture
async def applied(production: Production) -> Production:
    """The broker, set up, with nothing in its queues."""
    async with production.management() as management:
        await management.apply(wanted())
    for agency in (POLICE, COUNCIL):
        async with await production.connect(agency) as connection:
            raw = await (await connection.channel()).get_underlay_channel()
            for lane in Lane:
                await raw.queue_purge(topology.queue_name(agency, lane))
    return production


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at the connection and tries again more often."""
    monkeypatch.setattr(rabbitmq, "WATCH", 0.2)
    monkeypatch.setattr(rabbitmq, "RECONNECT", 0.2)


Make = Callable[..., RabbitTransport]


@pytest.fixture
async def make(applied: Production) -> AsyncIterator[Make]:
    """Nodes of an agency, by its certificate."""
    nodes: list[RabbitTransport] = []

    def node(account: str = POLICE, *more_urls: str, **options: object) -> RabbitTransport:
        settings = {"tls": applied.tls(account), "external": True, "user_id": account, **options}
        node = RabbitTransport(applied.url(account), more_urls, **settings)  # type: ignore[arg-type]
        nodes.append(node)
        return node

    yield node
    for one in nodes:
        await one.close()


async def until(condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    async with asyncio.timeout(patience):
        while not condition():  # noqa: ASYNC110 - a transport is asked, it does not tell
            await asyncio.sleep(0.02)


async def test_by_certificate_and_with_its_account_stated_a_message_arrives(make: Make) -> None:
    police, council, collector = make(POLICE), make(COUNCIL), Collector()
    await police.start()
    await council.start()
    await council.consume(COUNCIL, Lane.MESSAGES, collector, prefetch=5)
    await police.publish(sealed(b"ciphertext", COUNCIL))
    assert await collector.body() == b"ciphertext"


async def test_an_account_that_is_not_ours_cannot_be_stated(make: Make) -> None:
    node = make(POLICE, user_id=COUNCIL)
    await node.start()
    with pytest.raises(TransportUnavailable, match="account"):
        await node.publish(sealed(b"forged", COUNCIL))


async def test_anothers_queue_is_unavailable_and_the_error_says_what_to_run(make: Make) -> None:
    node = make(POLICE)
    await node.start()
    with pytest.raises(TransportUnavailable, match="gateway broker check"):
        await node.consume(COUNCIL, Lane.MESSAGES, Collector(), prefetch=1)


async def test_without_a_certificate_it_is_unavailable(make: Make, applied: Production) -> None:
    from gateway.tls import broker_context

    node = make(POLICE, tls=broker_context(applied.authority.ca))
    with pytest.raises(TransportUnavailable):
        await node.start()


# Several addresses.


async def test_an_address_that_does_not_answer_is_passed_over(
    make: Make, applied: Production, unused_tcp_port_factory: Callable[[], int]
) -> None:
    for _ in range(4):  # the order is random
        dead = [f"amqps://police@localhost:{unused_tcp_port_factory()}/gateway" for _ in range(2)]
        node = make(POLICE, *dead)
        await node.start()
        assert node.connected


async def test_every_address_is_tried_first_by_somebody() -> None:
    urls = ("amqp://a", "amqp://b", "amqp://c")
    first = {RabbitTransport(urls[0], urls[1:])._addresses[0] for _ in range(200)}
    assert first == set(urls)


class Door:
    """A way to the broker that can be shut: a node of a cluster that goes away."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._pipes: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.visitors = 0
        self.port = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.gather(*self._pipes, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visitors += 1
        task = asyncio.current_task()
        assert task is not None
        self._pipes.add(task)
        task.add_done_callback(self._pipes.discard)
        broker_reader, broker_writer = await asyncio.open_connection("127.0.0.1", self._target)
        ends = {writer, broker_writer}
        self._writers |= ends
        try:
            await asyncio.gather(_pipe(reader, broker_writer), _pipe(broker_reader, writer))
        finally:
            for end in ends:
                end.transport.abort()
            self._writers -= ends


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


async def test_when_its_broker_goes_away_it_goes_on_at_the_next_and_consumes_there(
    impatient: None, make: Make, applied: Production
) -> None:
    doors = [Door(applied.node.port) for _ in range(3)]
    for door in doors:
        await door.open()
    urls = [f"amqps://police@localhost:{door.port}/gateway" for door in doors]
    node = make(POLICE)
    node._addresses.clear()
    node._addresses.extend(urls)
    collector = Collector()
    try:
        await node.start()
        await node.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
        assert [door.visitors for door in doors] == [2, 0, 0]  # to publish, and to consume
        for gone, following in ((0, 1), (1, 2), (2, 0)):
            if not following:
                await doors[0].open()
            visitors = doors[following].visitors
            await doors[gone].shut()
            thing = sealed(b"after")
            await publish_when_it_works(node, thing)
            while (await collector.next()).sealed.envelope_id != thing.envelope_id:
                pass  # an acknowledgement may be lost on the way, and comes again
            assert node.connected
            assert doors[following].visitors == visitors + 2
    finally:
        await node.close()
        for door in doors:
            await door.shut()


# A broker short of memory or disk.


@pytest.fixture
def short_of_memory(applied: Production) -> Iterator[Callable[[bool], None]]:
    def choose(short: bool) -> None:
        applied.node.rabbitmqctl("set_vm_memory_high_watermark", "0.0000001" if short else "0.5")

    yield choose
    choose(False)


async def test_a_broker_short_of_memory_takes_nothing_and_gives_what_it_has_and_then_all_is_well(
    make: Make, short_of_memory: Callable[[bool], None]
) -> None:
    police, council, collector = make(POLICE, confirm_timeout=2), make(COUNCIL), Collector()
    await police.start()
    await council.start()
    await police.publish(sealed(b"before", COUNCIL))
    await asyncio.to_thread(short_of_memory, True)
    blocked = sealed(b"meanwhile", COUNCIL)
    with pytest.raises(TransportUnavailable):
        await police.publish(blocked)
    assert not police.connected
    with pytest.raises(TransportUnavailable, match="memory or disk"):
        await police.publish(blocked)
    links = police._links
    await council.consume(COUNCIL, Lane.MESSAGES, collector, prefetch=1)
    assert await collector.body() == b"before"
    await asyncio.to_thread(short_of_memory, False)
    await until(lambda: police.connected)
    assert police._links is links, "being blocked is no reason to connect anew"
    after = sealed(b"after", COUNCIL)
    await publish_when_it_works(police, after)
    while (await collector.next()).sealed.envelope_id != after.envelope_id:
        pass


# Consumers that end.


@pytest.fixture
async def channel(applied: Production) -> AsyncIterator[AbstractChannel]:
    async with await applied.connect(POLICE) as connection:
        yield await connection.channel()


async def consumers(channel: AbstractChannel) -> int:
    queue = await channel.declare_queue(MESSAGES, passive=True)
    return queue.declaration_result.consumer_count or 0


async def test_a_consumer_that_ended_without_a_sound_is_noticed_beside_another_nodes(
    impatient: None, make: Make, channel: AbstractChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rabbitmq, "STALLED", 1.0)
    first, second = make(POLICE), make(POLICE)
    stuck, collector = Collector(unanswered), Collector()
    for node, handler in ((first, stuck), (second, collector)):
        await node.start()
        await node.consume(POLICE, Lane.MESSAGES, handler, prefetch=1)
    assert await consumers(channel) == 2
    (subscription,) = second._subscriptions
    assert subscription.queue is not None
    assert subscription.tag is not None
    await subscription.queue.cancel(subscription.tag)  # the broker has no consumer of ours any more
    assert await consumers(channel) == 1
    await first.publish(sealed(b"for the stuck one"))
    await stuck.next()
    await first.publish(sealed(b"waiting"))
    assert await collector.body() == b"waiting"
    assert await consumers(channel) == 2


async def test_a_consumer_with_nothing_to_do_or_too_much_is_left_alone(
    impatient: None, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rabbitmq, "STALLED", 0.5)
    node, go = make(POLICE), asyncio.Event()

    async def slow(delivery: Delivery) -> None:
        await go.wait()
        await delivery.ack()

    collector = Collector(slow)
    await node.start()
    await node.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
    links = node._links
    await asyncio.sleep(1.2)  # an empty queue
    for body in (b"one", b"two"):
        await node.publish(sealed(body))
    await asyncio.sleep(1.2)  # one under way, one waits, and there is no room for it
    go.set()
    assert await collector.bodies(2) == [b"one", b"two"]
    assert node._links is links


async def test_a_consumer_the_broker_cancels_is_noticed_at_once(make: Make, applied: Production) -> None:
    """WATCH is five seconds here: it is the broker's word that counts."""
    node = make(POLICE)
    await node.start()
    await node.consume(POLICE, Lane.MESSAGES, Collector(), prefetch=1)
    links = node._links
    await asyncio.to_thread(applied.node.rabbitmqctl, "delete_queue", "-p", "gateway", MESSAGES)
    await until(lambda: node._links is not links, patience=3)
    async with applied.management() as management:
        await management.apply(wanted())
    await publish_when_it_works(node, sealed(b"again"))
