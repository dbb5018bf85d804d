"""What handlers share: parameters, permissions, JSON answers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from aiohttp import BodyPartReader, web

from gateway.errors import RefusedByUs
from gateway.http.keys import PRINCIPAL
from gateway.http.ports import Permission
from gateway.messages import UUID4, Problem

NO_STORE = {"Cache-Control": "no-store"}
"""On every answer: nothing of a message may stay in a cache."""


def permitted(request: web.Request, permission: Permission) -> None:
    """Raises RefusedByUs("not-permitted") unless the token allows it."""
    if permission not in request[PRINCIPAL].permissions:
        raise RefusedByUs("not-permitted")


def single(request: web.Request, name: str) -> str | None:
    """A parameter that may be given once. Raises RefusedByUs."""
    values = request.query.getall(name, [])
    if len(values) > 1:
        raise RefusedByUs("bad-request", problems=[Problem(f"/query/{name}", "given once")])
    return values[0] if values else None


def header(request: web.Request | BodyPartReader, name: str) -> str | None:
    """A header that may be given once. Raises RefusedByUs."""
    values = request.headers.getall(name, [])
    if len(values) > 1:
        raise RefusedByUs("bad-request", problems=[Problem(f"/header/{name}", "given once")])
    return values[0] if values else None


def number(request: web.Request, name: str, default: int, *, most: int, least: int = 0) -> int:
    """A whole number of the query. Raises RefusedByUs."""
    value = single(request, name)
    if value is None:
        return default
    if not re.fullmatch(r"[0-9]{1,18}", value) or not least <= int(value) <= most:
        rule = f"a whole number from {least} to {most}"
        raise RefusedByUs("bad-request", problems=[Problem(f"/query/{name}", rule)])
    return int(value)


def flag(request: web.Request, name: str) -> bool:
    """A parameter that is `true` or `false`. Raises RefusedByUs."""
    value = single(request, name)
    if value not in {None, "true", "false"}:
        raise RefusedByUs("bad-request", problems=[Problem(f"/query/{name}", "true or false")])
    return value == "true"


def identifier(request: web.Request) -> str:
    """The message id of the path. Raises RefusedByUs("not-found") when it cannot be one."""
    value = request.match_info["id"]
    if not UUID4.fullmatch(value):
        raise RefusedByUs("not-found")
    return value


def answer(value: Any, *, status: int = 200, headers: Mapping[str, str] = NO_STORE) -> web.Response:
    """A JSON answer."""
    return web.Response(
        status=status,
        body=json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(),
        content_type="application/json",
        headers={**NO_STORE, **headers},
    )
