"""Keys change while messages flow: nothing is lost, and a revoked key is believed by nobody."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway import config, provisioning
from gateway.crypto.key_document import AgencyKeys
from gateway.directory import file as directory_file
from gateway.errors import StartupError
from gateway.messages import AgencyId, Reason
from gateway.node import now_ms
from tests.command import app
from tests.e2e.test_refused import header, post, refused, sealed
from tests.road import arrived, metric, reached, send, wait_for_arrival
from tests.world import POLICE, SCHOOL, World, provision, running, until

LEAD = 700
HOUR = 3_600_000


def world_of(tmp_path: Path) -> World:
    world = provision(tmp_path, (SCHOOL, POLICE))
    for agency in (SCHOOL, POLICE):
        file = tmp_path / agency / config.FILE_NAME
        file.write_text(file.read_text("utf-8").replace("[node]", "[node]\ndirectory_refresh = 0.1"), "utf-8")
    return world


def keys_of(world: World, agency: AgencyId) -> AgencyKeys:
    return world.nodes[agency].parts.keys[agency]


async def rotate(world: World, agency: AgencyId) -> None:
    before = keys_of(world, agency)
    provisioning.rotate(config.load(world.folder / agency), agency, LEAD, now_ms())
    await until(lambda: keys_of(world, agency).signing.kid != before.signing.kid, "the new key signs")


async def test_rotating_both_sides_under_load_loses_nothing(tmp_path: Path) -> None:
    async with running(world_of(tmp_path)) as world:
        old = {agency: keys_of(world, agency) for agency in (SCHOOL, POLICE)}
        sent: list[str] = []
        stop = asyncio.Event()

        async def load() -> None:
            while not stop.is_set():
                sent.append((await send(world.clients[SCHOOL]))["message_id"])
                await asyncio.sleep(0.02)

        sending = asyncio.create_task(load())
        await asyncio.gather(rotate(world, SCHOOL), rotate(world, POLICE))
        under_way = len(sent)
        await until(lambda: len(sent) > under_way + 5, "messages under the new keys")
        stop.set()
        await sending

        for message_id in sent:
            await wait_for_arrival(world, message_id)
            opened = json.loads((await world.clients[POLICE].open(message_id)).body)
            assert opened["message"]["sender"] == SCHOOL
        for begin in range(0, len(sent), 50):
            await world.clients[POLICE].ack(sent[begin : begin + 50])
        for message_id in sent:
            await reached(world, message_id, "delivered")
        sealing = world.nodes[SCHOOL].parts.directory.sealing_key(POLICE, now_ms())
        assert sealing is not None
        assert sealing.kid in keys_of(world, POLICE).opening
        assert sealing.kid != old[POLICE].current_opening.kid


async def test_a_key_younger_than_the_recipients_copy_of_the_directory_is_looked_up(tmp_path: Path) -> None:
    """No lead at all, and a recipient that would not look for an hour."""
    world = world_of(tmp_path)
    file = tmp_path / POLICE / config.FILE_NAME
    text = file.read_text("utf-8")
    file.write_text(text.replace("directory_refresh = 0.1", "directory_refresh = 3600.0"), "utf-8")
    async with running(world):
        before = keys_of(world, SCHOOL)
        provisioning.rotate(config.load(tmp_path / SCHOOL), SCHOOL, 0, now_ms())
        await until(lambda: keys_of(world, SCHOOL).signing.kid != before.signing.kid, "the new key signs")
        message_id = (await send(world.clients[SCHOOL]))["message_id"]
        await wait_for_arrival(world, message_id)
        await world.clients[POLICE].ack([message_id])
        await reached(world, message_id, "delivered")


async def test_a_message_that_overtakes_the_recipients_look_at_its_own_keys_is_opened(tmp_path: Path) -> None:
    """No lead at all: the sender seals to a key of which the running recipient has not read yet."""
    world = world_of(tmp_path)
    file = tmp_path / POLICE / config.FILE_NAME
    text = file.read_text("utf-8")
    file.write_text(text.replace("directory_refresh = 0.1", "directory_refresh = 3600.0"), "utf-8")
    async with running(world):
        before = keys_of(world, POLICE)
        provisioning.rotate(config.load(tmp_path / POLICE), POLICE, 0, now_ms())

        def seals_to_the_new_key() -> bool:
            key = world.nodes[SCHOOL].parts.directory.sealing_key(POLICE, now_ms())
            return key is not None and key.kid not in before.opening

        await until(seals_to_the_new_key, "the sender knows the new key")
        assert keys_of(world, POLICE).opening.keys() == before.opening.keys()
        message_id = (await send(world.clients[SCHOOL]))["message_id"]
        await wait_for_arrival(world, message_id)
        await world.clients[POLICE].ack([message_id])
        await reached(world, message_id, "delivered")


async def test_what_may_be_sealed_to_a_key_that_cannot_be_read_now_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a token is pulled out just then, or there are too many open files: it passes by itself."""
    world = world_of(tmp_path)
    file = tmp_path / POLICE / config.FILE_NAME
    text = file.read_text("utf-8")
    file.write_text(text.replace("directory_refresh = 0.1", "directory_refresh = 3600.0"), "utf-8")
    tried: list[AgencyId] = []

    def away(agency: AgencyId) -> AgencyKeys:
        tried.append(agency)
        raise StartupError("not now")

    async with running(world):
        before = keys_of(world, POLICE)
        with monkeypatch.context() as patch:
            patch.setattr(world.nodes[POLICE].parts.keys._store, "load", away)
            provisioning.rotate(config.load(tmp_path / POLICE), POLICE, 0, now_ms())

            def seals_to_the_new_key() -> bool:
                key = world.nodes[SCHOOL].parts.directory.sealing_key(POLICE, now_ms())
                return key is not None and key.kid not in before.opening

            await until(seals_to_the_new_key, "the sender knows the new key")
            message_id = (await send(world.clients[SCHOOL]))["message_id"]
            await until(lambda: len(tried) > 1, "the recipient tries, and tries again")
            assert not await arrived(world.clients[POLICE], message_id)
        await wait_for_arrival(world, message_id)
        await world.clients[POLICE].ack([message_id])
        await reached(world, message_id, "delivered")
        assert metric(world, POLICE, "gateway_dead_letters") == 0


