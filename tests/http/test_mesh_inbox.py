"""The MESH face: the inbox, what stands in it and what does not, reports; and that nothing leaks."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from gateway import config
from gateway.engine.attachments import AttachmentSealer
from gateway.errors import Unavailable
from gateway.http.client import File
from gateway.http.mesh_filter import workflow_filter
from gateway.messages import new_id
from gateway.observability import logs
from tests.http.mesh import (
    AGENCIES,
    COUNCIL,
    FAR,
    HERE,
    SPARE,
    THERE,
    TRUST,
    V1,
    WORKFLOW,
    MeshWorld,
    mesh_world,
    token,
)
from tests.plugin_skips import NO_DATA, SHARED_DATA
from tests.road import referral
from tests.world import until

ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
SANDBOX = SHARED_DATA / "health" / "mesh"
GZIP = {"Content-Encoding": "gzip"}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[MeshWorld]:
    async with mesh_world(tmp_path) as world:
        yield world


async def over_own_api(world: MeshWorld, document: Any, **change: Any) -> str:
    """Send over /v1 from the trust to the council."""
    arguments: dict[str, Any] = {
        "media_type": "application/json",
        "to": [COUNCIL],
        "purpose": "prevent",
        "lawful_basis": "public-task",
        "idempotency_key": new_id(),
    }
    answer = await world.own[TRUST].send(json.dumps(document).encode(), **(arguments | change))
    return str(answer["message_id"])


async def at_council(world: MeshWorld, message_id: str) -> None:
    async def there() -> bool:
        page = await world.own[COUNCIL].inbox(wait=1)
        return any(one["message_id"] == message_id for one in page["messages"])

    await until(there, "arrival over /v1")


# One message


async def test_a_message_carries_what_its_sender_said(world: MeshWorld) -> None:
    headers = {
        "Mex-FileName": "list é.csv",
        "Mex-Subject": "about",
        "Mex-LocalID": "l",
        "Mex-PartnerID": "p",
        "Mex-Content-Checksum": "c",
        "Mex-Content-Encrypted": "Y",
        "Mex-Content-Compressed": "N",
        "Content-Type": "text/csv; charset=utf-8",
    }
    message_id = await world.accepted(b"a,b", headers=headers)
    await world.arrived(message_id)
    head = await world.ask("HEAD", f"/inbox/{message_id}", mailbox=THERE)
    got = await world.ask("GET", f"/inbox/{message_id}", mailbox=THERE)
    assert (head.status, head.body) == (200, b"")
    assert (got.status, got.body, got.headers["Content-Type"]) == (200, b"a,b", "text/csv")
    for answer in (head, got):
        told = answer.headers
        assert told["Mex-FileName"] == "list é.csv"
        assert [told[f"Mex-{name}"] for name in ("Subject", "LocalID", "PartnerID", "Content-Checksum")] == [
            *("about", "l", "p", "c")
        ]
        assert (told["Mex-From"], told["Mex-To"], told["Mex-WorkflowID"]) == (HERE, THERE, WORKFLOW)
        assert (told["Mex-MessageID"], told["Mex-MessageType"]) == (message_id, "DATA")
        assert (told["Mex-Chunk-Range"], told["Mex-StatusCode"]) == ("1:1", "00")
        assert told["Mex-Content-Encrypted"] == "Y"
        assert "Mex-Content-Compressed" not in told
    again = await world.ask("GET", f"/inbox/{message_id}", mailbox=THERE)
    assert again.headers["ETag"] == got.headers["ETag"]


async def test_latin_1_in_a_header_is_understood(world: MeshWorld) -> None:
    """What Python's http.client, and so NHS England's client, makes of é."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.nodes[TRUST].port)
    head = f"POST /messageexchange/{HERE}/outbox HTTP/1.1\r\nHost: x\r\nAuthorization: {token(HERE)}\r\n"
    more = f"Mex-To: {THERE}\r\nMex-WorkflowID: {WORKFLOW}\r\nMex-Subject: café\r\nContent-Length: 1\r\n\r\nx"
    writer.write((head + more).encode("latin-1"))
    answer = await reader.readuntil(b"}")
    writer.close()
    message_id = str(json.loads(answer.partition(b"\r\n\r\n")[2])["messageID"])
    await world.arrived(message_id)
    got = await world.ask("HEAD", f"/inbox/{message_id}", mailbox=THERE)
    assert got.headers["Mex-Subject"] == "café"


