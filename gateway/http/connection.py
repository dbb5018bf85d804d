"""One connection: what aiohttp itself would answer and log, without a word of the request in it.

Its own pages for requests it cannot parse quote the bytes that it stumbled over, and so do the exceptions it
logs. Those bytes may be part of a message.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from gateway.http import problems

KEEPALIVE = 75.0
"""Seconds that an idle connection stays open for the next request."""
LINGER = 2.0
"""Seconds that the rest of a refused body may still come, so that its sender gets to read the answer."""


class Connection(web.RequestHandler):
    """As aiohttp's, but errors are problem documents."""

    __slots__ = ()

    def __init__(self, manager: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        # No access log: paths carry identifiers. aiohttp takes None, which its annotation forgets.
        super().__init__(
            manager,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=KEEPALIVE,
            lingering_time=LINGER,
            auto_decompress=False,  # gateway.http.coding misses nothing
        )

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,  # noqa: ARG002 - aiohttp's signature; it quotes the request
        message: str | None = None,  # noqa: ARG002 - the same
    ) -> web.StreamResponse:
        """The answer to what never reached a handler. Raises ConnectionError when an answer has begun."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun; a second one cannot follow")
        response = problems.response(problems.of_status(status))
        response.headers.update(problems.SECURITY)
        response.force_close()
        return response

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer; aiohttp's own pages, for what it refused before the gate (Expect), are replaced."""
        if isinstance(resp, web.HTTPException) and resp.status >= 400:
            resp = problems.of_http(resp)
        return await super().finish_response(request, resp, start_time)

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: failures of ours are reported by the gate in app.py, the rest is the caller's."""
