"""POST /v1/messages, GET /v1/messages/{id} and POST /v1/messages/{id}/recall."""

from __future__ import annotations

import re

from aiohttp import web

from gateway.errors import RefusedByUs
from gateway.http import render
from gateway.http.bodies import read_message
from gateway.http.keys import LIMITS, PRINCIPAL, SENDING
from gateway.http.ports import Permission, Submission
from gateway.http.requests import answer, header, identifier, permitted, single
from gateway.messages import AGENCY_ID, UUID4, AgencyId, CaseId, MessageId, Problem

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
MAX_RECIPIENTS = 20
MAX_LIFETIME = 30 * 86400
"""Seconds."""
_PARAMETERS = {"to", "purpose", "lawful_basis", "adapter", "case", "in_reply_to", "expires_in"}


async def post_message(request: web.Request) -> web.Response:
    """Take a message: 202 once it is durable."""
    permitted(request, Permission.SEND)
    app = request.app
    key = _idempotency_key(request)
    sender = request[PRINCIPAL].agency
    submission = _parameters(request)
    body, uploads = await read_message(request, app[LIMITS])
    status = await app[SENDING].submit(
        Submission(
            sender=sender,
            idempotency_key=key,
            body=body,
            adapter=single(request, "adapter"),
            recipients=_recipients(request),
            purpose=submission["purpose"],
            lawful_basis=submission["lawful_basis"],
            case=_case(request),
            in_reply_to=_reply(request),
            expires_in=_expires_in(request),
        ),
        uploads,
    )
    return answer(
        render.status(status), status=202, headers={"Location": f"/v1/messages/{status.message_id}"}
    )


async def get_message(request: web.Request) -> web.Response:
    """The receipt ladder so far."""
    permitted(request, Permission.SEND)
    status = await request.app[SENDING].status(request[PRINCIPAL].agency, MessageId(identifier(request)))
    return answer(render.status(status))


async def recall_message(request: web.Request) -> web.Response:
    """Ask for a message back: 202, the receipts will say what came of it."""
    permitted(request, Permission.SEND)
    status = await request.app[SENDING].recall(request[PRINCIPAL].agency, MessageId(identifier(request)))
    return answer(render.status(status), status=202)


def _parameters(request: web.Request) -> dict[str, str]:
    """Check the query as a whole, so that one answer lists all that is wrong with it."""
    problems = [
        Problem(f"/query/{name}", "required")
        for name in ("to", "purpose", "lawful_basis")
        if not request.query.get(name)
    ]
    if problems:
        raise RefusedByUs("missing-parameter", problems=problems)
    if not _PARAMETERS.issuperset(request.query):
        raise RefusedByUs("bad-request", problems=[Problem("/query", "no other parameters are allowed here")])
    return {name: single(request, name) or "" for name in ("purpose", "lawful_basis")}


def _idempotency_key(request: web.Request) -> str:
    """The key, bare or as the quoted string of draft-ietf-httpapi-idempotency-key-header."""
    key = header(request, "Idempotency-Key") or ""
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not _KEY.fullmatch(key):
        raise RefusedByUs("idempotency-key-required")
    return key


def _recipients(request: web.Request) -> tuple[AgencyId, ...]:
    """One parameter for each recipient, or one with commas."""
    named = [part.strip() for value in request.query.getall("to") for part in value.split(",")]
    if len(named) > MAX_RECIPIENTS or len(set(named)) != len(named):
        rule = f"at most {MAX_RECIPIENTS} recipients, each once"
        raise RefusedByUs("bad-request", problems=[Problem("/query/to", rule)])
    for i, name in enumerate(named):
        if not AGENCY_ID.fullmatch(name):
            raise RefusedByUs("unknown-recipient", problems=[Problem(f"/to/{i}", "an agency identifier")])
    return tuple(map(AgencyId, named))


def _uuid(request: web.Request, name: str) -> str | None:
    value = single(request, name)
    if value is not None and not UUID4.fullmatch(value):
        raise RefusedByUs("bad-request", problems=[Problem(f"/query/{name}", "format: uuid, version 4")])
    return value


def _case(request: web.Request) -> CaseId | None:
    value = _uuid(request, "case")
    return CaseId(value) if value else None


def _reply(request: web.Request) -> MessageId | None:
    value = _uuid(request, "in_reply_to")
    return MessageId(value) if value else None


def _expires_in(request: web.Request) -> int | None:
    value = single(request, "expires_in")
    if value is None:
        return None
    if not re.fullmatch(r"[0-9]{1,7}", value) or not 1 <= int(value) <= MAX_LIFETIME:
        rule = f"a whole number of seconds from 1 to {MAX_LIFETIME}"
        raise RefusedByUs("bad-request", problems=[Problem("/query/expires_in", rule)])
    return int(value)
