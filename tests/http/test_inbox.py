"""The inbox: pages, long polls, formats, attachments, acknowledgements."""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.errors import RefusedByPeer, RefusedByUs, Unavailable
from gateway.http import inbox
from gateway.http.client import Unreachable
from gateway.http.inbox import accepted
from gateway.messages import SYSTEM_REASONS, Reason
from tests.http.asking import ask, matches
from tests.http.world import DOCUMENT, FHIR, World, serving


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving() as world:
        yield world


# Pages


async def test_a_page_lists_what_waits_oldest_first_without_content(world: World) -> None:
    first, second = world.node.arrive(), world.node.arrive()
    answer = await ask(world, "GET", "/v1/inbox")
    assert answer.status == 200
    matches("InboxPage", answer.json)
    assert [one["message_id"] for one in answer.json["messages"]] == [first, second]
    assert "content" not in answer.json["messages"][0]
    assert answer.headers["Cache-Control"] == "no-store"


async def test_pages_follow_each_other_by_cursor_and_by_link(world: World) -> None:
    ids = [world.node.arrive() for _ in range(5)]
    path, seen = "/v1/inbox?limit=2", []
    while (answer := await ask(world, "GET", path)).json["messages"]:
        assert len(answer.json["messages"]) <= 2
        seen += [one["message_id"] for one in answer.json["messages"]]
        target, _, rel = answer.headers["Link"].partition(">")
        path = target.removeprefix("<")
        assert rel == '; rel="next"'
        assert f"after={answer.json['next']}&" in path
    assert seen == ids


async def test_an_empty_page_keeps_the_cursor(world: World) -> None:
    assert (await ask(world, "GET", "/v1/inbox?after=7")).json == {"messages": [], "next": 7}


@pytest.mark.parametrize(
    "query",
    [
        "after=-1",
        "after=x",
        "after=1e3",
        f"after={2**62 + 1}",
        "after=%D9%A1",
        "after=",
        "after=1&after=2",
        "limit=0",
        "limit=101",
        "wait=61",
        "wait=0.5",
        "content=yes",
        "content=True",
    ],
)
async def test_a_bad_parameter_is_named(world: World, query: str) -> None:
    answer = await ask(world, "GET", f"/v1/inbox?{query}")
    assert (answer.code, answer.pointers) == ("bad-request", [f"/query/{query.partition('=')[0]}"])


async def test_a_page_with_content_saves_the_requests_for_each(world: World) -> None:
    message_id = world.node.arrive(files=[("a.txt", "text/plain", b"abc")])
    answer = await ask(world, "GET", "/v1/inbox?content=true")
    matches("InboxPage", answer.json)
    (one,) = answer.json["messages"]
    alone = (await ask(world, "GET", f"/v1/inbox/{message_id}")).json
    assert {name: one[name] for name in ("content", "warnings", "attachments", "original")} == {
        name: alone[name] for name in ("content", "warnings", "attachments", "original")
    }
    assert one["content"] == json.loads(DOCUMENT)


async def test_a_page_with_content_ends_early_rather_than_fill_memory(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "PAGE_CONTENT", 2 * len(DOCUMENT))
    ids = [world.node.arrive() for _ in range(5)]
    page = await world.police.inbox(content=True)
    assert [one["message_id"] for one in page["messages"]] == ids[:2]
    page = await world.police.inbox(content=True, after=page["next"])
    assert [one["message_id"] for one in page["messages"]] == ids[2:4]
    page = await world.police.inbox(content=True, after=page["next"])
    assert [one["message_id"] for one in page["messages"]] == ids[4:]


