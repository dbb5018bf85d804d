"""The audit log at work: what changed since the last start, and checkpoints."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from gateway.audit import log
from gateway.engine.parts import Parts
from gateway.store import audit
from gateway.store.audit import Checkpoint
from gateway.store.base import Job, Session

HOUR = 3_600_000
EVERY = 7 * 24 * HOUR
"""Milliseconds every checkpoint is kept; after that, one a day."""


class Auditor:
    """Keeps the log's checkpoints up to date."""

    def __init__(self, parts: Parts, configuration: bytes, tokens: Path) -> None:
        """`configuration` are the settings, `tokens` the file of tokens; only digests are entered."""
        self._parts = parts
        self._configuration = hashlib.sha256(configuration).hexdigest()
        self._file = tokens
        self._tokens = ""
        self._due = 0
        self._thin = 0
        self._owed: list[Job[None]] = []
        self._paying = asyncio.Lock()

    async def begin(self) -> None:
        """Enter the start, and what differs from the last one. Raises Unavailable."""
        self._tokens = self._read_tokens()
        await self._enter(self._note_start)
        await self.checkpoint()

    async def directory_changed(self) -> None:
        """A newer directory is in use. Raises Unavailable."""
        await self._enter(self._note_directory)

    async def keys_changed(self) -> None:
        """Files of private keys were read again. Raises Unavailable."""
        await self._enter(self._note_keys)

    async def look_at_tokens(self) -> None:
        """Enter that the file of tokens is another, whoever changed it, with whatever. Raises Unavailable."""
        found = await asyncio.to_thread(self._read_tokens)
        if found != self._tokens:
            self._tokens = found
            await self._enter(self._note_tokens)

    def _read_tokens(self) -> str:
        try:
            return hashlib.sha256(self._file.read_bytes()).hexdigest()
        except OSError:
            return hashlib.sha256(b"").hexdigest()  # none was made yet

    async def _enter(self, job: Job[None]) -> None:
        """Do it now, or at the first tick at which the database can. Raises Unavailable."""
        if job not in self._owed:
            self._owed.append(job)
        await self._pay()

    async def _pay(self) -> None:
        async with self._paying:
            while self._owed:
                await self._parts.store.write(self._owed[0])
                del self._owed[0]

    def _note_start(self, session: Session) -> None:
        audit.record(session, "node-started")
        audit.record_change(session, "configuration-changed", "configuration", self._configuration)
        self._note_tokens(session)
        self._note_keys(session)
        self._note_directory(session)

    def _note_tokens(self, session: Session) -> None:
        audit.record_change(session, "tokens-changed", "tokens", self._tokens)

    def _note_keys(self, session: Session) -> None:
        for agency, keys in self._parts.keys.items():
            digest = keys.digest().hex()
            audit.record_change(session, "keys-changed", f"keys/{agency}", digest, agency=agency)

    def _note_directory(self, session: Session) -> None:
        audit.note_directory(session, self._parts.directory.document.model_dump_json())

    async def tick(self, now: int) -> None:
        """Enter what is still owed, and make a checkpoint when it is time. Raises Unavailable."""
        await self._pay()
        if now >= self._due:
            self._due = now + self._parts.rules.checkpoint
            await self.checkpoint()
        if now >= self._thin:
            self._thin = now + HOUR
            await self._parts.store.write(lambda s: audit.thin(s, before=now - EVERY))

    async def checkpoint(self) -> None:
        """Sign what the log holds; one that lacks entries stays unsigned, and operators hear of it each time.

        The road goes on meanwhile. Raises Unavailable.
        """
        now = self._parts.now()

        # Each time anew: keys rotate while the node runs.
        signers = [(keys.signing, keys.audit_key()) for keys in self._parts.keys.values()]

        def job(session: Session) -> Checkpoint | None:
            return log.checkpoint(session, signers, now)

        try:
            while await self._parts.store.write(job) is not None:
                pass  # a long log is taken in by rounds
        except log.LogDamaged:
            self._parts.metrics.checkpoint("damaged")
            self._parts.log.error("own-log-damaged")

    async def end(self) -> None:
        """Enter the stop, under a last checkpoint. Raises Unavailable."""
        await self._parts.store.write(lambda s: audit.record(s, "node-stopped"))
        await self.checkpoint()
