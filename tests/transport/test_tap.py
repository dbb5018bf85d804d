"""What an eavesdropper on the transport gets hold of: everything sealed, and only what stands outside."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.messages import AgencyId, EnvelopeId
from gateway.transport import topology
from gateway.transport.base import Lane, Sealed, Transport, TransportUnavailable, Unroutable
from gateway.transport.embedded import EmbeddedTransport, create_queues
from gateway.transport.rabbitmq import RabbitTransport
from gateway.transport.tap import RabbitTap, SpoolTap

POLICE, COUNCIL = AgencyId("police"), AgencyId("council")
PATIENCE = 30.0


def sealed(body: bytes, recipient: AgencyId = POLICE, lane: Lane = Lane.MESSAGES) -> Sealed:
    return Sealed(
        EnvelopeId(str(uuid.uuid4())), recipient, lane, time.time_ns() // 1_000_000 + 3_600_000, body
    )


@contextlib.asynccontextmanager
async def tapped(tap: SpoolTap | RabbitTap) -> AsyncIterator[None]:
    listening = asyncio.create_task(tap.run())
    ready = asyncio.create_task(tap.ready.wait())
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait({listening, ready}, return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    assert tap.ready.is_set()
    try:
        yield
    finally:
        listening.cancel()
        await asyncio.wait({listening})
        assert listening.cancelled()


async def copies(tap: SpoolTap | RabbitTap, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while len(tap.seen.bodies) < count:  # noqa: ASYNC110 - a tap is asked, it does not tell
            await asyncio.sleep(0.01)


def waiting(spool: Path) -> list[bytes]:
    return [path.read_bytes() for path in spool.glob("*/*/[!.]*")]


async def publish_all(transport: Transport, things: list[Sealed]) -> None:
    await transport.start()
    for thing in things:
        await transport.publish(thing)
    await transport.close()


THINGS = [
    sealed(b"\x01first"),
    sealed(b"\x02second", lane=Lane.RECEIPTS),
    sealed(b"\x03third", recipient=COUNCIL),
]


async def test_the_spool_tap_copies_every_body_and_the_file_names(tmp_path: Path) -> None:
    create_queues(tmp_path, [POLICE, COUNCIL])
    tap = SpoolTap(tmp_path)
    async with tapped(tap):
        await publish_all(EmbeddedTransport(tmp_path), THINGS)
        await copies(tap, 3)
    assert sorted(tap.seen.bodies) == [thing.body for thing in THINGS]
    assert sorted(tap.seen.sizes) == sorted(len(thing.body) for thing in THINGS)
    assert all(tap.seen.contains(thing.envelope_id.encode()) for thing in THINGS)


async def test_the_spool_tap_takes_nothing_away(tmp_path: Path) -> None:
    create_queues(tmp_path, [POLICE, COUNCIL])
    tap = SpoolTap(tmp_path)
    async with tapped(tap):
        await publish_all(EmbeddedTransport(tmp_path), THINGS)
        await copies(tap, 3)
    assert sorted(waiting(tmp_path)) == [thing.body for thing in THINGS]


@pytest.mark.xdist_group("broker")
async def test_the_rabbit_tap_copies_every_body_and_what_stands_outside(broker_url: str) -> None:
    await topology.declare(broker_url, [POLICE, COUNCIL])
    tap = RabbitTap(broker_url, [POLICE, COUNCIL])
    async with tapped(tap):
        await publish_all(RabbitTransport(broker_url), THINGS)
        await copies(tap, 3)
    assert sorted(tap.seen.bodies) == [thing.body for thing in THINGS]
    assert sorted(tap.seen.sizes) == sorted(len(thing.body) for thing in THINGS)
    for thing, name in zip(THINGS, sorted(tap.seen.names, key=_place), strict=True):
        assert name.split()[0] == f"{thing.recipient}.{thing.lane.value}"
        assert thing.envelope_id in name
        assert "expiration=" in name
        assert set(re.findall(r"(\w+)=", name)) == {"delivery_mode", "expiration", "message_id"}


def _place(name: str) -> int:
    return next(place for place, thing in enumerate(THINGS) if thing.envelope_id in name)


@pytest.mark.xdist_group("broker")
async def test_the_rabbit_tap_takes_nothing_away_and_leaves_nothing_behind(broker_url: str) -> None:
    await topology.declare(broker_url, [POLICE])
    transport = RabbitTransport(broker_url)
    await transport.start()
    tap = RabbitTap(broker_url, [POLICE, COUNCIL])
    async with tapped(tap):
        await transport.publish(sealed(b"one"))
        await copies(tap, 1)
    arrived: asyncio.Queue[bytes] = asyncio.Queue()

    async def take(delivery) -> None:
        await delivery.ack()
        arrived.put_nowait(delivery.sealed.body)

    await transport.consume(POLICE, Lane.MESSAGES, take, prefetch=1)
    async with asyncio.timeout(PATIENCE):
        assert await arrived.get() == b"one"
    with pytest.raises(Unroutable):  # the tap's own queue, bound for the council, is gone
        await transport.publish(sealed(b"two", recipient=COUNCIL))
    await transport.close()


@pytest.mark.xdist_group("broker")
async def test_a_rabbit_tap_that_cannot_listen_says_so(broker_url: str) -> None:
    with pytest.raises(TransportUnavailable):  # nothing has been declared
        await RabbitTap(broker_url, [POLICE]).run()


async def test_contains_looks_into_bodies_and_names(tmp_path: Path) -> None:
    tap = SpoolTap(tmp_path)
    tap.seen.bodies.append(b"xx needle xx")
    tap.seen.names.append("police/messages/1")
    assert tap.seen.contains(b"needle")
    assert tap.seen.contains(b"police")
    assert not tap.seen.contains(b"haystack")