@pytest.mark.parametrize("accepts", ["gzip", "identity"])
async def test_gzip_is_given_back_to_who_takes_it(world: MeshWorld, accepts: str) -> None:
    message_id = await world.accepted(gzip.compress(b"plain" * 100), headers=GZIP)
    await world.arrived(message_id)
    headers = {"Accept-Encoding": accepts}
    got = await world.ask("GET", f"/inbox/{message_id}", mailbox=THERE, headers=headers)
    if accepts == "gzip":
        assert (got.headers["Content-Encoding"], got.headers["Mex-Content-Compressed"]) == ("gzip", "Y")
        assert gzip.decompress(got.body) == b"plain" * 100
    else:
        assert "Content-Encoding" not in got.headers
        assert got.body == b"plain" * 100


async def test_a_message_is_seen_by_its_own_mailbox_only(world: MeshWorld) -> None:
    message_id = await world.accepted(to=SPARE)
    await world.arrived(message_id, SPARE)
    assert await world.listed(THERE) == []
    for mailbox in (THERE, HERE):
        for method, path in (("GET", ""), ("HEAD", ""), ("GET", "/1"), ("PUT", "/status/acknowledged")):
            assert (await world.ask(method, f"/inbox/{message_id}{path}", mailbox=mailbox)).status == 404
    assert (await world.ask("GET", "/count", mailbox=THERE)).json == {"count": 0}
    v1 = (await world.ask("GET", "/count", mailbox=SPARE, accept=V1)).json
    assert (v1["count"], v1["allResultsIncluded"]) == (1, True)


async def test_an_acknowledged_message_is_gone_and_can_be_acknowledged_again(world: MeshWorld) -> None:
    message_id = await world.accepted()
    await world.arrived(message_id)
    for _ in range(2):
        done = await world.ask("PUT", f"/inbox/{message_id}/status/acknowledged", mailbox=THERE)
        assert (done.status, done.body) == (200, b"")
    assert await world.listed() == []
    got = await world.ask("GET", f"/inbox/{message_id}", mailbox=THERE)
    assert (got.status, got.code) == (410, "expired")


# The list


async def test_an_inbox_is_walked_page_by_page(world: MeshWorld) -> None:
    sent = [await world.accepted(b"x", to=SPARE if n % 3 == 0 else THERE) for n in range(24)]
    for message_id in sent:
        await world.arrived(message_id, SPARE if sent.index(message_id) % 3 == 0 else THERE)
    mine = {one for n, one in enumerate(sent) if n % 3}
    first = (await world.ask("GET", "/inbox?max_results=10", mailbox=THERE)).json
    assert first["approx_inbox_count"] == 24
    walked, link = list(first["messages"]), first["links"].get("next")
    while link:
        assert 24 <= len(unquote(link.partition("continue_from=")[2])) <= 1000
        page = (await world.ask("GET", link, mailbox=THERE)).json
        walked += page["messages"]
        link = page["links"].get("next")
    assert len(walked) == len(mine)
    assert set(walked) == mine
    after = (await world.ask("GET", f"/inbox?continue_from={walked[3]}", mailbox=THERE, accept=V1)).json
    assert after == {"messages": walked[4:]}


