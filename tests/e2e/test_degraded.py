"""When something outside fails: a refusal that says so, in /readyz and metrics too; it mends by itself."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
import socket
import sqlite3
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from gateway import config
from gateway.errors import Unavailable
from gateway.http.client import ApiProblem
from gateway.node import now_ms
from gateway.protocol.clock import ClockWatch
from gateway.store import sqlite
from gateway.transport import topology
from tests.postgres import PostgresServer
from tests.rabbit import RabbitNode
from tests.road import metric, reached, refusal, send, wait_for_arrival
from tests.world import POLICE, QUICK, SCHOOL, World, provision, running, until

DAY = 86_400_000


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A school and the police on the embedded transport, with quick clockwork."""
    async with running(provision(tmp_path, (SCHOOL, POLICE), extra=QUICK)) as world:
        yield world


async def readyz(world: World) -> tuple[bool, set[str]]:
    """Whether the school's node says it is ready, and which parts are not."""

    def ask() -> dict[str, bool]:
        try:
            answer = urllib.request.urlopen(f"http://127.0.0.1:{world.nodes[SCHOOL].admin_port}/readyz")
        except urllib.error.HTTPError as refused:
            answer = refused
        found = json.load(answer)
        assert isinstance(found, dict)
        return found

    parts = await asyncio.to_thread(ask)
    return parts.pop("ready"), {name for name, able in parts.items() if not able}


async def until_not_ready(world: World, part: str) -> None:
    """Wait until /readyz and the metric name the part that fails."""

    async def named() -> bool:
        return await readyz(world) == (False, {part})

    await until(named, f"{part} is not ready")
    assert metric(world, SCHOOL, f'gateway_ready{{part="{part}"}}') == 0


async def works_again(world: World) -> None:
    """Nobody did anything, and a message goes all the way."""

    async def ready() -> bool:
        return (await readyz(world))[0]

    await until(ready, "it is ready again")
    message_id = (await send(world.clients[SCHOOL]))["message_id"]
    await wait_for_arrival(world, message_id)
    await world.clients[POLICE].ack([message_id])
    await reached(world, message_id, "delivered")


