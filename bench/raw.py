"""The ceiling: what aio-pika and this broker do with bytes of the same size and no gateway at all.

One process, one quorum queue, persistent messages, publisher confirms, manual acknowledgement. Measured both
ways: publishing and then consuming, as the parts are quoted in isolation, and both at once, which is what
a broker can do at best when nothing else runs on the machine.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue

WARM = 100
"""A fresh quorum queue elects its leader first: messages let through before the clock starts."""


@dataclass(frozen=True)
class Ceiling:
    """Messages a second."""

    published: float
    """With confirm, nothing else going on."""
    consumed: float
    """With ack, nothing else going on."""
    overlapped: float
    """Published and consumed at the same time."""

    @property
    def round_trips(self) -> float:
        """A publish and a consume for each message, one after the other."""
        return 1 / (1 / self.published + 1 / self.consumed)


async def ceiling(
    connect: Callable[[], Awaitable[AbstractConnection]], *, size: int, count: int, in_flight: int
) -> Ceiling:
    """Measure all three."""
    connection = await connect()
    async with connection:
        publishing, consuming = await connection.channel(), await connection.channel()
        await consuming.set_qos(prefetch_count=in_flight)
        queue = await consuming.declare_queue("raw", durable=True, arguments={"x-queue-type": "quorum"})
        body = os.urandom(size)
        async with _consuming(queue, WARM):
            await _publish(publishing, body, WARM, in_flight)
        started = time.perf_counter()
        await _publish(publishing, body, count, in_flight)
        published = time.perf_counter()
        async with _consuming(queue, count):
            pass
        consumed = time.perf_counter()
        async with _consuming(queue, count):
            await _publish(publishing, body, count, in_flight)
        overlapped = time.perf_counter()
        await queue.delete(if_unused=False, if_empty=False)
    return Ceiling(
        count / (published - started), count / (consumed - published), count / (overlapped - consumed)
    )


@asynccontextmanager
async def _consuming(queue: AbstractQueue, count: int) -> AsyncIterator[None]:
    """Consume within the block, and end when `count` messages are acknowledged."""
    left, done = count, asyncio.Event()

    async def take(message: AbstractIncomingMessage) -> None:
        nonlocal left
        await message.ack()
        left -= 1
        if left == 0:
            done.set()

    tag = await queue.consume(take)
    yield
    async with asyncio.timeout(120):
        await done.wait()
    await queue.cancel(tag)


async def _publish(channel: AbstractChannel, body: bytes, count: int, in_flight: int) -> None:
    numbers = iter(range(count))

    async def worker() -> None:
        for _ in numbers:
            message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, routing_key="raw", timeout=60)

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(worker())
