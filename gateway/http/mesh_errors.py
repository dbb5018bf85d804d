"""Errors in MESH's own form: an event, a code and a sentence that is always the same; never a value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.errors import GatewayError
from gateway.messages import UUID4

V2 = "application/vnd.mesh.v2+json"
V1 = "application/vnd.mesh.v1+json"


@dataclass(frozen=True, slots=True)
class MeshCode:
    """One error: its HTTP status, and what MESH calls it."""

    status: int
    event: str
    code: str
    text: str


MESH_CODES: dict[str, MeshCode] = {
    "authentication": MeshCode(403, "AUTHENTICATE", "not-authenticated", "Invalid Authentication Token"),
    "mailbox-mismatch": MeshCode(403, "AUTHENTICATE", "07", "Mailbox id does not match token"),
    "replayed": MeshCode(403, "AUTHENTICATE", "not-authenticated", "Error Duplicated Authentication Token"),
    "missing-data": MeshCode(417, "COLLECT", "02", "Data file is missing or inaccessible"),
    "malformed-headers": MeshCode(417, "TRANSFER", "06", "Malformed headers"),
    "from-address": MeshCode(417, "SEND", "07", "Invalid From Address"),
    "no-to-address": MeshCode(417, "SEND", "08", "Missing Mex-To header"),
    "message-type": MeshCode(417, "SEND", "11", "Invalid Message Type for the transfer, should be DATA"),
    "to-address": MeshCode(417, "SEND", "12", "Unregistered to address"),
    "undelivered": MeshCode(417, "SEND", "14", "Undelivered message"),
    "not-allowed": MeshCode(417, "SEND", "16", "Sender is not allowed to send messages of this type"),
    "workflow": MeshCode(417, "SEND", "17", "Workflow ID not registered for mailbox"),
    "chunk-range": MeshCode(
        417, "SEND", "InvalidHeaderChunks", "Invalid chunk values sent in Mex-Chunk-Range header"
    ),
    "content-encoding": MeshCode(417, "SEND", "UnsupportedContentEncoding", "Unsupported content encoding"),
    "finalised": MeshCode(423, "SEND", "already-final", "No more chunks can be uploaded"),
    "no-message": MeshCode(404, "RECEIVE", "20", "Message does not exist"),
    "gone": MeshCode(410, "RECEIVE", "expired", "Message no longer available for download"),
    "parameter": MeshCode(400, "RECEIVE", "bad-request", "Invalid parameter"),
    "several": MeshCode(300, "TRACK", "EPL-150", "The local identifier is not unique"),
    "no-endpoint": MeshCode(404, "RECEIVE", "not-found", "No such endpoint"),
}
"""Every error of the MESH face itself. Codes of two digits are those of the MESH API's table."""

FROM_GATEWAY: dict[str, str] = {
    "not-found": "no-message",
    "expired": "gone",
    "already-final": "gone",
    "unknown-recipient": "to-address",
    "no-agreement": "not-allowed",
    "agreement-not-in-force": "not-allowed",
    "no-suitable-key": "not-allowed",
    "type-not-accepted": "not-allowed",
}
"""Errors of the node that MESH has a name for; the others keep their own code (docs/api.md)."""
_CONTENT = 417
"""What MESH answers when the message itself is refused."""


class MeshRefusal(Exception):
    """A request is refused; `key` is one of MESH_CODES."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def version(request: web.Request) -> int:
    """Which version of the answers the caller asks for: 2 where it accepts that, otherwise 1."""
    return 2 if V2 in ",".join(request.headers.getall("Accept", [])).lower() else 1


def answer(
    request: web.Request,
    body: Any,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    asked: int | None = None,
) -> web.Response:
    """JSON in the media type asked for; `asked` is the version of the body where there is no choice."""
    accept = ",".join(request.headers.getall("Accept", [])).lower()
    v1 = V1 if V1 in accept else "application/json"
    media_type = V2 if (asked or version(request)) == 2 else v1
    return web.Response(
        status=status,
        body=json.dumps(body).encode(),
        content_type=media_type,
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def refusal(request: web.Request, error: MeshRefusal | GatewayError) -> web.Response:
    """The answer to a request that failed."""
    found, details = _code(error), []
    if isinstance(error, GatewayError):
        details = [f": {one.pointer or 'the body'}: {one.rule}" for one in error.problems]
    headers = {}
    if isinstance(error, GatewayError) and error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    message_id = request.match_info.get("message_id", "")
    if version(request) == 2:
        body: dict[str, Any] = {
            "detail": [
                {"event": found.event, "code": found.code, "msg": found.text + detail}
                for detail in details or [""]
            ]
        }
    else:
        body = {"errorEvent": found.event, "errorCode": found.code, "errorDescription": found.text}
    if UUID4.fullmatch(message_id) and found.status in {417, 423}:
        body["message_id" if version(request) == 2 else "messageID"] = message_id
    return answer(request, body, status=found.status, headers=headers)


def _code(error: MeshRefusal | GatewayError) -> MeshCode:
    if isinstance(error, MeshRefusal):
        return MESH_CODES[error.key]
    if error.code in FROM_GATEWAY:
        return MESH_CODES[FROM_GATEWAY[error.code]]
    status = _CONTENT if error.status in {400, 403, 415, 422} else error.status
    return MeshCode(status, "SEND", error.code, error.title)
