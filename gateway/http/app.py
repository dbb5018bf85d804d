"""The API as an aiohttp application: routes, one middleware, one way to serve it."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.errors import GatewayError, RefusedByUs
from gateway.http import (
    fhir_face,
    fhir_outcome,
    inbox,
    mesh_face,
    openapi,
    page,
    problems,
    submissions,
)
from gateway.http.connection import Connection
from gateway.http.fhir_routing import Addressing
from gateway.http.keys import FHIR, LIMITS, PRINCIPAL, RECEIVING, SENDING
from gateway.http.limits import InFlight, Limits, RateLimit
from gateway.http.mesh_keys import Mesh
from gateway.http.ports import Authenticator, Receiving, Sending

Observe = Callable[[str, str, int, float], None]
"""Method, route template, status, seconds."""
OnError = Callable[[Exception], None]

SHUTDOWN = 10.0
"""Seconds that requests under way get to finish when the node stops."""
BACKLOG = 128
"""Connections that wait to be taken."""

ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/v1/messages", submissions.post_message),
    ("GET", "/v1/messages/{id}", submissions.get_message),
    ("POST", "/v1/messages/{id}/recall", submissions.recall_message),
    ("GET", "/v1/inbox", inbox.list_inbox),
    ("POST", "/v1/inbox/ack", inbox.ack_many),
    ("GET", "/v1/inbox/{id}", inbox.open_message),
    ("GET", "/v1/inbox/{id}/original", inbox.original),
    ("GET", "/v1/inbox/{id}/attachments/{index}", inbox.attachment),
    ("POST", "/v1/inbox/{id}/ack", inbox.ack),
    ("POST", "/v1/inbox/{id}/reject", inbox.reject),
)
"""The API proper: needs a token, counts against the limits, stands in the OpenAPI document."""


def make_app(
    *,
    sending: Sending,
    receiving: Receiving,
    authenticator: Authenticator,
    limits: Limits,
    observe: Observe = lambda method, route, status, seconds: None,
    on_error: OnError = lambda error: None,
    fhir: Addressing | None = None,
    mesh: Mesh | None = None,
) -> web.Application:
    """Build the API over the node's services; with `fhir` and `mesh`, these faces beside it."""
    faces = ("/v1/", fhir_face.PREFIX) if fhir is not None else ("/v1/",)
    app = web.Application(middlewares=[_Gate(authenticator, limits, observe, on_error, faces).middleware])
    app[SENDING], app[RECEIVING], app[LIMITS] = sending, receiving, limits
    app.on_response_prepare.append(_finish)
    for method, path, handler in ROUTES:
        app.router.add_route(method, path, handler)
    if fhir is not None:
        app[FHIR] = fhir
        for method, path, handler in fhir_face.ROUTES:
            app.router.add_route(method, path, handler)
    app.router.add_get("/openapi.json", openapi.serve)
    app.router.add_get("/docs", page.serve)
    app.router.add_get("/", _to_docs)
    if mesh is not None:
        mesh_face.mount(app, mesh, on_error)
    return app


class _Gate:
    """Every request passes here: who, how many, how long, and problem documents for whatever fails."""

    def __init__(
        self,
        authenticator: Authenticator,
        limits: Limits,
        observe: Observe,
        on_error: OnError,
        faces: tuple[str, ...],
    ) -> None:
        self._authenticator = authenticator
        self._in_flight = InFlight(limits.requests)
        self._rate = RateLimit(limits.rate, limits.burst)
        self._observe = observe
        self._on_error = on_error
        self._faces = faces

    @property
    def middleware(self) -> Middleware:
        """As aiohttp wants it."""

        @web.middleware
        async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._pass(request, handler)

        return gate

    async def _pass(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.perf_counter()
        response = await self._answer(request, handler)
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "other"
        self._observe(request.method, route, response.status, time.perf_counter() - started)
        return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if not request.path.startswith(self._faces):
                return await handler(request)
            self._admit(request)
            if request.method == "GET" and request.path == "/v1/inbox":
                return await handler(request)  # a long poll only waits: it takes no place
            with self._in_flight:
                return await handler(request)
        except GatewayError as error:
            return self._refusal(request, error)
        except web.HTTPException as error:
            if error.status < 400:
                raise
            return self._refusal(request, error)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - the last resort: no traceback reaches a caller
            self._on_error(error)
            return self._refusal(request, GatewayError("internal-error"))

    def _refusal(self, request: web.Request, error: GatewayError | web.HTTPException) -> web.Response:
        """In the form of the face that was asked: an OperationOutcome, or a problem document."""
        if fhir_face.PREFIX in self._faces and request.path.startswith(fhir_face.PREFIX):
            if isinstance(error, GatewayError):
                return fhir_outcome.refusal(request, error)
            return fhir_outcome.of_http(request, error)
        return problems.response(error) if isinstance(error, GatewayError) else problems.of_http(error)

    def _admit(self, request: web.Request) -> None:
        given = request.headers.getall("Authorization", [])
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        principal = self._authenticator.authenticate(token.strip()) if scheme.lower() == "bearer" else None
        if principal is None:
            raise RefusedByUs("not-authenticated")
        request[PRINCIPAL] = principal
        self._rate.admit(principal.token_id, time.monotonic())


async def _finish(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(problems.SECURITY)


async def _to_docs(_: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("/docs")


@dataclass(slots=True)
class Server:
    """A listening application."""

    port: int
    _listener: asyncio.Server
    _runner: web.AppRunner

    async def close(self) -> None:
        """Take no new connections, let requests under way finish (bounded), then close."""
        self._listener.close()
        await self._runner.cleanup()


async def serve(
    app: web.Application,
    host: str,
    port: int,
    *,
    shutdown: float = SHUTDOWN,
    tls: ssl.SSLContext | None = None,
) -> Server:
    """Listen, over TLS if told how. Raises OSError."""
    loop = asyncio.get_running_loop()
    runner = web.AppRunner(app, shutdown_timeout=shutdown)
    await runner.setup()
    manager = runner.server
    assert manager is not None
    try:
        listener = await loop.create_server(
            lambda: Connection(manager, loop), host, port, backlog=BACKLOG, ssl=tls
        )
    except OSError:
        await runner.cleanup()
        raise
    return Server(int(listener.sockets[0].getsockname()[1]), listener, runner)
