"""The OpenAPI 3.1 document, built from the code's own lists, so that it cannot say anything else."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from aiohttp import web

from gateway import __version__
from gateway.errors import CODES
from gateway.http import problems
from gateway.http.paths import PATHS
from gateway.messages import (
    AGENCY_ID,
    SYSTEM_REASONS,
    UUID4,
    Emergency,
    LawfulBasis,
    Purpose,
    Reason,
    Stage,
)
from gateway.protocol import views


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


def _all(**properties: Any) -> dict[str, Any]:
    return _object(list(properties), **properties)


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _many(name: str) -> dict[str, Any]:
    return {"type": "array", "items": _ref(name)}


_UUID = {"type": "string", "pattern": f"^{UUID4.pattern}$"}
_TIME = {"type": "string", "format": "date-time"}
_AGENCY = {"type": "string", "pattern": f"^{AGENCY_ID.pattern}$"}
_MAYBE_UUID = {"type": ["string", "null"]}
_HEADER = {
    "message_id": _UUID,
    "case": _UUID,
    "type": {"type": "string"},
    "version": {"type": "integer"},
    "sender": _AGENCY,
    "in_reply_to": _MAYBE_UUID,
    "created": _TIME,
    "expires": _TIME,
    "purpose": {"type": "string", "enum": [one.value for one in Purpose]},
    "lawful_basis": {"type": "string", "enum": [one.value for one in LawfulBasis]},
}
_RECEIPT = {
    "stage": {"type": "string", "enum": [one.value for one in Stage]},
    "issuer": _AGENCY,
    "at": _TIME,
    "reason": {"type": ["string", "null"], "enum": [*(one.value for one in (*Reason, *Emergency)), None]},
    "receipt": {"type": "string", "description": "COSE_Sign1, base64url: docs/receipts.md."},
}
_INBOX = {"sequence": {"type": "integer"}, "envelope_id": _UUID, **_HEADER, "received": _TIME}
_OPENED = {
    "content": {"type": "object", "description": "The canonical document: docs/messages.md."},
    "warnings": _many("Warning"),
    "attachments": _many("Attachment"),
    "original": {"type": ["object", "null"]},
}

SCHEMAS: dict[str, Any] = {
    "Problem": _object(
        ["type", "title", "status"],
        type={"type": "string", "enum": [problems.TYPE + code for code in sorted(CODES)]},
        title={"type": "string"},
        status={"type": "integer"},
        detail={"type": "string", "description": "What to do next."},
        problems=_many("Warning"),
    ),
    "Warning": _all(
        pointer={"type": "string", "description": "JSON pointer (RFC 6901) to the field."},
        rule={"type": "string", "description": "The rule; never the value."},
    ),
    "Receipt": _all(**_RECEIPT),
    "Ladder": _all(
        recipient=_AGENCY,
        envelope_id=_UUID,
        stage={"type": "string", "enum": [one.value for one in Stage if one is not Stage.OPENED]},
        view={"type": ["array", "null"], "items": {"type": "string", "enum": list(views.GROUPS)}},
        receipts=_many("Receipt"),
    ),
    "Message": _all(
        **_HEADER,
        recalled={"type": ["string", "null"]},
        warnings=_many("Warning"),
        recipients=_many("Ladder"),
    ),
    "InboxEntry": _object(list(_INBOX), **_INBOX, **_OPENED),
    "InboxPage": _all(
        messages=_many("InboxEntry"),
        next={"type": "integer", "description": "Pass as `after` for what follows."},
    ),
    "Opened": _all(message=_ref("InboxEntry"), **_OPENED),
    "Attachment": _all(
        index={"type": "integer"},
        name={"type": "string"},
        media_type={"type": "string"},
        size={"type": "integer", "description": "Bytes."},
        sha256={"type": "string", "pattern": "^[0-9a-f]{64}$"},
        href={"type": "string"},
    ),
    "Answered": _all(message_id=_UUID, **_RECEIPT),
    "AnsweredMany": _all(messages=_many("Answered")),
    "Acknowledge": _all(message_ids={"type": "array", "items": _UUID, "minItems": 1, "maxItems": 100}),
    "Reject": _all(reason={"type": "string", "enum": sorted(one.value for one in SYSTEM_REASONS)}),
}


@cache
def document() -> dict[str, Any]:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Referral Gateway",
            "version": __version__,
            "summary": "Referrals between agencies, sealed end to end, receipted at every step.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "security": [{"token": []}],
        "paths": PATHS,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Made by `gateway token create`; bound to an agency and its permissions.",
                }
            },
            "responses": {
                "Problem": {
                    "description": "Why not, and what to do next (RFC 9457).",
                    "content": {problems.CONTENT_TYPE: {"schema": _ref("Problem")}},
                }
            },
            "schemas": SCHEMAS,
        },
    }


@cache
def _bytes() -> bytes:
    return json.dumps(document(), indent=1).encode()


async def serve(_: web.Request) -> web.Response:
    """GET /openapi.json."""
    return web.Response(body=_bytes(), content_type="application/json")
