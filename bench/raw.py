"""The ceiling: what aio-pika and this broker do with bytes of the same size and no gateway at all.

One process, one quorum queue, persistent messages, publisher confirms, manual acknowledgement.
"""

from __future__ import annotations

import asyncio
import os
import time

import aio_pika


async def round_trips(url: str, *, size: int, count: int, in_flight: int) -> float:
    """Publish with confirm and consume with ack, `count` messages; round trips a second."""
    connection = await aio_pika.connect_robust(url)
    try:
        publishing, consuming = await connection.channel(), await connection.channel()
        await consuming.set_qos(prefetch_count=in_flight)
        queue = await consuming.declare_queue("raw", durable=True, arguments={"x-queue-type": "quorum"})
        # A fresh quorum queue elects its leader first: let one message through before the clock starts.
        await _run(publishing, queue, size=size, count=100, in_flight=in_flight)
        started = time.perf_counter()
        await _run(publishing, queue, size=size, count=count, in_flight=in_flight)
        seconds = time.perf_counter() - started
        await queue.delete(if_unused=False, if_empty=False)
        return count / seconds
    finally:
        await connection.close()


async def _run(
    channel: aio_pika.abc.AbstractChannel,
    queue: aio_pika.abc.AbstractQueue,
    *,
    size: int,
    count: int,
    in_flight: int,
) -> None:
    body, left, done = os.urandom(size), count, asyncio.Event()

    async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        nonlocal left
        await message.ack()
        left -= 1
        if left == 0:
            done.set()

    tag = await queue.consume(take)
    slots = asyncio.Semaphore(in_flight)

    async def publish() -> None:
        try:
            await channel.default_exchange.publish(
                aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT),
                routing_key="raw",
                timeout=60,
            )
        finally:
            slots.release()

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            await slots.acquire()
            group.create_task(publish())
    async with asyncio.timeout(120):
        await done.wait()
    await queue.cancel(tag)
