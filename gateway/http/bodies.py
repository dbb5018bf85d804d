"""Reading request bodies: bounded in size, in pauses, and never half."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.adapters import strict_json
from gateway.adapters.base import AdapterError, Native
from gateway.errors import RefusedByUs
from gateway.http import problems
from gateway.http.coding import decoded
from gateway.http.limits import Limits
from gateway.http.ports import Upload
from gateway.http.requests import header
from gateway.messages import Problem

PIECE = 256 * 1024
"""Bytes read at once from an attachment."""
MAX_JSON = 64 * 1024
"""Bytes of the small JSON bodies of ack and reject."""
MAX_NAME = 255
_NOT_IN_NAME = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
"""Bytes that are not UTF-8 arrive as surrogates."""
_AS_IT_IS = {"binary", "8bit", "7bit", "identity"}
"""Encodings of a part that change nothing. Others are deprecated in forms (RFC 7578 section 4.7), and the
bytes would not be those that the digest is of."""
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,64}/[a-z0-9!#$&^_.+-]{1,64}")


class _Patience:
    """How long to wait for the next bytes of one body: no long pause, and not for ever."""

    def __init__(self, limits: Limits) -> None:
        self._now = asyncio.get_running_loop().time
        self._pause = limits.read_timeout
        self._ends = self._now() + limits.body_timeout

    def next(self) -> asyncio.Timeout:
        """Raises TimeoutError from within its block."""
        return asyncio.timeout_at(min(self._now() + self._pause, self._ends))


class _Budget:
    """How many bytes may still come."""

    def __init__(self, most: int) -> None:
        self._left = most

    async def spend(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same pieces. Raises RefusedByUs("body-too-large") at the one that is too much."""
        async for piece in pieces:
            self._left -= len(piece)
            if self._left < 0:
                raise RefusedByUs("body-too-large")
            yield piece


async def _whole(source: web.Request | BodyPartReader, most: int, patience: _Patience) -> bytes:
    pieces = _body(source, patience) if isinstance(source, web.Request) else _pieces(source, patience)
    return b"".join([piece async for piece in _Budget(most).spend(pieces)])


async def read_json(request: web.Request, limits: Limits) -> Any:
    """A small JSON object. Raises RefusedByUs."""
    body = await _whole(request, MAX_JSON, _Patience(limits))
    try:
        value = strict_json.loads(body)
    except AdapterError as error:
        raise RefusedByUs("malformed-body", problems=error.problems) from None
    if not isinstance(value, dict):
        raise RefusedByUs("bad-request", problems=[Problem("", "type: object")])
    return value


def stream_body(request: web.Request, limits: Limits) -> AsyncIterator[bytes]:
    """A body of any kind as it comes, as large as attachments may be. Raises RefusedByUs while it is read."""
    return _Budget(limits.attachment_bytes).spend(_body(request, _Patience(limits)))


async def read_body(request: web.Request, limits: Limits) -> bytes:
    """A whole message body. Raises RefusedByUs."""
    return await _whole(request, limits.message_bytes, _Patience(limits))


async def read_message(request: web.Request, limits: Limits) -> tuple[Native, AsyncIterator[Upload]]:
    """The message, and the attachments as they stream in (multipart/form-data). Raises RefusedByUs."""
    patience = _Patience(limits)
    media_type = _media_type(request)
    if media_type != "multipart/form-data":
        body = await _whole(request, limits.message_bytes, patience)
        return Native(media_type, body), _none()
    if (header(request, "Content-Encoding") or "identity").strip().lower() != "identity":
        raise RefusedByUs("malformed-body", problems=[Problem("", "a form is not encoded as a whole")])
    try:
        reader = await request.multipart()
    except ValueError:
        raise RefusedByUs("malformed-body") from None
    part = await _next(reader, patience)
    if part is None or part.name != "message":
        problem = Problem("/message", "the first part of the form")
        raise RefusedByUs("bad-request", problems=[problem])
    media_type = _media_type(part)
    body = await _whole(part, limits.message_bytes, patience)
    return Native(media_type, body), _uploads(reader, limits, patience)


