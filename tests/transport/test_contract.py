"""What a transport promises, held against both of them."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.messages import AgencyId
from gateway.transport import topology
from gateway.transport.base import Delivery, Lane, Transport, TransportFull, Unroutable
from gateway.transport.embedded import EmbeddedTransport, create_queues
from gateway.transport.rabbitmq import RabbitTransport
from tests.transport.ground import (
    COUNCIL,
    NOBODY,
    PATIENCE,
    POLICE,
    Collector,
    dead_in_spool,
    dead_on_broker,
    sealed,
    unanswered,
)


@dataclass
class Ground:
    """One transport's queues; any number of nodes on them."""

    make: Callable[[], Transport]
    dead: Callable[[AgencyId, int], Awaitable[list[bytes]]]
    """Wait for so many dead letters of an agency."""
    declare: Callable[[int | None], Awaitable[None]]
    nodes: list[Transport] = field(default_factory=list)

    async def node(self) -> Transport:
        """One more node, connected."""
        transport = self.make()
        self.nodes.append(transport)
        await transport.start()
        return transport


def _embedded(spool: Path, limit: int | None) -> Ground:
    async def declare(_: int | None) -> None:
        create_queues(spool, [POLICE, COUNCIL])

    return Ground(
        lambda: EmbeddedTransport(spool) if limit is None else EmbeddedTransport(spool, max_length=limit),
        lambda agency, count: dead_in_spool(spool, agency, count),
        declare,
    )


def _rabbitmq(url: str) -> Ground:
    async def declare(limit: int | None) -> None:
        await topology.declare(url, [POLICE, COUNCIL], max_length=limit)

    return Ground(lambda: RabbitTransport(url), lambda _, count: dead_on_broker(url, count), declare)


@pytest.fixture
def limit() -> int | None:
    """How many things a queue takes; a test that cares parametrises it."""
    return None


@pytest.fixture(params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.xdist_group("broker"))])
async def ground(request: pytest.FixtureRequest, tmp_path: Path, limit: int | None) -> AsyncIterator[Ground]:
    """Queues for the police and the council, on each transport."""
    if request.param == "rabbitmq":
        ground = _rabbitmq(request.getfixturevalue("broker_url"))
    else:
        ground = _embedded(tmp_path, limit)
    await ground.declare(limit)
    yield ground
    for node in ground.nodes:
        await node.close()


async def test_what_is_published_arrives_with_bytes_identifier_recipient_lane_and_expiry(
    ground: Ground,
) -> None:
    sender, recipient, collector = await ground.node(), await ground.node(), Collector()
    await recipient.consume(POLICE, Lane.MESSAGES, collector, prefetch=10)
    thing = sealed(bytes(range(256)))
    await sender.publish(thing)
    came = (await collector.next()).sealed
    assert came.body == thing.body
    assert came.envelope_id == thing.envelope_id
    assert came.recipient == POLICE
    assert came.lane == Lane.MESSAGES
    assert came.expires >= thing.expires - 2, "a transport may round, it must not shorten a life"


async def test_a_thing_published_before_anybody_consumes_waits(ground: Ground) -> None:
    sender, collector = await ground.node(), Collector()
    await sender.publish(sealed(b"early"))
    await sender.close()
    await (await ground.node()).consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
    assert await collector.body() == b"early"


async def test_a_queue_keeps_its_order_while_one_is_handled_at_a_time(ground: Ground) -> None:
    sender, recipient, collector = await ground.node(), await ground.node(), Collector()
    await recipient.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
    bodies = [str(number).encode() for number in range(50)]
    for body in bodies:
        await sender.publish(sealed(body))
    assert await collector.bodies(50) == bodies


async def test_a_fresh_thing_is_not_called_redelivered(ground: Ground) -> None:
    node, collector = await ground.node(), Collector()
    await node.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
    await node.publish(sealed(b"fresh"))
    assert not (await collector.next()).redelivered


async def test_a_recipient_without_a_queue_is_unroutable_and_others_are_still_reached(
    ground: Ground,
) -> None:
    node, collector = await ground.node(), Collector()
    await node.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
    with pytest.raises(Unroutable):
        await node.publish(sealed(b"lost", NOBODY))
    await node.publish(sealed(b"found"))
    assert await collector.body() == b"found"


async def test_a_queue_that_does_not_exist_cannot_be_consumed(ground: Ground) -> None:
    node = await ground.node()
    with pytest.raises(Unroutable):
        await node.consume(NOBODY, Lane.MESSAGES, Collector(), prefetch=1)


