"""The broker as deploy/rabbitmq ships it: who gets in, what an account may do, how drift shows."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import aio_pika
import aiormq
import pytest
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import ChannelAccessRefused, ChannelPreconditionFailed

from gateway.tls import broker_context
from gateway.transport import drift, graveyard, topology
from gateway.transport.base import Lane
from gateway.transport.definitions import OPERATOR, VHOST
from gateway.transport.management import Management, ManagementRefused
from tests.certificates import Authority
from tests.transport.ground import COUNCIL, PATIENCE, POLICE
from tests.transport.production import (
    ADMIN,
    ADMIN_PASSWORD,
    AGENCIES,
    CLINIC,
    HUB,
    SCHOOL,
    Production,
    accounts,
    wanted,
)

pytestmark = pytest.mark.xdist_group("production")

OWN = topology.queue_name(POLICE, Lane.MESSAGES)
OTHERS = topology.queue_name(COUNCIL, Lane.MESSAGES)


@pytest.fixture
async def management(production: Production) -> AsyncIterator[Management]:
    async with production.management() as management:
        yield management


@pytest.fixture
async def applied(production: Production, management: Management) -> Production:
    """The broker, set up."""
    await management.apply(wanted())
    return production


@pytest.fixture
async def channel(applied: Production) -> AsyncIterator[AbstractChannel]:
    """What the police's node, or whoever took it over, could open."""
    async with await applied.connect(POLICE) as connection:
        yield await connection.channel(on_return_raises=True)


async def publish(channel: AbstractChannel, exchange: str, key: str, **properties: Any) -> None:
    target = await channel.get_exchange(exchange, ensure=False)
    await target.publish(aio_pika.Message(b"ciphertext", **properties), key, timeout=PATIENCE)


async def take(channel: AbstractChannel, queue: str) -> bytes:
    async with asyncio.timeout(PATIENCE):
        while True:
            found = await (await channel.get_queue(queue)).get(timeout=PATIENCE, fail=False)
            if found is None:
                await asyncio.sleep(0.01)
                continue
            await found.ack()
            if found.body != topology.PROBE:
                return found.body


# What an account may do.


async def test_an_account_publishes_to_anybody_and_takes_from_its_own_queues(
    applied: Production, channel: AbstractChannel
) -> None:
    for lane in Lane:
        await publish(channel, "gateway", topology.routing_key(COUNCIL, lane))
        await publish(channel, "gateway", topology.routing_key(POLICE, lane), user_id="police")
        assert await take(channel, topology.queue_name(POLICE, lane)) == b"ciphertext"
    async with await applied.connect(COUNCIL) as connection:
        council = await connection.channel()
        for lane in Lane:
            assert await take(council, topology.queue_name(COUNCIL, lane)) == b"ciphertext"


async def test_each_new_queue_is_settled_by_a_probe_once(
    production: Production, management: Management
) -> None:
    document = wanted("probed")
    await management.apply(document)
    queues = [one["name"] for one in document["queues"] if one["name"] != topology.DEAD]

    async def waiting() -> dict[str, int]:
        found = await management.read("probed")
        return {one["name"]: one.get("messages", -1) for one in found["queues"] if one["name"] in queues}

    async with asyncio.timeout(PATIENCE):
        while await waiting() != dict.fromkeys(queues, 1):  # noqa: ASYNC110 - the statistics lag
            await asyncio.sleep(0.1)
    await management.apply(document)
    assert drift.differences(document, await management.read("probed"), accounts()) == []
    production.node.rabbitmqctl("delete_vhost", "probed")


async def test_a_node_with_several_agencies_takes_from_the_queues_of_each(applied: Production) -> None:
    async with await applied.connect(HUB) as connection:
        for agency in (SCHOOL, CLINIC):
            channel = await connection.channel()
            await publish(channel, "gateway", topology.routing_key(agency, Lane.MESSAGES), user_id=HUB)
            assert await take(channel, topology.queue_name(agency, Lane.MESSAGES)) == b"ciphertext"
        with pytest.raises(ChannelAccessRefused):
            await take(await connection.channel(), OWN)