@pytest.mark.parametrize(
    "query",
    [
        *("max_results=9", "max_results=5001", "max_results=canary", "max_results=-1"),
        *("continue_from=canary", "continue_from=Y2FuYXJ5", "continue_from=%00"),
        "workflow_filter=" + "canary" * 50,
    ],
)
async def test_a_parameter_that_makes_no_sense_is_refused(world: MeshWorld, query: str) -> None:
    answer = await world.ask("GET", f"/inbox?{query}")
    assert (answer.status, answer.code) == (400, "bad-request")


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("", ["WORKFLOW1", "WORKFLOW1_ACK", "OTHER"]),
        ("WORKFLOW1", ["WORKFLOW1"]),
        ("!WORKFLOW1", ["WORKFLOW1_ACK", "OTHER"]),
        ("WORK*", ["WORKFLOW1", "WORKFLOW1_ACK"]),
        ("!WORK*", ["OTHER"]),
        ("*_ACK*", ["WORKFLOW1_ACK"]),
        ("!*_ACK*", ["WORKFLOW1", "OTHER"]),
    ],
)
def test_the_filter_means_what_the_api_says(text: str, passes: list[str]) -> None:
    matches = workflow_filter(text)
    assert [one for one in ("WORKFLOW1", "WORKFLOW1_ACK", "OTHER") if matches(one)] == passes


# What others sent


async def test_a_referral_of_our_own_api_is_shown_under_its_workflow(world: MeshWorld) -> None:
    document = referral(attachments=[])
    shown = await over_own_api(world, document)
    with_file = await over_own_api(
        world, referral(), attachments=[File("scan.pdf", "application/pdf", b"%PDF", "")]
    )
    no_workflow = await over_own_api(world, document, purpose="early-help")
    for message_id in (shown, with_file, no_workflow):
        await at_council(world, message_id)
    assert await world.listed() == [shown]  # the first mailbox; the others wait for /v1
    assert await world.listed(SPARE) == []
    for hidden in (with_file, no_workflow):
        assert (await world.ask("GET", f"/inbox/{hidden}", mailbox=THERE)).status == 404
        assert (await world.ask("PUT", f"/inbox/{hidden}/status/acknowledged", mailbox=THERE)).status == 404
    got = await world.ask("GET", f"/inbox/{shown}", mailbox=THERE)
    assert got.json == document
    assert (got.headers["Mex-WorkflowID"], got.headers["Mex-From"]) == ("TEST_REFERRAL", HERE)


async def test_a_format_is_handed_over_as_it_was_sent_or_written_by_its_adapter(world: MeshWorld) -> None:
    folder = Path(config.__file__).parents[1] / "adapters" / "examples" / "fhir-bars"
    body = (folder / "ed-to-childrens-social-care.json").read_bytes()
    as_sent = await world.accepted(body, workflow="TEST_FHIR")
    written = await over_own_api(world, referral(attachments=[]), lawful_basis="vital-interests")
    for message_id in (as_sent, written):
        await world.arrived(message_id)
    got = await world.ask("GET", f"/inbox/{as_sent}", mailbox=THERE)
    assert (got.body, got.headers["Content-Type"]) == (body, "application/fhir+json")
    got = await world.ask("GET", f"/inbox/{written}", mailbox=THERE)
    assert got.json["resourceType"] == "Bundle"


async def test_a_file_of_our_own_api_reaches_the_mailbox_it_names_or_the_first(world: MeshWorld) -> None:
    document = {"type": "file", "version": 1, "workflow": "OF_THEIR_OWN"}
    named, first, claimed = [
        await over_own_api(world, document | more, attachments=[File("f", "text/plain", b"bytes", "")])
        for more in ({"recipientMailbox": SPARE}, {"recipientMailbox": "NOBODY"}, {"senderMailbox": FAR})
    ]
    empty = await over_own_api(world, document)
    await world.arrived(named, SPARE)
    for message_id in (first, claimed, empty):
        await world.arrived(message_id)
    got = await world.ask("GET", f"/inbox/{claimed}", mailbox=THERE)
    assert got.headers["Mex-From"] == HERE  # nobody goes by a mailbox that is not theirs
    assert (got.body, got.headers["Mex-WorkflowID"]) == (b"bytes", "OF_THEIR_OWN")
    assert (await world.ask("GET", f"/inbox/{empty}", mailbox=THERE)).body == b""


