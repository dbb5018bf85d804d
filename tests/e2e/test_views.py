"""One referral, two recipients, two views: what an agreement does not share never leaves the node."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.directory import file as directory_file
from gateway.directory.model import parse
from gateway.http.client import ApiProblem, File
from gateway.messages import LawfulBasis, Purpose
from gateway.protocol import views
from gateway.provisioning import NewAgreement, agree
from tests.road import reached, referral, wait_for_arrival
from tests.world import COUNCIL, POLICE, QUICK, SCHOOL, World, provision, running

GROUPS = ("narrative", "prevent")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """The council is shown everything, the police two groups."""
    made = provision(tmp_path, (SCHOOL, POLICE, COUNCIL), extra=QUICK, agreements=False)
    today = datetime.now(UTC) - timedelta(days=1)
    for name, recipient, shares in (("all", COUNCIL, None), ("part", POLICE, GROUPS)):
        agree(
            made.directory,
            NewAgreement(
                name,
                (SCHOOL,),
                (recipient,),
                ("referral",),
                tuple(Purpose),
                tuple(LawfulBasis),
                today,
                today + timedelta(days=30),
                shares,
            ),
            replies=False,
        )
    async with running(made) as world:
        yield world


async def send(world: World, document: dict[str, Any], key: str, *files: File) -> dict[str, Any]:
    return await world.clients[SCHOOL].send(
        json.dumps(document).encode(),
        media_type="application/json",
        to=[POLICE, COUNCIL],
        purpose="prevent",
        lawful_basis="public-task",
        idempotency_key=key,
        attachments=files,
    )


async def test_each_recipient_is_sent_its_own_view(world: World) -> None:
    document = {"note": "a note"} | referral()
    drawing = File("drawing.txt", "text/plain", b"a drawing")
    sent = await send(world, document, "one", drawing)
    message_id = sent["message_id"]
    shown = {one["recipient"]: one["view"] for one in sent["recipients"]}
    assert shown == {POLICE: ["core", *GROUPS], COUNCIL: None}

    for agency in (POLICE, COUNCIL):
        await wait_for_arrival(world, message_id, agency)
    whole = json.loads((await world.clients[COUNCIL].open(message_id)).body)
    assert whole["content"] == document
    assert [one["name"] for one in whole["attachments"]] == ["drawing.txt"]

    part = json.loads((await world.clients[POLICE].open(message_id)).body)
    assert part["content"] == views.reduced(document, GROUPS)
    assert part["content"] != document
    assert (part["attachments"], part["original"]) == ([], None)
    assert json.loads((await world.clients[POLICE].original(message_id)).body) == part["content"]
    assert part["warnings"][0]["rule"].startswith("the agreement leaves out: identifiers, contact")

    for agency in (POLICE, COUNCIL):
        await world.clients[agency].ack([message_id])
    for agency in (POLICE, COUNCIL):
        await reached(world, message_id, "delivered", agency)
    status = await world.clients[SCHOOL].status(message_id)
    assert {one["recipient"]: one["view"] for one in status["recipients"]} == shown
    assert await send(world, document, "one", drawing) == sent, "a retry gets the first answer"


@pytest.mark.parametrize("what", ["fields", "attachments"])
async def test_more_than_the_recipients_agreement_says_is_rejected(world: World, what: str) -> None:
    """The police's node knows of a narrower agreement than the school's did."""
    narrower = json.loads(world.directory.read_text())
    for agreement in narrower["agreements"]:
        agreement["shares"] = ["narrative", "prevent"] if what == "attachments" else ["prevent"]
    source = world.nodes[POLICE].parts.source
    held = parse(json.dumps(narrower).encode())
    source._current = held  # type: ignore[attr-defined]
    groups = (*GROUPS, "attachments") if what == "attachments" else GROUPS
    mine = json.loads(world.directory.read_text())
    for agreement in mine["agreements"]:
        agreement["shares"] = list(groups)
    world.nodes[SCHOOL].parts.source._current = parse(json.dumps(mine).encode())  # type: ignore[attr-defined]
    files = [File("drawing.txt", "text/plain", b"a drawing")] if what == "attachments" else []
    sent = await send(world, referral(), what, *files)
    ladder = await reached(world, sent["message_id"], "rejected")
    assert ladder["receipts"][-1]["reason"] == "more-than-agreed"
    assert (await world.clients[POLICE].inbox())["messages"] == []


async def test_a_message_whose_attachments_nobody_is_shown(world: World) -> None:
    """They are read, checked and counted in the fingerprint, and leave nothing behind."""
    client = world.clients[SCHOOL]
    answers = []
    for body in (b"a drawing", b"a drawing", b"another"):
        try:
            sent = await client.send(
                json.dumps(referral()).encode(),
                media_type="application/json",
                to=[POLICE],
                purpose="prevent",
                lawful_basis="public-task",
                idempotency_key="two",
                attachments=[File("drawing.txt", "text/plain", body)],
            )
            answers.append(sent["message_id"])
        except ApiProblem as problem:
            answers.append(problem.code)
    assert answers[0] == answers[1]
    assert answers[2] == "idempotency-key-reused"


def test_only_a_referral_has_groups_and_only_known_ones(tmp_path: Path) -> None:
    made = provision(tmp_path, (SCHOOL, POLICE), agreements=False)
    today = datetime.now(UTC)
    for types, shares in ((("referral", "decision"), ("contact",)), (("referral",), ("everything",))):
        wrong = NewAgreement(
            "wrong",
            (SCHOOL,),
            (POLICE,),
            types,
            tuple(Purpose),
            tuple(LawfulBasis),
            today,
            today + timedelta(days=1),
            shares,
        )
        with pytest.raises(Exception, match="the agreement is not valid"):
            agree(made.directory, wrong, replies=False)
    assert directory_file.load(made.directory).document.agreements == ()