async def test_what_is_not_answered_before_close_is_handed_over_again(ground: Ground) -> None:
    first, second = await ground.node(), await ground.node()
    dying, collector = Collector(unanswered), Collector()
    await first.consume(POLICE, Lane.MESSAGES, dying, prefetch=5)
    thing = sealed(b"unanswered")
    await second.publish(thing)
    await dying.next()
    await first.close()
    await second.consume(POLICE, Lane.MESSAGES, collector, prefetch=5)
    again = await collector.next()
    assert again.sealed.envelope_id == thing.envelope_id
    assert again.sealed.body == thing.body
    assert again.redelivered


async def test_what_was_acknowledged_does_not_come_back(ground: Ground) -> None:
    first, second = await ground.node(), await ground.node()
    taken, collector = Collector(), Collector()
    await first.consume(POLICE, Lane.MESSAGES, taken, prefetch=1)
    await second.publish(sealed(b"taken"))
    await taken.next()
    await first.close()
    await second.publish(sealed(b"next"))
    await second.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
    assert await collector.body() == b"next"
    assert collector.came.empty()


async def test_what_is_requeued_comes_again_and_says_so(ground: Ground) -> None:
    answers = iter(["requeue", "requeue", "ack"])

    async def hesitate(delivery: Delivery) -> None:
        await getattr(delivery, next(answers))()

    node, collector = await ground.node(), Collector(hesitate)
    await node.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
    thing = sealed(b"not now")
    await node.publish(thing)
    came = [await collector.next() for _ in range(3)]
    assert [delivery.sealed.envelope_id for delivery in came] == [thing.envelope_id] * 3
    assert [delivery.redelivered for delivery in came] == [False, True, True]


async def test_a_dead_letter_is_set_aside_and_does_not_come_back(ground: Ground) -> None:
    async def judge(delivery: Delivery) -> None:
        await (delivery.dead_letter() if delivery.sealed.body == b"bad" else delivery.ack())

    node, collector = await ground.node(), Collector(judge)
    await node.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
    for body in (b"bad", b"good"):
        await node.publish(sealed(body))
    assert await collector.bodies(2) == [b"bad", b"good"]
    assert await ground.dead(POLICE, 1) == [b"bad"]
    await node.close()
    again, collector = await ground.node(), Collector()
    await again.publish(sealed(b"later"))
    await again.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
    assert await collector.body() == b"later"


async def test_what_has_expired_is_set_aside_and_not_delivered(ground: Ground) -> None:
    node, collector = await ground.node(), Collector()
    await node.publish(sealed(b"too late", lifetime=0))
    await node.publish(sealed(b"in time"))
    await node.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
    assert await collector.body() == b"in time"
    assert await ground.dead(POLICE, 1) == [b"too late"]
    assert collector.came.empty()


async def fill(node: Transport) -> list[bytes]:
    """Publish until the queue says no; what it took. RabbitMQ notices a little late."""
    taken: list[bytes] = []
    while len(taken) < 100:
        body = str(len(taken)).encode()
        try:
            await node.publish(sealed(body))
        except TransportFull:
            return taken
        taken.append(body)
    pytest.fail("the queue never said no")


@pytest.mark.parametrize("limit", [3])
async def test_a_full_queue_says_no_keeps_what_it_has_and_takes_more_once_there_is_room(
    ground: Ground,
) -> None:
    node, collector = await ground.node(), Collector()
    taken = await fill(node)
    assert len(taken) >= 3
    await node.publish(sealed(b"other", COUNCIL))
    await node.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
    assert await collector.bodies(len(taken)) == taken
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await node.publish(sealed(b"again"))
                break
            except TransportFull:
                await asyncio.sleep(0.01)
    assert await collector.body() == b"again"


async def test_prefetch_bounds_how_many_are_handled_at_once(ground: Ground) -> None:
    running: set[bytes] = set()
    peak = 0
    started: asyncio.Queue[None] = asyncio.Queue()
    may_end = asyncio.Semaphore(0)

    async def work(delivery: Delivery) -> None:
        nonlocal peak
        running.add(delivery.sealed.body)
        peak = max(peak, len(running))
        started.put_nowait(None)
        await may_end.acquire()
        running.remove(delivery.sealed.body)
        await delivery.ack()

    node, messages, receipts = await ground.node(), Collector(work), Collector()
    await node.consume(POLICE, Lane.MESSAGES, messages, prefetch=3)
    await node.consume(POLICE, Lane.RECEIPTS, receipts, prefetch=1)
    for number in range(10):
        await node.publish(sealed(str(number).encode()))
    async with asyncio.timeout(PATIENCE):
        for _ in range(3):
            await started.get()
        await node.publish(sealed(b"a round trip later", lane=Lane.RECEIPTS))
        await receipts.next()
        assert len(running) == 3
        for _ in range(10):
            may_end.release()
            await messages.next()
    assert peak == 3