async def test_a_file_can_be_collected_over_our_own_api(world: MeshWorld) -> None:
    message_id = await world.accepted(
        b"bytes", headers={"Mex-FileName": "f.txt", "Content-Type": "text/plain"}
    )
    await at_council(world, message_id)
    opened = json.loads((await world.own[COUNCIL].open(message_id)).body)
    assert opened["content"]["fileName"] == "f.txt"
    assert [(one["name"], one["media_type"]) for one in opened["attachments"]] == [("f.txt", "text/plain")]
    assert b"".join([one async for one in world.own[COUNCIL].attachment(message_id, 0)]) == b"bytes"


# Reports


async def test_a_rejected_message_comes_back_as_a_report_until_it_is_acknowledged(world: MeshWorld) -> None:
    headers = {"Mex-LocalID": "l", "Mex-Subject": "about", "Mex-FileName": "f"}
    message_id = await world.accepted(headers=headers)
    await at_council(world, message_id)
    await world.own[COUNCIL].reject(message_id, reason="wrong-agency")

    async def told() -> bool:
        return bool(await world.listed(HERE))

    await until(told, "a report")
    (report,) = await world.listed(HERE)
    assert (await world.ask("GET", "/count")).json == {"count": 1}
    for method in ("GET", "HEAD"):
        got = await world.ask(method, f"/inbox/{report}")
        assert (got.status, got.body) == (200, b"")
        assert {
            name: got.headers[f"Mex-{name}"] for name in ("MessageType", "LinkedMsgID", "StatusCode")
        } == {
            "MessageType": "REPORT",
            "LinkedMsgID": message_id,
            "StatusCode": "14",
        }
        assert got.headers["Mex-StatusDescription"] == "Undelivered message: wrong-agency"
        assert (got.headers["Mex-LocalID"], got.headers["Mex-Subject"]) == ("l", "about")
        assert (got.headers["Mex-To"], got.headers["Mex-StatusSuccess"]) == (THERE, "ERROR")
    tracked = (await world.ask("GET", f"/outbox/tracking?messageID={message_id}", accept=V1)).json
    assert (tracked["status"], tracked["failureDiagnostic"]) == (
        "Undeliverable",
        "Undelivered message: wrong-agency",
    )
    assert (await world.ask("GET", f"/outbox/tracking?messageID={report}")).status == 404
    assert (await world.ask("GET", f"/inbox/{report}", mailbox=THERE)).status == 404
    filtered = await world.ask("GET", "/inbox?workflow_filter=!TEST_WORKFLOW")
    assert filtered.json["messages"] == []
    for _ in range(2):
        assert (await world.ask("PUT", f"/inbox/{report}/status/acknowledged")).status == 200
    assert await world.listed(HERE) == []
    assert (await world.ask("GET", f"/inbox/{message_id}")).status == 404


async def test_there_is_no_report_of_what_arrived(world: MeshWorld) -> None:
    message_id = await world.accepted()
    await world.arrived(message_id)
    sent = await world.nodes[TRUST].parts.store.read(
        lambda s: s.execute("SELECT report_id FROM mesh_sent").fetchone()
    )
    assert (await world.ask("GET", f"/inbox/{sent[0]}")).status == 404
    await world.ask("PUT", f"/inbox/{message_id}/status/acknowledged", mailbox=THERE)

    async def closed() -> bool:
        return bool(
            await world.nodes[TRUST].parts.store.read(
                lambda s: s.execute("SELECT COUNT(*) FROM mesh_sent WHERE closed IS NOT NULL").fetchone()[0]
            )
        )

    await until(closed, "what was delivered is not looked at again")


# When things fail