async def test_dead_letters_are_set_aside_by_the_broker_and_only_the_operator_reads_them_and_sends_them_again(
    applied: Production, channel: AbstractChannel
) -> None:
    await publish(channel, "gateway", topology.routing_key(POLICE, Lane.MESSAGES), message_id="an envelope")
    async with asyncio.timeout(PATIENCE):
        async with (await channel.get_queue(OWN)).iterator() as messages:
            async for message in messages:
                if message.body == b"ciphertext":
                    await message.reject(requeue=False)
                    break
                await message.ack()
    url, tls = applied.url(OPERATOR), applied.tls(OPERATOR)
    async with asyncio.timeout(PATIENCE):
        while not (letters := await graveyard.look(f"{url}?auth=EXTERNAL", tls, limit=1)):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert await graveyard.send_again(f"{url}?auth=EXTERNAL", tls, letters[0].envelope_id, limit=1)
    assert await take(channel, OWN) == b"ciphertext"
    async with await applied.connect(OPERATOR) as connection:
        with pytest.raises(ChannelAccessRefused):
            await take(await connection.channel(), OWN)


async def ignore(_: object) -> None:
    """A consumer that is never called."""


Attempt = Callable[[AbstractChannel, aiormq.abc.AbstractChannel], Awaitable[object]]
FORBIDDEN: dict[str, Attempt] = {
    "consume another's messages": lambda _, raw: raw.basic_consume(OTHERS, ignore),
    "consume another's receipts": lambda _, raw: raw.basic_consume("gateway.council.receipts", ignore),
    "consume the dead letters": lambda _, raw: raw.basic_consume(topology.DEAD, ignore),
    "get from another's queue": lambda _, raw: raw.basic_get(OTHERS),
    "get a dead letter": lambda _, raw: raw.basic_get(topology.DEAD),
    "empty another's queue": lambda _, raw: raw.queue_purge(OTHERS),
    "empty the dead letters": lambda _, raw: raw.queue_purge(topology.DEAD),
    "delete its own queue": lambda _, raw: raw.queue_delete(OWN),
    "delete another's queue": lambda _, raw: raw.queue_delete(OTHERS),
    "declare a queue": lambda _, raw: raw.queue_declare("gateway.police.more", durable=True),
    "declare a queue without a name": lambda _, raw: raw.queue_declare(exclusive=True),
    "declare an exchange": lambda _, raw: raw.exchange_declare("gateway.more"),
    "delete the exchange": lambda _, raw: raw.exchange_delete("gateway"),
    "bind its own queue to another's key": lambda _, raw: raw.queue_bind(OWN, "gateway", "council.messages"),
    "unbind another's queue": lambda _, raw: raw.queue_unbind(OTHERS, "gateway", "council.messages"),
    "bind exchanges": lambda _, raw: raw.exchange_bind("amq.topic", "gateway", "council.messages"),
    "publish past the exchange": lambda channel, _: publish(channel, "", OTHERS),
    "publish dead letters": lambda channel, _: publish(channel, topology.DEAD, ""),
    "publish to another exchange": lambda channel, _: publish(channel, "amq.topic", "x"),
}


@pytest.mark.parametrize("attempt", FORBIDDEN)
async def test_an_account_may_not(attempt: str, channel: AbstractChannel) -> None:
    with pytest.raises(ChannelAccessRefused):
        await FORBIDDEN[attempt](channel, await channel.get_underlay_channel())


async def test_a_message_in_anothers_name_is_refused(channel: AbstractChannel) -> None:
    with pytest.raises(ChannelPreconditionFailed):
        await publish(channel, "gateway", "council.messages", user_id=COUNCIL)


async def test_what_cannot_be_forbidden_asking_how_much_waits_for_another(channel: AbstractChannel) -> None:
    """docs/broker.md says so."""
    queue = await channel.declare_queue(OTHERS, passive=True)
    assert queue.declaration_result.message_count is not None


# Who gets in.


