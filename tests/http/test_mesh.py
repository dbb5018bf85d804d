"""The MESH face: who may ask, sending, chunks, tracking, looking up; each answer in both versions."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

from gateway import config
from gateway.errors import CODES, StartupError
from gateway.http.mesh_errors import FROM_GATEWAY, MESH_CODES
from gateway.http.mesh_face import MESH_ROUTES
from gateway.messages import new_id
from gateway.node import Node, now_ms
from gateway.store import idempotency
from tests.http.mesh import (
    COUNCIL,
    FAR,
    HERE,
    SETTINGS,
    SPARE,
    SPECIFICATION,
    THERE,
    TRUST,
    V1,
    V2,
    WORKFLOW,
    MeshWorld,
    matches,
    mesh_world,
    password,
    provision,
    settings_of,
    specification,
    token,
)
from tests.plugin_skips import NO_DATA
from tests.world import until

PAGE = (Path(__file__).parents[2] / "docs" / "mesh.md").read_text("utf-8")
ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
official = pytest.mark.skipif(not SPECIFICATION.exists(), reason=NO_DATA)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[MeshWorld]:
    async with mesh_world(tmp_path) as world:
        yield world


# Who


def wrong_tokens() -> list[str]:
    good, now = token(HERE), datetime.now(UTC)
    return [
        "-",
        "Bearer canary",
        "NHSMESH canary",
        good.replace("NHSMESH ", "NHSMESH"),
        good.lower(),
        good[:-1] + ("0" if good[-1] != "0" else "1"),
        token(HERE, secret="canary"),
        token(HERE, key="canary"),
        token("CANARY", secret="canary"),
        token(FAR, secret="None"),
        token(FAR, secret=""),
        token(HERE, at=now - timedelta(hours=2, minutes=5)),
        token(HERE, at=now + timedelta(hours=2, minutes=5)),
        token(HERE).replace(now.strftime("%Y"), "0000"),
    ]


async def test_only_a_mailbox_that_proves_itself_is_answered(world: MeshWorld) -> None:
    for authorization in wrong_tokens():
        answer = await world.ask("POST", "", authorization=authorization)
        assert (answer.status, answer.code) == (403, "not-authenticated"), authorization
        assert b"canary" not in answer.body.lower()


async def test_no_route_is_open(world: MeshWorld) -> None:
    for method, template, _ in MESH_ROUTES:
        path = re.sub(r"\{\w+\}", ID, template)
        assert (await world.ask(method, path, authorization="-")).status == 403


async def test_a_token_is_good_once_and_its_nonce_with_the_next_count(world: MeshWorld) -> None:
    used = token(HERE, nonce="n", count=0)
    assert (await world.ask("POST", "", authorization=used)).status == 200
    for again in (
        used,
        token(HERE, nonce="n", count="00"),
        token(HERE, nonce="n", at=datetime.now(UTC) - timedelta(hours=1)),
    ):
        answer = await world.ask("GET", "/inbox", authorization=again)
        assert (answer.status, answer.code) == (403, "not-authenticated")
    assert (await world.ask("POST", "", authorization=token(HERE, nonce="n", count=1))).status == 200
    assert (await world.ask("POST", "", authorization=token(THERE, nonce="n"), mailbox=THERE)).status == 200


async def test_two_requests_with_one_token_at_once_are_one(world: MeshWorld) -> None:
    used = token(HERE)
    answers = await asyncio.gather(*(world.ask("POST", "", authorization=used) for _ in range(5)))
    assert sorted(one.status for one in answers) == [200, 403, 403, 403, 403]


@pytest.mark.parametrize("hours", [-1.9, 1.9])
async def test_clocks_may_differ_by_two_hours(world: MeshWorld, hours: float) -> None:
    good = token(HERE, at=datetime.now(UTC) + timedelta(hours=hours))
    assert (await world.ask("POST", "", authorization=good)).status == 200


async def test_a_token_opens_its_own_mailbox_only(world: MeshWorld) -> None:
    for other in (THERE, FAR, "NOBODY"):
        answer = await world.ask("GET", "/inbox", mailbox=other, at=HERE, authorization=token(HERE))
        assert (answer.status, answer.code) == (403, "07")


async def test_the_handshake_in_both_ways_and_versions(world: MeshWorld) -> None:
    for method in ("GET", "POST"):
        assert (await world.ask(method, "")).body == b""
        for accept in (V1, "application/json", "*/*"):
            assert (await world.ask(method, "", accept=accept)).json == {"mailboxId": HERE}
    assert (await world.ask("GET", "/messageexchange/_ping", authorization="-")).json["internalID"]


@pytest.mark.parametrize(("accept", "form"), [(V2, "detail"), (V1, "errorCode"), ("text/html", "errorCode")])
async def test_errors_have_the_form_asked_for(world: MeshWorld, accept: str, form: str) -> None:
    for path in ("/canary", f"/inbox/{ID}", "/inbox/canary", f"/inbox/{ID}/canary"):
        answer = await world.ask("GET", path, accept=accept)
        assert answer.status == 404
        assert form in answer.json
        assert answer.code
    assert (await world.ask("DELETE", "/inbox", accept=accept)).code == "not-found"


# Sending


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Mex-From": "CANARY"}, "07"),
        ({"Mex-To": "-"}, "08"),
        ({"Mex-MessageType": "REPORT"}, "11"),
        ({"Mex-To": "CANARY"}, "12"),
        ({"Mex-To": FAR}, "12"),
        ({"Mex-WorkflowID": "NO_AGREEMENT"}, "16"),
        ({"Mex-WorkflowID": "-"}, "17"),
        ({"Mex-WorkflowID": "CANARY"}, "17"),
        ({"Mex-WorkflowID": "TEST_WORKFLOW_ACK"}, "17"),
        ({"Mex-Subject": "canary" * 100}, "06"),
        ({"Mex-LocalID": "canary\tcanary"}, "06"),
        ({"Content-Encoding": "canary"}, "UnsupportedContentEncoding"),
        ({"Mex-WorkflowID": "TEST_FHIR"}, "malformed-body"),
        ({"Mex-WorkflowID": "TEST_FHIR", "Mex-Chunk-Range": "1:2"}, "InvalidHeaderChunks"),
        *(
            ({"Mex-Chunk-Range": wrong}, "InvalidHeaderChunks")
            for wrong in ("2:2", "1:0", "0:1", "canary", "1:2:3", "1:201", "-1:2", "1", ":", "1:")
        ),
    ],
)
async def test_what_a_header_gets_wrong_has_its_code(
    world: MeshWorld, headers: dict[str, str], code: str
) -> None:
    for accept in (V1, V2):
        answer = await world.send(b"canary", headers=headers, accept=accept)
        assert (answer.status, answer.code) == (417, code)
    assert (await world.ask("GET", "/count", mailbox=THERE)).json == {"count": 0}


async def test_a_header_that_came_twice_is_malformed(world: MeshWorld) -> None:
    headers: Any = CIMultiDict([("Authorization", token(HERE)), ("Accept", V2), ("Mex-To", THERE)])
    headers.add("Mex-To", HERE)
    url = f"{world.url()}/messageexchange/{HERE}/outbox"
    async with world.session.post(url, headers=headers, data=b"x") as response:
        assert (await response.json(content_type=None))["detail"][0]["code"] == "06"


async def test_an_empty_body_is_a_missing_file(world: MeshWorld) -> None:
    assert (await world.send(b"")).code == "02"
    assert (await world.send(b"", workflow="TEST_REFERRAL")).code == "02"
    assert (await world.send(gzip.compress(b""), headers={"Content-Encoding": "gzip"})).code == "02"


async def test_what_is_not_gzip_or_not_all_of_it_is_refused(world: MeshWorld) -> None:
    for damaged in (b"canary", gzip.compress(b"canary" * 100)[:-4]):
        answer = await world.send(damaged, headers={"Content-Encoding": "gzip"})
        assert (answer.status, answer.code) == (417, "malformed-body")
    assert (await world.ask("GET", "/count", mailbox=THERE)).json == {"count": 0}


async def test_too_much_is_too_large_however_well_it_packs(world: MeshWorld) -> None:
    assert (await world.send(bytes(3_000_001))).status == 413
    packed = gzip.compress(bytes(3_000_001))
    assert (await world.send(packed, headers={"Content-Encoding": "gzip"})).status == 413
    assert (await world.send(bytes(3_000_000))).status == 202


async def test_what_an_adapter_cannot_read_names_the_places(world: MeshWorld) -> None:
    answer = await world.send(b'{"type":"referral","version":1,"canary":1}', workflow="TEST_REFERRAL")
    assert (answer.status, answer.code) == (417, "invalid-content")
    assert len(answer.json["detail"]) > 1
    assert any("required" in one["msg"] for one in answer.json["detail"])


async def test_a_full_node_says_when_to_come_back(world: MeshWorld) -> None:
    for local_id in ("1", "2"):
        assert (
            await world.send(b"x", headers={"Mex-Chunk-Range": "1:2", "Mex-LocalID": local_id})
        ).status == 202
    used = token(HERE)
    for _ in range(2):  # clients repeat such a request as it was
        answer = await world.send(b"x", headers={"Mex-Chunk-Range": "1:2"}, authorization=used)
        assert (answer.status, answer.code) == (503, "busy")
        assert int(answer.headers["Retry-After"]) > 0
    assert (await world.send(b"x", authorization=used)).status == 202
    assert (await world.send(b"x", authorization=used)).status == 403
    # The sender of the first begins again: that is not one more.
    assert (await world.send(b"x", headers={"Mex-Chunk-Range": "1:2", "Mex-LocalID": "1"})).status == 202


# Chunks


async def test_chunks_come_in_their_order_or_not_at_all(world: MeshWorld) -> None:
    message_id = await world.accepted(b"one", headers={"Mex-Chunk-Range": "1:3", "Mex-FileName": "f"})
    tracked = (await world.ask("GET", f"/outbox/tracking?messageID={message_id}")).json
    assert (tracked["status"], tracked["filename"]) == ("uploading", "f")

    for answer in (
        await world.chunk(message_id, 3, 3, b"three"),  # the second is missing
        await world.chunk(message_id, 2, 4, b"two"),  # the first one said three
        await world.chunk(message_id, 1, 3, b"one"),
        await world.chunk(message_id, 2, 3, b"two", headers={"Mex-Chunk-Range": "3:3"}),
        await world.chunk(message_id, 2, 3, b"two", headers={"Mex-Chunk-Range": "-"}),
        await world.chunk(message_id, 0, 3, b"two"),
    ):
        assert (answer.status, answer.code) == (417, "InvalidHeaderChunks")
        assert answer.json["message_id"] == message_id
    assert (await world.chunk(message_id, 2, 3, b"")).code == "02"
    assert (await world.chunk(ID, 2, 3, b"two")).status == 404
    assert (await world.chunk("canary", 2, 3, b"two")).code == "20"
    assert (await world.chunk(message_id, 2, 3, b"two", mailbox=THERE)).status == 404

    assert (await world.chunk(message_id, 2, 3, b"two")).json == {"message_id": message_id}
    assert (await world.chunk(message_id, 2, 3, b"two")).status == 202  # a repeat is taken for the same
    assert (await world.chunk(message_id, 2, 3, b"canary")).status == 423
    assert await world.listed() == []
    last = await world.chunk(message_id, 3, 3, b"three", accept=V1)
    assert (last.status, last.json) == (202, {"messageID": message_id})
    assert (await world.chunk(message_id, 3, 3, b"three")).status == 202
    finalised = await world.chunk(message_id, 3, 3, b"canary")
    assert (finalised.status, finalised.code) == (423, "already-final")

    await world.arrived(message_id)
    got = [await world.ask("GET", f"/inbox/{message_id}/{n}", mailbox=THERE) for n in (1, 2, 3)]
    assert [(one.status, one.body) for one in got] == [(206, b"one"), (206, b"two"), (200, b"three")]
    assert [one.headers["Mex-Chunk-Range"] for one in got] == ["1:3", "2:3", "3:3"]
    for number in ("0", "4", "canary"):
        assert (await world.ask("GET", f"/inbox/{message_id}/{number}", mailbox=THERE)).status == 404


async def test_a_chunk_that_failed_may_be_sent_again(world: MeshWorld) -> None:
    message_id = await world.accepted(bytes(2_000_000), headers={"Mex-Chunk-Range": "1:2"})
    assert (await world.chunk(message_id, 2, 2, bytes(1_100_000))).status == 413
    used = token(HERE)
    gone = b"POST /messageexchange/%s/outbox/%s/2 HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n" % (
        HERE.encode(),
        message_id.encode(),
        used.encode(),
    )
    _, writer = await asyncio.open_connection("127.0.0.1", world.nodes[TRUST].port)
    writer.write(gone + b"Mex-Chunk-Range: 2:2\r\nContent-Length: 900000\r\n\r\n" + bytes(500_000))
    await writer.drain()
    await asyncio.sleep(0.1)
    writer.close()  # the connection is lost in the middle

    async def repeated() -> bool:  # as clients do, with the same token
        again = await world.chunk(message_id, 2, 2, b"\1" * 900_000, authorization=used)
        return again.status == 202

    await until(repeated, "the node has noticed that the connection is gone")
    await world.arrived(message_id)
    second = await world.ask("GET", f"/inbox/{message_id}/2", mailbox=THERE)
    assert second.body == b"\1" * 900_000


async def test_a_message_that_takes_too_long_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.engine.chunked.SWEEP", 0.05)
    settings = SETTINGS.replace("uploads = 2", "uploads = 2\nupload_timeout = 0.2")
    async with mesh_world(tmp_path, settings) as world:
        message_id = await world.accepted(b"one", headers={"Mex-Chunk-Range": "1:2"})
        store = world.nodes[TRUST].parts.store
        count = lambda s: s.execute("SELECT COUNT(*) FROM outbound_chunks").fetchone()[0]

        async def empty() -> bool:
            return await store.read(count) == 0

        await until(empty, "nothing left")
        answer = await world.chunk(message_id, 2, 2, b"two")
        assert (answer.status, answer.code) == (404, "20")
        assert (await world.ask("GET", f"/outbox/tracking?messageID={message_id}")).status == 404


# Tracking and looking up


async def test_tracking_follows_a_message_to_its_acknowledgement(world: MeshWorld) -> None:
    headers = {"Mex-LocalID": "local/1", "Mex-FileName": "f.csv", "Mex-Subject": "about"}
    message_id = await world.accepted(headers=headers)
    by_id, by_local = f"/outbox/tracking?messageID={message_id}", "/outbox/tracking/local%2F1"
    v1 = (await world.ask("GET", by_local)).json
    assert (v1["messageId"], v1["dtsId"], v1["localId"], v1["status"]) == (
        *(message_id, message_id),
        *("local/1", "Accepted"),
    )
    assert (v1["sender"], v1["senderName"], v1["recipient"]) == (HERE, "A trust", THERE)
    assert (v1["subject"], v1["statusSuccess"]) == ("about", "SUCCESS")
    await world.arrived(message_id)
    done = await world.ask("PUT", f"/inbox/{message_id}/status/acknowledged", mailbox=THERE, accept=V1)
    assert done.json == {"messageId": message_id}

    async def acknowledged() -> bool:
        return bool((await world.ask("GET", by_id)).json["status"] == "acknowledged")

    await until(acknowledged, "acknowledged")
    assert (await world.ask("GET", by_id, accept=V1)).json["status"] == "Acknowledged"
    assert (await world.ask("GET", by_id, accept=V1)).json["downloadTimestamp"]
    for path in (by_id, by_local):
        assert (await world.ask("GET", path, mailbox=THERE)).status == 404
    for path in ("/outbox/tracking", f"/outbox/tracking?messageID={ID}", "/outbox/tracking/canary"):
        assert (await world.ask("GET", path)).code == "20"


@pytest.mark.parametrize("odd", ["%FF", "%00", "%ED%A0%80", "%F0%9F%98%80", "a" * 3000])
async def test_identifiers_that_are_none_are_not_found(world: MeshWorld, odd: str) -> None:
    paths = [
        f"/outbox/tracking/{odd}",
        f"/outbox/tracking?messageID={odd}",
        f"/inbox/{odd}",
        f"/inbox/{ID}/{odd}",
    ]
    for path in paths:
        assert (await world.ask("GET", path)).status == 404
    assert (await world.ask("PUT", f"/inbox/{odd}/status/acknowledged")).status == 404
    assert (await world.ask("POST", f"/outbox/{odd}/2", data=b"x")).status == 404
    found = await world.ask("GET", f"/messageexchange/endpointlookup/{odd}/{odd}")
    assert found.json == {"results": []}
    assert (await world.ask("GET", f"/inbox?continue_from={odd}")).status == 400
    assert (await world.ask("GET", f"/inbox?workflow_filter={odd}")).status in {200, 400}


async def test_a_local_id_that_was_used_again_after_a_while_is_not_unique(world: MeshWorld) -> None:
    first = await world.accepted(headers={"Mex-LocalID": "l"})
    await world.nodes[TRUST].parts.store.write(lambda s: idempotency.forget(s, before=now_ms() + 1))
    assert await world.accepted(b"other", headers={"Mex-LocalID": "l"}) != first
    answer = await world.ask("GET", "/outbox/tracking/l")
    assert (answer.status, answer.code) == (300, "EPL-150")


async def test_a_local_id_belongs_to_its_mailbox(world: MeshWorld) -> None:
    one = await world.accepted(b"1", mailbox=THERE, to=HERE, headers={"Mex-LocalID": "l"})
    two = await world.accepted(b"2", mailbox=SPARE, to=HERE, headers={"Mex-LocalID": "l"})
    assert one != two
    assert (await world.ask("GET", "/outbox/tracking/l", mailbox=SPARE)).json["messageId"] == two


async def test_mailboxes_are_found_by_organisation_and_workflow(world: MeshWorld) -> None:
    root = "/messageexchange"
    assert (await world.ask("GET", f"{root}/endpointlookup/X27/{WORKFLOW}")).json == {
        "results": [
            {"mailbox_id": THERE, "mailbox_name": "A council"},
            {"mailbox_id": SPARE, "mailbox_name": ""},
        ]
    }
    v1 = (await world.ask("GET", f"{root}/endpointlookup/X26/{WORKFLOW}_ACK", accept=V1)).json
    assert v1["query_id"]
    assert v1["results"] == [{"address": HERE, "description": "A trust", "endpoint_type": "MESH"}]
    found = (await world.ask("GET", f"{root}/workflowsearch/{WORKFLOW}")).json["results"]
    assert [one["mailbox_id"] for one in found] == [HERE, THERE, SPARE, FAR]
    for path in (f"endpointlookup/X27/{WORKFLOW}_ACK", "endpointlookup/X26/CANARY", "workflowsearch/CANARY"):
        assert (await world.ask("GET", f"{root}/{path}")).json == {"results": []}


# What NHS England's document says


@official
async def test_answers_satisfy_the_official_document(world: MeshWorld) -> None:
    message_id = await world.accepted(headers={"Mex-LocalID": "l", "Mex-FileName": "f"})
    await world.arrived(message_id)
    box = "/messageexchange/{mailbox_id}"
    for accept, media_type in ((V2, V2), ("application/json", "application/json")):
        asked: list[tuple[str, str, Any]] = [
            ("get", f"{box}/inbox", world.ask("GET", "/inbox", mailbox=THERE, accept=accept)),
            ("get", f"{box}/count", world.ask("GET", "/count", mailbox=THERE, accept=accept)),
            ("post", f"{box}/outbox", world.send(accept=accept)),
            ("post", f"{box}/outbox", world.send(to="NOBODY", accept=accept)),
            (
                "get",
                f"{box}/outbox/tracking",
                world.ask("GET", f"/outbox/tracking?messageID={message_id}", accept=accept),
            ),
            (
                "get",
                "/messageexchange/endpointlookup/{ods_code}/{workflow_id}",
                world.ask("GET", f"/messageexchange/endpointlookup/X27/{WORKFLOW}", accept=accept),
            ),
        ]
        for method, path, asking in asked:
            matches(await asking, method, path, media_type)
    local = await world.ask("GET", "/outbox/tracking/l", accept=V2)  # of which there is no such answer
    matches(local, "get", f"{box}/outbox/tracking/{{local_id}}", "application/json")


@official
def test_every_operation_of_the_official_document_is_offered() -> None:
    theirs = {
        (method.upper(), path)
        for path, methods in specification()["paths"].items()
        for method in methods
        if method in {"get", "post", "put", "head", "delete"}
    }
    assert theirs - {(method, path) for method, path, _ in MESH_ROUTES} == set()


# Settings and the page


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ('agency = "trust"', 'agency = "police"', "does not serve"),
        ('id = "X26FAR"', 'id = "X26ABC1"', "twice"),
        ('id = "TEST_FHIR"', 'id = "TEST_WORKFLOW"', "twice"),
        ('media_type = "application/json"', "", "media_type"),
        ('type = "referral"', 'type = "canary"', "message type"),
        ('id = "X26FAR"', 'id = "x26far"', "mesh.partners"),
        ("[mesh]", '[http]\ncert_file = "c"\n[mesh]', "go together"),
        ("[mesh]", '[http]\nclient_ca_file = "c"\n[mesh]', "needs cert_file"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, old: str, new: str, wanted: str) -> None:
    file = tmp_path / config.FILE_NAME
    text = '[node]\nagencies = ["trust"]\ndirectory = "d.json"\n' + settings_of(TRUST)
    config.parse(text, file)
    with pytest.raises(StartupError, match=wanted):
        config.parse(text.replace(old, new, 1), file)


def test_a_secret_that_others_can_read_stops_the_node(tmp_path: Path) -> None:
    provision(tmp_path)
    folder = tmp_path / COUNCIL
    secret = folder / f"password-{THERE}"
    secret.chmod(0o640)
    with pytest.raises(StartupError, match="read by others") as refused:
        Node(config.load(folder))
    assert password(THERE) not in str(refused.value)
    secret.chmod(0o600)
    secret.write_text("\n")
    with pytest.raises(StartupError, match="no secret"):
        Node(config.load(folder))
    secret.unlink()
    with pytest.raises(StartupError, match="cannot read"):
        Node(config.load(folder))


async def test_without_the_section_there_is_no_face(tmp_path: Path) -> None:
    async with mesh_world(tmp_path, "") as world:
        assert (await world.ask("POST", "")).status == 404
        assert (await world.own[TRUST].inbox())["messages"] == []


def test_the_page_lists_every_code_and_route() -> None:
    for one in MESH_CODES.values():
        assert f"| {one.status} | `{one.event}` | `{one.code}` | {one.text} |" in PAGE
    for key, own in FROM_GATEWAY.items():
        assert key in CODES
        assert own in MESH_CODES
    for (method, path), _ in itertools.groupby((method, path) for method, path, _ in MESH_ROUTES):
        assert f"`{method} {path}`" in PAGE
    assert new_id() not in PAGE
