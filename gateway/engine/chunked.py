"""Messages that come in several requests (MESH sends large files so).

Every chunk is sealed and stored as it comes, as an attachment of its own. What is under way is known to this
process alone: after a restart the sender begins again, and the ticker drops what was stored. Nothing is
accepted before the last chunk is durable.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from dataclasses import dataclass, field

from gateway.engine.intake import Draft, Intake, Recovered
from gateway.engine.tasks import Tasks
from gateway.errors import RefusedByUs, Unavailable
from gateway.http.ports import Submission, Upload
from gateway.messages import AgencyId, MessageId, Problem

SWEEP = 30.0
"""Seconds between looks for what took too long."""
RETRY = 30
"""Seconds a sender waits when too many messages are under way."""
_Key = tuple[AgencyId, str]


@dataclass(slots=True)
class _Send:
    """One message under way, or accepted a moment ago."""

    total: int
    ends: float
    """On the clock that only grows: when it is forgotten."""
    draft: Draft | None
    """None once it is over."""
    digests: list[bytes] = field(default_factory=list)
    """SHA-256 of each chunk taken, to know a repeat from another chunk."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class ChunkedSends:
    """Implements gateway.http.mesh_ports.Chunked."""

    def __init__(self, intake: Intake, *, most: int, lifetime: float) -> None:
        """Take at most `most` messages at once, each for `lifetime` seconds."""
        self._intake = intake
        self._most = most
        self._lifetime = lifetime
        self._sends: dict[_Key, _Send] = {}

    def start(self, tasks: Tasks) -> None:
        """Start forgetting what takes too long."""
        tasks.spawn(self._sweep_forever, "chunked-sends")

    async def close(self) -> None:
        """Drop what is under way."""
        for key in list(self._sends):
            await self._forget(key)

    async def begin(self, submission: Submission, upload: Upload, total: int) -> MessageId:
        """See Chunked.begin."""
        try:
            draft = await self._intake.begin(submission)
        except Recovered:
            raise RefusedByUs("idempotency-key-reused") from None  # it was accepted before a restore
        # Known already when it is a repeat: the draft has another identifier then, and comes to nothing.
        message_id = submission.message_id or draft.message_id
        key = (submission.sender, message_id)
        await self._forget(key)  # the sender began again
        if sum(send.draft is not None for send in self._sends.values()) >= self._most:
            raise Unavailable("busy", retry_after=RETRY)
        send = _Send(total, time.monotonic() + self._lifetime, draft)
        self._sends[key] = send
        async with send.lock:
            try:
                await self._take(send, upload)
            except BaseException:
                del self._sends[key]
                await draft.sealer.discard()
                raise
        return message_id

    async def add(
        self, agency: AgencyId, message_id: MessageId, number: int, total: int, upload: Upload
    ) -> None:
        """See Chunked.add."""
        key = (agency, message_id)
        send = self._sends.get(key)
        if send is None:
            raise RefusedByUs("not-found")
        async with send.lock:
            if self._sends.get(key) is not send:
                raise RefusedByUs("not-found")
            if total != send.total or not 1 < number <= total or number > len(send.digests) + 1:
                rule = "the next chunk of as many as the first one said"
                raise RefusedByUs("bad-request", problems=[Problem("/header/Mex-Chunk-Range", rule)])
            if number <= len(send.digests):
                await _compare(upload, send.digests[number - 1])
            else:
                await self._take(send, upload)
            if len(send.digests) == total and send.draft is not None:
                await self._finish(key, send)

    def uploading(self, agency: AgencyId, message_id: str) -> bool:
        """See Chunked.uploading."""
        send = self._sends.get((agency, message_id))
        return send is not None and send.draft is not None

    async def _take(self, send: _Send, upload: Upload) -> None:
        assert send.draft is not None
        sealed = await send.draft.sealer.seal_or_undo(upload, len(send.digests))
        send.draft.add(upload, sealed)
        send.digests.append(sealed.sha256)

    async def _finish(self, key: _Key, send: _Send) -> None:
        """Accept it. After Unavailable the last chunk may be repeated."""
        assert send.draft is not None
        try:
            await self._intake.finish(send.draft)
        except RefusedByUs:
            del self._sends[key]
            raise
        send.draft = None

    async def _forget(self, key: _Key) -> None:
        """Drop a message and what was stored of it, unless it was accepted."""
        send = self._sends.get(key)
        if send is None:
            return
        async with send.lock:
            if self._sends.get(key) is not send:
                return
            del self._sends[key]
            if send.draft is not None:
                with contextlib.suppress(Unavailable):  # the ticker finds what stays
                    await send.draft.sealer.discard()

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            now = time.monotonic()
            over = [key for key, one in self._sends.items() if one.ends <= now and not one.lock.locked()]
            for key in over:
                await self._forget(key)


async def _compare(upload: Upload, sha256: bytes) -> None:
    """Read a chunk that was taken before. Raises RefusedByUs unless it is the same."""
    digest = hashlib.sha256()
    async for piece in upload.chunks:
        digest.update(piece)
    if digest.digest() != sha256:
        raise RefusedByUs("already-final")
