"""After a restore to an older copy: nothing is handed over twice, nothing still owed is forgotten."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.messages import AgencyId
from gateway.store import reconciliations
from tests.command import app
from tests.postgres import PostgresServer
from tests.road import arrived, metric, reached, send, wait_for_arrival
from tests.world import COUNCIL, POLICE, QUICK, SCHOOL, World, provision, running, until

PASSPHRASE = "correct horse battery staple"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.xdist_group("postgres"))])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """Three agencies on the embedded transport; the police's database is either kind."""
    databases: dict[AgencyId, str] = {}
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        databases[POLICE] = server.create_database()
    (tmp_path / "passphrase").write_text(PASSPHRASE)
    async with running(provision(tmp_path, extra=QUICK, databases=databases)) as world:
        yield world


async def typed(world: World, *words: object) -> Any:
    """Run a command of the police's operator."""
    arguments = [*map(str, words), "-n", str(world.folder / POLICE)]
    if words[0] in {"backup", "restore"}:
        arguments += ["--passphrase-file", str(world.folder / "passphrase")]
    return await asyncio.to_thread(CliRunner().invoke, app, arguments)


async def back_up(world: World, name: str = "copy") -> Path:
    """Back the police's node up while it runs."""
    file = world.folder / name
    done = await typed(world, "backup", file)
    assert done.exit_code == 0, done.output
    return file


async def lose_and_restore(world: World, file: Path, request: pytest.FixtureRequest) -> None:
    """The police's database is lost and made anew from a backup."""
    if POLICE in world.nodes:
        await world.stop(POLICE)
    settings = world.folder / POLICE / "gateway.toml"
    if "postgresql://" in settings.read_text():
        server: PostgresServer = request.getfixturevalue("postgres")
        old = next(line for line in settings.read_text().splitlines() if line.startswith("database"))
        settings.write_text(settings.read_text().replace(old, f'database = "{server.create_database()}"'))
    else:
        for path in (world.folder / POLICE).glob("gateway.db*"):
            path.unlink()
    done = await typed(world, "restore", file)
    assert done.exit_code == 0, done.output
    await world.start(POLICE)


async def delivered(world: World) -> str:
    """A message that the police collected and acknowledged."""
    message_id = (await send(world.clients[SCHOOL]))["message_id"]
    await wait_for_arrival(world, message_id)
    await world.clients[POLICE].ack([message_id])
    await reached(world, message_id, "delivered")
    return str(message_id)


async def waiting(world: World) -> str:
    """A message that the police hold and have not collected."""
    message_id = (await send(world.clients[SCHOOL]))["message_id"]
    await wait_for_arrival(world, message_id)
    await reached(world, message_id, "received")
    return str(message_id)


async def all_heard(world: World) -> None:
    """Wait until every peer has answered."""
    store = world.nodes[POLICE].parts.store

    async def heard() -> bool:
        return await store.read(reconciliations.pending) == 0

    await until(heard, "every peer answered")
    await until(lambda: metric(world, POLICE, "gateway_peers_unheard") == 0, "and the metric says so")


async def in_inbox(world: World) -> set[str]:
    page = await world.clients[POLICE].inbox()
    return {message["message_id"] for message in page["messages"]}


async def test_a_recipient_hands_over_what_is_owed_and_nothing_twice(
    world: World, request: pytest.FixtureRequest
) -> None:
    before = await delivered(world)
    collected_later, still_waiting = await waiting(world), await waiting(world)
    copy = await back_up(world)
    await world.clients[POLICE].ack([collected_later])
    await reached(world, collected_later, "delivered")
    came_later, came_and_collected = await waiting(world), await delivered(world)

    await lose_and_restore(world, copy, request)
    await until(lambda: arrived(world.clients[POLICE], came_later), "what the copy lacks is sent again")
    await all_heard(world)
    assert await in_inbox(world) == {still_waiting, came_later}

    for message_id in (still_waiting, came_later):
        await world.clients[POLICE].ack([message_id])
        await reached(world, message_id, "delivered")
    assert await in_inbox(world) == set()
    for message_id in (before, collected_later, came_and_collected):
        await reached(world, message_id, "delivered")


