"""The inbox: list, open, collect attachments, acknowledge, reject."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

from aiohttp import web

from gateway.errors import RefusedByPeer, RefusedByUs
from gateway.http import render
from gateway.http.bodies import read_json
from gateway.http.keys import LIMITS, PRINCIPAL, RECEIVING
from gateway.http.ports import Permission, Receiving
from gateway.http.requests import NO_STORE, answer, flag, identifier, number, permitted
from gateway.messages import UUID4, AgencyId, MessageId, Problem, Reason

MAX_PAGE = 100
MAX_WAIT = 60
"""Seconds."""
MAX_CURSOR = 2**62
PAGE_CONTENT = 8 * 1024 * 1024
"""Bytes of content after which a page ends early, so that its size in memory is bounded."""
_GONE = {"not-found", "already-final", "expired"}
JSON = "application/json"


def _agency(request: web.Request) -> AgencyId:
    permitted(request, Permission.RECEIVE)
    return request[PRINCIPAL].agency


async def list_inbox(request: web.Request) -> web.Response:
    """A page of what waits; with `wait`, a long poll."""
    agency, receiving = _agency(request), request.app[RECEIVING]
    after = number(request, "after", 0, most=MAX_CURSOR)
    limit = number(request, "limit", 50, least=1, most=MAX_PAGE)
    wait = number(request, "wait", 0, most=MAX_WAIT)
    with_content = flag(request, "content")
    entries = await receiving.list(agency, after=after, limit=limit, wait=float(wait))
    cursor = entries[-1].sequence if entries else after
    messages = [render.entry(one) for one in entries]
    if with_content:
        messages, cursor = await _with_content(receiving, agency, messages, cursor)
    link = f'</v1/inbox?after={cursor}&limit={limit}>; rel="next"'
    return answer({"messages": messages, "next": cursor}, headers={"Link": link})


async def _with_content(
    receiving: Receiving, agency: AgencyId, entries: list[dict[str, Any]], cursor: int
) -> tuple[list[dict[str, Any]], int]:
    """The same page with each message opened, or as much of it as may be in memory; and its cursor."""
    messages: list[dict[str, Any]] = []
    size = 0
    for one in entries:
        if size >= PAGE_CONTENT:
            return messages, messages[-1]["sequence"]
        try:
            opened = await receiving.open(agency, one["message_id"], [JSON])
        except RefusedByUs as error:
            if error.code in _GONE:
                continue  # answered by another request, or expired, since the page was read
            if error.code == "not-readable":
                messages.append(one)  # without its content: its system must answer it all the same
                continue
            raise
        size += len(opened.native.body)
        messages.append({**one, "content": json.loads(opened.native.body), **render.opened(opened)})
    return messages, cursor


async def open_message(request: web.Request) -> web.Response:
    """One message, in the format asked for."""
    agency, message_id = _agency(request), MessageId(identifier(request))
    accept = accepted(", ".join(request.headers.getall("Accept", [])))
    opened = await request.app[RECEIVING].open(agency, message_id, accept)
    if opened.native.media_type == JSON:
        return answer(
            {
                "message": render.entry(opened.entry),
                "content": json.loads(opened.native.body),
                **render.opened(opened),
            },
            headers={"Vary": "Accept"},
        )
    return web.Response(
        body=opened.native.body,
        content_type=opened.native.media_type,
        charset="utf-8",
        headers={**NO_STORE, "Vary": "Accept", **render.headers(opened.entry)},
    )


async def original(request: web.Request) -> web.Response:
    """What the sender's system wrote, byte for byte."""
    agency, message_id = _agency(request), MessageId(identifier(request))
    native = await request.app[RECEIVING].original(agency, message_id)
    return web.Response(body=native.body, content_type=native.media_type, headers=NO_STORE)


async def attachment(request: web.Request) -> web.StreamResponse:
    """Stream an attachment."""
    agency, message_id = _agency(request), MessageId(identifier(request))
    index = request.match_info["index"]
    if not index.isascii() or not index.isdigit() or len(index) > 4:
        raise RefusedByUs("not-found")
    info, chunks = await request.app[RECEIVING].attachment(agency, message_id, int(index))
    digest = base64.b64encode(info.sha256).decode()
    response = web.StreamResponse(
        headers={
            **NO_STORE,
            "Content-Type": info.media_type,
            "Content-Length": str(info.size),
            "Content-Digest": f"sha-256=:{digest}:",
            # RFC 6266 with RFC 8187: the name, percent-encoded, cannot end the header.
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(info.name, safe='')}",
        }
    )
    await response.prepare(request)
    try:
        async for piece in chunks:
            await response.write(piece)
        await response.write_eof()
    except Exception as error:
        # The headers are out: cutting the connection short of Content-Length is the only way to say no.
        if request.transport is not None:
            request.transport.abort()
        if not isinstance(error, RefusedByPeer | ConnectionError):
            raise
    return response


async def ack(request: web.Request) -> web.Response:
    """Make one message `delivered`."""
    agency, message_id = _agency(request), MessageId(identifier(request))
    (answered,) = await request.app[RECEIVING].ack(agency, [message_id])
    return answer(render.answered(answered))


async def ack_many(request: web.Request) -> web.Response:
    """Make several messages `delivered`, all or none."""
    agency = _agency(request)
    body = await read_json(request, request.app[LIMITS])
    ids = body.get("message_ids")
    if (
        not isinstance(ids, list)
        or not 1 <= len(ids) <= MAX_PAGE
        or not all(isinstance(one, str) and UUID4.fullmatch(one) for one in ids)
        or len(set(ids)) != len(ids)
    ):
        rule = f"a list of 1 to {MAX_PAGE} message ids, each once"
        raise RefusedByUs("bad-request", problems=[Problem("/message_ids", rule)])
    answered = await request.app[RECEIVING].ack(agency, [MessageId(one) for one in ids])
    return answer({"messages": [render.answered(one) for one in answered]})


async def reject(request: web.Request) -> web.Response:
    """Make one message `rejected`, with a reason code."""
    agency, message_id = _agency(request), MessageId(identifier(request))
    body = await read_json(request, request.app[LIMITS])
    try:
        reason = Reason(body.get("reason"))
    except ValueError:
        raise RefusedByUs("unknown-reason", problems=[Problem("/reason", "a listed reason code")]) from None
    return answer(render.answered(await request.app[RECEIVING].reject(agency, message_id, reason)))


def accepted(header: str) -> list[str]:
    """The media types of an Accept header, best first (RFC 9110 section 12.5.1). Raises RefusedByUs."""
    weighted = []
    for position, part in enumerate(header.split(",")):
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if not media_type:
            continue
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = float(parameter[2:])
                except ValueError:
                    weight = 0.0
        if weight > 0:
            weighted.append((-weight, position, media_type))
    if header.strip() and not weighted:
        raise RefusedByUs("not-acceptable")
    return [media_type for _, _, media_type in sorted(weighted)]
