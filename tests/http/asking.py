"""How the tests of HTTP ask: raw requests whose every answer is held to the OpenAPI document."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import jsonschema
from multidict import CIMultiDictProxy

from gateway.errors import CODES
from gateway.http import openapi
from tests.http.world import World

QUERY = {"to": "police", "purpose": "prevent", "lawful_basis": "public-task"}


@dataclass
class Answer:
    """A response, read."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of a problem document, which must be whole and say the same as the status line."""
        assert self.headers["Content-Type"].startswith("application/problem+json")
        assert self.headers["Cache-Control"] == "no-store"
        document = self.json
        matches("Problem", document)
        code = str(document["type"]).removeprefix("urn:referral-gateway:problem:")
        known = CODES[code]
        assert (self.status, document["status"]) == (known.status, known.status)
        assert (document["title"], document["detail"]) == (known.title, known.hint)
        return code

    @property
    def pointers(self) -> list[str]:
        return [one["pointer"] for one in self.json["problems"]]


def matches(name: str, value: Any) -> None:
    """Hold a value to a schema of the OpenAPI document, and allow nothing that it does not mention."""
    components = openapi.document()["components"]
    schema = {"$ref": f"#/components/schemas/{name}", "components": components}
    jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    ).validate(value)
    unknown = value.keys() - components["schemas"][name]["properties"].keys()
    assert not unknown, f"not in the document: {unknown}"


async def ask(
    world: World,
    method: str,
    path: str,
    *,
    token: str | None = "police-token",
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Answer:
    """One request on a connection of its own."""
    sent = dict(headers or {})
    if token is not None:
        sent.setdefault("Authorization", f"Bearer {token}")
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session,
        session.request(method, world.url + path, headers=sent, allow_redirects=False, **more) as response,
    ):
        return Answer(response.status, response.headers, await response.read())


async def post(
    world: World,
    *,
    query: Any = QUERY,
    headers: Mapping[str, str] | None = None,
    token: str | None = "school-token",
    data: Any = b'{"type":"referral"}',
) -> Answer:
    """POST /v1/messages."""
    standard = {"Idempotency-Key": str(uuid.uuid4())}
    if isinstance(data, bytes):
        standard["Content-Type"] = "application/json"
    both = standard | dict(headers or {})
    return await ask(world, "POST", "/v1/messages", token=token, params=query, headers=both, data=data)


def raw_post(body: bytes, *, length: int | None = None, content_type: str = "application/json") -> bytes:
    """The bytes of a POST /v1/messages, to be sent in pieces or not to the end."""
    query = "&".join(f"{name}={value}" for name, value in QUERY.items())
    head = (
        f"POST /v1/messages?{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer school-token\r\n"
        f"Idempotency-Key: {uuid.uuid4()}\r\nContent-Type: {content_type}\r\nConnection: close\r\n"
        f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
    )
    return head.encode() + body


def raw_code(raw: bytes) -> str:
    """The code of the problem document in a raw response."""
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head, raw[:200]
    document = json.loads(body)
    matches("Problem", document)
    assert int(head.split(b" ")[1]) == document["status"]
    return str(document["type"]).rpartition(":")[2]
