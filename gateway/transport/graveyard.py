"""The broker's own dead letters: what ran out of time or killed its consumer. To look at, to send again."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from gateway.transport.links import wrapped
from gateway.transport.topology import DEAD, EXCHANGE

TIMEOUT: Final = 15.0
"""Seconds for each step."""
LIFETIME: Final = timedelta(days=30)
"""How long a letter that is sent again may wait; the envelope's own expiry counts at its recipient."""
_REASONS: Final = {
    "expired": "expired",
    "delivery_limit": "killed-its-consumer",
    "rejected": "refused",
    "maxlen": "queue-full",
}


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter, as far as the broker knows it."""

    envelope_id: str
    queue: str
    """Where it died."""
    reason: str
    died: datetime | None
    size: int
    """Bytes."""


async def look(url: str, tls: ssl.SSLContext | None, *, limit: int) -> list[Letter]:
    """The oldest dead letters; they stay where they are. Raises TransportError."""
    async with _letters(url, tls, limit) as (_, messages):
        return [_letter(message) for message in messages]


async def send_again(url: str, tls: ssl.SSLContext | None, envelope_id: str, *, limit: int) -> bool:
    """Put one back where it died, once the broker has confirmed it; False when it is not there.

    Raises TransportError, Unroutable when its queue is gone.
    """
    async with _letters(url, tls, limit) as (channel, messages):
        for message in messages:
            if message.message_id != envelope_id:
                continue
            exchange = await channel.get_exchange(EXCHANGE)
            again = aio_pika.Message(
                message.body,
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                message_id=message.message_id,
                expiration=LIFETIME,
            )
            await exchange.publish(again, message.routing_key or "", mandatory=True, timeout=TIMEOUT)
            await message.ack()
            return True
    return False


@asynccontextmanager
async def _letters(
    url: str, tls: ssl.SSLContext | None, limit: int
) -> AsyncIterator[tuple[AbstractChannel, list[AbstractIncomingMessage]]]:
    """Take them without an answer: they go back when the connection ends."""
    with wrapped():
        async with await aio_pika.connect(url, ssl_context=tls, timeout=TIMEOUT) as connection:
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            queue = await channel.get_queue(DEAD)
            found: list[AbstractIncomingMessage] = []
            while len(found) < limit:
                message = await queue.get(timeout=TIMEOUT, fail=False)
                if message is None:
                    break
                found.append(message)
            yield channel, found


def _letter(message: AbstractIncomingMessage) -> Letter:
    deaths: Any = message.headers.get("x-death") or [{}]
    first = deaths[0] if isinstance(deaths, list) and isinstance(deaths[0], dict) else {}
    died = first.get("time")
    return Letter(
        message.message_id or "",
        str(first.get("queue", "")),
        _REASONS.get(str(first.get("reason", "")), "unknown"),
        died.astimezone(UTC) if isinstance(died, datetime) else None,
        len(message.body),
    )
