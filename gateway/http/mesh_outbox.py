"""Sending over MESH: a message at once, or chunk by chunk."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.adapters.base import Native
from gateway.errors import RefusedByUs
from gateway.http.bodies import read_body, stream_body
from gateway.http.mesh_errors import MeshRefusal, answer, version
from gateway.http.mesh_headers import OCTETS, chunk_range, document, encoding, text
from gateway.http.mesh_keys import MAILBOX, MESH, Mesh
from gateway.http.mesh_ports import Sent
from gateway.http.mesh_tables import Mailbox, Workflow
from gateway.http.ports import Submission, Upload
from gateway.messages import UUID4, MessageId, new_id

MAX_NAME = 200
"""Characters of a file's name that an attachment is named by; the document has it whole."""
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,64}/[a-z0-9!#$&^_.+-]{1,64}")


@dataclass(frozen=True, slots=True)
class _Addressed:
    """A message whose headers say who may send what to whom."""

    workflow: Workflow
    recipient: Mailbox
    local_id: str
    fields: dict[str, Any]
    """The document of type `file`, whether or not it is sent as one."""


async def send(request: web.Request) -> web.Response:
    """POST outbox: a whole message, or the first of several chunks. 202 once it is durable."""
    mesh, mailbox = request.app[MESH], request[MAILBOX]
    wanted = _addressed(request, mesh, mailbox)
    total = chunk_range(request, 1, mesh.tables.chunks)
    encoding(request)
    if wanted.workflow.opaque:
        message_id = await _send_file(request, mesh, wanted, total)
    elif total > 1:
        raise MeshRefusal("chunk-range")  # an adapter reads a document as a whole
    else:
        message_id = await _send_document(request, mesh, wanted)
    return _accepted(request, message_id)


async def send_chunk(request: web.Request) -> web.Response:
    """POST outbox/{message_id}/{chunk_number}: the next chunk; with the last the message is accepted."""
    mesh, mailbox = request.app[MESH], request[MAILBOX]
    message_id, number = request.match_info["message_id"], request.match_info["chunk_number"]
    if not UUID4.fullmatch(message_id) or not re.fullmatch(r"[0-9]{1,6}", number):
        raise MeshRefusal("no-message")
    found = await mesh.records.sent(mailbox.agency, mailbox.id, message_id)
    if found is None:
        raise MeshRefusal("no-message")
    total = chunk_range(request, int(number), mesh.tables.chunks)
    encoding(request)
    upload = _upload(found.file_name, OCTETS, int(number), total, await _begun(request, mesh))
    try:
        await mesh.chunked.add(mailbox.agency, MessageId(message_id), int(number), total, upload)
    except RefusedByUs as error:
        own = {"bad-request": "chunk-range", "already-final": "finalised"}.get(error.code)
        raise MeshRefusal(own) if own else error from None
    return _accepted(request, message_id)


def _addressed(request: web.Request, mesh: Mesh, mailbox: Mailbox) -> _Addressed:
    """What the headers ask for. Raises MeshRefusal."""
    if text(request, "Mex-From", 100) not in {"", mailbox.id}:
        raise MeshRefusal("from-address")
    if text(request, "Mex-MessageType", 20).upper() not in {"", "DATA"}:
        raise MeshRefusal("message-type")
    to = text(request, "Mex-To", 100)
    if not to:
        raise MeshRefusal("no-to-address")
    recipient = mesh.tables.mailbox(to)
    if recipient is None:
        raise MeshRefusal("to-address")
    workflow = mesh.tables.workflows.get(text(request, "Mex-WorkflowID", 300))
    if workflow is None or workflow.takes(mailbox.id, recipient.id) != (True, True):
        raise MeshRefusal("workflow")
    fields = document(request, mailbox.id, recipient.id, workflow.id)
    return _Addressed(workflow, recipient, fields.get("localId", ""), fields)


async def _send_file(request: web.Request, mesh: Mesh, wanted: _Addressed, total: int) -> str:
    """Any bytes: sealed as attachments of a message of type `file`."""
    media_type = wanted.fields.get("mediaType", OCTETS).partition(";")[0].strip().lower()
    media_type = media_type if _MEDIA_TYPE.fullmatch(media_type) else OCTETS
    pieces = await _begun(request, mesh)
    upload = _upload(wanted.fields.get("fileName", ""), media_type, 1, total, pieces)
    body = json.dumps(wanted.fields, sort_keys=True).encode()
    submission = await _prepared(request, mesh, wanted, Native("application/json", body), "json")
    if total > 1:
        return await mesh.chunked.begin(submission, upload, total)
    return (await mesh.sending.submit(submission, _these(upload))).message_id


async def _send_document(request: web.Request, mesh: Mesh, wanted: _Addressed) -> str:
    """A document in a format that an adapter reads."""
    body = await read_body(request, mesh.limits)
    if not body:
        raise MeshRefusal("missing-data")
    native = Native(wanted.workflow.media_type, body)
    submission = await _prepared(request, mesh, wanted, native, wanted.workflow.adapter)
    return (await mesh.sending.submit(submission, _these())).message_id


async def _prepared(
    request: web.Request, mesh: Mesh, wanted: _Addressed, body: Native, adapter: str | None
) -> Submission:
    """The submission, noted before it is made, so that no accepted message is unknown to tracking."""
    mailbox = request[MAILBOX]
    key = f"mesh/{mailbox.id}/{wanted.local_id}" if wanted.local_id else f"mesh//{new_id()}"
    message_id = await mesh.records.identify(mailbox.agency, key)
    await mesh.records.note(
        mailbox.agency,
        Sent(
            message_id,
            new_id(),
            mailbox.id,
            wanted.recipient.id,
            wanted.workflow.id,
            mesh.now(),
            wanted.local_id,
            wanted.fields.get("fileName", ""),
            wanted.fields.get("subject", ""),
        ),
    )
    return Submission(
        sender=mailbox.agency,
        idempotency_key=key,
        body=body,
        adapter=adapter,
        recipients=(wanted.recipient.agency,),
        purpose=wanted.workflow.purpose,
        lawful_basis=wanted.workflow.lawful_basis,
        case=None,
        in_reply_to=None,
        expires_in=None,
        message_id=message_id,
    )


def _upload(name: str, media_type: str, number: int, total: int, pieces: AsyncIterator[bytes]) -> Upload:
    name = (name or "message.dat")[:MAX_NAME]
    return Upload(name if total == 1 else f"{name}.{number}", media_type, None, pieces)


async def _begun(request: web.Request, mesh: Mesh) -> AsyncIterator[bytes]:
    """The body, once its first bytes are here. Raises MeshRefusal when there are none."""
    pieces = stream_body(request, mesh.limits)
    first = await anext(pieces, None)
    if first is None:
        raise MeshRefusal("missing-data")
    return _with(first, pieces)


async def _with(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


async def _these(*uploads: Upload) -> AsyncIterator[Upload]:
    for upload in uploads:
        yield upload


def _accepted(request: web.Request, message_id: str) -> web.Response:
    name = "message_id" if version(request) == 2 else "messageID"
    return answer(request, {name: message_id}, status=202)
