"""Recall: what has not been delivered can be withdrawn, by its sender only, and both ends say so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.crypto import content
from gateway.engine import recall
from gateway.http.client import ApiProblem
from gateway.messages import EnvelopeId, new_id
from gateway.store import notes
from gateway.transport.base import Lane, Sealed, TransportUnavailable
from tests.road import arrived, ladder, reached, send, wait_for_arrival
from tests.world import COUNCIL, POLICE, QUICK, SCHOOL, World, provision, running, until


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Three agencies on the embedded transport, with quick clockwork."""
    async with running(provision(tmp_path, extra=QUICK)) as world:
        yield world


async def recalled(world: World, message_id: str) -> dict[str, object]:
    """Wait until the school sees that its recall succeeded."""
    found = await reached(world, message_id, "rejected")
    last = found["receipts"][-1]
    assert (last["stage"], last["reason"], last["issuer"]) == ("rejected", "recalled", POLICE)
    return found


async def test_a_message_nobody_collected_is_withdrawn_at_both_ends(world: World) -> None:
    message_id = (await send(world.clients[SCHOOL]))["message_id"]
    await wait_for_arrival(world, message_id)
    asked = await world.clients[SCHOOL].recall(message_id)
    assert asked["recalled"] is not None
    await recalled(world, message_id)
    assert (await world.clients[SCHOOL].status(message_id))["recalled"] == asked["recalled"]
    assert not (await world.clients[POLICE].inbox())["messages"]
    for answer in (world.clients[POLICE].open(message_id), world.clients[POLICE].ack([message_id])):
        with pytest.raises(ApiProblem, match="already-final"):
            await answer
    again = await world.clients[SCHOOL].recall(message_id)
    assert again["recalled"] == asked["recalled"]


async def test_what_was_delivered_stays_delivered(world: World) -> None:
    message_id = (await send(world.clients[SCHOOL]))["message_id"]
    await wait_for_arrival(world, message_id)
    await world.clients[POLICE].ack([message_id])
    try:
        await world.clients[SCHOOL].recall(message_id)
    except ApiProblem as problem:
        assert problem.code == "already-final"  # the sender's node knows already
    await reached(world, message_id, "delivered")


async def test_what_the_sender_knows_to_be_final_cannot_be_recalled(world: World) -> None:
    message_id = (await send(world.clients[SCHOOL]))["message_id"]
    await wait_for_arrival(world, message_id)
    await world.clients[POLICE].ack([message_id])
    await reached(world, message_id, "delivered")
    with pytest.raises(ApiProblem, match="already-final"):
        await world.clients[SCHOOL].recall(message_id)


async def test_a_recall_that_overtakes_its_message_still_counts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport, police = world.nodes[SCHOOL].parts.transport, world.nodes[POLICE]
    publish, held_up = transport.publish, True

    async def slow(sealed: Sealed) -> None:
        if held_up and sealed.lane is Lane.MESSAGES:
            raise TransportUnavailable("held up")
        await publish(sealed)

    monkeypatch.setattr(transport, "publish", slow)
    message_id = (await send(world.clients[SCHOOL]))["message_id"]
    envelope_id = EnvelopeId((await ladder(world, message_id))["envelope_id"])
    await world.clients[SCHOOL].recall(message_id)

    async def known() -> bool:
        return await police.parts.store.read(lambda s: notes.is_recalled(s, envelope_id, sender=SCHOOL))

    await until(known, "the recall arrives first")
    held_up = False
    await recalled(world, message_id)
    assert not await arrived(world.clients[POLICE], message_id)


async def test_nobody_recalls_what_another_sent(world: World) -> None:
    message_id = (await send(world.clients[SCHOOL]))["message_id"]
    await wait_for_arrival(world, message_id)
    envelope_id = (await ladder(world, message_id))["envelope_id"]
    council = world.nodes[COUNCIL]
    unknown = new_id()
    payload = content.encode_ids([envelope_id, unknown])
    await council.parts.store.write(lambda s: notes.owe(s, recall.TYPE, COUNCIL, POLICE, payload))
    police = world.nodes[POLICE]

    async def taken() -> bool:
        return await police.parts.store.read(lambda s: notes.is_recalled(s, unknown, sender=COUNCIL))

    await until(taken, "the note is taken")
    assert not await police.parts.store.read(lambda s: notes.is_recalled(s, unknown, sender=SCHOOL))
    await world.clients[POLICE].ack([message_id])
    await reached(world, message_id, "delivered")


async def test_a_recall_outlives_a_restart_of_both_nodes(world: World) -> None:
    await world.stop(POLICE)
    message_id = (await send(world.clients[SCHOOL]))["message_id"]
    await world.clients[SCHOOL].recall(message_id)
    await world.stop(SCHOOL)
    await world.start(SCHOOL)
    await world.start(POLICE)
    await recalled(world, message_id)
    assert not (await world.clients[POLICE].inbox())["messages"]


async def test_only_its_sender_knows_the_message(world: World) -> None:
    message_id = (await send(world.clients[SCHOOL]))["message_id"]
    for stranger, wanted in ((COUNCIL, message_id), (SCHOOL, new_id())):
        with pytest.raises(ApiProblem, match="not-found"):
            await world.clients[stranger].recall(wanted)