async def test_two_hundred_published_at_once_all_arrive_once(ground: Ground) -> None:
    sender, recipient, collector = await ground.node(), await ground.node(), Collector()
    await recipient.consume(POLICE, Lane.MESSAGES, collector, prefetch=50)
    bodies = [str(number).encode() for number in range(200)]
    await asyncio.gather(*(sender.publish(sealed(body)) for body in bodies))
    assert sorted(await collector.bodies(200)) == sorted(bodies)
    assert collector.came.empty()


async def test_a_large_body_arrives_whole(ground: Ground) -> None:
    node, collector = await ground.node(), Collector()
    await node.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
    body = os.urandom(2 * 1024**2)
    await node.publish(sealed(body))
    assert hashlib.sha256(await collector.body()).digest() == hashlib.sha256(body).digest()


async def test_an_empty_body_arrives(ground: Ground) -> None:
    node, collector = await ground.node(), Collector()
    await node.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
    await node.publish(sealed(b""))
    assert await collector.body() == b""


async def test_each_lane_is_a_queue_of_its_own(ground: Ground) -> None:
    node, messages, receipts = await ground.node(), Collector(), Collector()
    await node.publish(sealed(b"receipt", lane=Lane.RECEIPTS))
    await node.publish(sealed(b"message"))
    await node.consume(POLICE, Lane.MESSAGES, messages, prefetch=1)
    assert (await messages.next()).sealed.body == b"message"
    await node.consume(POLICE, Lane.RECEIPTS, receipts, prefetch=1)
    receipt = (await receipts.next()).sealed
    assert (receipt.body, receipt.lane) == (b"receipt", Lane.RECEIPTS)
    assert messages.came.empty()


async def test_a_lane_that_stands_still_does_not_hold_up_the_other(ground: Ground) -> None:
    go = asyncio.Event()

    async def stuck(delivery: Delivery) -> None:
        await go.wait()
        await delivery.ack()

    node, messages, receipts = await ground.node(), Collector(stuck), Collector()
    await node.consume(POLICE, Lane.MESSAGES, messages, prefetch=1)
    await node.consume(POLICE, Lane.RECEIPTS, receipts, prefetch=1)
    await node.publish(sealed(b"message"))
    await node.publish(sealed(b"receipt", lane=Lane.RECEIPTS))
    assert await receipts.body() == b"receipt"
    assert messages.came.empty()
    go.set()
    assert await messages.body() == b"message"


async def test_each_agency_has_queues_of_its_own(ground: Ground) -> None:
    node, police, council = await ground.node(), Collector(), Collector()
    await node.consume(POLICE, Lane.MESSAGES, police, prefetch=1)
    await node.consume(COUNCIL, Lane.MESSAGES, council, prefetch=1)
    for number in range(5):
        await node.publish(sealed(b"p%d" % number))
        await node.publish(sealed(b"c%d" % number, COUNCIL))
    assert await police.bodies(5) == [b"p%d" % number for number in range(5)]
    assert await council.bodies(5) == [b"c%d" % number for number in range(5)]
    assert police.came.empty()
    assert council.came.empty()


async def test_close_waits_for_a_handler_under_way_and_its_answer_counts(ground: Ground) -> None:
    under_way, go = asyncio.Event(), asyncio.Event()
    order = []

    async def slow(delivery: Delivery) -> None:
        under_way.set()
        await go.wait()
        await delivery.ack()
        order.append("handled")

    first, second, collector = await ground.node(), await ground.node(), Collector()
    await first.consume(POLICE, Lane.MESSAGES, slow, prefetch=1)
    await second.publish(sealed(b"slow"))
    async with asyncio.timeout(PATIENCE):
        await under_way.wait()

        async def close() -> None:
            await first.close()
            order.append("closed")

        closing = asyncio.create_task(close())
        await asyncio.wait({closing}, timeout=0.2)  # as long as it likes: it must not end
        assert not order
        go.set()
        await closing
    assert order == ["handled", "closed"]
    await second.publish(sealed(b"next"))
    await second.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
    assert await collector.body() == b"next"


async def test_nothing_is_handed_over_once_closed(ground: Ground) -> None:
    first, second = await ground.node(), await ground.node()
    closed, collector = Collector(), Collector()
    await first.consume(POLICE, Lane.MESSAGES, closed, prefetch=10)
    await first.close()
    await second.publish(sealed(b"after"))
    await second.consume(POLICE, Lane.MESSAGES, collector, prefetch=10)
    assert await collector.body() == b"after"
    assert closed.came.empty()


async def test_closing_twice_is_safe(ground: Ground) -> None:
    node = await ground.node()
    await node.consume(POLICE, Lane.MESSAGES, Collector(), prefetch=1)
    await node.close()
    await node.close()


async def test_connected_is_true_between_start_and_close(ground: Ground) -> None:
    node = ground.make()
    assert not node.connected
    await node.start()
    assert node.connected
    await node.close()
    assert not node.connected