async def test_old_keys_survive_a_restart_and_open_what_waits(tmp_path: Path) -> None:
    async with running(world_of(tmp_path)) as world:
        message_id = (await send(world.clients[SCHOOL]))["message_id"]
        await wait_for_arrival(world, message_id)
        await rotate(world, POLICE)
        await world.stop(POLICE)
        await world.start(POLICE)
        assert (await world.clients[POLICE].open(message_id)).body


async def test_a_revoked_key_is_refused_after_one_refresh(tmp_path: Path) -> None:
    async with running(world_of(tmp_path)) as world:
        stolen = keys_of(world, SCHOOL)
        await rotate(world, SCHOOL)
        run = CliRunner().invoke
        node = ["-n", str(tmp_path / SCHOOL)]
        for kid in (stolen.signing.kid, stolen.current_opening.kid):
            done = await asyncio.to_thread(run, app, ["keys", "revoke", kid.hex(), *node])
            assert done.exit_code == 0, done.output

        def unknown() -> bool:
            return world.nodes[POLICE].parts.find_verify_key(SCHOOL, stolen.signing.kid) is None

        await until(unknown, "the police know it is revoked")
        body = sealed(world, header(), signer=stolen.signing)  # what the thief makes
        await post(world, body)
        await refused(world, Reason.UNKNOWN_SENDER)
        message_id = (await send(world.clients[SCHOOL]))["message_id"]
        await wait_for_arrival(world, message_id)
        assert await arrived(world.clients[POLICE], message_id)
        directory = directory_file.load(world.directory)
        found = directory.sealing_key(SCHOOL, now_ms())
        assert found is not None
        assert found.kid != stolen.current_opening.kid


async def test_a_copy_of_a_destroyed_signing_key_says_nothing_new(tmp_path: Path) -> None:
    async with running(world_of(tmp_path)) as world:
        copied = keys_of(world, SCHOOL)
        before = header()
        await rotate(world, SCHOOL)
        ended = now_ms() + 2000
        when = datetime.fromtimestamp(ended / 1000, UTC)
        # As destroying it does: what it signed before still counts.
        await asyncio.to_thread(directory_file.end_key, world.directory, SCHOOL, copied.signing.kid, when)

        def known() -> bool:
            key = world.nodes[POLICE].parts.find_verify_key(SCHOOL, copied.signing.kid)
            return key is not None and key.ended(ended)

        await until(known, "the police know when it ended")
        await post(world, sealed(world, header(created=ended, expires=ended + HOUR), signer=copied.signing))
        await refused(world, Reason.UNKNOWN_SENDER)
        await post(world, sealed(world, before, signer=copied.signing))
        await wait_for_arrival(world, before.message_id)


async def test_a_damaged_key_file_changes_nothing_in_a_running_node(tmp_path: Path) -> None:
    async with running(world_of(tmp_path)) as world:
        before = keys_of(world, SCHOOL).signing.kid
        (tmp_path / SCHOOL / "keys" / f"{SCHOOL}.json").write_text("{", "utf-8")
        await asyncio.sleep(0.3)
        assert keys_of(world, SCHOOL).signing.kid == before
        await wait_for_arrival(world, (await send(world.clients[SCHOOL]))["message_id"])


def test_years_of_rotations_fit(tmp_path: Path) -> None:
    world_of(tmp_path)
    settings, now = config.load(tmp_path / SCHOOL), now_ms()
    for month in range(60):
        provisioning.rotate(settings, SCHOOL, 0, now + month * 1000)
    listed = directory_file.load(tmp_path / "directory.json").document.agencies[0].keys
    assert len(listed) == 2 * 61 + 1


def test_the_last_key_of_its_use_cannot_be_revoked(tmp_path: Path) -> None:
    world_of(tmp_path)
    kid = config.load(tmp_path / SCHOOL).key_store().load(SCHOOL).signing.kid.hex()
    refused = CliRunner().invoke(app, ["keys", "revoke", kid, "-n", str(tmp_path / SCHOOL)])
    assert "rotate --lead 0" in str(refused.exception)


def test_rotating_twice_at_once_is_refused_and_list_says_pending(tmp_path: Path) -> None:
    world_of(tmp_path)
    node = ["-n", str(tmp_path / SCHOOL)]
    run = CliRunner().invoke
    assert run(app, ["keys", "rotate", *node]).exit_code == 0
    assert "pending already" in str(run(app, ["keys", "rotate", *node]).exception)
    listed = json.loads(run(app, ["keys", "list", "--json", *node]).stdout)["keys"]
    assert [key["state"] for key in listed] == ["active", "pending"] * 2


def test_a_rotation_that_stopped_half_way_is_finished_by_the_next(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    settings = config.load(tmp_path / SCHOOL)
    made = settings.key_store().rotate(SCHOOL, now_ms(), now_ms() + 1)  # and no word to the directory
    now = now_ms()
    provisioning.rotate(settings, SCHOOL, 5_000, now)
    directory = directory_file.load(world.directory)
    assert set(settings.key_store().load(SCHOOL).opening) == set(made.opening)
    assert directory.verify_key(SCHOOL, made.signing.kid, now) is None
    assert directory.verify_key(SCHOOL, made.signing.kid, now + 5_000)