async def test_a_message_answered_while_the_page_is_made_is_left_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two systems of one agency work on the same inbox."""
    gone, stays = world.node.arrive(), world.node.arrive()
    opens = world.node.open

    async def open_(agency: Any, message_id: Any, accept: Any) -> Any:
        if message_id == gone:
            raise RefusedByUs("already-final")
        return await opens(agency, message_id, accept)

    monkeypatch.setattr(world.node, "open", open_)
    page = await world.police.inbox(content=True)
    assert [one["message_id"] for one in page["messages"]] == [stays]
    assert page["next"] == 2


# Long polls


async def test_a_long_poll_is_answered_when_something_arrives(world: World) -> None:
    async with asyncio.TaskGroup() as group:
        poll = group.create_task(world.police.inbox(wait=60))
        await world.node.polling.wait()
        assert not poll.done()
        message_id = world.node.arrive()
    assert [one["message_id"] for one in poll.result()["messages"]] == [message_id]


async def test_a_long_poll_ends_when_the_node_stops(world: World) -> None:
    async with asyncio.TaskGroup() as group:
        poll = group.create_task(world.police.inbox(wait=60))
        await world.node.polling.wait()
        world.node.close()
        await world.server.close()
    assert poll.result() == {"messages": [], "next": 0}
    with pytest.raises(Unreachable):
        await world.police.inbox()


# Formats


async def test_json_is_the_canonical_document_with_all_that_goes_with_it(world: World) -> None:
    message_id = world.node.arrive(files=[("a \u00e9.txt", "text/plain", b"abc")])
    answer = await ask(world, "GET", f"/v1/inbox/{message_id}", headers={"Accept": "application/json"})
    assert answer.status == 200
    assert (answer.headers["Vary"], answer.headers["Cache-Control"]) == ("Accept", "no-store")
    body = answer.json
    matches("Opened", body)
    matches("InboxEntry", body["message"])
    assert body["message"]["message_id"] == message_id
    assert body["message"]["received"] == "2026-09-21T14:13:20.128Z"
    assert body["content"] == json.loads(DOCUMENT)
    assert body["original"] == {
        "adapter": "fhir-bars",
        "media_type": FHIR,
        "href": f"/v1/inbox/{message_id}/original",
    }
    assert body["attachments"] == [
        {
            "index": 0,
            "name": "a \u00e9.txt",
            "media_type": "text/plain",
            "size": 3,
            "sha256": hashlib.sha256(b"abc").hexdigest(),
            "href": f"/v1/inbox/{message_id}/attachments/0",
        }
    ]


async def test_another_format_comes_as_it_is_with_the_header_in_headers(world: World) -> None:
    message_id = world.node.arrive()
    answer = await ask(world, "GET", f"/v1/inbox/{message_id}", headers={"Accept": FHIR})
    assert answer.headers["Content-Type"] == f"{FHIR}; charset=utf-8"
    assert answer.json == {"resourceType": "Bundle"}
    assert (answer.headers["Vary"], answer.headers["Cache-Control"]) == ("Accept", "no-store")
    assert answer.headers["Gateway-Message-Id"] == message_id
    assert (answer.headers["Gateway-Sender"], answer.headers["Gateway-Type"]) == ("school", "referral/1")
    assert answer.headers["Gateway-Case"] == world.node.items[0].entry.header.case


@pytest.mark.parametrize(
    ("accept", "gets"),
    [
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        (f"application/json;q=0.5, {FHIR}", FHIR),
        (f"{FHIR};q=0.1, */*;q=0.2", "application/json"),
        (f"text/html, {FHIR};q=0.5", FHIR),
        (f"{FHIR.upper()};fhirVersion=4.0", FHIR),
    ],
)
async def test_the_best_of_what_is_asked_for(world: World, accept: str, gets: str) -> None:
    path = f"/v1/inbox/{world.node.arrive()}"
    answer = await ask(world, "GET", path, headers={"Accept": accept})
    assert answer.headers["Content-Type"].partition(";")[0] == gets


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "application/json;q=canary"])
async def test_nothing_of_what_is_asked_for(world: World, accept: str) -> None:
    answer = await ask(world, "GET", f"/v1/inbox/{world.node.arrive()}", headers={"Accept": accept})
    assert answer.code == "not-acceptable"


def test_accept_is_ordered_by_weight_then_by_position() -> None:
    assert accepted("a/a;q=0.1, b/b, c/c;q=0.9, d/d;q=0, e/e") == ["b/b", "e/e", "c/c", "a/a"]
    assert accepted("") == accepted(" ") == []


async def test_the_original_is_byte_for_byte(world: World) -> None:
    answer = await ask(world, "GET", f"/v1/inbox/{world.node.arrive()}/original")
    assert answer.headers["Content-Type"] == "application/fhir+xml"
    assert answer.body == b"<Bundle xmlns='http://hl7.org/fhir'/>"
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["", "/original", "/attachments/0"])
async def test_a_message_of_another_agency_is_not_there(world: World, path: str) -> None:
    message_id = world.node.arrive(files=[("a", "text/plain", b"x")])
    answer = await ask(world, "GET", f"/v1/inbox/{message_id}{path}", token="school-token")
    assert answer.code == "not-found"


# Attachments


async def test_an_attachment_with_its_length_digest_and_name(world: World) -> None:
    data = bytes(range(256)) * 1000
    name = 'r\u00e9sum\u00e9 "final"\r\nX-Evil: 1.pdf'
    message_id = world.node.arrive(files=[(name, "application/pdf", data)])
    answer = await ask(world, "GET", f"/v1/inbox/{message_id}/attachments/0")
    assert answer.body == data
    headers = answer.headers
    assert (headers["Content-Type"], headers["Content-Length"]) == ("application/pdf", str(len(data)))
    assert headers["Content-Digest"] == f"sha-256=:{b64encode(hashlib.sha256(data).digest()).decode()}:"
    assert headers["Content-Disposition"] == (
        "attachment; filename*=UTF-8''r%C3%A9sum%C3%A9%20%22final%22%0D%0AX-Evil%3A%201.pdf"
    )
    assert "X-Evil" not in headers
    assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff")


@pytest.mark.parametrize("index", ["1", "99999", "-1", "x", "%C2%B2"])
async def test_an_attachment_that_is_not_there(world: World, index: str) -> None:
    message_id = world.node.arrive(files=[("a", "text/plain", b"x")])
    assert (await ask(world, "GET", f"/v1/inbox/{message_id}/attachments/{index}")).code == "not-found"


@pytest.mark.parametrize(
    ("error", "reported"),
    [
        (RefusedByPeer(Reason.ATTACHMENT_MISMATCH), False),
        (Unavailable("store-unavailable"), False),
        (KeyError("canary"), True),
    ],
)
async def test_an_attachment_that_breaks_off_is_cut_short_and_never_padded_with_a_problem(
    world: World, error: Exception, reported: bool
) -> None:
    world.node.break_attachment = error
    message_id = world.node.arrive(files=[("a", "text/plain", b"x" * 100_000)])
    received: list[bytes] = []

    async def collect() -> None:
        async for piece in world.police.attachment(message_id, 0):
            received.append(piece)  # noqa: PERF401 - what came before the break is looked at

    with pytest.raises(Unreachable):
        await collect()
    assert set(b"".join(received)) <= {ord("x")}
    await world.next_observed()
    assert bool(world.errors) is reported


async def test_a_caller_that_leaves_in_the_middle_is_no_fault_of_ours(world: World) -> None:
    message_id = world.node.arrive(files=[("a", "text/plain", bytes(30_000_000))])
    async for _ in world.police.attachment(message_id, 0):
        break
    await world.police.close()
    await world.next_observed()
    assert world.errors == []


# Answers


async def test_ack_says_delivered_and_says_it_again(world: World) -> None:
    message_id = world.node.arrive()
    first = await ask(world, "POST", f"/v1/inbox/{message_id}/ack")
    assert first.status == 200
    matches("Answered", first.json)
    assert (first.json["message_id"], first.json["stage"]) == (message_id, "delivered")
    assert (await ask(world, "POST", f"/v1/inbox/{message_id}/ack")).json == first.json
    assert (await world.police.inbox())["messages"] == []


async def test_ack_of_many(world: World) -> None:
    ids = [world.node.arrive() for _ in range(100)]
    answer = await ask(world, "POST", "/v1/inbox/ack", json={"message_ids": ids})
    matches("AnsweredMany", answer.json)
    assert [one["message_id"] for one in answer.json["messages"]] == ids
    for one in answer.json["messages"]:
        matches("Answered", one)


ONE = str(uuid.uuid4())


@pytest.mark.parametrize(
    "ids", [[], [ONE, ONE], ["canary"], [1], "canary", None, [str(uuid.uuid4()) for _ in range(101)]]
)
async def test_a_list_that_is_not_1_to_100_different_ids(world: World, ids: Any) -> None:
    answer = await ask(world, "POST", "/v1/inbox/ack", json={"message_ids": ids})
    assert (answer.code, answer.pointers) == ("bad-request", ["/message_ids"])
    assert b"canary" not in answer.body


@pytest.mark.parametrize("reason", sorted(SYSTEM_REASONS))
async def test_reject_with_each_reason(world: World, reason: Reason) -> None:
    message_id = world.node.arrive()
    answer = await ask(world, "POST", f"/v1/inbox/{message_id}/reject", json={"reason": reason.value})
    matches("Answered", answer.json)
    assert (answer.json["stage"], answer.json["reason"]) == ("rejected", reason.value)


@pytest.mark.parametrize("reason", ["canary", "", "replayed", None, 1, ["duplicate-referral"], {}])
async def test_reject_with_another_reason(world: World, reason: Any) -> None:
    message_id = world.node.arrive()
    answer = await ask(world, "POST", f"/v1/inbox/{message_id}/reject", json={"reason": reason})
    assert answer.code == "unknown-reason"
    assert b"canary" not in answer.body
    assert len((await world.police.inbox())["messages"]) == 1


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "malformed-body"),
        (b"canary", "malformed-body"),
        (b'{"reason":"unreadable","reason":"wrong-agency"}', "malformed-body"),
        (b'{"reason":"unreadable"', "malformed-body"),
        (b"\xff\xfe{}", "malformed-body"),
        (b"[" * 60_000, "malformed-body"),
        (b"[]", "bad-request"),
        (b'"canary"', "bad-request"),
        (b"{}" + b" " * 65536, "body-too-large"),
    ],
)
async def test_a_body_that_is_no_small_object(world: World, body: bytes, code: str) -> None:
    answer = await ask(world, "POST", f"/v1/inbox/{world.node.arrive()}/reject", data=body)
    assert answer.code == code
    assert b"canary" not in answer.body


async def test_a_final_answer_stays(world: World) -> None:
    message_id = world.node.arrive()
    await world.police.ack([message_id])
    answer = await ask(world, "POST", f"/v1/inbox/{message_id}/reject", json={"reason": "unreadable"})
    assert answer.code == "already-final"
    assert (await ask(world, "GET", f"/v1/inbox/{message_id}")).code == "already-final"


@pytest.mark.parametrize("what", ["ack", "reject"])
async def test_an_answer_to_a_message_that_is_not_there(world: World, what: str) -> None:
    for message_id in (ONE, "canary"):
        answer = await ask(world, "POST", f"/v1/inbox/{message_id}/{what}", json={"reason": "unreadable"})
        assert answer.code == "not-found"
        assert b"canary" not in answer.body
