"""FHIR answers, good and bad: the format asked for, the headers mirrored, errors as BaRS OperationOutcomes.

Field and rule, never a value. The codes are those of BaRS's http-error-codes, as its own examples pair them
with a status and an issue code.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.adapters import fhir_xml
from gateway.adapters.fhir_bars import JSON, XML
from gateway.adapters.fhir_message import NOT_SUPPORTED
from gateway.errors import CODES, GatewayError, RefusedByUs
from gateway.http.inbox import accepted
from gateway.http.problems import of_status
from gateway.http.requests import NO_STORE
from gateway.messages import Problem

UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
REQUEST_ID, CORRELATION_ID = "X-Request-Id", "X-Correlation-Id"
_SYSTEM = "https://fhir.nhs.uk/Codesystem/http-error-codes"
_PROFILE = "https://fhir.hl7.org.uk/StructureDefinition/UKCore-OperationOutcome"
_FORMATS = {
    JSON: JSON,
    XML: XML,
    "application/json": JSON,
    "application/xml": XML,
    "text/xml": XML,
}
READ = frozenset(_FORMATS)
"""Content types that a message may come in."""
_ENTRY = re.compile(r"/([0-9]+)(?=/|$)")


@dataclass(frozen=True, slots=True)
class Kind:
    """How BaRS puts one kind of error."""

    status: int
    code: str
    """Of http-error-codes: SEND_ the sender's request, REC_ the message or its receiver."""
    issue: str
    """Of issue-type (FHIR R4)."""


DUPLICATE = Kind(409, "REC_CONFLICT", "duplicate")
NOT_OFFERED = Kind(501, "REC_NOT_IMPLEMENTED", "not-supported")
_EVENT = Kind(400, "REC_BAD_REQUEST", "not-supported")
_INVALID = Kind(400, "SEND_BAD_REQUEST", "invalid")
_AWAY = Kind(503, "REC_SERVICE_UNAVAILABLE", "transient")
_ALLOWED = Kind(403, "REC_FORBIDDEN", "forbidden")
_FORMAT = Kind(406, "SEND_NOT_ACCEPTABLE", "processing")
_FAULT = Kind(500, "REC_SERVER_ERROR", "exception")
KINDS: Mapping[str, Kind] = {
    "not-authenticated": Kind(401, "SEND_UNAUTHORIZED", "security"),
    "not-permitted": Kind(403, "SEND_FORBIDDEN", "forbidden"),
    "not-found": Kind(404, "REC_NOT_FOUND", "not-found"),
    "method-not-allowed": Kind(405, "SEND_METHOD_NOT_ALLOWED", "not-supported"),
    "not-acceptable": _FORMAT,
    "unsupported-format": _FORMAT,
    "request-timeout": Kind(408, "REC_TIMEOUT", "timeout"),
    "body-too-large": Kind(422, "REC_UNPROCESSABLE_ENTITY", "too-costly"),
    "incomplete-body": _INVALID,
    "bad-request": _INVALID,
    "missing-parameter": Kind(400, "SEND_BAD_REQUEST", "required"),
    "malformed-body": Kind(400, "REC_BAD_REQUEST", "invalid"),
    "unmappable-content": Kind(400, "REC_BAD_REQUEST", "invalid"),
    "invalid-content": Kind(422, "REC_UNPROCESSABLE_ENTITY", "invariant"),
    "idempotency-key-reused": Kind(409, "REC_CONFLICT", "conflict"),
    "unknown-recipient": Kind(404, "REC_NOT_FOUND", "not-found"),
    "type-not-accepted": Kind(422, "REC_UNPROCESSABLE_ENTITY", "not-supported"),
    "no-agreement": _ALLOWED,
    "agreement-not-in-force": _ALLOWED,
    "no-suitable-key": _ALLOWED,
    "rate-limited": Kind(429, "SEND_TOO_MANY_REQUESTS", "throttled"),
    "clock-unsure": _AWAY,
    "directory-expired": _AWAY,
    "outbox-full": _AWAY,
    "busy": _AWAY,
    "store-unavailable": _AWAY,
    "key-token-unavailable": _AWAY,
    "shutting-down": _AWAY,
    "internal-error": _FAULT,
}
"""What the face may answer, by the codes of gateway.errors; the rest belong to parts it does not have."""


