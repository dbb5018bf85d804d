"""The port for operators."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from gateway.http.admin import make_admin_app
from gateway.http.app import serve


class Health:
    """Ready unless told otherwise."""

    def __init__(self, store: bool = True) -> None:
        self.store = store

    def ready(self) -> tuple[bool, dict[str, bool]]:
        return self.store, {"store": self.store, "transport": True}

    def metrics(self) -> tuple[bytes, str]:
        return b"gateway_up 1\n", "text/plain; version=1.0.0; charset=utf-8"


def admin_app(store: bool = True) -> web.Application:
    return make_admin_app(Health(store))


@asynccontextmanager
async def asking(path: str, *, store: bool = True) -> AsyncIterator[aiohttp.ClientResponse]:
    server = await serve(admin_app(store), "127.0.0.1", 0)
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{server.port}{path}") as response,
        ):
            yield response
    finally:
        await server.close()


async def test_metrics_as_they_are() -> None:
    async with asking("/metrics") as response:
        assert response.headers["Content-Type"] == "text/plain; version=1.0.0; charset=utf-8"
        assert await response.read() == b"gateway_up 1\n"


@pytest.mark.parametrize("store", [True, False])
async def test_alive_is_not_ready(store: bool) -> None:
    async with asking("/healthz", store=store) as response:
        assert (response.status, await response.json()) == (200, {"ok": True})


@pytest.mark.parametrize(("store", "status"), [(True, 200), (False, 503)])
async def test_ready_names_the_part_that_is_not(store: bool, status: int) -> None:
    async with asking("/readyz", store=store) as response:
        assert response.status == status
        assert await response.json() == {"ready": store, "store": store, "transport": True}


async def test_the_api_is_not_on_this_port() -> None:
    async with asking("/v1/inbox") as response:
        assert response.status == 404