async def refused(url: str, tls: ssl.SSLContext | None, auth: str = "EXTERNAL") -> None:
    with pytest.raises((aio_pika.exceptions.AMQPError, OSError, TimeoutError)):
        async with asyncio.timeout(20):
            await (await aio_pika.connect(url, ssl_context=tls, auth=auth, timeout=15)).close()


@pytest.mark.parametrize("vhost", ["%2F", "elsewhere"])
async def test_another_virtual_host_is_closed(applied: Production, vhost: str) -> None:
    await refused(applied.url(POLICE, vhost), applied.tls(POLICE))


async def test_a_certificate_without_an_account_is_refused(applied: Production) -> None:
    await refused(applied.url(POLICE), applied.tls("stranger"))


async def test_without_a_certificate_nobody_gets_in(applied: Production) -> None:
    await refused(applied.url(POLICE), broker_context(applied.authority.ca))


async def test_a_certificate_of_another_authority_is_refused(applied: Production, tmp_path: Path) -> None:
    forged = Authority(tmp_path, "test authority").issue(POLICE)
    await refused(applied.url(POLICE), broker_context(applied.authority.ca, forged.cert, forged.key))


async def test_a_password_is_no_way_in(applied: Production) -> None:
    url = applied.url(ADMIN).replace(f"{ADMIN}@", f"{ADMIN}:{ADMIN_PASSWORD}@")
    await refused(url, applied.tls(POLICE), auth="PLAIN")


async def test_plain_amqp_is_refused(applied: Production) -> None:
    await refused(applied.url(POLICE).replace("amqps", "amqp"), None)


async def test_tls_1_2_is_refused(applied: Production) -> None:
    old = applied.tls(POLICE)
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    await refused(applied.url(POLICE), old)


async def test_a_client_of_ours_does_not_talk_to_a_broker_of_another_authority(
    applied: Production, tmp_path: Path
) -> None:
    other = Authority(tmp_path)
    await refused(applied.url(POLICE), broker_context(other.ca, applied.cert(POLICE), applied.key(POLICE)))


# Setting up, and drift.


async def live_differences(management: Management, vhost: str = VHOST) -> list[str]:
    return drift.differences(wanted(vhost), await management.read(vhost), accounts())


async def test_once_applied_nothing_differs_and_again_nothing_changes(
    applied: Production, management: Management
) -> None:
    assert await live_differences(management) == []
    await management.apply(wanted())
    assert await live_differences(management) == []


async def test_before_it_is_applied_everything_is_missing(
    production: Production, management: Management
) -> None:
    found = await live_differences(management, "nowhere")
    assert "virtual host nowhere: missing" in found
    assert "queue gateway.police.messages: missing" in found
    assert "permissions of police: missing" in found
    assert "binding gateway -> queue gateway.police.receipts (police.receipts): missing" in found


class Broker:
    """An operator's unwatched hands, on a virtual host of their own."""

    def __init__(self, management: Management, vhost: str) -> None:
        self._management, self._vhost = management, vhost

    async def __call__(self, method: str, path: str, **body: object) -> None:
        await self._management._request(method, path.replace("{v}", self._vhost), body)