def preferred(request: web.Request) -> str:
    """The format to answer in. Raises RefusedByUs("not-acceptable")."""
    own = _FORMATS.get(request.headers.get("Content-Type", "").partition(";")[0].strip().lower(), JSON)
    wanted = accepted(", ".join(request.headers.getall("Accept", []))) or ["*/*"]
    for media_type in wanted:
        if media_type in {"*/*", "application/*"}:
            return own
        if media_type in _FORMATS:
            return _FORMATS[media_type]
    raise RefusedByUs("not-acceptable")


def answer(request: web.Request, resource: Mapping[str, Any], *, status: int = 200) -> web.Response:
    """A resource, in the format asked for; in JSON where that is not one of ours."""
    try:
        media_type = preferred(request)
    except RefusedByUs:
        media_type = JSON
    if media_type == XML:
        body = fhir_xml.write(resource)
    else:
        body = json.dumps(resource, ensure_ascii=False, separators=(",", ":")).encode()
    mirrored = {
        name: given
        for name in (REQUEST_ID, CORRELATION_ID)
        if UUID.fullmatch(given := request.headers.get(name, ""))
    }
    headers = {**NO_STORE, "Vary": "Accept", **mirrored}
    return web.Response(status=status, body=body, content_type=media_type, charset="utf-8", headers=headers)


def refusal(request: web.Request, error: GatewayError) -> web.Response:
    """The answer to a request that failed."""
    kind = KINDS.get(error.code, _FAULT if error.status >= 500 else _INVALID)
    # /to/0 is the recipient in the terms of /v1, where there may be several.
    where = [problem.pointer.replace("/to/0", "the recipient") for problem in error.problems]
    said = [
        f"{place}: {problem.rule}".lstrip(": ") for place, problem in zip(where, error.problems, strict=True)
    ]
    if error.code == "unmappable-content" and any(NOT_SUPPORTED in one.rule for one in error.problems):
        kind = _EVENT
    places = [_path(one) if error.code == "unmappable-content" else None for one in error.problems]
    hint = f"{error.title}. {error.hint}".replace("Idempotency-Key", REQUEST_ID)
    response = answer(
        request,
        outcome(kind, said or [hint], places or [None]),
        status=kind.status,
    )
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    if kind.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def of_http(request: web.Request, error: web.HTTPException) -> web.Response:
    """The answer in place of aiohttp's own page. A path that is not served is a part of BaRS not offered."""
    if error.status == 404:
        said = "This node does not offer that part of BaRS: see GET /FHIR/R4/metadata."
        return answer(request, outcome(NOT_OFFERED, [said], [None]), status=NOT_OFFERED.status)
    response = refusal(request, of_status(error.status))
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response


def duplicate(request: web.Request) -> web.Response:
    """The answer to a request that was accepted before: its sender may take it for proof of delivery."""
    said = "The message has been identified as having already been processed."
    return answer(request, outcome(DUPLICATE, [said], [None]), status=DUPLICATE.status)


def outcome(kind: Kind, said: list[str], places: list[str | None]) -> dict[str, Any]:
    """An OperationOutcome with an issue for each thing said."""
    details = {"coding": [{"system": _SYSTEM, "code": kind.code}]}
    return {
        "resourceType": "OperationOutcome",
        "id": str(uuid.uuid4()),
        "meta": {"profile": [_PROFILE]},
        "issue": [
            {"severity": "error", "code": kind.issue, "details": details, "diagnostics": words}
            | ({"expression": [place]} if place else {})
            for words, place in zip(said, places, strict=True)
        ],
    }


def _path(problem: Problem) -> str | None:
    """A pointer into the Bundle as FHIRPath."""
    path = _ENTRY.sub(r"[\1]", problem.pointer).replace("/", ".")
    return f"Bundle{path}" if path else None


def table() -> str:
    """Every error of the face as a Markdown table, for docs/fhir.md."""
    rows = [
        (DUPLICATE, "This very request was accepted before: proof of delivery"),
        (NOT_OFFERED, "A part of BaRS that this node does not offer"),
        (_EVENT, f"{CODES['unmappable-content'].title}: a booking, or another event that is no referral's"),
        *((kind, CODES[code].title) for code, kind in KINDS.items()),
    ]
    said: dict[Kind, list[str]] = {}
    for kind, title in rows:
        said.setdefault(kind, []).append(title.replace("Idempotency-Key", REQUEST_ID))
    lines = ["| status | BaRS code | issue | when |", "|---|---|---|---|"]
    lines += [
        f"| {kind.status} | `{kind.code}` | `{kind.issue}` | {'; '.join(titles)}. |"
        for kind, titles in sorted(said.items(), key=lambda row: (row[0].status, row[0].code, row[0].issue))
    ]
    return "\n".join(lines)