async def test_a_sender_knows_again_what_it_sent(world: World, request: pytest.FixtureRequest) -> None:
    copy = await back_up(world)
    keys = {stage: str(uuid.uuid4()) for stage in ("received", "delivered")}
    sent = {
        stage: (await send(world.clients[POLICE], to=[SCHOOL], idempotency_key=key))["message_id"]
        for stage, key in keys.items()
    }
    for message_id in sent.values():
        await wait_for_arrival(world, message_id, SCHOOL)
    await world.clients[SCHOOL].ack([sent["delivered"]])

    await lose_and_restore(world, copy, request)
    await all_heard(world)
    for stage, message_id in sent.items():
        status = await world.clients[POLICE].status(message_id)
        assert status["recipients"][0]["stage"] == stage
        assert status["recipients"][0]["receipts"][0]["stage"] == "accepted"
    again = await send(world.clients[POLICE], to=[SCHOOL], idempotency_key=keys["received"])
    assert again["message_id"] == sent["received"]
    await world.clients[SCHOOL].ack([sent["received"]])

    async def final() -> bool:
        status = await world.clients[POLICE].status(sent["received"])
        return bool(status["recipients"][0]["stage"] == "delivered")

    await until(final, "the ladder goes on")
    assert not (await world.clients[SCHOOL].inbox())["messages"]


async def test_what_a_silent_peer_sent_waits_until_it_answers_or_an_operator_decides(
    world: World, request: pytest.FixtureRequest
) -> None:
    message_id = (await send(world.clients[COUNCIL]))["message_id"]
    await wait_for_arrival(world, message_id)
    copy = await back_up(world)
    await world.stop(COUNCIL)
    await lose_and_restore(world, copy, request)
    await until(lambda: metric(world, POLICE, "gateway_peers_unheard") == 1, "the school has answered")
    assert await in_inbox(world) == set()
    shown = json.loads((await typed(world, "reconcile", "show", "--json")).output)["peers"]
    assert {one["peer"]: one["answered"] is not None for one in shown} == {COUNCIL: False, SCHOOL: True}

    assert (await typed(world, "reconcile", "release", COUNCIL)).exit_code == 0
    await until(lambda: arrived(world.clients[POLICE], message_id), "it is handed over")
    assert (await typed(world, "reconcile", "release", COUNCIL)).exit_code == 1
    await world.start(COUNCIL)  # its late answer changes nothing


async def test_a_cursor_from_before_does_not_skip_what_comes_after(
    world: World, request: pytest.FixtureRequest
) -> None:
    copy = await back_up(world)
    for _ in range(3):
        await waiting(world)
    cursor = (await world.clients[POLICE].inbox())["next"]
    await lose_and_restore(world, copy, request)
    await all_heard(world)
    message_id = (await send(world.clients[SCHOOL]))["message_id"]

    async def seen() -> bool:
        page = await world.clients[POLICE].inbox(after=cursor)
        return message_id in {message["message_id"] for message in page["messages"]}

    await until(seen, "beyond the old cursor")


async def test_a_broker_that_lost_its_queues_is_made_good(world: World) -> None:
    await world.stop(POLICE)
    message_id = (await send(world.clients[SCHOOL]))["message_id"]
    queue = world.folder / "spool" / POLICE / "messages"
    await until(lambda: list(queue.glob("[0-9]*")), "it waits in the queue")
    for path in queue.glob("[0-9]*"):
        path.unlink()
    await world.start(POLICE)
    assert not await arrived(world.clients[POLICE], message_id)
    assert (await typed(world, "reconcile", "ask", "--hours", "1")).exit_code == 0
    await until(lambda: arrived(world.clients[POLICE], message_id), "its sender sends it again")
    await world.clients[POLICE].ack([message_id])
    await reached(world, message_id, "delivered")


async def test_a_backup_that_cannot_be_read_is_refused_and_nothing_is_made(world: World) -> None:
    await waiting(world)
    copy = await back_up(world)
    assert (await typed(world, "backup", copy)).exit_code != 0, "never over another"
    good = copy.read_bytes()
    await world.stop(POLICE)
    databases = list((world.folder / POLICE).glob("gateway.db*"))
    for path in databases:
        path.rename(path.with_name("aside-" + path.name))
    middle = len(good) // 2
    bad = {
        "cut": good[:-1],
        "half": good[:middle],
        "empty": b"",
        "other": b"SQLite format 3\0" + good,
        "altered": good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :],
        "longer": good + b"\0",
    }
    for name, data in bad.items():
        (world.folder / name).write_bytes(data)
        assert (await typed(world, "restore", world.folder / name)).exit_code != 0, name
    (world.folder / "passphrase").write_text("another passphrase")
    assert (await typed(world, "restore", copy)).exit_code != 0
    assert not list((world.folder / POLICE).glob("gateway.db*"))
    assert not list(world.folder.glob(".*partial"))
    for path in databases:
        path.with_name("aside-" + path.name).rename(path)
    await world.start(POLICE)


async def test_a_backup_shows_nothing(world: World) -> None:
    message_id = await waiting(world)
    data = (await back_up(world)).read_bytes()
    for word in (message_id, SCHOOL, POLICE, "referral", "prevent"):
        assert word.encode() not in data
