"""What the transport tests share: sealed things, a consumer that collects, a look into the dead letters."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import aio_pika

from gateway.messages import AgencyId, EnvelopeId
from gateway.transport import topology
from gateway.transport.base import Delivery, Lane, Sealed, Transport, TransportFull, TransportUnavailable

POLICE, COUNCIL, NOBODY = AgencyId("police"), AgencyId("council"), AgencyId("nobody")
PATIENCE = 60.0
"""Seconds after which what should have happened has not."""
HOUR = 3_600_000


def now() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def sealed(
    body: bytes,
    recipient: AgencyId = POLICE,
    lane: Lane = Lane.MESSAGES,
    lifetime: int = HOUR,
) -> Sealed:
    return Sealed(EnvelopeId(str(uuid.uuid4())), recipient, lane, now() + lifetime, body)


class Collector:
    """A handler that acknowledges (or does as it is told) and keeps what came."""

    def __init__(self, answer: Callable[[Delivery], Awaitable[None]] | None = None) -> None:
        self.answer = answer
        self.came: asyncio.Queue[Delivery] = asyncio.Queue()

    async def __call__(self, delivery: Delivery) -> None:
        if self.answer is None:
            await delivery.ack()
        else:
            await self.answer(delivery)
        self.came.put_nowait(delivery)

    async def next(self) -> Delivery:
        async with asyncio.timeout(PATIENCE):
            return await self.came.get()

    async def body(self) -> bytes:
        return (await self.next()).sealed.body

    async def bodies(self, count: int) -> list[bytes]:
        return [await self.body() for _ in range(count)]


async def unanswered(delivery: Delivery) -> None:
    """What a node does whose process dies."""


async def publish_when_it_works(transport: Transport, thing: Sealed) -> None:
    """Again and again under the same identifier, as the outbox does."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await transport.publish(thing)
            except (TransportUnavailable, TransportFull):
                await asyncio.sleep(0.05)
            else:
                return


async def dead_in_spool(spool: Path, agency: AgencyId, count: int) -> list[bytes]:
    """Wait for so many dead letters of an agency."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = await asyncio.to_thread(_files, spool / agency / "dead")
            if len(found) >= count:
                return found
            await asyncio.sleep(0.01)


def _files(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.iterdir())]


async def dead_on_broker(url: str, count: int) -> list[bytes]:
    """Wait for so many dead letters in the one queue that holds them, and take them."""
    found: list[bytes] = []
    async with asyncio.timeout(PATIENCE), await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(topology.DEAD)
        while len(found) < count:
            message = await queue.get(no_ack=True, fail=False)
            if message is None:
                await asyncio.sleep(0.01)
            else:
                found.append(message.body)
    return found
