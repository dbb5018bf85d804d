"""Push delivery: real nodes, a real server of the agency's that behaves in every way servers do."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from multidict import CIMultiDict
from standardwebhooks.webhooks import Webhook

from bench.nodes import RECIPIENT, SENDER, BenchNode, provision_pair, restart, start, start_twin
from bench.ports import free_port
from gateway import config
from gateway.errors import StartupError
from gateway.http.client import Client, File
from gateway.messages import AgencyId
from gateway.transport import topology
from tests.certificates import Authority
from tests.postgres import PostgresServer
from tests.road import metric, reached, referral, send, wait_for_arrival
from tests.world import POLICE, QUICK, SCHOOL, World, provision, running, until

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEW_SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
TOKEN = "dG9rZW4tb2YtcG9saWNl"
DUPLICATE = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "duplicate"}]}


@dataclass
class Receiver:
    """The agency's own server. `answers` are given in turn, the last for ever."""

    answers: list[web.Response | str]
    port: int = 0
    seen: list[tuple[str, CIMultiDict[str], bytes]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    pause: float = 0.0

    async def take(self, request: web.Request) -> web.StreamResponse:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.seen.append((request.path, CIMultiDict(request.headers), await request.read()))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            await asyncio.sleep(self.pause)
            if answer == "hang":
                await asyncio.sleep(60)
            if answer == "cut":
                assert request.transport is not None
                request.transport.abort()
            if answer == "endless":
                stream = web.StreamResponse(status=500)
                await stream.prepare(request)
                while True:
                    await stream.write(b"secret-of-the-receiver " * 4096)
            return web.Response(status=200) if isinstance(answer, str) else copy(answer)
        finally:
            self.at_once -= 1

    def headers(self, name: str) -> list[str]:
        return [headers[name] for _, headers, _ in self.seen]


def copy(answer: web.Response) -> web.Response:
    return web.Response(status=answer.status, headers=answer.headers, body=answer.body)


@asynccontextmanager
async def listening(receiver: Receiver, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/{path:.*}", receiver.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", receiver.port, ssl_context=tls)
    await site.start()
    receiver.port = runner.addresses[0][1]
    try:
        yield receiver
    finally:
        await runner.cleanup()


def configure(
    folder: Path, receiver: Receiver, agency: str = POLICE, *, scheme: str = "http", **more: Any
) -> None:
    """Push this agency's messages to the receiver."""
    for name, text in (("secret", f"{SECRET}\n{NEW_SECRET}\n"), ("token", TOKEN)):
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(text)
    path = "/fhir" if more.get("kind") == "fhir" else "/hooks/referrals"
    values = {"agency": agency, "url": f"{scheme}://127.0.0.1:{receiver.port}{path}", "token_file": "token"}
    if more.get("kind") != "fhir":
        values["secret_file"] = "secret"
    with (folder / config.FILE_NAME).open("a") as file:
        file.write("\n[[push]]\n")
        file.writelines(f"{name} = {json.dumps(value)}\n" for name, value in (values | more).items())


@asynccontextmanager
async def pushing(
    tmp_path: Path, *answers: web.Response | str, tls: ssl.SSLContext | None = None, **more: Any
) -> AsyncIterator[tuple[World, Receiver]]:
    """A school that sends, police whose server gives these answers."""
    world = provision(tmp_path, (SCHOOL, POLICE), extra=QUICK)
    async with listening(Receiver(list(answers) or [web.Response(status=204)]), tls) as receiver:
        configure(tmp_path / POLICE, receiver, scheme="https" if tls else "http", **more)
        async with running(world):
            yield world, receiver


def attempts(world: World, outcome: str) -> float:
    return metric(world, POLICE, f'gateway_push_attempts_total{{agency="police",outcome="{outcome}"}}')


async def test_a_message_is_pushed_signed_and_delivered(tmp_path: Path) -> None:
    async with pushing(tmp_path, original=True) as (world, receiver):
        accepted = await send(
            world.clients[SCHOOL], attachments=[File("plan ü.pdf", "application/pdf", b"%PDF\xff")]
        )
        await reached(world, accepted["message_id"], "delivered")
        ((path, headers, body),) = receiver.seen
        assert path == "/hooks/referrals"
        for secret in (SECRET, NEW_SECRET):
            pushed = Webhook(secret).verify(body, dict(headers))
        assert headers["webhook-id"] == accepted["message_id"] == pushed["message"]["message_id"]
        assert headers["Authorization"] == f"Bearer {TOKEN}"
        assert headers["Gateway-Sender"] == pushed["message"]["sender"] == SCHOOL
        assert pushed["content"] == referral()
        assert base64.b64decode(pushed["attachments"][0]["body"]) == b"%PDF\xff"
        assert pushed["attachments"][0]["name"] == "plan ü.pdf"
        assert attempts(world, "delivered") == 1
        assert (await world.clients[POLICE].inbox())["messages"] == []


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (web.Response(status=500), "failed"),
        (web.Response(status=425), "failed"),
        (web.Response(status=429, headers={"Retry-After": "0"}), "busy"),
        ("cut", "unreachable"),
        ("endless", "failed"),
    ],
    ids=["500", "425", "429", "cut", "endless"],
)
async def test_what_fails_is_repeated_with_the_same_identifier(
    tmp_path: Path, answer: web.Response | str, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.http.push_client.BODY_TIME", 0.5)
    async with pushing(tmp_path, answer, web.Response(status=200)) as (world, receiver):
        accepted = await send(world.clients[SCHOOL])
        await reached(world, accepted["message_id"], "delivered")
        assert receiver.headers("webhook-id") == [accepted["message_id"]] * 2
        assert receiver.seen[0][2] == receiver.seen[1][2]
        assert attempts(world, outcome) == 1


async def test_a_server_that_hangs_is_given_up_in_time(tmp_path: Path) -> None:
    async with pushing(tmp_path, "hang", web.Response(status=200), timeout=0.3) as (world, _):
        accepted = await send(world.clients[SCHOOL])
        await reached(world, accepted["message_id"], "delivered")
        assert attempts(world, "timed-out") == 1


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (web.Response(status=422), "refused"),
        (web.Response(status=410), "denied"),
        (web.Response(status=302, headers={"Location": "/elsewhere"}), "redirected"),
    ],
    ids=["422", "410", "302"],
)
async def test_what_is_refused_for_good_stays_in_the_inbox_to_be_pulled(
    tmp_path: Path, answer: web.Response, outcome: str
) -> None:
    async with pushing(tmp_path, answer) as (world, receiver):
        accepted = await send(world.clients[SCHOOL])
        await until(lambda: attempts(world, outcome) == 1, outcome)
        await wait_for_arrival(world, accepted["message_id"])
        await asyncio.sleep(0.3)
        assert [path for path, _, _ in receiver.seen] == ["/hooks/referrals"]
        await until(lambda: metric(world, POLICE, 'gateway_push_oldest_seconds{agency="police"}') > 0, "age")
        await world.clients[POLICE].ack([accepted["message_id"]])
        await reached(world, accepted["message_id"], "delivered")


