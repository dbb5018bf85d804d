"""The operations of the API, as OpenAPI path items. Tests hold them to the routes of app.py."""

from __future__ import annotations

from typing import Any

from gateway.messages import UUID4, LawfulBasis, Purpose


def _parameter(
    name: str, where: str, description: str, schema: dict[str, Any], **more: Any
) -> dict[str, Any]:
    return {"name": name, "in": where, "description": description, "schema": schema, **more}


def _query(name: str, description: str, schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return _parameter(name, "query", description, schema, **more)


def _json(name: str, description: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{name}"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _operation(name: str, summary: str, answers: dict[str, Any], **more: Any) -> dict[str, Any]:
    problem = {"$ref": "#/components/responses/Problem"}
    return {"operationId": name, "summary": summary, "responses": {**answers, "default": problem}, **more}


def _body(name: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{name}"}
    return {"required": True, "content": {"application/json": {"schema": schema}}}


_UUID = {"type": "string", "pattern": f"^{UUID4.pattern}$"}
_TEXT = {"type": "string"}
_ID = _parameter("id", "path", "The message id.", _UUID, required=True)
_BINARY = {"schema": {"type": "string", "contentEncoding": "binary"}}

_SEND = [
    _query(
        "to",
        "Recipient agency; repeat it (or use commas) for several.",
        {"type": "array", "items": _TEXT},
        required=True,
    ),
    _query(
        "purpose",
        "Why it is shared.",
        {"type": "string", "enum": [one.value for one in Purpose]},
        required=True,
    ),
    _query(
        "lawful_basis",
        "On which lawful basis.",
        {"type": "string", "enum": [one.value for one in LawfulBasis]},
        required=True,
    ),
    _query("adapter", "Names the format where Content-Type does not settle it.", _TEXT),
    _query("case", "The case this belongs to; a fresh one if absent.", _UUID),
    _query("in_reply_to", "The message this answers.", _UUID),
    _query(
        "expires_in",
        "Seconds until a message nobody collected becomes `expired`.",
        {"type": "integer", "minimum": 1, "maximum": 2_592_000},
    ),
    _parameter(
        "Idempotency-Key",
        "header",
        "A fresh random key for each new message, the same key for each retry.",
        {"type": "string", "minLength": 1, "maxLength": 255},
        required=True,
    ),
]

PATHS: dict[str, Any] = {
    "/v1/messages": {
        "post": _operation(
            "sendMessage",
            "Send a message",
            {"202": _json("Message", "Sealed, durable, on its way; Location points at its status.")},
            description=(
                "The body is the message in any format the node's adapters read, chosen by Content-Type."
                " With attachments it is multipart/form-data: first a part `message` with the message's own"
                " Content-Type, then parts `attachment`, each with a filename and, if wanted, Content-Digest"
                " (RFC 9530), which is checked. 100 MiB in total; they are streamed."
            ),
            parameters=_SEND,
            requestBody={
                "required": True,
                "content": {
                    "application/json": {"schema": {"type": "object"}},
                    "application/fhir+json": {"schema": {"type": "object"}},
                    "application/fhir+xml": _BINARY,
                    "multipart/form-data": {"schema": {"type": "object", "required": ["message"]}},
                },
            },
        )
    },
    "/v1/messages/{id}": {
        "get": _operation(
            "getMessage",
            "See how far a message has come",
            {"200": _json("Message", "The ladder of every recipient, with the signed receipts.")},
            parameters=[_ID],
        )
    },
    "/v1/messages/{id}/recall": {
        "post": _operation(
            "recallMessage",
            "Ask for a message back that has not been delivered",
            {"202": _json("Message", "Asked. The recipient's receipt says what came of it.")},
            description=(
                "A recipient that has not acknowledged the message drops it and answers `rejected` with the"
                " reason `recalled`; one that has, answers `delivered`. Repeating it changes nothing."
            ),
            parameters=[_ID],
        )
    },
    "/v1/inbox": {
        "get": _operation(
            "listInbox",
            "List what waits for your agency",
            {"200": _json("InboxPage", "Oldest first. Empty when nothing came within `wait`.")},
            parameters=[
                _query("after", "Cursor: `next` of the page before.", {"type": "integer", "minimum": 0}),
                _query(
                    "limit", "Most messages in the page.", {"type": "integer", "minimum": 1, "maximum": 100}
                ),
                _query(
                    "wait",
                    "Seconds to wait for a first one.",
                    {"type": "integer", "minimum": 0, "maximum": 60},
                ),
                _query("content", "`true` puts each message's content into the page.", {"type": "boolean"}),
            ],
        )
    },
    "/v1/inbox/ack": {
        "post": _operation(
            "acknowledgeMany",
            "Acknowledge several messages, all or none",
            {"200": _json("AnsweredMany", "Each is `delivered`, with the receipt that says so.")},
            requestBody=_body("Acknowledge"),
        )
    },
    "/v1/inbox/{id}": {
        "get": _operation(
            "openMessage",
            "Open a message in the format you ask for (Accept)",
            {
                "200": {
                    "description": "application/json is canonical; an adapter writes any other format.",
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/Opened"}},
                        "application/fhir+json": {"schema": {"type": "object"}},
                        "application/fhir+xml": _BINARY,
                    },
                }
            },
            parameters=[_ID],
        )
    },
    "/v1/inbox/{id}/original": {
        "get": _operation(
            "getOriginal",
            "Get what the sender's system wrote, byte for byte",
            {"200": {"description": "In the sender's own format.", "content": {"*/*": _BINARY}}},
            parameters=[_ID],
        )
    },
    "/v1/inbox/{id}/attachments/{index}": {
        "get": _operation(
            "getAttachment",
            "Stream an attachment",
            {"200": {"description": "Content-Digest carries its SHA-256.", "content": {"*/*": _BINARY}}},
            parameters=[
                _ID,
                _parameter("index", "path", "From 0.", {"type": "integer", "minimum": 0}, required=True),
            ],
        )
    },
    "/v1/inbox/{id}/ack": {
        "post": _operation(
            "acknowledge",
            "Acknowledge a message: it is `delivered`",
            {"200": _json("Answered", "With the receipt that says so. Repeating it gives the same answer.")},
            parameters=[_ID],
        )
    },
    "/v1/inbox/{id}/reject": {
        "post": _operation(
            "reject",
            "Reject a message, with a reason code",
            {"200": _json("Answered", "With the receipt that says so.")},
            parameters=[_ID],
            requestBody=_body("Reject"),
        )
    },
}
