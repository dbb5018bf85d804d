"""What only RabbitMQ has: a wire others can read, and a broker that dies, hangs, forgets and refuses."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from gateway.transport import rabbitmq, topology
from gateway.transport.base import Delivery, Lane, TransportFull, TransportUnavailable, Unroutable
from gateway.transport.rabbitmq import RabbitTransport
from tests.rabbit import RabbitNode
from tests.transport.ground import (
    COUNCIL,
    HOUR,
    NOBODY,
    PATIENCE,
    POLICE,
    Collector,
    dead_on_broker,
    publish_when_it_works,
    sealed,
    unanswered,
)

pytestmark = pytest.mark.xdist_group("broker")

MESSAGES = topology.queue_name(POLICE, Lane.MESSAGES)


@pytest.fixture
async def url(broker_url: str) -> str:
    """A virtual host with the queues of the police and the council."""
    await topology.declare(broker_url, [POLICE, COUNCIL])
    return broker_url


@pytest.fixture
async def node(url: str) -> AsyncIterator[RabbitTransport]:
    transport = RabbitTransport(url)
    await transport.start()
    yield transport
    await transport.close()


@pytest.fixture
async def channel(url: str) -> AsyncIterator[AbstractChannel]:
    """What the broker's operator could open."""
    async with await aio_pika.connect(url) as connection:
        yield await connection.channel()


@pytest.fixture(scope="module")
def fragile() -> Iterator[RabbitNode]:
    """A broker of our own, to be killed and frozen."""
    node = RabbitNode()
    node.start()
    yield node
    node.stop()


