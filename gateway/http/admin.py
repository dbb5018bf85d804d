"""The port for operators: /metrics, /healthz, /readyz. No personal data, no token."""

from __future__ import annotations

import json

from aiohttp import web

from gateway.http.ports import Health

_HEALTH = web.AppKey("health", Health)


def make_admin_app(health: Health) -> web.Application:
    """Build it."""
    app = web.Application()
    app[_HEALTH] = health
    app.router.add_get("/metrics", _metrics)
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/readyz", _readyz)
    return app


async def _metrics(request: web.Request) -> web.Response:
    body, content_type = request.app[_HEALTH].metrics()
    return web.Response(body=body, headers={"Content-Type": content_type})


async def _healthz(_: web.Request) -> web.Response:
    """The process runs and answers."""
    return _json({"ok": True})


async def _readyz(request: web.Request) -> web.Response:
    """Whether it can accept messages now, and if not, which part is missing."""
    ready, parts = request.app[_HEALTH].ready()
    return _json({"ready": ready, **parts}, status=200 if ready else 503)


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=json.dumps(value).encode(), content_type="application/json")
