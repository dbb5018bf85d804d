"""A small client of the API, for the command line, the demo and the tests."""

from __future__ import annotations

import contextlib
import io
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from gateway.adapters.base import Native
from gateway.messages import Problem
from gateway.tls import web_context

TIMEOUT = 120.0
"""Seconds for one request, attachments included."""


@dataclass(frozen=True, slots=True)
class File:
    """An attachment to send."""

    name: str = field(repr=False)
    media_type: str
    body: bytes | AsyncIterator[bytes] = field(repr=False)
    digest: str = ""
    """A Content-Digest field (RFC 9530), or nothing."""


class ApiProblem(Exception):
    """The API answered with a problem document."""

    def __init__(self, document: dict[str, Any], status: int, retry_after: int | None) -> None:
        self.code = str(document.get("type", "")).rpartition(":")[2] or "unknown"
        super().__init__(self.code)
        self.status = status
        self.title = str(document.get("title", ""))
        self.hint = str(document.get("detail", ""))
        self.problems = tuple(Problem(one["pointer"], one["rule"]) for one in document.get("problems", ()))
        self.retry_after = retry_after
        """Seconds."""


class Unreachable(Exception):
    """The node did not answer."""


class Client:
    """One local system's view of its node."""

    def __init__(self, url: str, token: str, *, timeout: float = TIMEOUT) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()

    async def send(  # noqa: PLR0913 - one for each parameter of the API
        self,
        body: bytes,
        *,
        media_type: str,
        to: Sequence[str],
        purpose: str,
        lawful_basis: str,
        idempotency_key: str,
        adapter: str | None = None,
        case: str | None = None,
        in_reply_to: str | None = None,
        expires_in: int | None = None,
        attachments: Sequence[File] = (),
    ) -> dict[str, Any]:
        """Send a message. Raises ApiProblem or Unreachable."""
        parameters = [("to", one) for one in to]
        optional = {"adapter": adapter, "case": case, "in_reply_to": in_reply_to, "expires_in": expires_in}
        parameters += [("purpose", purpose), ("lawful_basis", lawful_basis)]
        parameters += [(name, str(value)) for name, value in optional.items() if value is not None]
        headers = {"Idempotency-Key": idempotency_key}
        data: io.BytesIO | aiohttp.MultipartWriter = io.BytesIO(body)
        if attachments:
            data = _form(body, media_type, attachments)
        else:
            headers["Content-Type"] = media_type
        async with self._ask("POST", "/v1/messages", params=parameters, headers=headers, data=data) as answer:
            return dict(await answer.json())

    async def status(self, message_id: str) -> dict[str, Any]:
        """The ladder so far."""
        return await self._json("GET", f"/v1/messages/{message_id}")

    async def recall(self, message_id: str) -> dict[str, Any]:
        """Ask for a message back; its ladder so far."""
        return await self._json("POST", f"/v1/messages/{message_id}/recall")

    async def inbox(
        self, *, after: int = 0, limit: int = 50, wait: int = 0, content: bool = False
    ) -> dict[str, Any]:
        """A page of the inbox; with `wait` (seconds), a long poll."""
        parameters = {"after": after, "limit": limit, "wait": wait, "content": "true" if content else "false"}
        return await self._json("GET", "/v1/inbox", params=parameters)

    async def open(self, message_id: str, accept: str = "application/json") -> Native:
        """One message in the format asked for."""
        path = f"/v1/inbox/{message_id}"
        async with self._ask("GET", path, headers={"Accept": accept}) as answer:
            return Native(answer.content_type, await answer.read())

    async def original(self, message_id: str) -> Native:
        """What the sender's system wrote."""
        async with self._ask("GET", f"/v1/inbox/{message_id}/original") as answer:
            return Native(answer.content_type, await answer.read())

    async def attachment(self, message_id: str, index: int) -> AsyncIterator[bytes]:
        """Stream an attachment. Raises Unreachable when it is cut short."""
        async with self._ask("GET", f"/v1/inbox/{message_id}/attachments/{index}") as answer:
            async for piece in answer.content.iter_any():
                yield piece

    async def ack(self, message_ids: Sequence[str]) -> dict[str, Any]:
        """Acknowledge messages, all or none."""
        return await self._json("POST", "/v1/inbox/ack", json={"message_ids": list(message_ids)})

    async def reject(self, message_id: str, *, reason: str) -> dict[str, Any]:
        """Reject a message."""
        return await self._json("POST", f"/v1/inbox/{message_id}/reject", json={"reason": reason})

    async def _json(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        async with self._ask(method, path, **arguments) as answer:
            return dict(await answer.json())

    @contextlib.asynccontextmanager
    async def _ask(self, method: str, path: str, **arguments: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=web_context()), timeout=self._timeout
            )
        headers = self._headers | arguments.pop("headers", {})
        try:
            # A redirection would carry the message, in clear, to wherever it points: our API knows none.
            async with self._session.request(
                method, self._url + path, headers=headers, allow_redirects=False, **arguments
            ) as answer:
                if answer.status >= 300:
                    raise await _problem(answer)
                yield answer
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            raise Unreachable from None


async def _problem(answer: aiohttp.ClientResponse) -> ApiProblem:
    try:
        document = await answer.json(content_type=None)
    except ValueError:
        document = None
    retry_after = answer.headers.get("Retry-After", "")
    return ApiProblem(
        document if isinstance(document, dict) else {},
        answer.status,
        int(retry_after) if retry_after.isdigit() else None,
    )


def _form(body: bytes, media_type: str, attachments: Sequence[File]) -> aiohttp.MultipartWriter:
    form = aiohttp.MultipartWriter("form-data")
    first = form.append(io.BytesIO(body), {"Content-Type": media_type})
    first.set_content_disposition("form-data", name="message")
    for one in attachments:
        headers = {"Content-Type": one.media_type} | ({"Content-Digest": one.digest} if one.digest else {})
        part = form.append(io.BytesIO(one.body) if isinstance(one.body, bytes) else one.body, headers)
        # RFC 7578 section 4.2: the name as it is, in UTF-8; what aiohttp would percent-encode nobody decodes.
        part.set_content_disposition("form-data", quote_fields=False, name="attachment", filename=one.name)
    return form
