"""Dead letters: an operator sees why, mends the cause, has it taken again; nothing of the person shows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.transport.base import Lane, Sealed
from tests.command import app
from tests.road import arrived, metric, reached, send, wait_for_arrival
from tests.world import POLICE, QUICK, SCHOOL, World, provision, running, until


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Three agencies on the embedded transport, with quick clockwork."""
    async with running(provision(tmp_path, extra=QUICK)) as world:
        yield world


async def typed(world: World, *words: str) -> Any:
    """Run `gateway dead-letters ...` against the police's node while it runs."""
    arguments = ["dead-letters", *words, "-n", str(world.folder / POLICE)]
    return await asyncio.to_thread(CliRunner().invoke, app, arguments)


async def listed(world: World) -> list[dict[str, Any]]:
    """What the operator of the police's node sees."""
    found = json.loads((await typed(world, "list", "--json")).output)["dead_letters"]
    assert isinstance(found, list)
    return found


async def test_a_message_the_node_failed_on_is_set_aside_and_replayed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsealer = world.nodes[POLICE]._arrivals._unsealer
    opening = unsealer._open

    def broken(sealed: Sealed) -> Any:
        if sealed.lane is Lane.MESSAGES:
            raise RuntimeError("a defect nobody foresaw")
        return opening(sealed)

    monkeypatch.setattr(unsealer, "_open", broken)
    message_id = (await send(world.clients[SCHOOL]))["message_id"]
    await until(lambda: metric(world, POLICE, "gateway_dead_letters") == 1, "it is set aside")
    (letter,) = await listed(world)
    assert (letter["reason"], letter["agency"], letter["kept"]) == ("fault", POLICE, True)

    number = str(letter["number"])
    assert (await typed(world, "replay", number)).exit_code == 0
    await until(lambda: metric(world, POLICE, "gateway_dead_letters") == 1, "still broken: set aside again")
    monkeypatch.undo()

    async def again() -> bool:
        for one in await listed(world):
            await typed(world, "replay", str(one["number"]))
        return await arrived(world.clients[POLICE], message_id)

    await until(again, "it arrives after all")
    await until(lambda: metric(world, POLICE, "gateway_dead_letters") == 0, "nothing is left")
    await world.clients[POLICE].ack([message_id])
    await reached(world, message_id, "delivered")


async def test_a_replay_of_what_was_answered_hands_nothing_over_twice(world: World) -> None:
    message_id = (await send(world.clients[SCHOOL]))["message_id"]
    await wait_for_arrival(world, message_id)
    police = world.nodes[POLICE]
    (body, envelope_id) = await police.parts.store.read(
        lambda s: s.execute("SELECT body, envelope_id FROM inbox").fetchone()
    )
    await world.clients[POLICE].ack([message_id])
    expires = police.parts.now() + 60_000
    await police.parts.transport.publish(Sealed(envelope_id, POLICE, Lane.MESSAGES, expires, body))
    await until(lambda: metric(world, POLICE, "gateway_dead_letters") == 1, "the repeat is set aside")
    (letter,) = await listed(world)
    assert letter["reason"] == "replayed"
    await typed(world, "replay", str(letter["number"]))
    await until(lambda: metric(world, POLICE, "gateway_dead_letters") == 0, "it is replayed")
    assert not (await world.clients[POLICE].inbox())["messages"]


async def test_what_is_not_there_is_said_in_one_line(world: World) -> None:
    for word in ("replay", "drop"):
        done = await typed(world, word, "7")
        assert done.exit_code == 1
    police = world.nodes[POLICE]
    sealed = Sealed("0" * 8, POLICE, Lane.MESSAGES, police.parts.now() + 60_000, b"noise")  # type: ignore[arg-type]
    await police._arrivals.replay()
    await police._arrivals._take(sealed, redelivered=False)
    (letter,) = await listed(world)
    assert letter["reason"] == "malformed"
    assert str(letter["number"]) in (await typed(world, "list")).output
    assert (await typed(world, "drop", str(letter["number"]))).exit_code == 0
    assert await listed(world) == []
