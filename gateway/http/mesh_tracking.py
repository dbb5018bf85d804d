"""Over MESH: the handshake, what became of a message, and which mailbox to send to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from gateway.errors import RefusedByUs
from gateway.http.mesh_errors import MESH_CODES, MeshRefusal, answer, version
from gateway.http.mesh_headers import iso, stamp
from gateway.http.mesh_keys import MAILBOX, MESH, Mesh
from gateway.http.mesh_ports import Sent
from gateway.http.mesh_tables import Mailbox
from gateway.http.ports import Ladder, MessageStatus
from gateway.messages import UUID4, Stage, new_id

UPLOADING = "uploading"
_STATUS = {
    Stage.ACCEPTED: "accepted",
    Stage.RECEIVED: "accepted",
    Stage.DELIVERED: "acknowledged",
    Stage.REJECTED: "undeliverable",
    Stage.EXPIRED: "undeliverable",
    Stage.FAILED: "undeliverable",
}
"""A stage as MESH calls it, which has one word for all that waits, here or at the recipient's node."""


async def ping(request: web.Request) -> web.Response:
    """GET _ping: the face is here."""
    return answer(request, {"internalID": new_id()})


async def handshake(request: web.Request) -> web.Response:
    """POST or GET {mailbox_id}: the token is good."""
    if version(request) == 2:
        return web.Response(headers={"Cache-Control": "no-store"})
    return answer(request, {"mailboxId": request[MAILBOX].id})


async def track(request: web.Request) -> web.Response:
    """GET outbox/tracking?messageID=: what became of a message."""
    mesh, mailbox = request.app[MESH], request[MAILBOX]
    message_id = request.query.get("messageID", "")
    if not UUID4.fullmatch(message_id):
        raise MeshRefusal("no-message")
    sent = await mesh.records.sent(mailbox.agency, mailbox.id, message_id)
    if sent is None or sent.message_id != message_id:
        raise MeshRefusal("no-message")
    return await _tracked(request, mesh, sent, version(request))


async def track_local_id(request: web.Request) -> web.Response:
    """GET outbox/tracking/{local_id}, always as version 1 says it."""
    mesh, mailbox = request.app[MESH], request[MAILBOX]
    found = await mesh.records.by_local_id(mailbox.agency, mailbox.id, request.match_info["local_id"])
    if not found:
        raise MeshRefusal("no-message")
    if len(found) > 1:
        raise MeshRefusal("several")
    return await _tracked(request, mesh, found[0], 1)


async def look_up(request: web.Request) -> web.Response:
    """GET endpointlookup/{ods_code}/{workflow_id}."""
    tables, asked = request.app[MESH].tables, request.match_info
    return _mailboxes(request, tables.receivers(asked["workflow_id"], asked["ods_code"]))


async def search_workflow(request: web.Request) -> web.Response:
    """GET workflowsearch/{workflow_id}."""
    return _mailboxes(request, request.app[MESH].tables.receivers(request.match_info["workflow_id"]))


async def nothing_here(_: web.Request) -> web.StreamResponse:
    """Any other path or method."""
    raise MeshRefusal("no-endpoint")


def _mailboxes(request: web.Request, found: Sequence[Mailbox]) -> web.Response:
    if version(request) == 2:
        return answer(
            request, {"results": [{"mailbox_id": one.id, "mailbox_name": one.name} for one in found]}
        )
    results = [{"address": one.id, "description": one.name, "endpoint_type": "MESH"} for one in found]
    return answer(request, {"query_id": new_id(), "results": results})


async def _tracked(request: web.Request, mesh: Mesh, sent: Sent, asked: int) -> web.Response:
    mailbox = request[MAILBOX]
    try:
        status = await mesh.sending.status(mailbox.agency, sent.message_id)
    except RefusedByUs:
        if not mesh.chunked.uploading(mailbox.agency, sent.message_id):
            raise
        status = None
    recipient = mesh.tables.mailbox(sent.recipient) or Mailbox(sent.recipient, mailbox.agency)
    written = _v2 if asked == 2 else _v1
    body = written(sent, mailbox, recipient, status)
    return answer(request, {name: value for name, value in body.items() if value is not None}, asked=asked)


def _v2(sent: Sent, _: Mailbox, recipient: Mailbox, status: MessageStatus | None) -> dict[str, Any]:
    ladder = status.ladders[0] if status else None
    failed = _failure(ladder)
    return {
        "message_id": sent.message_id,
        "local_id": sent.local_id or None,
        "workflow_id": sent.workflow,
        "filename": sent.file_name or None,
        "expiry_time": iso(status.expires) if status else None,
        "upload_timestamp": iso(status.created) if status else None,
        "recipient": recipient.id,
        "recipient_name": recipient.name or None,
        "recipient_ods_code": recipient.ods_code or None,
        "status_success": failed is None,
        "status": _STATUS[ladder.stage] if ladder else UPLOADING,
        "status_event": MESH_CODES["undelivered"].event if failed else "TRANSFER",
        "status_timestamp": iso(ladder.steps[-1].at) if ladder else iso(sent.created),
        "status_description": failed,
        "status_code": MESH_CODES["undelivered"].code if failed else "00",
    }


def _v1(sent: Sent, sender: Mailbox, recipient: Mailbox, status: MessageStatus | None) -> dict[str, Any]:
    ladder = status.ladders[0] if status else None
    failed = _failure(ladder)
    at = stamp(ladder.steps[-1].at) if ladder else stamp(sent.created)
    return {
        "addressType": "ALL",
        "dtsId": sent.message_id,
        "messageId": sent.message_id,
        "messageType": "DATA",
        "version": "1.0",
        "workflowId": sent.workflow,
        "localId": sent.local_id or None,
        "fileName": sent.file_name or None,
        "subject": sent.subject or None,
        "fileSize": sent.size,
        "sender": sender.id,
        "senderName": sender.name or None,
        "senderOdsCode": sender.ods_code or None,
        "recipient": recipient.id,
        "recipientName": recipient.name or None,
        "meshRecipientOdsCode": recipient.ods_code or None,
        "uploadTimestamp": stamp(status.created) if status else None,
        "expiryTime": stamp(status.expires) if status else None,
        "downloadTimestamp": at if ladder and ladder.stage is Stage.DELIVERED else None,
        "failureDate": at if failed else None,
        "failureDiagnostic": failed,
        "status": (_STATUS[ladder.stage] if ladder else UPLOADING).title(),
        "statusSuccess": "ERROR" if failed else "SUCCESS",
        "statusTimestamp": at,
        "statusEvent": MESH_CODES["undelivered"].event if failed else "TRANSFER",
        "statusCode": MESH_CODES["undelivered"].code if failed else "00",
        "statusDescription": failed,
    }


def _failure(ladder: Ladder | None) -> str | None:
    """Why it was not delivered: MESH's words and our reason code."""
    if ladder is None or _STATUS[ladder.stage] != "undeliverable":
        return None
    return f"{MESH_CODES['undelivered'].text}: {ladder.steps[-1].reason or ladder.stage}"