async def test_a_failing_server_is_left_alone_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.protocol.breaker.FIRST_REST", 1500)
    answers = [web.Response(status=500)] * 5
    async with pushing(tmp_path, *answers, web.Response(status=200), concurrency=1) as (world, receiver):
        sent = [await send(world.clients[SCHOOL]) for _ in range(8)]
        state = 'gateway_push_breaker{agency="police"}'
        await until(lambda: metric(world, POLICE, state) == 2, "the breaker opens")
        assert len(receiver.seen) == 5
        for accepted in sent:
            await reached(world, accepted["message_id"], "delivered")
        await until(lambda: metric(world, POLICE, state) == 0, "the breaker closes")
        assert attempts(world, "delivered") == 8


async def test_no_more_requests_at_once_than_allowed(tmp_path: Path) -> None:
    async with pushing(tmp_path, concurrency=2) as (world, receiver):
        receiver.pause = 0.1
        sent = [await send(world.clients[SCHOOL]) for _ in range(8)]
        for accepted in sent:
            await reached(world, accepted["message_id"], "delivered")
        assert receiver.most_at_once == 2
        assert sorted(receiver.headers("webhook-id")) == sorted(one["message_id"] for one in sent)


async def test_what_is_too_large_can_only_be_pulled(tmp_path: Path) -> None:
    async with pushing(tmp_path, message_bytes=1024) as (world, receiver):
        accepted = await send(world.clients[SCHOOL])
        await until(lambda: attempts(world, "unsendable") == 1, "it is not pushed")
        await wait_for_arrival(world, accepted["message_id"])
        assert receiver.seen == []


@pytest.mark.parametrize("status", [200, 409])
async def test_fhir_goes_to_process_message_and_a_duplicate_is_delivered(tmp_path: Path, status: int) -> None:
    answer = web.Response(status=status, body=json.dumps(DUPLICATE))
    arguments: Any = {"kind": "fhir", "format": "application/fhir+json"}
    async with pushing(tmp_path, web.Response(status=409), answer, **arguments) as (world, receiver):
        accepted = await send(world.clients[SCHOOL])
        await reached(world, accepted["message_id"], "delivered")
        (path, headers, body), (_, again, same) = receiver.seen
        assert path == "/fhir/$process-message"
        assert json.loads(body)["type"] == "message"
        assert headers["X-Correlation-Id"] == accepted["case"]
        assert headers["X-Request-Id"] == again["X-Request-Id"]
        assert headers["Content-Type"].startswith("application/fhir+json")
        assert "webhook-signature" not in headers
        assert body == same
        assert attempts(world, "duplicate" if status == 409 else "delivered") == 1