QUEUE = "/queues/{v}/gateway.police.messages"
CLASSIC: dict[str, object] = {"durable": True, "arguments": {"x-queue-type": "classic"}}
READS = "^(gateway[.]police[.]messages|gateway[.]police[.]receipts)$"
DRIFTS: dict[str, tuple[list[tuple[str, str, dict[str, object]]], str]] = {
    "a queue is missing": ([("DELETE", QUEUE, {})], "queue gateway.police.messages: missing"),
    "a queue's limit is another": (
        [
            ("DELETE", QUEUE, {}),
            ("PUT", QUEUE, {"durable": True, "arguments": {"x-queue-type": "quorum", "x-max-length": 5}}),
        ],
        "queue gateway.police.messages: arguments: x-max-length is 5, wanted 100000",
    ),
    "a queue is classic": (
        [("DELETE", QUEUE, {}), ("PUT", QUEUE, CLASSIC)],
        'queue gateway.police.messages: arguments: x-queue-type is "classic", wanted "quorum"',
    ),
    "a queue too much": (
        [("PUT", "/queues/{v}/tap", CLASSIC)],
        "queue tap: not wanted",
    ),
    "a tap": (
        [
            ("PUT", "/queues/{v}/tap", CLASSIC),
            ("POST", "/bindings/{v}/e/gateway/q/tap", {"routing_key": "police.messages"}),
        ],
        "binding gateway -> queue tap (police.messages): not wanted",
    ),
    "a binding is missing": (
        [("DELETE", "/bindings/{v}/e/gateway/q/gateway.police.messages/police.messages", {})],
        "binding gateway -> queue gateway.police.messages (police.messages): missing",
    ),
    "an exchange is missing": ([("DELETE", "/exchanges/{v}/gateway", {})], "exchange gateway: missing"),
    "an exchange of another type": (
        [
            ("DELETE", "/exchanges/{v}/gateway", {}),
            ("PUT", "/exchanges/{v}/gateway", {"type": "fanout", "durable": True}),
        ],
        'exchange gateway: type is "fanout", wanted "direct"',
    ),
    "an exchange too much": (
        [("PUT", "/exchanges/{v}/more", {"type": "direct"})],
        "exchange more: not wanted",
    ),
    "an account may read all": (
        [("PUT", "/permissions/{v}/police", {"configure": "^$", "write": "^$", "read": ".*"})],
        f'permissions of police: read is ".*", wanted "{READS}"',
    ),
    "an account may do nothing": (
        [("DELETE", "/permissions/{v}/police", {})],
        "permissions of police: missing",
    ),
    "an account too much": (
        [("PUT", "/permissions/{v}/guest", {"configure": "^$", "write": "^$", "read": ".*"})],
        "permissions of guest: not wanted",
    ),
    "an account is an administrator": (
        [("PUT", "/users/police", {"password_hash": "", "tags": "administrator"})],
        'account police: has the tags ["administrator"], wanted none',
    ),
    "an account has a password": (
        [("PUT", "/users/police", {"password": ADMIN_PASSWORD, "tags": ""})],
        "account police: has a password, wanted none",
    ),
    "an account has no limit": (
        [("DELETE", "/user-limits/police/max-connections", {})],
        "account police: limits: max-connections is absent, wanted 16",
    ),
    "an account is missing": ([("DELETE", "/users/police", {})], "account police: missing"),
    "a policy": (
        [("PUT", "/policies/{v}/more", {"pattern": ".*", "definition": {"max-length": 1}})],
        "policy more: not wanted",
    ),
    "the operator's policy is missing": (
        [("DELETE", "/operator-policies/{v}/gateway-limits", {})],
        "parameter operator_policy gateway-limits: missing",
    ),
    "the operator's policy is another": (
        [
            (
                "PUT",
                "/operator-policies/{v}/gateway-limits",
                {"pattern": ".*", "definition": {"max-length": 1}},
            )
        ],
        "parameter operator_policy gateway-limits: value: definition: max-length is 1, wanted 1000000",
    ),
    "every message is traced": (
        [("PUT", "/vhosts/{v}", {"tracing": True})],
        "tracing is on, which copies every message",
    ),
}


UNCHANGEABLE = ("queue gateway.police.messages: arguments", "exchange gateway: type", "virtual host")


@pytest.mark.parametrize("drifted", DRIFTS)
async def test_drift_is_told(drifted: str, management: Management) -> None:
    vhost = f"drift-{uuid4().hex[:8]}"
    await management.apply(wanted(vhost))
    assert await live_differences(management, vhost) == []
    hands, line = Broker(management, vhost), DRIFTS[drifted][1]
    try:
        await hands("PUT", f"/permissions/{{v}}/{ADMIN}", configure=".*", write=".*", read=".*")
        for method, path, body in DRIFTS[drifted][0]:
            await hands(method, path, **body)
        assert any(found.endswith(line) for found in await live_differences(management, vhost))
        # Applying again adds and replaces; it neither removes nor changes what cannot be changed in place.
        await management.apply(wanted(vhost))
        for left in await live_differences(management, vhost):
            assert left.endswith(": not wanted") or left.startswith(UNCHANGEABLE)
    finally:
        await hands("DELETE", "/vhosts/{v}")
        await management.apply(wanted())


