"""Reading request bodies: bounded in size, in pauses, and never half."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from aiohttp import BodyPartReader, web

from gateway.adapters.base import Native
from gateway.errors import GatewayError, RefusedByUs
from gateway.http.limits import Limits
from gateway.http.ports import Upload
from gateway.messages import Problem

PIECE = 256 * 1024
"""Bytes read at once from an attachment."""
MAX_JSON = 64 * 1024
"""Bytes of the small JSON bodies of ack and reject."""
MAX_NAME = 255
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,64}/[a-z0-9!#$&^_.+-]{1,64}")


async def read_whole(source: web.Request | BodyPartReader, most: int, pause: float) -> bytes:
    """A body of at most `most` bytes. Raises RefusedByUs."""
    buffer = bytearray()
    async for piece in _pieces(source, pause):
        buffer += piece
        if len(buffer) > most:
            raise RefusedByUs("body-too-large")
    return bytes(buffer)


async def read_json(request: web.Request, limits: Limits) -> Any:
    """A small JSON object. Raises RefusedByUs."""
    body = await read_whole(request, MAX_JSON, limits.read_timeout)
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise RefusedByUs("malformed-body") from None
    if not isinstance(value, dict):
        raise RefusedByUs("bad-request", problems=[Problem("", "type: object")])
    return value


async def read_message(request: web.Request, limits: Limits) -> tuple[Native, AsyncIterator[Upload]]:
    """The message, and the attachments as they stream in (multipart/form-data). Raises RefusedByUs."""
    if media_type_of(request.headers.get("Content-Type")) != "multipart/form-data":
        media_type = media_type_of(request.headers.get("Content-Type"), required=True)
        body = await read_whole(request, limits.message_bytes, limits.read_timeout)
        return Native(media_type, body), _none()
    try:
        reader = await request.multipart()
    except ValueError:
        raise RefusedByUs("malformed-body") from None
    part = await _next(reader, limits)
    if part is None or part.name != "message":
        problem = Problem("/message", "the first part of the form")
        raise RefusedByUs("bad-request", problems=[problem])
    media_type = media_type_of(part.headers.get("Content-Type"), required=True)
    body = await read_whole(part, limits.message_bytes, limits.read_timeout)
    return Native(media_type, body), _uploads(reader, limits)


def media_type_of(header: str | None, *, required: bool = False) -> str:
    """A Content-Type without parameters, lower case. Any charset but UTF-8 is refused."""
    media_type, _, parameters = (header or "").partition(";")
    media_type = media_type.strip().lower()
    charset = re.search(r"charset\s*=\s*\"?([^\s\";]+)", parameters, re.IGNORECASE)
    if charset and charset[1].lower() not in {"utf-8", "utf8", "us-ascii"}:
        raise RefusedByUs("malformed-body", problems=[Problem("", "charset: utf-8")])
    if required and not _MEDIA_TYPE.fullmatch(media_type):
        raise RefusedByUs("unsupported-format", problems=[Problem("/header/Content-Type", "required")])
    return media_type


async def _none() -> AsyncIterator[Upload]:
    return
    yield


async def _uploads(reader: aiohttp.MultipartReader, limits: Limits) -> AsyncIterator[Upload]:
    count = 0
    while (part := await _next(reader, limits)) is not None:
        where = f"/attachments/{count}"
        count += 1
        if part.name != "attachment":
            raise RefusedByUs("bad-request", problems=[Problem(where, "a part named `attachment`")])
        if count > limits.attachments:
            raise RefusedByUs("body-too-large", problems=[Problem(where, f"at most {limits.attachments}")])
        name = part.filename or f"attachment-{count}"
        if len(name) > MAX_NAME:
            raise RefusedByUs(
                "bad-request", problems=[Problem(where, f"name: at most {MAX_NAME} characters")]
            )
        media_type = media_type_of(part.headers.get("Content-Type")) or "application/octet-stream"
        if not _MEDIA_TYPE.fullmatch(media_type):
            raise RefusedByUs("bad-request", problems=[Problem(where, "a media type")])
        digest = _digest(part.headers.get("Content-Digest"), where)
        yield Upload(name, media_type, digest, _pieces(part, limits.read_timeout))


async def _next(reader: aiohttp.MultipartReader, limits: Limits) -> BodyPartReader | None:
    try:
        async with asyncio.timeout(limits.read_timeout):
            part = await reader.next()
    except TimeoutError:
        raise RefusedByUs("request-timeout") from None
    except (aiohttp.ClientError, ConnectionError, EOFError):
        raise RefusedByUs("incomplete-body") from None
    except ValueError:
        raise RefusedByUs("malformed-body") from None
    if part is not None and not isinstance(part, BodyPartReader):
        raise RefusedByUs("malformed-body", problems=[Problem("", "parts are not nested")])
    return part


async def _pieces(source: web.Request | BodyPartReader, pause: float) -> AsyncIterator[bytes]:
    while True:
        try:
            async with asyncio.timeout(pause):
                if isinstance(source, BodyPartReader):
                    piece = await source.read_chunk(PIECE)
                else:
                    piece = await source.content.readany()
        except TimeoutError:
            raise RefusedByUs("request-timeout") from None
        except (aiohttp.ClientError, ConnectionError, EOFError, AssertionError):
            raise RefusedByUs("incomplete-body") from None
        except ValueError:
            raise RefusedByUs("malformed-body") from None
        except web.HTTPException as error:
            raise GatewayError("malformed-body" if error.status < 500 else "internal-error") from None
        if not piece:
            return
        yield bytes(piece)


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
