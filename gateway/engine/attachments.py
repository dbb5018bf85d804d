"""Attachments as streams: sealed chunk by chunk on the way in, opened chunk by chunk on the way out.

A node holds at most a few chunks of an attachment in memory, whatever its size.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from gateway.crypto import chunks
from gateway.engine.outbound import Backlog
from gateway.engine.parts import Parts
from gateway.errors import RefusedByPeer, RefusedByUs
from gateway.http.ports import Upload
from gateway.messages import AgencyId, Attachment, EnvelopeId, Problem, Reason, new_id
from gateway.store import inbox, outbox


@dataclass(slots=True)
class _Copy:
    """One recipient's sealed copy of the attachment that is streaming in."""

    envelope_id: EnvelopeId
    key: bytes = field(repr=False)
    chunk_ids: list[EnvelopeId]


@dataclass(frozen=True, slots=True)
class SealedUpload:
    """An attachment that was read to its end."""

    sha256: bytes
    copies: Mapping[EnvelopeId, Attachment] = field(repr=False)
    """By envelope: none for a recipient whose agreement leaves attachments out."""


class AttachmentSealer:
    """Seals uploads for every recipient of a message and stores the chunks as they come."""

    def __init__(self, parts: Parts, backlog: Backlog, envelopes: Sequence[EnvelopeId]) -> None:
        self._parts = parts
        self._backlog = backlog
        self._positions = dict.fromkeys(envelopes, 0)
        self._total = 0
        self.stored = 0
        """Bytes of sealed chunks stored so far, all recipients together."""

    async def seal_or_undo(self, upload: Upload, index: int) -> SealedUpload:
        """As `seal`; when it fails, the uploads before it stay, and it may be tried again."""
        positions, total, stored = dict(self._positions), self._total, self.stored
        try:
            return await self.seal(upload, index)
        except BaseException:
            for envelope_id, position in positions.items() if self.stored > stored else ():
                await self._parts.store.write(
                    partial(outbox.drop_chunks_from, envelope_id=envelope_id, position=position)
                )
            self._positions, self._total, self.stored = positions, total, stored
            raise

    async def seal(self, upload: Upload, index: int) -> SealedUpload:
        """Read one upload to its end. Raises RefusedByUs or Unavailable; then call `discard`."""
        copies = [_Copy(envelope_id, chunks.new_key(), []) for envelope_id in self._positions]
        digest, size = hashlib.sha256(), 0
        async for piece, last in _in_chunks(upload.chunks):
            size += len(piece)
            self._total += len(piece)
            if self._total > self._parts.rules.attachment_bytes:
                raise RefusedByUs("body-too-large")
            digest.update(piece)
            for copy in copies:
                await self._store(copy, piece, last=last)
        if upload.sha256 is not None and upload.sha256 != digest.digest():
            raise RefusedByUs(
                "attachment-mismatch", problems=[Problem(f"/attachments/{index}", "SHA-256 as announced")]
            )
        sha256 = digest.digest()
        return SealedUpload(
            sha256,
            {
                copy.envelope_id: Attachment(
                    upload.name, upload.media_type, size, sha256, copy.key, tuple(copy.chunk_ids)
                )
                for copy in copies
            },
        )

    async def _store(self, copy: _Copy, piece: bytes, *, last: bool) -> None:
        chunk_id = EnvelopeId(new_id())
        body = chunks.seal_chunk(copy.key, len(copy.chunk_ids), last, chunk_id, piece)
        self._backlog.admit(0, self.stored + len(body))
        position = self._positions[copy.envelope_id]
        created = self._parts.now()
        await self._parts.store.write(
            lambda s: outbox.add_chunk(
                s,
                outbox.OutboundChunk(chunk_id, body),
                envelope_id=copy.envelope_id,
                position=position,
                created=created,
            )
        )
        self._positions[copy.envelope_id] = position + 1
        self.stored += len(body)
        copy.chunk_ids.append(chunk_id)

    async def discard(self) -> None:
        """Nothing came of the upload: leave nothing behind."""
        for envelope_id in self._positions if self.stored else ():
            await self._parts.store.write(partial(outbox.drop_chunks, envelope_id=envelope_id))


async def _in_chunks(source: AsyncIterator[bytes]) -> AsyncIterator[tuple[bytes, bool]]:
    """Re-cut a stream into chunks of CHUNK_SIZE; the last one, marked True, may be shorter or empty."""
    buffer = bytearray()
    async for data in source:
        buffer += data
        while len(buffer) > chunks.CHUNK_SIZE:  # not >=: the last chunk must be known as the last
            yield bytes(buffer[: chunks.CHUNK_SIZE]), False
            del buffer[: chunks.CHUNK_SIZE]
    yield bytes(buffer), True


async def open_attachment(parts: Parts, agency: AgencyId, attachment: Attachment) -> AsyncIterator[bytes]:
    """The attachment's bytes, chunk by chunk. Raises RefusedByPeer(ATTACHMENT_MISMATCH)."""
    digest, size = hashlib.sha256(), 0
    for index, chunk_id in enumerate(attachment.chunks):
        body = await parts.store.read(partial(inbox.chunk, agency=agency, chunk_id=chunk_id))
        if body is None:
            raise RefusedByPeer(Reason.ATTACHMENT_MISMATCH)
        last = index == len(attachment.chunks) - 1
        piece = chunks.open_chunk(attachment.key, index, last, chunk_id, body)
        digest.update(piece)
        size += len(piece)
        yield piece
    if size != attachment.size or digest.digest() != attachment.sha256:
        raise RefusedByPeer(Reason.ATTACHMENT_MISMATCH)
