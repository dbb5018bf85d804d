"""The claims of a process: with several processes on one database, each thing is sent by exactly one.

A process that was paused for longer than its lease takes a new name when it wakes: what it had in hand then
may be another's by now, and is dropped from memory.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial

from gateway.engine.tasks import Tasks
from gateway.errors import Unavailable
from gateway.messages import new_id
from gateway.store import claims
from gateway.store.base import Store
from gateway.store.claims import NOBODY, UNCLAIMED, Claim

LEASE = 10_000
"""Milliseconds a claim lasts; how late a message is when the process that had it in hand died."""
RENEW = 2.5
"""Seconds between renewals."""


class Claims:
    """Names and renews the claims of one process. A store of one process needs none."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._good_until = time.monotonic() + LEASE / 1000
        self._process = new_id() if store.shared else NOBODY
        self._epoch = 0

    def name(self) -> str:
        """Under which name this process claims, now."""
        if not self._store.shared:
            return NOBODY
        if time.monotonic() >= self._good_until:
            self._epoch += 1
            self._good_until = time.monotonic() + LEASE / 1000
        return f"{self._process}.{self._epoch}"

    @property
    def needed(self) -> bool:
        """Whether rows must be claimed before they are sent."""
        return self._store.shared

    def make(self, now: int) -> Claim:
        """A claim from `now` on (milliseconds since the epoch)."""
        return Claim(self.name(), now + LEASE) if self._store.shared else UNCLAIMED

    def start(self, tasks: Tasks) -> None:
        """Start renewing, where there is something to renew."""
        if self._store.shared:
            tasks.spawn(self._renew_forever, "claims")

    async def _renew_forever(self) -> None:
        while True:
            await asyncio.sleep(RENEW)
            asked = time.monotonic()
            claim = self.make(time.time_ns() // 1_000_000)
            try:
                await self._store.write(partial(claims.renew, claim=claim))
            except Unavailable:
                continue
            if claim.claimant == self.name():
                self._good_until = asked + LEASE / 1000
