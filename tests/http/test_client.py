"""The client, towards what answers in a node's place."""

from __future__ import annotations

import pytest
from aiohttp import web

from gateway.http.client import ApiProblem, Client
from tests.road import send


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_message_does_not_follow_a_redirection(status: int) -> None:
    """Over whichever network it leads, without TLS even, to an answer that is no receipt."""
    seen: list[bytes] = []

    async def elsewhere(request: web.Request) -> web.Response:
        seen.append(await request.read())
        return web.json_response({"message_id": "x", "warnings": []}, status=202)

    async def redirected(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": f"/elsewhere{request.path}"})

    app = web.Application()
    app.router.add_route("*", "/elsewhere/{rest:.*}", elsewhere)
    app.router.add_route("*", "/{rest:.*}", redirected)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    client = Client(f"http://{host}:{port}", "token")
    try:
        with pytest.raises(ApiProblem) as refused:
            await send(client)
        assert refused.value.status == status
        assert not seen
    finally:
        await client.close()
        await runner.cleanup()
