"""The requests a node makes itself: a POST to an agency's own server, bounded in every way.

Redirects are not followed, proxies of the environment not used, cookies not kept, bodies read up to LARGEST
and never logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import aiohttp

LARGEST: Final = 64 * 1024
"""Bytes of an answer's body that are read."""
BODY_TIME: Final = 5.0
"""Seconds for that, once the status is known."""
CONNECT_TIME: Final = 10.0
"""Seconds to connect, TLS included."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said."""

    status: int
    retry_after: str | None
    body: bytes = field(repr=False)
    """The beginning of it."""


class NoAnswer(Exception):
    """The server said nothing: not reachable, not who it should be, or not in time."""

    def __init__(self, *, late: bool) -> None:
        super().__init__()
        self.late = late


class PushClient:
    """Connections to one destination."""

    def __init__(self, url: str, tls: ssl.SSLContext, *, timeout: float, connections: int) -> None:
        """`timeout`: seconds until the status must be known."""
        self._url = url
        self._tls = tls
        self._timeout = aiohttp.ClientTimeout(total=timeout + BODY_TIME, sock_connect=CONNECT_TIME)
        self._seconds = timeout
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def post(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send it once. Raises NoAnswer."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls, limit=self._connections),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=self._timeout,
                auto_decompress=False,
            )
        try:
            async with asyncio.timeout(self._seconds):
                answer = await self._session.post(
                    self._url, data=io.BytesIO(body), headers=dict(headers), allow_redirects=False
                )
        except TimeoutError:
            raise NoAnswer(late=True) from None
        except (aiohttp.ClientError, ConnectionError, OSError, ValueError):
            raise NoAnswer(late=False) from None
        try:
            return Answer(answer.status, answer.headers.get("Retry-After"), await _beginning(answer))
        finally:
            answer.close() if not answer.content.at_eof() else answer.release()

    async def close(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()


async def _beginning(answer: aiohttp.ClientResponse) -> bytes:
    """As much of the body as is of interest; the status counts, whatever becomes of the body."""
    found = b""
    with contextlib.suppress(TimeoutError, aiohttp.ClientError, ConnectionError):
        async with asyncio.timeout(BODY_TIME):
            while len(found) < LARGEST and (piece := await answer.content.read(LARGEST - len(found))):
                found += piece
    return found