async def test_a_disk_that_is_nearly_full(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused while there is still room to finish what was promised."""
    accepted = (await send(world.clients[SCHOOL]))["message_id"]
    monkeypatch.setattr(sqlite, "RESERVE", 1 << 60)
    problem = await refusal(world.clients[SCHOOL])
    assert (problem.code, problem.status) == ("store-unavailable", 503)
    assert problem.retry_after
    await until_not_ready(world, "store")
    await wait_for_arrival(world, accepted)
    await world.clients[POLICE].ack([accepted])
    await reached(world, accepted, "delivered")
    monkeypatch.undo()
    await works_again(world)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with 160 MiB of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """Take every byte that is left."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for piece in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(piece))
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        (folder / "one more").write_bytes(bytes(4096))
    (folder / "one more").unlink()
    return filler


async def test_a_disk_without_a_byte_left(small_disk: Path) -> None:
    """Both databases and the spool on it: nobody is told yes, and what was accepted goes on afterwards."""
    async with running(provision(small_disk, (SCHOOL, POLICE), extra=QUICK)) as world:
        arrived = (await send(world.clients[SCHOOL]))["message_id"]
        await wait_for_arrival(world, arrived)
        burst = [asyncio.ensure_future(send(world.clients[SCHOOL])) for _ in range(40)]
        filler = await asyncio.to_thread(fill, small_disk)
        answers = await asyncio.gather(*burst, return_exceptions=True)
        accepted = [one["message_id"] for one in answers if not isinstance(one, BaseException)]
        refused = [one for one in answers if isinstance(one, BaseException)]
        problem = await refusal(world.clients[SCHOOL])
        with pytest.raises(ApiProblem) as unanswered:
            await world.clients[POLICE].ack([arrived])
        for one in (*refused, problem, unanswered.value):
            assert isinstance(one, ApiProblem)
            assert (one.code, one.status) == ("store-unavailable", 503)
            assert one.retry_after
        await until_not_ready(world, "store")
        filler.unlink()
        for message_id in accepted:
            await wait_for_arrival(world, message_id)
        await world.clients[POLICE].ack([arrived, *accepted])
        for message_id in (arrived, *accepted):
            await reached(world, message_id, "delivered")
        await works_again(world)


async def test_a_database_that_may_only_be_read(world: World) -> None:
    store = world.nodes[SCHOOL].parts.store
    accepted = (await send(world.clients[SCHOOL]))["message_id"]
    connection = await store.write(lambda session: session)
    connection.execute("PRAGMA query_only = ON")
    problem = await refusal(world.clients[SCHOOL])
    assert (problem.code, problem.status) == ("store-unavailable", 503)
    assert problem.retry_after
    await until_not_ready(world, "store")
    connection.execute("PRAGMA query_only = OFF")
    await wait_for_arrival(world, accepted)
    await works_again(world)


@pytest.mark.xdist_group("postgres")
async def test_a_postgresql_whose_tables_somebody_has_locked(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    url = postgres.create_database()
    provisioned = provision(tmp_path, (SCHOOL, POLICE), extra=QUICK, databases={SCHOOL: url})
    async with running(provisioned) as world:
        await works_again(world)
        with psycopg.connect(url) as other:  # a migration gone wrong, a VACUUM FULL
            other.execute("LOCK TABLE outbound_messages IN ACCESS EXCLUSIVE MODE")
            problem = await refusal(world.clients[SCHOOL])
            assert (problem.code, problem.status) == ("store-unavailable", 503)
            assert problem.retry_after
        await works_again(world)


async def test_a_database_that_takes_nothing_more(world: World) -> None:
    store = world.nodes[SCHOOL].parts.store

    async def limit(pages: int) -> None:
        """Of the database; 1: to the size it has."""
        with contextlib.suppress(Unavailable):  # set all the same when what shares its transaction fails
            await store.write(lambda s: s.execute(f"PRAGMA max_page_count = {pages}").fetchone())

    await limit(1)
    accepted: list[str] = []

    async def send_more() -> None:
        while len(accepted) < 50:  # what is free within the last pages still fits
            accepted.append((await send(world.clients[SCHOOL]))["message_id"])

    with pytest.raises(ApiProblem) as refused:
        await send_more()
    assert (refused.value.code, refused.value.status) == ("store-unavailable", 503)
    assert refused.value.retry_after
    await limit(1_000_000)
    for message_id in accepted:
        await wait_for_arrival(world, message_id)
    await works_again(world)


async def test_a_database_that_another_process_has_locked(world: World) -> None:
    other = sqlite3.connect(world.folder / SCHOOL / "gateway.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    problem = await refusal(world.clients[SCHOOL])
    assert (problem.code, problem.status) == ("store-unavailable", 503)
    assert problem.retry_after
    await until_not_ready(world, "store")
    other.execute("ROLLBACK")
    other.close()
    await works_again(world)


@pytest.mark.xdist_group("postgres")
async def test_a_postgresql_that_dies_and_comes_back(tmp_path: Path) -> None:
    server = PostgresServer()
    try:
        server.start()
        databases = {SCHOOL: server.create_database()}
        provisioned = provision(tmp_path, (SCHOOL, POLICE), extra=QUICK, databases=databases)
        async with running(provisioned) as world:
            await works_again(world)
            await asyncio.to_thread(server.kill)
            problem = await refusal(world.clients[SCHOOL])
            assert (problem.code, problem.status) == ("store-unavailable", 503)
            await until_not_ready(world, "store")
            await asyncio.to_thread(server.start)
            await works_again(world)
    finally:
        server.stop()


async def test_a_broker_that_is_away(tmp_path: Path) -> None:
    """What was accepted meanwhile waits in the outbox, and leaves when the broker is back."""
    broker = RabbitNode()
    try:
        broker.start()
        url = broker.create_vhost()
        await topology.declare(url, [SCHOOL, POLICE])
        async with running(provision(tmp_path, (SCHOOL, POLICE), extra=QUICK, broker=url)) as world:
            await works_again(world)
            await asyncio.to_thread(broker.kill)
            await until_not_ready(world, "transport")
            accepted = (await send(world.clients[SCHOOL]))["message_id"]
            await until(lambda: metric(world, SCHOOL, "gateway_outbox_envelopes") == 1, "it waits")
            await asyncio.to_thread(broker.start)
            await wait_for_arrival(world, accepted)
            await world.clients[POLICE].ack([accepted])
            await works_again(world)
    finally:
        broker.stop()


async def test_a_broker_whose_name_does_not_resolve(
    tmp_path: Path, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await topology.declare(broker_url, [SCHOOL, POLICE])
    resolve, known = asyncio.BaseEventLoop.getaddrinfo, False

    async def resolver(loop: asyncio.BaseEventLoop, host: str, *rest: object, **more: object) -> object:
        if host == "broker.example":
            if not known:
                raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
            host = "127.0.0.1"
        return await resolve(loop, host, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolver)
    provisioned = provision(tmp_path, (SCHOOL, POLICE), extra=QUICK, broker=broker_url)
    for agency in (SCHOOL, POLICE):
        file = tmp_path / agency / config.FILE_NAME
        elsewhere = re.sub(
            r'(url = "amqp://[^@]*@)[^:/"]+(.*)', r"\1broker.example\2\nallow_amqp = true", file.read_text()
        )
        file.write_text(elsewhere)
    async with running(provisioned) as world:
        await until_not_ready(world, "transport")
        accepted = (await send(world.clients[SCHOOL]))["message_id"]
        known = True
        await wait_for_arrival(world, accepted)
        await works_again(world)


async def test_a_node_starts_although_the_broker_is_away(tmp_path: Path) -> None:
    broker = RabbitNode()
    try:
        broker.start()
        url = broker.create_vhost()
        await topology.declare(url, [SCHOOL, POLICE])
        await asyncio.to_thread(broker.halt)  # killed now, 3.10 could lose the queues (docs/faults.md)
        async with running(provision(tmp_path, (SCHOOL, POLICE), extra=QUICK, broker=url)) as world:
            await until_not_ready(world, "transport")
            accepted = (await send(world.clients[SCHOOL]))["message_id"]
            await asyncio.to_thread(broker.start)
            await wait_for_arrival(world, accepted)
            await world.clients[POLICE].ack([accepted])
            await works_again(world)
    finally:
        broker.stop()


async def test_a_clock_that_jumps_ahead_expires_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = (await send(world.clients[SCHOOL]))["message_id"]
    await wait_for_arrival(world, waiting)
    jump = 10 * DAY

    def ahead() -> int:
        return now_ms() + jump

    for agency in (SCHOOL, POLICE):
        world.nodes[agency]._watch = ClockWatch(now_ms(), now_ms())
        set_clock(world, agency, ahead)
    await until_not_ready(world, "clock")
    problem = await refusal(world.clients[SCHOOL])
    assert (problem.code, problem.status) == ("clock-unsure", 503)
    for agency in (SCHOOL, POLICE):
        await world.nodes[agency]._ticker.tick()
    for agency in (SCHOOL, POLICE):
        set_clock(world, agency, now_ms)
    await world.clients[POLICE].ack([waiting])
    await reached(world, waiting, "delivered")
    await works_again(world)


def set_clock(world: World, agency: str, clock: Callable[[], int]) -> None:
    """Set the clock of a node, and of what watches it; the steady clock goes on."""
    node = world.nodes[agency]  # type: ignore[index]
    object.__setattr__(node.parts, "now", clock)
    object.__setattr__(node.parts, "clock_believed", lambda: node._watch.believes(clock(), now_ms()))


async def test_a_directory_that_expired(world: World) -> None:
    text = world.directory.read_text()
    document = json.loads(text)
    document["expires"] = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    world.directory.write_text(json.dumps(document))
    await until_not_ready(world, "directory")
    problem = await refusal(world.clients[SCHOOL])
    assert (problem.code, problem.status) == ("directory-expired", 503)
    world.directory.write_text(text)
    await works_again(world)
