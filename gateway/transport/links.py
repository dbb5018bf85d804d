"""Connections to the broker, one to publish on and one to consume on, and what they may raise.

A broker that runs out of memory or disk stops reading from whoever publishes. On a connection of its own
consuming goes on meanwhile, which is what gives the broker room again.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.connection import make_url
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelInvalidStateError,
    ChannelPreconditionFailed,
    DeliveryError,
)

from gateway.transport.base import TransportError, TransportFull, TransportUnavailable, Unroutable

HEARTBEAT: Final = 15
"""Seconds between signs of life, asked for by us: a dead peer is noticed within three of them."""
CLOSE_TIMEOUT: Final = 10.0
"""Seconds that closing may take."""


@dataclass(slots=True)
class Links:
    """Both connections, to one node of the broker; when either is lost, both are done with."""

    publishing: AbstractConnection
    consuming: AbstractConnection
    lost: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def blocked(self) -> bool:
        """Whether the broker has said that it takes nothing at the moment."""
        if self.publishing.transport is None:
            return False
        # aiormq tells only by a coroutine that does not return while blocked; it is let go one step.
        ready = self.publishing.transport.connection.ready()
        try:
            ready.send(None)
        except StopIteration:
            return False
        ready.close()
        return True

    def watch(self, channel: AbstractChannel) -> None:
        """From now on the end of this channel is the end of the links."""
        channel.close_callbacks.add(lambda *_: self.lost.set())

    async def close(self) -> None:
        """Close both; never raises."""
        self.lost.set()
        await asyncio.gather(_close(self.publishing), _close(self.consuming))


async def connect(url: str, tls: ssl.SSLContext | None, *, external: bool, timeout: float) -> Links:
    """Connect twice. Raises TransportUnavailable. `external` logs in by the certificate in `tls`."""
    opened: list[AbstractConnection] = []
    try:
        with wrapped():
            async with asyncio.timeout(timeout):
                for _ in range(2):
                    opened.append(_connection(url, tls, external=external))
                    await opened[-1].connect()
    except BaseException:
        await asyncio.gather(*map(_close, opened))
        raise
    publishing, consuming = opened
    links = Links(publishing, consuming)
    for connection in opened:
        connection.close_callbacks.add(lambda *_: links.lost.set())
    return links


def _connection(url: str, tls: ssl.SSLContext | None, *, external: bool) -> AbstractConnection:
    # What aio_pika.connect does, but known to us before it is connected: one that was never closed closes
    # itself when it is collected, on whichever thread that happens.
    auth = "EXTERNAL" if external else "PLAIN"
    return aio_pika.Connection(make_url(url, heartbeat=str(HEARTBEAT), auth=auth), ssl_context=tls)


async def _close(connection: AbstractConnection) -> None:
    with contextlib.suppress(TransportError), wrapped():
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await connection.close()
    # Again: what failed above has left it half closed.
    with contextlib.suppress(TransportError), wrapped():
        await connection.close()


@contextlib.contextmanager
def wrapped() -> Iterator[None]:
    """Every foreign exception becomes one of ours, once, here."""
    try:
        yield
    except aio_pika.exceptions.PublishError:
        raise Unroutable("the recipient has no queue on the broker") from None
    except DeliveryError:
        # Also while a cluster is choosing the queue's next leader; the broker does not say which.
        raise TransportFull("the recipient's queue is at its limit, or without a leader") from None
    except aio_pika.exceptions.ChannelNotFoundEntity:
        raise Unroutable("an exchange or queue does not exist: run `gateway broker apply`") from None
    except (ChannelAccessRefused, ChannelPreconditionFailed):
        raise TransportUnavailable(
            "the broker does not let this account do that: run `gateway broker check`, and see that"
            " transport.url names the certificate's account"
        ) from None
    except (
        aio_pika.exceptions.AMQPError,
        ChannelInvalidStateError,
        OSError,
        TimeoutError,
        RuntimeError,
        StopAsyncIteration,
    ):
        # aiormq raises the last two for a connection that closed under a call, or while it shook hands.
        raise TransportUnavailable("the broker cannot be reached or did not confirm in time") from None