@pytest.fixture
async def fragile_url(fragile: RabbitNode) -> str:
    """A virtual host on it. A confirm says that a queue is past its first moments: see topology.py."""
    url = await asyncio.to_thread(fragile.create_vhost)
    await topology.declare(url, [POLICE, COUNCIL])
    transport = RabbitTransport(url)
    await transport.start()
    for agency in (POLICE, COUNCIL):
        for lane in Lane:
            collector = Collector()
            await transport.publish(sealed(b"ready", agency, lane))
            await transport.consume(agency, lane, collector, prefetch=1)
            assert await collector.body() == b"ready"
    await transport.close()
    return url


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at the connection and tries again more often."""
    monkeypatch.setattr(rabbitmq, "WATCH", 0.2)
    monkeypatch.setattr(rabbitmq, "RECONNECT", 0.2)


# What the broker sees.


async def test_on_the_wire_stand_an_identifier_an_expiration_a_delivery_mode_and_nothing_else(
    node: RabbitTransport, channel: AbstractChannel
) -> None:
    copy = await channel.declare_queue(exclusive=True)  # a quorum queue would add headers of its own
    await copy.bind(topology.EXCHANGE, topology.routing_key(POLICE, Lane.MESSAGES))
    thing = sealed(b"ciphertext", lifetime=HOUR)
    await node.publish(thing)
    raw = await (await channel.get_underlay_channel()).basic_get(copy.name, no_ack=True)
    assert raw.body == b"ciphertext"
    assert raw.routing_key == "police.messages"
    # aio-pika always sends an empty header table and the priority 0: constants, they say nothing.
    outside = {name: value for name, value in raw.header.properties if value}
    assert set(outside) == {"message_id", "expiration", "delivery_mode"}
    assert outside["message_id"] == thing.envelope_id
    assert outside["delivery_mode"] == 2
    assert 0 < int(str(outside["expiration"])) <= HOUR


async def test_queues_hold_what_docs_broker_promises(channel: AbstractChannel) -> None:
    await channel.declare_queue(
        MESSAGES,
        durable=True,
        arguments={  # other arguments than at first are refused by the broker
            "x-queue-type": "quorum",
            "x-delivery-limit": 20,
            "x-max-length": 100_000,
            "x-max-length-bytes": 8 * 1024**3,
            "x-overflow": "reject-publish",
            "x-dead-letter-exchange": "gateway.dead",
            "x-dead-letter-strategy": "at-least-once",
        },
    )


async def test_declaring_again_keeps_what_waits(node: RabbitTransport, url: str) -> None:
    await node.publish(sealed(b"waiting"))
    await topology.declare(url, [POLICE, COUNCIL])
    collector = Collector()
    await node.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
    assert await collector.body() == b"waiting"


async def test_declaring_with_other_arguments_is_refused_and_says_so(url: str) -> None:
    with pytest.raises(TransportUnavailable):
        await topology.declare(url, [POLICE], max_length=5)


async def test_what_comes_back_unanswered_too_often_is_set_aside(url: str, channel: AbstractChannel) -> None:
    queue = await channel.get_queue(MESSAGES)
    node = RabbitTransport(url)
    await node.start()
    await node.publish(sealed(b"poison"))
    await node.close()
    for _ in range(topology.DELIVERY_LIMIT + 1):
        message = await queue.get(timeout=PATIENCE)
        assert message is not None
        await message.nack(requeue=True)
    assert await dead_on_broker(url, 1) == [b"poison"]


# At the start.


async def test_a_wrong_password_is_unavailable(url: str) -> None:
    node = RabbitTransport(url.replace("guest:guest", "guest:wrong"))
    with pytest.raises(TransportUnavailable) as caught:
        await node.start()
    assert "wrong" not in str(caught.value)
    assert not node.connected
    await node.close()


async def test_the_password_is_not_in_the_transports_representation(url: str) -> None:
    assert "guest" not in repr(RabbitTransport(url))


async def test_a_virtual_host_that_does_not_exist_is_unavailable(url: str) -> None:
    node = RabbitTransport(url.rsplit("/", 1)[0] + "/nowhere")
    with pytest.raises(TransportUnavailable):
        await node.start()
    assert not node.connected
    await node.close()


async def test_without_a_broker_it_is_unavailable(unused_tcp_port: int) -> None:
    node = RabbitTransport(f"amqp://guest:guest@127.0.0.1:{unused_tcp_port}/")
    with pytest.raises(TransportUnavailable):
        await node.start()
    assert not node.connected
    await node.close()


async def test_a_broker_that_says_nothing_is_unavailable_within_the_connect_timeout() -> None:
    ends = asyncio.Event()

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ends.wait()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        node = RabbitTransport(f"amqp://guest:guest@127.0.0.1:{port}/", connect_timeout=0.5)
        with pytest.raises(TransportUnavailable):
            await node.start()
        await node.close()
        ends.set()


async def test_without_declarations_it_does_not_start_and_the_error_says_what_to_run(
    broker_url: str,
) -> None:
    node = RabbitTransport(broker_url)
    with pytest.raises(Unroutable, match="gateway broker apply"):
        await node.start()
    assert not node.connected
    await node.close()


async def test_a_missing_queue_at_the_start_is_unroutable_and_the_error_says_what_to_run(
    node: RabbitTransport,
) -> None:
    with pytest.raises(Unroutable, match="gateway broker apply"):
        await node.consume(NOBODY, Lane.MESSAGES, Collector(), prefetch=1)


async def test_publishing_before_the_start_and_after_close_is_unavailable(url: str) -> None:
    node = RabbitTransport(url)
    with pytest.raises(TransportUnavailable):
        await node.publish(sealed(b"before"))
    await node.start()
    await node.close()
    with pytest.raises(TransportUnavailable):
        await node.publish(sealed(b"after"))


# While it runs.


def close_connections(rabbit: RabbitNode, node: RabbitTransport) -> None:
    """As an operator would."""
    rabbit.rabbitmqctl("close_all_connections", "--vhost", node.url.rsplit("/", 1)[1], "maintenance")


async def test_a_connection_that_an_operator_closes_comes_back_by_itself(
    impatient: None, rabbit: RabbitNode, node: RabbitTransport
) -> None:
    collector = Collector()
    await node.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
    old = node._links
    await asyncio.to_thread(close_connections, rabbit, node)
    await publish_when_it_works(node, sealed(b"again"))
    assert await collector.body() == b"again"
    assert node.connected
    assert node._links is not old


async def delete(channel: AbstractChannel, node: RabbitTransport) -> None:
    """Delete the queue that `node` consumes, and wait until the broker has told it so.

    RabbitMQ 3.10 may leave a consumer attached to nothing when the queue is declared again within that time.
    """
    (subscription,) = node._subscriptions
    assert subscription.queue is not None
    told = asyncio.Event()
    underlay = await subscription.queue.channel.get_underlay_channel()
    underlay.on_consumer_cancel_callbacks.add(lambda *_: told.set())
    await channel.queue_delete(MESSAGES)
    async with asyncio.timeout(PATIENCE):
        await told.wait()


async def test_a_consumer_resumes_after_its_queue_was_deleted_and_declared_again(
    impatient: None, url: str, node: RabbitTransport, channel: AbstractChannel
) -> None:
    collector = Collector()
    await node.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
    await delete(channel, node)
    await topology.declare(url, [POLICE])
    await publish_when_it_works(node, sealed(b"again"))
    assert await collector.body() == b"again"


async def test_while_a_queue_it_consumes_is_missing_it_is_not_connected_and_then_it_is(
    impatient: None, url: str, node: RabbitTransport, channel: AbstractChannel
) -> None:
    collector = Collector()
    await node.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
    await delete(channel, node)
    async with asyncio.timeout(PATIENCE):
        while node.connected:  # noqa: ASYNC110 - a transport is asked, it does not tell
            await asyncio.sleep(0.01)
    await topology.declare(url, [POLICE])
    await publish_when_it_works(node, sealed(b"again"))
    assert await collector.body() == b"again"
    assert node.connected


async def test_nothing_confirmed_is_lost_when_the_broker_is_killed_and_everything_resumes(
    impatient: None, fragile: RabbitNode, fragile_url: str
) -> None:
    stuck, go = asyncio.Event(), asyncio.Event()

    async def answer(delivery: Delivery) -> None:
        stuck.set()
        await go.wait()
        await delivery.ack()

    sender, recipient, collector = (
        RabbitTransport(fragile_url),
        RabbitTransport(fragile_url),
        Collector(answer),
    )
    await sender.start()
    await recipient.start()
    await recipient.consume(POLICE, Lane.MESSAGES, collector, prefetch=5)
    confirmed: set[str] = set()
    enough = asyncio.Event()

    async def publish() -> None:
        while True:
            thing = sealed(b"body")
            await sender.publish(thing)
            confirmed.add(thing.envelope_id)
            if len(confirmed) >= 100:
                enough.set()

    publishers = [asyncio.create_task(publish()) for _ in range(4)]
    async with asyncio.timeout(PATIENCE):
        await enough.wait()
        await stuck.wait()
        await asyncio.to_thread(fragile.kill)
        failures = await asyncio.gather(*publishers, return_exceptions=True)
    assert [type(failure) for failure in failures] == [TransportUnavailable] * 4
    with pytest.raises(TransportUnavailable):
        await sender.publish(sealed(b"during the outage"))
    assert not sender.connected
    await asyncio.to_thread(fragile.start)
    go.set()
    last = sealed(b"last")
    await publish_when_it_works(sender, last)
    came: set[str] = set()
    while not confirmed | {last.envelope_id} <= came:
        came.add((await collector.next()).sealed.envelope_id)
    assert sender.connected
    assert recipient.connected
    await sender.close()
    await recipient.close()


async def test_a_broker_that_hangs_is_unavailable_within_the_confirm_timeout_and_then_works_again(
    fragile: RabbitNode, fragile_url: str
) -> None:
    sender, recipient, collector = (
        RabbitTransport(fragile_url, confirm_timeout=1),
        RabbitTransport(fragile_url),
        Collector(),
    )
    await sender.start()
    await recipient.start()
    await recipient.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
    await sender.publish(sealed(b"before"))
    assert await collector.body() == b"before"
    unknown = sealed(b"unknown")
    fragile.signal(signal.SIGSTOP)
    try:
        with pytest.raises(TransportUnavailable):
            await sender.publish(unknown)
    finally:
        fragile.signal(signal.SIGCONT)
    await publish_when_it_works(sender, unknown)
    await publish_when_it_works(sender, sealed(b"after"))
    came = await collector.next()
    while came.sealed.body != b"after":
        assert came.sealed.envelope_id == unknown.envelope_id
        came = await collector.next()
    await sender.close()
    await recipient.close()


async def test_while_a_queue_refuses_publishing_moves_to_new_channels_and_nothing_else_notices(
    impatient: None, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rabbitmq, "REFUSED", 0.5)
    await topology.declare(broker_url, [POLICE], max_length=1)
    await topology.declare(broker_url, [COUNCIL])
    node, collector = RabbitTransport(broker_url), Collector()
    await node.start()
    links, channels = node._links, {node._channel}
    async with asyncio.timeout(PATIENCE):
        while len(channels) < 4:
            await node.publish(sealed(b"to another", COUNCIL))
            with contextlib.suppress(TransportFull):
                await node.publish(sealed(b"too much"))
            channels.add(node._channel)
            await asyncio.sleep(0.02)
    assert sum(channel is not None and not channel.is_closed for channel in channels) == 2
    assert node._links is links
    assert node.connected
    await node.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
    await publish_when_it_works(node, sealed(b"last"))
    while await collector.body() != b"last":
        pass
    await node.close()


async def test_what_a_lost_connection_left_unanswered_is_handed_over_again(
    impatient: None, rabbit: RabbitNode, node: RabbitTransport
) -> None:
    async def acknowledge(delivery: Delivery) -> None:
        await delivery.ack()

    answers = iter([unanswered])

    async def first_unanswered(delivery: Delivery) -> None:
        await next(answers, acknowledge)(delivery)

    collector = Collector(first_unanswered)
    await node.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
    thing = sealed(b"body")
    await node.publish(thing)
    first = await collector.next()
    await asyncio.to_thread(close_connections, rabbit, node)
    again = await collector.next()
    assert (first.redelivered, again.redelivered) == (False, True)
    assert again.sealed.envelope_id == thing.envelope_id
    await first.ack()  # too late, on a channel that is gone: no error