def _media_type(source: web.Request | BodyPartReader) -> str:
    """The Content-Type without parameters, lower case. Any charset but UTF-8 is refused."""
    media_type, _, parameters = (header(source, "Content-Type") or "").partition(";")
    media_type = media_type.strip().lower()
    charset = re.search(r"charset\s*=\s*\"?([^\s\";]+)", parameters, re.IGNORECASE)
    if charset and charset[1].lower() not in {"utf-8", "utf8", "us-ascii"}:
        raise RefusedByUs("malformed-body", problems=[Problem("", "charset: utf-8")])
    if not _MEDIA_TYPE.fullmatch(media_type):
        raise RefusedByUs("unsupported-format", problems=[Problem("/header/Content-Type", "a media type")])
    return media_type


async def _none() -> AsyncIterator[Upload]:
    return
    yield


async def _uploads(
    reader: aiohttp.MultipartReader, limits: Limits, patience: _Patience
) -> AsyncIterator[Upload]:
    budget, count = _Budget(limits.attachment_bytes), 0
    while (part := await _next(reader, patience)) is not None:
        where = f"/attachments/{count}"
        count += 1
        if part.name != "attachment":
            raise RefusedByUs("bad-request", problems=[Problem(where, "a part named `attachment`")])
        if count > limits.attachments:
            raise RefusedByUs("body-too-large", problems=[Problem(where, f"at most {limits.attachments}")])
        name = part.filename or f"attachment-{count}"
        if len(name) > MAX_NAME or _NOT_IN_NAME.search(name):
            rule = f"name: at most {MAX_NAME} characters of UTF-8, no control characters"
            raise RefusedByUs("bad-request", problems=[Problem(where, rule)])
        media_type = part.headers.get("Content-Type", "application/octet-stream").partition(";")[0].strip()
        if not _MEDIA_TYPE.fullmatch(media_type.lower()):
            raise RefusedByUs("bad-request", problems=[Problem(where, "a media type")])
        digest = _digest(part.headers.get("Content-Digest"), where)
        yield Upload(name, media_type.lower(), digest, budget.spend(_pieces(part, patience)))


async def _next(reader: aiohttp.MultipartReader, patience: _Patience) -> BodyPartReader | None:
    with _refusals():
        async with patience.next():
            part = await reader.next()
    if part is not None and not isinstance(part, BodyPartReader):
        raise RefusedByUs("malformed-body", problems=[Problem("", "parts are not nested")])
    if part is not None:
        for name in ("Content-Encoding", "Content-Transfer-Encoding"):
            if part.headers.get(name, "binary").strip().lower() not in _AS_IT_IS:
                raise RefusedByUs("malformed-body", problems=[Problem("", "parts are not encoded")])
    return part


def _body(request: web.Request, patience: _Patience) -> AsyncIterator[bytes]:
    """The body of a request without its coding. Raises RefusedByUs."""
    return decoded(header(request, "Content-Encoding"), _pieces(request, patience))


async def _pieces(source: web.Request | BodyPartReader, patience: _Patience) -> AsyncIterator[bytes]:
    while True:
        with _refusals():
            async with patience.next():
                if isinstance(source, BodyPartReader):
                    piece = await source.read_chunk(PIECE)
                else:
                    piece = await source.content.readany()
        if not piece:
            return
        yield bytes(piece)


@contextmanager
def _refusals() -> Iterator[None]:
    """What aiohttp raises while it reads a body, in our words: its own quote the body."""
    try:
        yield
    except TimeoutError:
        raise RefusedByUs("request-timeout") from None
    except (aiohttp.ClientError, ConnectionError, EOFError, AssertionError):
        raise RefusedByUs("incomplete-body") from None
    except (ValueError, web.RequestPayloadError, HttpProcessingError):
        raise RefusedByUs("malformed-body") from None
    except web.HTTPException as error:
        raise problems.of_status(error.status) from None


def _digest(header: str | None, where: str) -> bytes | None:
    """The SHA-256 of a Content-Digest field (RFC 9530), if it has one. Raises RefusedByUs."""
    found = re.search(r"sha-256=:([A-Za-z0-9+/=]+):", header or "")
    if not found:
        return None
    try:
        digest = base64.b64decode(found[1], validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != 32:
        raise RefusedByUs("bad-request", problems=[Problem(f"{where}/Content-Digest", "sha-256 of RFC 9530")])
    return digest