async def test_tls_with_an_authority_of_ones_own_and_only_that(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    for authority, delivered in ((ours, True), (theirs, False)):
        pair = ours.issue("server")
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(pair.cert, pair.key)
        folder = tmp_path / str(delivered)
        async with pushing(folder, tls=tls, ca_file=str(authority.ca)) as (world, receiver):
            accepted = await send(world.clients[SCHOOL])
            if delivered:
                await reached(world, accepted["message_id"], "delivered")
            else:
                await until(lambda: attempts(world, "unreachable") >= 1, "not trusted")
                assert receiver.seen == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"url": "http://example.org/"}, "https"),
        ({"url": "https://user:pass@example.org/"}, "password"),
        ({"secret_file": "absent"}, "cannot read"),
        ({"secret_file": "gateway.toml"}, "chmod 600"),
        ({"secret_file": "token"}, "a webhook secret is"),
        ({"format": "application/unheard-of"}, "no adapter writes"),
        ({"agency": "council"}, "does not serve"),
        ({"kind": "fhir"}, "secret_file"),
    ],
)
def test_a_wrong_setting_is_said_at_the_start(tmp_path: Path, change: dict[str, str], said: str) -> None:
    from gateway.node import Node

    provision(tmp_path, (POLICE,), extra=QUICK)
    configure(tmp_path / POLICE, Receiver([]), **{"secret_file": "secret", **change})
    with pytest.raises(StartupError, match=said) as refused:
        Node(config.load(tmp_path / POLICE))
    assert "MfKQ" not in str(refused.value)
    assert TOKEN not in str(refused.value)


# --- processes ---


async def post(node: BenchNode, number: int) -> list[str]:
    client = Client(node.url, node.token)
    sent = [await send(client, to=[RECIPIENT], idempotency_key=f"key-{one}") for one in range(number)]
    await client.close()
    return [str(one["message_id"]) for one in sent]


async def delivered(node: BenchNode, message_ids: list[str]) -> None:
    client = Client(node.url, node.token)

    async def there() -> bool:
        states = [await client.status(one) for one in message_ids]
        return all(one["recipients"][0]["stage"] == "delivered" for one in states)

    await until(there, "every message is delivered", timeout=60)
    await client.close()


async def test_kill_9_between_2xx_and_acknowledgement_repeats_the_same_request(
    tmp_path: Path,
) -> None:
    receiver = Receiver([web.Response(status=200)], port=free_port())
    async with listening(receiver):
        provision_pair(tmp_path)
        configure(tmp_path / RECIPIENT, receiver, RECIPIENT)
        sender, recipient = start(tmp_path / SENDER), start(tmp_path / RECIPIENT)
        try:
            await asyncio.to_thread(recipient.stop)
            point = "push: answered with 2xx, not acknowledged"
            recipient = await asyncio.to_thread(
                restart, recipient, ("-m", "tests.faults.victim", "kill", point, "1")
            )
            (message_id,) = await post(sender, 1)
            await asyncio.to_thread(recipient.process.wait, 30)
            assert recipient.process.returncode == -signal.SIGKILL
            recipient = await asyncio.to_thread(restart, recipient)
            await delivered(sender, [message_id])
        finally:
            sender.stop()
            recipient.stop()
    assert receiver.headers("webhook-id") == [message_id] * 2
    assert receiver.seen[0][2] == receiver.seen[1][2]


@pytest.mark.xdist_group("postgres")
async def test_two_processes_push_each_message_once(
    tmp_path: Path, broker_url: str, postgres: PostgresServer
) -> None:
    await topology.declare(broker_url, [SENDER, RECIPIENT])
    receiver = Receiver([web.Response(status=200)], port=free_port(), pause=0.05)
    async with listening(receiver):
        provision_pair(tmp_path, broker_url, {AgencyId(RECIPIENT): postgres.create_database()})
        configure(tmp_path / RECIPIENT, receiver, RECIPIENT)
        nodes = [start(tmp_path / SENDER), start(tmp_path / RECIPIENT)]
        nodes.append(start_twin(nodes[1]))
        try:
            sent = await post(nodes[0], 30)
            await delivered(nodes[0], sent)
        finally:
            for node in nodes:
                node.stop()
    assert sorted(receiver.headers("webhook-id")) == sorted(sent)
