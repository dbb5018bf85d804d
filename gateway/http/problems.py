"""Problem documents (RFC 9457): the only shape an error takes over HTTP. Field and rule, never a value."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from gateway.errors import CODES, GatewayError

TYPE = "urn:referral-gateway:problem:"
"""Prefix of every problem type; the code follows."""
CONTENT_TYPE = "application/problem+json"
SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Server": "referral-gateway",
}
"""On every answer, good or bad."""

_BY_STATUS = {
    400: "bad-request",
    404: "not-found",
    405: "method-not-allowed",
    408: "request-timeout",
    411: "bad-request",
    413: "body-too-large",
    417: "bad-request",
}
"""Codes for what aiohttp itself refuses."""


def document(error: GatewayError) -> dict[str, Any]:
    """The problem document of an error."""
    body: dict[str, Any] = {
        "type": TYPE + error.code,
        "title": error.title,
        "status": error.status,
        "detail": error.hint,
    }
    if error.problems:
        body["problems"] = [{"pointer": one.pointer, "rule": one.rule} for one in error.problems]
    return body


def response(error: GatewayError) -> web.Response:
    """The answer to a request that failed."""
    answer = web.Response(
        status=error.status,
        body=json.dumps(document(error)).encode(),
        content_type=CONTENT_TYPE,
        headers={"Cache-Control": "no-store"},
    )
    if error.retry_after is not None:
        answer.headers["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def of_http(error: web.HTTPException) -> web.Response:
    """The answer in place of aiohttp's own page."""
    answer = response(of_status(error.status))
    if "Allow" in error.headers:
        answer.headers["Allow"] = error.headers["Allow"]
    return answer


def of_status(status: int) -> GatewayError:
    """The error that stands for a status aiohttp chose."""
    return GatewayError(_BY_STATUS.get(status, "bad-request" if status < 500 else "internal-error"))


def table() -> str:
    """Every problem type as a Markdown table, for docs/api.md."""
    lines = ["| code | status | meaning | what to do |", "|---|---|---|---|"]
    lines += [
        f"| `{code}` | {one.status} | {one.title}. | {one.hint} |" for code, one in sorted(CODES.items())
    ]
    return "\n".join(lines)
