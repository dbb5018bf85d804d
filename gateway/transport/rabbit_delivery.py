"""A message as RabbitMQ hands it over, and the three answers to it."""

from __future__ import annotations

import contextlib
import time
from datetime import timedelta

import aio_pika
from aio_pika.abc import AbstractIncomingMessage
from aiormq.exceptions import ChannelInvalidStateError

from gateway.messages import AgencyId, EnvelopeId
from gateway.transport.base import Lane, Sealed


class RabbitDelivery:
    """A message of a queue, not yet answered."""

    def __init__(self, message: AbstractIncomingMessage, sealed: Sealed) -> None:
        self._message = message
        self.sealed = sealed
        self.redelivered = bool(message.redelivered)

    async def ack(self) -> None:
        """See Delivery.ack. When the channel is gone the broker delivers again; the inbox knows it then."""
        with contextlib.suppress(aio_pika.exceptions.AMQPError, ChannelInvalidStateError, OSError):
            await self._message.ack()

    async def requeue(self) -> None:
        """See Delivery.requeue."""
        with contextlib.suppress(aio_pika.exceptions.AMQPError, ChannelInvalidStateError, OSError):
            await self._message.nack(requeue=True)

    async def dead_letter(self) -> None:
        """See Delivery.dead_letter: the queue's dead-letter exchange takes it."""
        with contextlib.suppress(aio_pika.exceptions.AMQPError, ChannelInvalidStateError, OSError):
            await self._message.reject(requeue=False)


def sealed_in(message: AbstractIncomingMessage, agency: AgencyId, lane: Lane) -> Sealed:
    """What a message of that queue carries."""
    left = message.expiration
    lifetime = left.total_seconds() if isinstance(left, timedelta) else float(left or 0)  # type: ignore[arg-type]
    return Sealed(
        EnvelopeId(message.message_id or ""),
        agency,
        lane,
        time.time_ns() // 1_000_000 + int(lifetime * 1000),
        message.body,
    )