async def test_a_wrong_management_password_is_refused_and_not_repeated(production: Production) -> None:
    tls = broker_context(production.authority.ca)
    async with Management(production.management_url, "not-" + ADMIN_PASSWORD, tls) as management:
        with pytest.raises(ManagementRefused) as caught:
            await management.read(VHOST)
    assert ADMIN_PASSWORD not in str(caught.value)


async def test_the_management_api_of_another_authority_is_refused(
    production: Production, tmp_path: Path
) -> None:
    tls = broker_context(Authority(tmp_path).ca)
    async with Management(production.management_url, ADMIN_PASSWORD, tls) as management:
        with pytest.raises(ManagementRefused, match="--ca"):
            await management.read(VHOST)


# As typed.


def typed(production: Production, folder: Path, command: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Run `gateway broker …` against the broker."""
    password = folder / "admin-password"
    password.write_text(ADMIN_PASSWORD + "\n")
    arguments = ["--directory", str(folder / "directory.json"), "--management", production.management_url]
    arguments += ["--management-password-file", str(password), "--ca", str(production.authority.ca)]
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "broker", command, *arguments, *more],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    assert ADMIN_PASSWORD not in done.stdout + done.stderr
    return done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory of all the agencies."""
    from gateway.messages import Sector
    from gateway.provisioning import NewAgency, init_node

    for agency in AGENCIES:
        new = NewAgency(agency, agency, Sector.POLICE)
        init_node(tmp_path / agency, new, directory=tmp_path / "directory.json", spool=tmp_path / "spool")
    return tmp_path


def test_check_says_no_until_apply_was_run_and_then_yes(production: Production, folder: Path) -> None:
    options = ["--account", f"{HUB}={SCHOOL},{CLINIC}", "--vhost", f"typed-{uuid4().hex[:8]}"]
    before = typed(production, folder, "check", *options)
    assert before.returncode == 1
    assert "queue gateway.police.messages: missing" in before.stdout.splitlines()
    applied = typed(production, folder, "apply", *options)
    assert (applied.returncode, applied.stdout) == (
        0,
        "4 accounts and the queues of 4 agencies are set up.\n",
    )
    after = typed(production, folder, "check", *options)
    assert (after.returncode, after.stdout) == (0, "the broker is as it should be: 4 accounts.\n")
    other = typed(production, folder, "check", *options[2:])  # as if each agency had an account
    assert other.returncode == 1
    assert "permissions of hub: not wanted" in other.stdout
    assert "permissions of school: missing" in other.stdout


def test_an_account_with_a_password_has_the_one_in_its_file(production: Production, folder: Path) -> None:
    passwords = folder / "passwords"
    passwords.mkdir()
    (passwords / POLICE).write_text("correct-horse-battery\n")
    options = ["--vhost", f"typed-{uuid4().hex[:8]}", "--passwords", str(passwords)]
    assert typed(production, folder, "apply", *options).returncode == 0
    assert typed(production, folder, "check", *options).returncode == 0
    production.node.rabbitmqctl("authenticate_user", POLICE, "correct-horse-battery")
    (passwords / POLICE).write_text("another-horse-battery\n")
    done = typed(production, folder, "check", *options)
    assert done.returncode == 1
    assert "account police: has not the password of its file" in done.stdout
    (passwords / POLICE).unlink()
    assert (
        "account police: has a password, wanted none" in typed(production, folder, "check", *options).stdout
    )
    assert typed(production, folder, "apply", *options).returncode == 0
    with pytest.raises(subprocess.CalledProcessError):
        production.node.rabbitmqctl("authenticate_user", POLICE, "another-horse-battery")
