"""Content codings of request bodies (RFC 9110 section 8.4), undone as the bytes come.

aiohttp does this too, but takes a gzip stream that breaks off for a whole one: nobody would miss the rest.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

from gateway.errors import RefusedByUs
from gateway.messages import Problem

STEP = 256 * 1024
"""Bytes unpacked at once, however well they were packed."""
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""What zlib calls each coding."""


def decoded(coding: str | None, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The body without its coding. Raises RefusedByUs, for a damaged or incomplete one while it is read."""
    name = (coding or "identity").strip().lower()
    if name == "identity":
        return pieces
    if name not in _WINDOWS:
        problem = Problem("/header/Content-Encoding", f"one of: identity, {', '.join(_WINDOWS)}")
        raise RefusedByUs("unsupported-format", problems=[problem])
    return _unpacked(_WINDOWS[name], pieces)


async def _unpacked(window: int, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    unpacker, within = zlib.decompressobj(window), False
    async for piece in pieces:
        data = piece
        while data or within:
            within = True
            try:
                unpacked = unpacker.decompress(data, STEP)
            except zlib.error:
                raise _damaged() from None
            if unpacked:
                yield unpacked
            data = unpacker.unconsumed_tail
            if unpacker.eof:  # another member may follow (RFC 1952 section 2.2)
                data, within = unpacker.unused_data, False
                unpacker = zlib.decompressobj(window)
            elif not data and len(unpacked) < STEP:
                break  # it wants more
    if within:
        raise _damaged()


def _damaged() -> RefusedByUs:
    return RefusedByUs("malformed-body", problems=[Problem("", "whole, in its Content-Encoding")])
