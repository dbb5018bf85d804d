"""What every request passes: tokens, limits, problem documents; and that no answer repeats the request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from gateway.errors import CODES, GatewayError, RefusedByUs, Unavailable
from gateway.http.app import ROUTES, serve
from gateway.http.limits import Limits, RateLimit
from gateway.messages import Problem
from tests.http.asking import ask, post, raw_code, raw_post
from tests.http.world import World, serving

ID = "0f8fad5b-d9cb-469f-a165-70867728950e"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving() as world:
        yield world


# Who


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Bearer canary", "Basic school-token", "x"]
)
@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in ROUTES])
async def test_nothing_without_a_token(world: World, method: str, path: str, header: str | None) -> None:
    path = path.replace("{id}", ID).replace("{index}", "0")
    headers = {} if header is None else {"Authorization": header}
    answer = await ask(world, method, path, token=None, headers=headers)
    assert answer.code == "not-authenticated"
    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_two_tokens_are_no_token(world: World) -> None:
    raw = raw_post(b"{}").replace(b"Host: x\r\n", b"Host: x\r\nAuthorization: Bearer police-token\r\n")
    assert raw_code(await world.talk(raw)) == "not-authenticated"


async def test_the_scheme_is_read_in_any_case(world: World) -> None:
    headers = {"Authorization": "bEARER  police-token"}
    assert (await ask(world, "GET", "/v1/inbox", token=None, headers=headers)).status == 200


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in ROUTES])
async def test_a_token_does_what_it_is_for(world: World, method: str, path: str) -> None:
    wrong = "only-receives" if path.startswith("/v1/messages") else "only-sends"
    path = path.replace("{id}", ID).replace("{index}", "0")
    assert (await ask(world, method, path, token=wrong)).code == "not-permitted"


# How many


async def test_over_its_rate_a_token_waits_and_others_do_not() -> None:
    async with serving(Limits(rate=0.01, burst=2)) as world:
        for _ in range(2):
            assert (await ask(world, "GET", "/v1/inbox")).status == 200
        answer = await ask(world, "GET", "/v1/inbox")
        assert answer.code == "rate-limited"
        assert 1 <= int(answer.headers["Retry-After"]) <= 100
        assert (await ask(world, "GET", "/v1/inbox", token="school-token")).status == 200


def test_a_bucket_fills_again_and_not_beyond_its_brim() -> None:
    limit = RateLimit(rate=2.0, burst=3.0)
    for _ in range(3):
        limit.admit("a", 100.0)
    with pytest.raises(Unavailable) as refused:
        limit.admit("a", 100.0)
    assert refused.value.retry_after == 1
    limit.admit("a", 100.5)
    for _ in range(3):
        limit.admit("a", 9999.0)
    with pytest.raises(Unavailable):
        limit.admit("a", 9999.0)


async def test_over_its_limit_the_node_says_busy_and_long_polls_take_no_place() -> None:
    async with serving(Limits(requests=1)) as world:
        world.node.hold = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            first = group.create_task(post(world))
            await world.node.polling.wait()
            answer = await post(world)
            assert answer.code == "busy"
            assert int(answer.headers["Retry-After"]) > 0
            assert (await ask(world, "GET", "/v1/inbox")).status == 200
            world.node.hold.set()
        assert first.result().status == 202
        assert (await post(world)).status == 202


async def test_requests_under_way_are_finished_when_the_node_stops(world: World) -> None:
    world.node.hold = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        request = group.create_task(post(world))
        await world.node.polling.wait()
        stop = group.create_task(world.server.close())
        await asyncio.sleep(0)
        assert not stop.done()
        world.node.hold.set()
    assert request.result().status == 202


# What goes wrong


@pytest.mark.parametrize("code", sorted(CODES))
async def test_every_code_has_its_document(world: World, code: str) -> None:
    world.node.fail = GatewayError(code, problems=[Problem("/a/0", "a rule")], retry_after=7)
    answer = await ask(world, "GET", "/v1/inbox")
    assert answer.code == code
    assert answer.json["problems"] == [{"pointer": "/a/0", "rule": "a rule"}]
    assert answer.headers["Retry-After"] == "7"


@pytest.mark.parametrize("code", [code for code, known in CODES.items() if known.status in {429, 503}])
async def test_whoever_must_wait_is_told_how_long(world: World, code: str) -> None:
    world.node.fail = Unavailable(code)
    assert int((await ask(world, "GET", "/v1/inbox")).headers["Retry-After"]) > 0


async def test_a_problem_without_particulars_lists_none(world: World) -> None:
    world.node.fail = RefusedByUs("expired")
    answer = await ask(world, "GET", "/v1/inbox")
    assert "problems" not in answer.json
    assert "Retry-After" not in answer.headers


async def test_a_failure_of_ours_says_nothing_of_itself(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    world.node.fail = KeyError("canary")
    answer = await ask(world, "GET", "/v1/inbox")
    assert answer.code == "internal-error"
    assert b"canary" not in answer.body
    assert world.errors == [world.node.fail]
    assert "canary" not in caplog.text
    assert await world.next_observed() == ("GET", "/v1/inbox", 500)


@pytest.mark.parametrize("path", ["/canary", "/v1/canary", "/v1/messages/", "//v1/inbox", "/docs/canary"])
async def test_a_path_that_is_not_there(world: World, path: str) -> None:
    answer = await ask(world, "GET", path)
    assert answer.code == "not-found"
    assert b"canary" not in answer.body
    assert (await world.next_observed())[1] == "other"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/v1/inbox", {"GET"}),
        ("HEAD", "/v1/inbox", {"GET"}),
        ("OPTIONS", "/v1/messages", {"POST"}),
        ("PURGE", "/v1/messages", {"POST"}),
        ("POST", "/docs", {"GET", "HEAD"}),
    ],
)
async def test_a_method_that_is_not_allowed_and_which_are(
    world: World, method: str, path: str, allow: set[str]
) -> None:
    answer = await ask(world, method, path)
    assert answer.status == 405
    assert set(answer.headers["Allow"].split(",")) == allow
    if method != "HEAD":
        assert answer.code == "method-not-allowed"


CANARY = b"Jane-Canary"


@pytest.mark.parametrize(
    "raw",
    [
        CANARY + b"\r\n\r\n",
        CANARY + b" /v1/messages HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /docs HTTP/1.1\r\nHost: x\r\nBad header " + CANARY + b"\r\n\r\n",
        b"GET /docs HTTP/1.1\r\nHost: x\r\nX: " + CANARY * 2000 + b"\r\n\r\n",
        b"GET /" + CANARY * 2000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /docs HTTP/1.1\r\nHost: x\r\n" + (CANARY + b": 1\r\n") * 500 + b"\r\n",
        b"GET /docs HTTP/1.1\r\nHost: x\r\nExpect: " + CANARY + b"\r\n\r\n",
        b"GET /canary HTTP/1.1\r\nHost: x\r\nExpect: " + CANARY + b"\r\n\r\n",
        b"GET /docs HTTP/1.1\r\nHost: x\r\nContent-Length: " + CANARY + b"\r\n\r\n",
        b"GET /docs HTTP/9.9 " + CANARY + b"\r\n\r\n",
        raw_post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + CANARY + b"\r\n",
        raw_post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"b\r\n" + CANARY * 2,
    ],
    ids=[
        "no request",
        "unknown method",
        "no header",
        "long header",
        "long path",
        "many headers",
        "expect",
        "expect elsewhere",
        "length",
        "version",
        "bad chunk size",
        "long chunk",
    ],
)
async def test_what_is_not_http_gets_a_problem_and_is_not_repeated_anywhere(
    world: World, raw: bytes, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    answer = await world.talk(raw)
    assert raw_code(answer) in {"bad-request", "malformed-body"}
    assert CANARY not in answer
    assert b"X-Content-Type-Options: nosniff" in answer
    said = caplog.text + "".join(capfd.readouterr())
    assert CANARY.decode() not in said
    assert not world.node.submissions


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/", "/canary", "/v1/inbox", f"/v1/inbox/{ID}"])
async def test_every_answer_is_guarded(world: World, path: str) -> None:
    headers = (await ask(world, "GET", path)).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Server"] == "referral-gateway"


async def test_the_root_leads_to_the_docs(world: World) -> None:
    answer = await ask(world, "GET", "/", token=None)
    assert (answer.status, answer.headers["Location"]) == (302, "/docs")


async def test_what_is_observed_is_the_template_never_the_path(world: World) -> None:
    await ask(world, "GET", f"/v1/inbox/{ID}")
    assert await world.next_observed() == ("GET", "/v1/inbox/{id}", 404)


async def test_a_port_that_is_taken(world: World) -> None:
    from tests.http.test_admin import admin_app

    with pytest.raises(OSError):
        await serve(admin_app(), "127.0.0.1", world.server.port)
