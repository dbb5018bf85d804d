"""The mailbox API of NHS MESH beside our own (docs/mesh.md): routes, and what every request passes.

MESH API version 2.0.0, OpenAPI of NHS England.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.errors import GatewayError, Unavailable
from gateway.http import mesh_inbox, mesh_outbox, mesh_tracking, problems
from gateway.http.limits import InFlight, RateLimit
from gateway.http.mesh_errors import MeshRefusal, refusal
from gateway.http.mesh_keys import MAILBOX, MESH, Mesh

ROOT = "/messageexchange"
_BOX = ROOT + "/{mailbox_id}"
MESH_ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", f"{ROOT}/endpointlookup/{{ods_code}}/{{workflow_id}}", mesh_tracking.look_up),
    ("GET", f"{ROOT}/workflowsearch/{{workflow_id}}", mesh_tracking.search_workflow),
    ("POST", _BOX, mesh_tracking.handshake),
    ("GET", _BOX, mesh_tracking.handshake),
    ("GET", f"{_BOX}/inbox", mesh_inbox.list_messages),
    ("GET", f"{_BOX}/count", mesh_inbox.count_messages),
    ("GET", f"{_BOX}/inbox/{{message_id}}", mesh_inbox.get_message),
    ("HEAD", f"{_BOX}/inbox/{{message_id}}", mesh_inbox.head_message),
    ("GET", f"{_BOX}/inbox/{{message_id}}/{{chunk_number}}", mesh_inbox.get_message),
    ("PUT", f"{_BOX}/inbox/{{message_id}}/status/acknowledged", mesh_inbox.acknowledge),
    ("POST", f"{_BOX}/outbox", mesh_outbox.send),
    ("GET", f"{_BOX}/outbox/tracking", mesh_tracking.track),
    ("GET", f"{_BOX}/outbox/tracking/{{local_id}}", mesh_tracking.track_local_id),
    ("POST", f"{_BOX}/outbox/{{message_id}}/{{chunk_number}}", mesh_outbox.send_chunk),
)
"""What needs a token of a mailbox."""
PING = f"{ROOT}/_ping"
_BROKEN_OFF = {"incomplete-body", "request-timeout"}
"""The request never came to its end."""


def mount(app: web.Application, mesh: Mesh, on_error: Callable[[Exception], None]) -> None:
    """Serve MESH in this application."""
    app[MESH] = mesh
    gate = _Gate(mesh, on_error)
    app.router.add_route("GET", PING, gate.open(mesh_tracking.ping))
    for method, path, handler in MESH_ROUTES:
        app.router.add_route(method, path, gate.closed(handler))
    app.router.add_route("*", ROOT + "/{tail:.*}", gate.open(mesh_tracking.nothing_here))


class _Gate:
    """Who, how many, how often; and errors as MESH writes them."""

    def __init__(self, mesh: Mesh, on_error: Callable[[Exception], None]) -> None:
        self._mesh = mesh
        self._on_error = on_error
        self._in_flight = InFlight(mesh.limits.requests)
        self._rate = RateLimit(mesh.limits.rate, mesh.limits.burst)

    def open(self, handler: Handler) -> Handler:
        """For anybody."""

        async def passed(request: web.Request) -> web.StreamResponse:
            return await self._pass(request, handler)

        return passed

    def closed(self, handler: Handler) -> Handler:
        """For a mailbox served here that proves itself."""

        async def admitted(request: web.Request) -> web.StreamResponse:
            given = request.headers.getall("Authorization", [])
            wanted = request.match_info.get("mailbox_id")
            auth, records = self._mesh.auth, self._mesh.records
            name, token = await auth.authenticate(given[0] if len(given) == 1 else None, wanted)
            request[MAILBOX] = self._mesh.tables.own[name]
            try:
                self._rate.admit(name, time.monotonic())
                with self._in_flight:
                    return await handler(request)
            except GatewayError as error:
                if isinstance(error, Unavailable) or error.code in _BROKEN_OFF:
                    # Clients repeat such a request as it was, with its token.
                    with contextlib.suppress(Unavailable):
                        await records.free(token)
                raise

        return self.open(admitted)

    async def _pass(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except (MeshRefusal, GatewayError) as error:
            return refusal(request, error)
        except web.HTTPException as error:
            return refusal(request, problems.of_status(error.status))
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - the last resort: no traceback reaches a caller
            self._on_error(error)
            return refusal(request, GatewayError("internal-error"))
