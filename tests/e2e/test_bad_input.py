"""What bad input gets at intake: a clear problem document, nothing stored, nothing lost, no value echoed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from gateway.directory.model import Directory
from gateway.http.client import ApiProblem, File
from tests.road import referral, refusal, send, wait_for_arrival
from tests.world import COUNCIL, POLICE, SCHOOL, World, provision, running, until

SECRET = "Seventeen Sycamore Close"
"""Stands for whatever a document says; it must not come back in a problem."""

BOMB = b"""<?xml version="1.0"?><!DOCTYPE Bundle [<!ENTITY a "aaaaaaaaaa">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><Bundle xmlns="http://hl7.org/fhir"><id value="&c;"/></Bundle>"""
ENTITY = b"""<?xml version="1.0"?><!DOCTYPE Bundle [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<Bundle xmlns="http://hl7.org/fhir"><id value="x"/><x>&x;</x></Bundle>"""
XML = "application/fhir+xml"
FHIR = "application/fhir+json"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Three agencies on the embedded transport."""
    async with running(provision(tmp_path)) as world:
        yield world


async def stored(world: World) -> int:
    """Rows in every table of the school's database that a message would touch."""
    tables = ("outbound_messages", "outbound_envelopes", "outbound_chunks", "idempotency", "receipts")
    counts = await world.nodes[SCHOOL].parts.store.read(
        lambda s: [s.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in tables]
    )
    return sum(counts)


def broken(**change: Any) -> dict[str, Any]:
    """The example with a field set, or left out (None)."""
    document = referral(**change)
    return {key: value for key, value in document.items() if value is not None}


CASES: list[tuple[str, Any, dict[str, Any], str, str]] = [
    # name, body, arguments, problem code, pointer that is named ("" for none)
    ("not JSON", SECRET.encode(), {}, "malformed-body", ""),
    ("not XML", SECRET.encode(), {"media_type": XML}, "malformed-body", ""),
    ("not FHIR JSON", SECRET.encode(), {"media_type": FHIR}, "malformed-body", ""),
    ("nothing", b"", {}, "malformed-body", ""),
    ("half", json.dumps(referral()).encode()[:-200], {}, "malformed-body", ""),
    ("an XML bomb", BOMB, {"media_type": XML}, "malformed-body", ""),
    ("an external entity", ENTITY, {"media_type": XML}, "malformed-body", ""),
    ("UTF-16", json.dumps(referral()).encode("utf-16"), {}, "malformed-body", ""),
    ("Latin-1", '{"type":"référence"}'.encode("latin-1"), {}, "malformed-body", ""),
    ("nested arrays", b"[" * 2_000_000 + b"]" * 2_000_000, {}, "malformed-body", ""),
    ("50 MB of nested arrays", b"[" * 25_000_000 + b"]" * 25_000_000, {}, "body-too-large", ""),
    ("duplicate keys", b'{"type":"referral","type":"referral","version":1}', {}, "malformed-body", ""),
    ("a number too large", b'{"type":"referral","version":1e999}', {}, "malformed-body", ""),
    ("an array", b"[1]", {}, "unmappable-content", ""),
    ("unknown type", broken(type="invention"), {}, "unknown-type", "/type"),
    ("unknown version", broken(version=9), {}, "unknown-type", "/type"),
    ("consent missing", broken(consent=None), {}, "invalid-content", "/consent"),
    ("a wrong code", broken(urgency=SECRET), {}, "invalid-content", "/urgency"),
    ("an unknown field", broken(**{SECRET: SECRET}), {}, "invalid-content", ""),
    ("unknown format", referral(), {"media_type": "application/pdf"}, "unsupported-format", ""),
    ("unknown adapter", referral(), {"adapter": "telepathy"}, "unsupported-format", "/adapter"),
    ("unknown recipient", referral(), {"to": ["nowhere"]}, "unknown-recipient", "/to/0"),
    ("no agency's name", referral(), {"to": [SECRET]}, "unknown-recipient", "/to/0"),
    ("the second of two recipients", referral(), {"to": [POLICE, "nowhere"]}, "unknown-recipient", "/to/1"),
    ("unknown purpose", referral(), {"purpose": "curiosity"}, "unknown-purpose", "/to/0"),
    ("unknown lawful basis", referral(), {"lawful_basis": "because"}, "unknown-lawful-basis", "/to/0"),
    ("no purpose", referral(), {"purpose": ""}, "missing-parameter", "/query/purpose"),
    ("no case but a name", referral(), {"case": SECRET}, "bad-request", "/query/case"),
    ("a lifetime of a year", referral(), {"expires_in": 31_536_000}, "bad-request", "/query/expires_in"),
    ("no key", referral(), {"idempotency_key": ""}, "idempotency-key-required", ""),
    ("a key of 300 characters", referral(), {"idempotency_key": "k" * 300}, "idempotency-key-required", ""),
]


@pytest.mark.parametrize(
    ("body", "arguments", "code", "pointer"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
async def test_is_refused_with_a_problem_that_names_the_rule_and_no_value(
    world: World, body: Any, arguments: dict[str, Any], code: str, pointer: str
) -> None:
    problem = await refusal(world.clients[SCHOOL], body, **arguments)
    assert problem.code == code
    assert 400 <= problem.status < 500
    assert problem.hint
    if pointer:
        assert pointer in [one.pointer for one in problem.problems]
    assert SECRET not in f"{problem.title}{problem.hint}{problem.problems}"
    assert await stored(world) == 0
    # and the node goes on as if nothing had been
    await wait_for_arrival(world, (await send(world.clients[SCHOOL]))["message_id"])


async def change_directory(world: World, agency: str, **change: Any) -> None:
    """Change the directory as one node sees it."""
    source = world.nodes[agency].parts.source  # type: ignore[index]
    document = source.current.document.model_copy(update=change)
    source._current = Directory(document)  # type: ignore[attr-defined]


async def test_an_agreement_that_has_run_out(world: World) -> None:
    document = world.nodes[SCHOOL].parts.directory.document
    past = datetime.now(UTC) - timedelta(hours=1)
    ended = tuple(one.model_copy(update={"ends": past}) for one in document.agreements)
    await change_directory(world, SCHOOL, agreements=ended)
    problem = await refusal(world.clients[SCHOOL])
    assert (problem.code, problem.status) == ("agreement-not-in-force", 403)
    assert await stored(world) == 0


async def test_no_agreement(world: World) -> None:
    await change_directory(world, SCHOOL, agreements=())
    assert (await refusal(world.clients[SCHOOL])).code == "no-agreement"
    assert await stored(world) == 0


async def test_a_recipient_that_does_not_accept_the_type(world: World) -> None:
    document = world.nodes[SCHOOL].parts.directory.document
    agencies = tuple(
        one.model_copy(update={"accepts": ()}) if one.id == POLICE else one for one in document.agencies
    )
    await change_directory(world, SCHOOL, agencies=agencies)
    problem = await refusal(world.clients[SCHOOL])
    assert (problem.code, problem.status) == ("type-not-accepted", 403)


async def test_an_attachment_that_is_not_what_was_announced(world: World) -> None:
    wrong = File("a.txt", "text/plain", SECRET.encode(), "sha-256=:" + "A" * 43 + "=:")
    problem = await refusal(world.clients[SCHOOL], attachments=[wrong])
    assert problem.code == "attachment-mismatch"
    assert await stored(world) == 0


async def test_an_attachment_that_the_document_names_but_that_does_not_come(world: World) -> None:
    document = referral(
        attachments=[{"name": "plan.pdf", "mediaType": "application/pdf", "sha256": "0" * 64}]
    )
    problem = await refusal(world.clients[SCHOOL], document)
    assert problem.code == "attachment-mismatch"
    assert await stored(world) == 0


async def test_attachments_beyond_the_limit_leave_nothing_behind(tmp_path: Path) -> None:
    small = {SCHOOL: "\n[limits]\nattachment_bytes = 3000000\n"}
    async with running(provision(tmp_path, extra=small)) as world:
        files = [File(f"{i}.bin", "application/octet-stream", b"\0" * 1_600_000) for i in range(2)]
        assert (await refusal(world.clients[SCHOOL], attachments=files)).code == "body-too-large"
        assert await stored(world) == 0


async def test_a_body_that_ends_early_is_not_taken(world: World) -> None:
    port, body = world.nodes[SCHOOL].port, json.dumps(referral()).encode()
    token = world.clients[SCHOOL]._headers["Authorization"]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        "POST /v1/messages?to=police&purpose=prevent&lawful_basis=public-task HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: {token}\r\nIdempotency-Key: half\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body[: len(body) // 2])
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    del reader
    # the same key works afterwards: nothing of the half was taken
    accepted = await send(world.clients[SCHOOL], body, idempotency_key="half")
    await wait_for_arrival(world, accepted["message_id"])
    assert len((await world.clients[POLICE].inbox())["messages"]) == 1


async def test_a_full_outbox_says_no_and_takes_it_later_under_the_same_key(tmp_path: Path) -> None:
    """Three messages fit; the recipient's queue is taken away so that none can leave."""
    small = {SCHOOL: "\n[limits]\noutbox_envelopes = 3\n\n[times]\ntick = 0.1\n"}
    async with running(provision(tmp_path, extra=small)) as world:
        queue = tmp_path / "spool" / POLICE
        queue.rename(tmp_path / "away")

        async def accepted() -> bool:
            try:
                await send(world.clients[SCHOOL])
            except ApiProblem as early:
                # A message counted by the clockwork and by intake at once counts twice until the next tick.
                assert early.code == "outbox-full"
                return False
            return True

        for _ in range(3):
            await until(accepted, "there is room for three")
        problem = await refusal(world.clients[SCHOOL], idempotency_key="fourth")
        assert (problem.code, problem.status) == ("outbox-full", 503)
        assert problem.retry_after
        (tmp_path / "away").rename(queue)

        async def taken() -> bool:
            try:
                await send(world.clients[SCHOOL], idempotency_key="fourth")
            except ApiProblem as again:
                assert again.code == "outbox-full"
                return False
            return True

        await until(taken, "the outbox drains", timeout=60)

        async def all_there() -> bool:
            return len((await world.clients[POLICE].inbox())["messages"]) == 4

        await until(all_there, "all four arrive, each once")


async def test_official_referral_requests_cross_and_the_original_travels_too(
    world: World, shared_data: Path
) -> None:
    """NHS England's own examples: each goes in, is valid, and comes out as it was written."""
    requests = [
        path
        for path in sorted((shared_data / "health" / "bars-ig-examples").glob("*.xml"))
        if b"servicerequest-request" in path.read_bytes() and b"<Bundle" in path.read_bytes()
    ]
    assert len(requests) >= 10
    for path in requests:
        body = path.read_bytes()
        accepted = await send(world.clients[SCHOOL], body, media_type=XML, to=[COUNCIL])
        await wait_for_arrival(world, accepted["message_id"], COUNCIL)
        assert (await world.clients[COUNCIL].original(accepted["message_id"])).body == body
        bundle = json.loads((await world.clients[COUNCIL].open(accepted["message_id"], FHIR)).body)
        assert bundle["resourceType"] == "Bundle"
        await world.clients[COUNCIL].ack([accepted["message_id"]])


async def test_our_own_examples_cross_in_every_format(world: World) -> None:
    folder = resources.files("gateway.adapters") / "examples" / "fhir-bars"
    for entry in folder.iterdir():
        media_type = XML if entry.name.endswith(".xml") else FHIR
        accepted = await send(world.clients[SCHOOL], entry.read_bytes(), media_type=media_type)
        await wait_for_arrival(world, accepted["message_id"])
        for wanted in ("application/json", FHIR, XML):
            assert (await world.clients[POLICE].open(accepted["message_id"], wanted)).media_type == wanted