async def test_a_last_chunk_that_could_not_be_accepted_is_accepted_the_next_time(
    world: MeshWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    message_id = await world.accepted(b"one", headers={"Mex-Chunk-Range": "1:2"})
    store = world.nodes[TRUST].parts.store
    write = store.write
    failed: list[int] = []

    async def refuse(job: Any) -> Any:
        if "_commit" in getattr(job, "__qualname__", "") and not failed:
            failed.append(1)
            raise Unavailable("store-unavailable")
        return await write(job)

    monkeypatch.setattr(store, "write", refuse)
    answer = await world.chunk(message_id, 2, 2, b"two")
    assert (answer.status, answer.code) == (503, "store-unavailable")
    assert (await world.chunk(message_id, 2, 2, b"two")).status == 202
    await world.arrived(message_id)


async def test_a_fault_is_an_answer_without_words(world: MeshWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("canary")

    monkeypatch.setattr(AttachmentSealer, "seal", fail)
    answer = await world.send(b"canary")
    assert (answer.status, answer.code) == (500, "internal-error")


async def test_what_mesh_messages_say_is_found_nowhere(tmp_path: Path) -> None:
    written = io.StringIO()
    logs.configure(written, "info")
    try:
        async with mesh_world(tmp_path) as world:
            headers = {
                name: f"{name}-zebedee"
                for name in ("Mex-LocalID", "Mex-FileName", "Mex-Subject", "Mex-PartnerID")
            }
            message_id = await world.accepted(b"zebedee" * 10, headers=headers)
            chunked = await world.accepted(b"zebedee", headers={"Mex-Chunk-Range": "1:2"})
            await world.arrived(message_id)
            await world.ask("GET", "/outbox/tracking/zebedee")
            await world.ask("GET", "/inbox/zebedee")
            await world.ask("GET", f"/inbox/{message_id}", mailbox=THERE)
            await world.send(b"zebedee", workflow="TEST_REFERRAL")
            await world.chunk(chunked, 2, 3, b"zebedee")
            metrics = b"".join(node.metrics()[0] for node in world.nodes.values())
            files = [path for path in tmp_path.rglob("*") if path.is_file()]  # noqa: ASYNC240
            assert len(files) > 10
            for data in (metrics, written.getvalue().encode(), *(path.read_bytes() for path in files)):
                assert b"zebedee" not in data.lower()
    finally:
        logs.configure(sys.stderr, "error")


# What NHS England's sandbox ships


@pytest.mark.skipif(not SANDBOX.exists(), reason=NO_DATA)
async def test_the_sandboxs_own_messages_travel(world: MeshWorld) -> None:
    boxes = [json.loads(line) for line in (SANDBOX / "mailboxes.jsonl").read_text().splitlines()]
    assert {one["mailbox_id"] for one in boxes} == set(AGENCIES)
    workflows = {
        json.loads(one)["workflow_id"] for one in (SANDBOX / "workflows.jsonl").read_text().splitlines()
    }
    assert {WORKFLOW, f"{WORKFLOW}_ACK"} <= workflows
    for told in sorted(SANDBOX.glob("mailboxes/*/in/*.json")):
        said = json.loads(told.read_text())
        chunks = [(told.with_suffix("") / str(n + 1)).read_bytes() for n in range(said["total_chunks"])]
        sender, recipient = said["sender"]["mailbox_id"], said["recipient"]["mailbox_id"]
        total = len(chunks)
        encoding = {"Content-Encoding": said["metadata"].get("content_encoding", "identity")}
        message_id = await world.accepted(
            chunks[0],
            mailbox=sender,
            to=recipient,
            workflow=said["workflow_id"],
            headers={
                "Mex-Chunk-Range": f"1:{total}",
                "Mex-FileName": said["metadata"]["file_name"],
                **encoding,
            },
        )
        for number, chunk in list(enumerate(chunks, 1))[1:]:
            assert (
                await world.chunk(message_id, number, total, chunk, mailbox=sender, headers=encoding)
            ).status == 202
        await world.arrived(message_id, recipient)
        for number, chunk in enumerate(chunks, 1):
            got = await world.ask(
                "GET",
                f"/inbox/{message_id}/{number}",
                mailbox=recipient,
                headers={"Accept-Encoding": encoding["Content-Encoding"]},
            )
            same = gzip.decompress if "gzip" in encoding.values() else bytes
            assert same(got.body) == same(chunk)
            assert got.headers["Mex-FileName"] == said["metadata"]["file_name"]


def test_the_settings_of_the_page_can_be_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "mesh.md").read_text("utf-8")
    text = page.partition("```toml\n")[2].partition("```")[0]
    found = config.parse(
        '[node]\nagencies = ["trust"]\ndirectory = "d.json"\n' + text, tmp_path / "gateway.toml"
    )
    assert found.mesh is not None
