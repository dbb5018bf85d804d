"""Receiving over MESH: what waits, a message with its chunks, its acknowledgement; and REPORTs.

A REPORT says that something this mailbox sent came to nothing. It is no message of the road: it is made from
the receipts each time it is asked for, and is gone once it is acknowledged.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Mapping
from urllib.parse import urlencode

from aiohttp import web
from aiohttp.web_response import ContentCoding

from gateway.errors import RefusedByPeer, RefusedByUs
from gateway.http.mesh_errors import MESH_CODES, MeshRefusal, answer, version
from gateway.http.mesh_filter import workflow_filter
from gateway.http.mesh_headers import OCTETS, described, http_date, stamp
from gateway.http.mesh_keys import MAILBOX, MESH, Mesh
from gateway.http.mesh_opened import Shown
from gateway.http.mesh_ports import Sent
from gateway.http.mesh_tables import Mailbox
from gateway.http.ports import InboxEntry
from gateway.messages import FINAL_STAGES, UUID4, MessageId, Stage

MAX_RESULTS, DEFAULT_RESULTS = 5000, 500
OPENED = 500
"""Messages opened for one answer; a page may be shorter for it."""
COUNTED = 5000
"""Messages that a count looks at."""
_CURSOR = re.compile(r"continue-after:([0-9]{19})")


async def list_messages(request: web.Request) -> web.Response:
    """GET inbox: identifiers of what waits, reports first."""
    mesh, mailbox = request.app[MESH], request[MAILBOX]
    query = request.query
    limit = _number(query.get("max_results", str(DEFAULT_RESULTS)), 10, MAX_RESULTS)
    wanted = query.get("workflow_filter", "")
    matches = workflow_filter(wanted)
    after = await _after(mesh, mailbox, query.get("continue_from", ""))
    found: list[str] = []
    if after is None:  # reports stand on the first page only
        told = await mesh.records.reports(mailbox.agency, mailbox.id, limit=limit)
        found = [one.report_id for one in told if matches(one.workflow)]
    more, cursor = True, after or 0
    if len(found) < limit:
        page = await _page(mesh, mailbox, cursor, limit - len(found))
        found += [one.header.message_id for one, workflow in page.entries if matches(workflow)]
        more, cursor = page.more, page.cursor
    if version(request) == 1:
        return answer(request, {"messages": found})
    asked = {"max_results": str(limit)} if limit != DEFAULT_RESULTS else {}
    asked |= {"workflow_filter": wanted} if wanted else {}
    links = {"self": _link(mailbox, asked)}
    if more:
        links["next"] = _link(mailbox, {**asked, "continue_from": _cursor(cursor)})
    waiting = await mesh.records.waiting(mailbox.agency)
    return answer(request, {"messages": found, "links": links, "approx_inbox_count": waiting})


async def count_messages(request: web.Request) -> web.Response:
    """GET count: how many wait."""
    mesh, mailbox = request.app[MESH], request[MAILBOX]
    count = len(await mesh.records.reports(mailbox.agency, mailbox.id, limit=COUNTED))
    page = await _page(mesh, mailbox, 0, COUNTED)
    count += len(page.entries)
    if version(request) == 2:
        return answer(request, {"count": count})
    return answer(request, {"count": count, "internalID": "", "allResultsIncluded": not page.more})


async def head_message(request: web.Request) -> web.Response:
    """HEAD inbox/{message_id}: its headers."""
    mesh, mailbox = request.app[MESH], request[MAILBOX]
    report = await _report(mesh, mailbox, request.match_info["message_id"])
    if report is not None:
        return web.Response(headers=report)
    shown = await _shown(mesh, mailbox, request.match_info["message_id"])
    return web.Response(headers=_headers(mailbox, shown, 1), content_type=OCTETS)


async def get_message(request: web.Request) -> web.StreamResponse:
    """GET inbox/{message_id}, and /{chunk_number}: 206 while more chunks follow."""
    mesh, mailbox = request.app[MESH], request[MAILBOX]
    report = await _report(mesh, mailbox, request.match_info["message_id"])
    if report is not None:
        return web.Response(headers=report)
    shown = await _shown(mesh, mailbox, request.match_info["message_id"])
    number = request.match_info.get("chunk_number", "1")
    if not re.fullmatch(r"[0-9]{1,6}", number) or not 1 <= int(number) <= shown.chunks:
        raise MeshRefusal("no-message")
    return await _download(request, mesh, mailbox, shown, int(number))


async def acknowledge(request: web.Request) -> web.Response:
    """PUT inbox/{message_id}/status/acknowledged: `delivered`, or a report that was read."""
    mesh, mailbox = request.app[MESH], request[MAILBOX]
    message_id = request.match_info["message_id"]
    if not UUID4.fullmatch(message_id):
        raise MeshRefusal("no-message")
    sent = await mesh.records.sent(mailbox.agency, mailbox.id, message_id)
    if sent is not None and sent.report_id == message_id:
        await mesh.records.close(sent.message_id)
    else:
        try:
            await _shown(mesh, mailbox, message_id)
        except RefusedByUs as error:
            if error.code != "already-final":
                raise
        await mesh.receiving.ack(mailbox.agency, [MessageId(message_id)])
    if version(request) == 2:
        return web.Response(headers={"Cache-Control": "no-store"})
    return answer(request, {"messageId": message_id})


class _Page:
    """Part of an inbox, with the workflow of each message."""

    def __init__(self, cursor: int) -> None:
        self.entries: list[tuple[InboxEntry, str]] = []
        self.cursor = cursor
        self.more = False
        """Whether there may be others after the cursor."""


async def _page(mesh: Mesh, mailbox: Mailbox, after: int, limit: int) -> _Page:
    """Up to `limit` messages after a sequence, those of other mailboxes left out."""
    page, opened = _Page(after), 0
    found = await mesh.receiving.list(mailbox.agency, after=after, limit=limit + 1, wait=0)
    for entry in found[:limit]:
        if mesh.opener.known(entry) is None:
            if opened == OPENED:
                page.more = True
                return page
            opened += 1
            await asyncio.sleep(0)  # opening takes a while: others have their turn
        place = await mesh.opener.place(mailbox.agency, entry)
        if place.mailbox == mailbox.id:
            page.entries.append((entry, place.workflow))
        page.cursor = entry.sequence
    page.more = len(found) > limit
    return page


async def _shown(mesh: Mesh, mailbox: Mailbox, message_id: str) -> Shown:
    if not UUID4.fullmatch(message_id):
        raise MeshRefusal("no-message")
    return await mesh.opener.show(mailbox, message_id)


async def _download(
    request: web.Request, mesh: Mesh, mailbox: Mailbox, shown: Shown, number: int
) -> web.StreamResponse:
    size, pieces, tag = await mesh.opener.body(mailbox, shown, number)
    headers = _headers(mailbox, shown, number)
    if tag:
        headers["ETag"] = f'"{tag}"'
    response = web.StreamResponse(status=206 if number < shown.chunks else 200, headers=headers)
    response.content_type = OCTETS if shown.chunks > 1 else _essence(shown.media_type)
    if shown.fields.get("contentEncoding") == "gzip" and _takes_gzip(request):
        response.headers["Mex-Content-Compressed"] = "Y"
        response.enable_compression(ContentCoding.gzip)
    else:
        response.content_length = size
    await response.prepare(request)
    try:
        async for piece in pieces:
            await response.write(piece)
        await response.write_eof()
    except Exception as error:
        # The headers are out: cutting the connection short is the only way to say no.
        if request.transport is not None:
            request.transport.abort()
        if not isinstance(error, RefusedByPeer | ConnectionError):
            raise
    return response


def _headers(mailbox: Mailbox, shown: Shown, number: int) -> dict[str, str]:
    """What MESH says of a message beside its bytes."""
    header = shown.entry.header
    return {
        "Cache-Control": "no-store",
        "Mex-From": shown.sender,
        "Mex-To": mailbox.id,
        "Mex-WorkflowID": shown.place.workflow,
        "Mex-MessageID": header.message_id,
        "Mex-MessageType": "DATA",
        "Mex-Version": "1.0",
        "Mex-AddressType": "ALL",
        "Mex-Chunk-Range": f"{number}:{shown.chunks}",
        "Mex-FileName": f"{header.message_id}.dat",
        "Mex-Content-Type": shown.media_type,
        "Mex-StatusCode": "00",
        "Mex-StatusEvent": "TRANSFER",
        "Mex-StatusDescription": "Transferred to recipient mailbox",
        "Mex-StatusSuccess": "SUCCESS",
        "Mex-StatusTimestamp": stamp(shown.entry.received),
        "Last-Modified": http_date(shown.entry.received),
        **described(shown.fields),
    }


async def _report(mesh: Mesh, mailbox: Mailbox, identifier: str) -> Mapping[str, str] | None:
    """The headers of a REPORT, if that is what the identifier names."""
    if not UUID4.fullmatch(identifier):
        return None
    sent = await mesh.records.sent(mailbox.agency, mailbox.id, identifier)
    if sent is None or sent.report_id != identifier:
        return None
    status = await mesh.sending.status(mailbox.agency, sent.message_id)
    ladder = status.ladders[0]
    if ladder.stage not in FINAL_STAGES or ladder.stage is Stage.DELIVERED:
        raise MeshRefusal("no-message")
    last = ladder.steps[-1]
    return _report_headers(sent, f": {last.reason or ladder.stage}", last.at)


def _report_headers(sent: Sent, why: str, at: int) -> Mapping[str, str]:
    code = MESH_CODES["undelivered"]
    headers = {
        "Cache-Control": "no-store",
        "Content-Type": OCTETS,
        "Mex-To": sent.recipient,
        "Mex-WorkflowID": sent.workflow,
        "Mex-MessageID": sent.report_id,
        "Mex-LinkedMsgID": sent.message_id,
        "Mex-MessageType": "REPORT",
        "Mex-Version": "1.0",
        "Mex-AddressType": "ALL",
        "Mex-Chunk-Range": "1:1",
        "Mex-LocalID": sent.local_id,
        "Mex-Subject": sent.subject,
        "Mex-FileName": sent.file_name,
        "Mex-StatusCode": code.code,
        "Mex-StatusEvent": code.event,
        "Mex-StatusDescription": code.text + why,
        "Mex-StatusSuccess": "ERROR",
        "Mex-StatusTimestamp": stamp(at),
    }
    return {name: value for name, value in headers.items() if value}


async def _after(mesh: Mesh, mailbox: Mailbox, value: str) -> int | None:
    """Where to go on: after a cursor of ours, or (version 1) after a message. Raises MeshRefusal."""
    if not value:
        return None
    if UUID4.fullmatch(value):
        entries = await mesh.receiving.list(mailbox.agency, after=0, limit=COUNTED, wait=0)
        return next((one.sequence for one in entries if one.header.message_id == value), 0)
    try:
        found = _CURSOR.fullmatch(base64.urlsafe_b64decode(value[:100]).decode("ascii"))
    except (binascii.Error, ValueError):
        found = None
    if found is None:
        raise MeshRefusal("parameter")
    return int(found[1])


def _cursor(after: int) -> str:
    return base64.urlsafe_b64encode(f"continue-after:{after:019d}".encode()).decode()


def _link(mailbox: Mailbox, query: Mapping[str, str]) -> str:
    path = f"/messageexchange/{mailbox.id}/inbox"
    return f"{path}?{urlencode(query)}" if query else path


def _number(value: str, least: int, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", value) or not least <= int(value) <= most:
        raise MeshRefusal("parameter")
    return int(value)


def _takes_gzip(request: web.Request) -> bool:
    return "gzip" in request.headers.get("Accept-Encoding", "").lower()


def _essence(media_type: str) -> str:
    essence = media_type.partition(";")[0].strip().lower()
    return essence if re.fullmatch(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+", essence) else OCTETS
