"""What somebody in control of the transport can see: for the demo and the leak tests, never for a node.

A tap copies whatever passes. It shows the claim of docs/envelope.md on real traffic: ciphertext, a
recipient, a random identifier, an expiry, a padded size.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.messages import AgencyId
from gateway.transport import topology

POLL = 0.002
"""Seconds between looks into the spool: files live there only until they are collected."""


@dataclass(slots=True)
class Seen:
    """Everything an eavesdropper got hold of."""

    sizes: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    """What stood outside: routing keys, identifiers, file names."""
    bodies: list[bytes] = field(default_factory=list, repr=False)

    def contains(self, needle: bytes) -> bool:
        """Whether these bytes occur anywhere in what was seen."""
        return any(needle in body for body in self.bodies) or any(
            needle in name.encode() for name in self.names
        )


class SpoolTap:
    """Watches the embedded transport's spool folder."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._known: set[str] = set()
        self.seen = Seen()
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Copy files as they appear, until cancelled."""
        self.ready.set()
        while True:
            await asyncio.to_thread(self._look)
            await asyncio.sleep(POLL)

    def _look(self) -> None:
        for path in self._spool.rglob("*"):
            if path.name in self._known:
                continue
            try:
                body = path.read_bytes() if path.is_file() and not path.name.startswith(".") else None
            except OSError:
                continue  # collected between the look and the read
            if body:
                self._known.add(path.name)
                self.seen.names.append(str(path.relative_to(self._spool)))
                self.seen.sizes.append(len(body))
                self.seen.bodies.append(body)


class RabbitTap:
    """Binds a queue of its own beside the agencies' queues on RabbitMQ, as the broker's operator could."""

    def __init__(self, url: str, agencies: Sequence[AgencyId]) -> None:
        self._url = url
        self._agencies = agencies
        self.seen = Seen()
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Copy what is published, until cancelled. Raises TransportUnavailable."""
        async with topology.copies(self._url, self._agencies) as messages:
            self.ready.set()
            async for message in messages:
                outside = [f"{name}={value!r}" for name, value in message.properties if value]
                self.seen.names.append(" ".join([message.routing_key or "", *outside]))
                self.seen.sizes.append(len(message.body))
                self.seen.bodies.append(message.body)
