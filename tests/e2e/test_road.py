"""The whole road on real nodes over HTTP, on both transports: what a sender and a recipient experience."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.crypto import proof
from gateway.directory import file as directory_file
from gateway.http.client import ApiProblem
from tests.road import arrived, reached, referral, send, wait_for_arrival
from tests.world import COUNCIL, POLICE, SCHOOL, World, provision, running


@pytest.fixture(params=["embedded", "rabbitmq"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """Three agencies, all allowed to send to each other, on each transport."""
    broker = request.getfixturevalue("broker_url") if request.param == "rabbitmq" else ""
    async with running(provision(tmp_path, broker=broker), broker=broker) as world:
        yield world


async def test_a_referral_crosses_and_every_step_is_receipted(world: World) -> None:
    school, police = world.clients[SCHOOL], world.clients[POLICE]
    accepted = await send(school)
    message_id = accepted["message_id"]
    assert [ladder["stage"] for ladder in accepted["recipients"]] == ["accepted"]
    await wait_for_arrival(world, message_id)

    opened = json.loads((await police.open(message_id)).body)
    assert opened["content"] == referral()
    assert opened["message"]["sender"] == SCHOOL

    await police.ack([message_id])
    await reached(world, message_id, "delivered")
    assert not await arrived(police, message_id)

    status = await school.status(message_id)
    stages = [receipt["stage"] for receipt in status["recipients"][0]["receipts"]]
    assert stages == ["accepted", "received", "delivered"]
    find = directory_file.load(world.directory).verify_key
    for receipt in status["recipients"][0]["receipts"]:
        text = receipt["receipt"]
        proved = proof.verify_receipt(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), find)
        assert (proved.message_id, proved.stage) == (message_id, receipt["stage"])


async def test_each_recipient_has_an_envelope_and_a_ladder_of_its_own(world: World) -> None:
    school = world.clients[SCHOOL]
    message_id = (await send(school, to=[POLICE, COUNCIL]))["message_id"]
    await wait_for_arrival(world, message_id, POLICE)
    await wait_for_arrival(world, message_id, COUNCIL)
    await world.clients[POLICE].ack([message_id])
    await world.clients[COUNCIL].reject(message_id, reason="wrong-agency")
    await reached(world, message_id, "delivered", POLICE)
    await reached(world, message_id, "rejected", COUNCIL)
    ladders = (await school.status(message_id))["recipients"]
    assert len({ladder["envelope_id"] for ladder in ladders}) == 2
    assert ladders[1]["receipts"][-1]["reason"] == "wrong-agency"


async def test_a_retry_with_the_same_key_gets_the_first_answer(world: World) -> None:
    school, key = world.clients[SCHOOL], str(uuid.uuid4())
    first = await send(school, idempotency_key=key)
    await reached(world, first["message_id"], "received")
    assert await send(school, idempotency_key=key) == first
    with pytest.raises(ApiProblem) as refused:
        await send(school, referral(attachments=[]), idempotency_key=key)
    assert refused.value.code == "idempotency-key-reused"
    assert len((await world.clients[POLICE].inbox(wait=0))["messages"]) == 1


async def test_the_first_answer_survives_a_restart(world: World) -> None:
    key = str(uuid.uuid4())
    first = await send(world.clients[SCHOOL], idempotency_key=key)
    await world.stop(SCHOOL)
    await world.start(SCHOOL)
    assert await send(world.clients[SCHOOL], idempotency_key=key) == first


async def test_a_message_waits_for_a_node_that_is_down(world: World) -> None:
    await world.stop(POLICE)
    message_id = (await send(world.clients[SCHOOL]))["message_id"]
    await world.start(POLICE)
    await wait_for_arrival(world, message_id)


async def test_an_answer_can_be_repeated_but_not_changed(world: World) -> None:
    police = world.clients[POLICE]
    message_id = (await send(world.clients[SCHOOL]))["message_id"]
    await wait_for_arrival(world, message_id)
    first = await police.ack([message_id])
    assert await police.ack([message_id]) == first
    with pytest.raises(ApiProblem) as refused:
        await police.reject(message_id, reason="wrong-agency")
    assert refused.value.code == "already-final"


async def test_a_failed_check_digit_is_a_warning_not_a_refusal(world: World) -> None:
    document = referral()
    document["person"]["identifier"] = [{"scheme": "nhs-number", "value": "1234567890"}]
    accepted = await send(world.clients[SCHOOL], document)
    assert [warning["pointer"] for warning in accepted["warnings"]] == ["/person/identifier/0/value"]
    police = world.clients[POLICE]
    await wait_for_arrival(world, accepted["message_id"])
    assert json.loads((await police.open(accepted["message_id"])).body)["warnings"] == accepted["warnings"]


async def test_only_the_agency_itself_sees_its_messages(world: World) -> None:
    message_id = (await send(world.clients[SCHOOL]))["message_id"]
    await wait_for_arrival(world, message_id)
    for ask in (world.clients[COUNCIL].status, world.clients[POLICE].status, world.clients[COUNCIL].open):
        with pytest.raises(ApiProblem) as refused:
            await ask(message_id)
        assert refused.value.code == "not-found"
