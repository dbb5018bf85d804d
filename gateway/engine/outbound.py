"""From the outbox to the transport: every accepted envelope is published until it is confirmed.

Rows are the truth; the queue in memory only saves reading them back. A crash between publishing and
marking publishes again, and the recipient's inbox removes the duplicate.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from gateway.engine.parts import Parts
from gateway.engine.tasks import Bell, Tasks, wait_for_ring
from gateway.errors import Unavailable
from gateway.messages import EnvelopeId
from gateway.protocol import retry
from gateway.store import outbox
from gateway.store.base import Session
from gateway.store.outbox import Unsent
from gateway.transport.base import (
    Lane,
    Sealed,
    TransportError,
    TransportFull,
    TransportUnavailable,
    Unroutable,
)

SCAN = 0.5
"""Seconds between looks for rows that are due."""

_FAILURES: dict[type[TransportError], str] = {
    Unroutable: "unroutable",
    TransportFull: "full",
    TransportUnavailable: "unavailable",
}


class Backlog:
    """How much is accepted but not yet confirmed; intake asks it before taking more (promise 9)."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.envelopes = 0
        self.size = 0

    def admit(self, envelopes: int, size: int) -> None:
        """Raises Unavailable when this would be too much, or the store has no room."""
        rules = self._parts.rules
        if not self._parts.store.has_room:
            raise Unavailable("store-unavailable")
        if self.envelopes + envelopes > rules.outbox_envelopes or self.size + size > rules.outbox_bytes:
            raise Unavailable("outbox-full", retry_after=5)

    def add(self, envelopes: int, size: int) -> None:
        """Count what was accepted (positive) or confirmed (negative)."""
        self.envelopes = max(0, self.envelopes + envelopes)
        self.size = max(0, self.size + size)

    async def recount(self) -> None:
        """Take the figures from the rows themselves."""
        self.envelopes, self.size = await self._parts.store.read(outbox.backlog)


class Publisher:
    """Publishes due envelopes, a bounded number at once, with backoff."""

    def __init__(self, parts: Parts, backlog: Backlog) -> None:
        self._parts = parts
        self._backlog = backlog
        self._under_way: set[EnvelopeId] = set()
        self._capacity = 4 * parts.rules.concurrency
        self._queue: asyncio.Queue[Unsent] = asyncio.Queue(self._capacity)
        self._bell = Bell()

    def start(self, tasks: Tasks) -> None:
        """Start the workers and the scan for due rows."""
        for number in range(self._parts.rules.concurrency):
            tasks.spawn(self._work, f"publisher-{number}")
        tasks.spawn(self._scan, "outbox-scan")

    def offer(self, unsent: Unsent) -> None:
        """Publish soon. What does not fit into memory is found by the scan."""
        if unsent.envelope_id in self._under_way or len(self._under_way) >= self._capacity:
            return
        self._under_way.add(unsent.envelope_id)
        self._queue.put_nowait(unsent)

    async def _scan(self) -> None:
        while True:
            heard = self._bell.listen()
            try:
                await self._offer_due()
            except Unavailable:
                pass  # the next look finds them
            await wait_for_ring(heard, timeout=SCAN)

    async def _offer_due(self) -> None:
        parts, room = self._parts, self._capacity - len(self._under_way)
        if room <= 0:
            return
        now, me, exclude = parts.now(), parts.claims.name(), frozenset(self._under_way)
        found = await parts.store.read(lambda s: outbox.due(s, now, limit=room, exclude=exclude, claimant=me))
        if found and parts.claims.needed:
            found = await self._claim(found, now)
        for unsent in found:
            self.offer(unsent)

    async def _claim(self, found: Sequence[Unsent], now: int) -> list[Unsent]:
        """Those that no other process was quicker to take."""
        claim = self._parts.claims.make(now)

        def job(session: Session) -> list[Unsent]:
            return [
                replace(one, claimant=claim.claimant)
                for one in found
                if outbox.claim(session, one.envelope_id, now, claim)
            ]

        return await self._parts.store.write(job)

    async def _work(self) -> None:
        while True:
            unsent = await self._queue.get()
            try:
                await self._publish(unsent)
            except Unavailable:
                pass  # the row is unchanged: the scan finds it again
            finally:
                self._under_way.discard(unsent.envelope_id)
                if self._queue.empty():
                    self._bell.ring()

    async def _publish(self, unsent: Unsent) -> None:
        parts = self._parts
        if unsent.claimant != parts.claims.name():
            return  # we slept through our lease: it is another's now
        started = time.perf_counter()
        try:
            if unsent.chunked:
                await self._publish_chunks(unsent)
            await parts.transport.publish(
                Sealed(unsent.envelope_id, unsent.recipient, Lane.MESSAGES, unsent.expires, unsent.body)
            )
        except TransportError as error:
            kind = _FAILURES[type(error)]
            parts.metrics.publish_failed(kind)
            parts.log.warning(
                "publish-deferred", envelope_id=unsent.envelope_id, code=kind, attempt=unsent.attempts + 1
            )
            due = parts.now() + retry.delay(unsent.attempts + 1, random.random())  # noqa: S311 - jitter
            await parts.store.write(lambda s: outbox.put_off(s, unsent.envelope_id, due=due))
            return
        parts.metrics.published(Lane.MESSAGES)
        parts.metrics.step("publish", time.perf_counter() - started)
        parts.log.info("envelope-published", envelope_id=unsent.envelope_id, recipient=unsent.recipient)
        await parts.store.write(lambda s: outbox.mark_sent(s, unsent.envelope_id))
        self._backlog.add(-1, -unsent.size)

    async def _publish_chunks(self, unsent: Unsent) -> None:
        """Chunks go first, in order, so that the envelope usually finds them there."""
        while chunk := await self._parts.store.read(lambda s: outbox.next_chunk(s, unsent.envelope_id)):
            await self._parts.transport.publish(
                Sealed(chunk.chunk_id, unsent.recipient, Lane.MESSAGES, unsent.expires, chunk.body)
            )
            await self._parts.store.write(partial(outbox.mark_chunk_sent, chunk_id=chunk.chunk_id))
