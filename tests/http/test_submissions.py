"""POST /v1/messages and GET /v1/messages/{id}: what is taken, what is refused, and that half is nothing."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import zlib
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from gateway.http import connection
from gateway.http.bodies import PIECE
from gateway.http.client import ApiProblem, File
from gateway.http.limits import MIB, Limits
from tests.http.asking import QUERY, ask, matches, post, raw_code, raw_post
from tests.http.world import World, read_answer, serving

CASE = "0f8fad5b-d9cb-469f-a165-70867728950e"
SMALL = Limits(message_bytes=1000, attachment_bytes=2000, attachments=2)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving() as world:
        yield world


@pytest.fixture
async def small() -> AsyncIterator[World]:
    async with serving(SMALL) as world:
        yield world


@pytest.fixture
def quick_goodbye(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait long for the rest of a body that was refused."""
    monkeypatch.setattr(connection, "LINGER", 0.05)


def form(*attachments: tuple[bytes, dict[str, str]], message: str = "message") -> aiohttp.MultipartWriter:
    """A form with a message and attachments, each with further headers."""
    writer = aiohttp.MultipartWriter("form-data")
    part = writer.append(b"{}", {"Content-Type": "application/json"})
    part.set_content_disposition("form-data", name=message)
    for body, headers in attachments:
        part = writer.append(body, {"Content-Type": "text/plain", **headers})
        part.set_content_disposition("form-data", name="attachment", filename="a.txt")
    return writer


def raw_form(disposition: bytes, body: bytes = b"x", *, more: bytes = b"") -> bytes:
    """A form whose second part is written by hand."""
    return (
        b'--b\r\nContent-Disposition: form-data; name="message"\r\n'
        b"Content-Type: application/json\r\n\r\n{}\r\n"
        b"--b\r\nContent-Disposition: " + disposition + b"\r\n" + more + b"\r\n" + body + b"\r\n--b--\r\n"
    )


async def post_form(world: World, body: bytes) -> Any:
    return await post(world, data=body, headers={"Content-Type": "multipart/form-data; boundary=b"})


# Taken


async def test_the_answer_is_202_with_the_ladder_and_where_to_follow_it(world: World) -> None:
    answer = await post(world, query={**QUERY, "case": CASE, "in_reply_to": CASE, "expires_in": "60"})
    assert answer.status == 202
    body = answer.json
    matches("Message", body)
    assert answer.headers["Location"] == f"/v1/messages/{body['message_id']}"
    assert answer.headers["Cache-Control"] == "no-store"
    assert (body["case"], body["in_reply_to"]) == (CASE, CASE)
    assert (body["created"], body["expires"]) == ("2026-09-21T14:13:20.123Z", "2026-09-21T14:14:20.123Z")
    assert body["warnings"] == [{"pointer": "/subject/identifier/0/value", "rule": "nhs-number check digit"}]
    (ladder,) = body["recipients"]
    assert (ladder["recipient"], ladder["stage"]) == ("police", "accepted")
    assert ladder["receipts"] == [
        {
            "stage": "accepted",
            "issuer": "school",
            "at": body["created"],
            "reason": None,
            "receipt": "0oRyZWNlaXB0_w",
        }
    ]


async def test_the_node_is_handed_what_was_asked(world: World) -> None:
    query = {**QUERY, "adapter": "json", "expires_in": "3600"}
    await post(world, query=query, headers={"Idempotency-Key": "key-1"}, data=b'{"a":"\xc3\xa9"}')
    (taken,) = world.node.submissions
    assert (taken.sender, taken.idempotency_key, taken.adapter) == ("school", "key-1", "json")
    assert (taken.body.media_type, taken.body.body) == ("application/json", b'{"a":"\xc3\xa9"}')
    assert (taken.purpose, taken.lawful_basis, taken.expires_in) == ("prevent", "public-task", 3600)
    assert (taken.case, taken.in_reply_to) == (None, None)


@pytest.mark.parametrize("to", [[("to", "police"), ("to", "council")], [("to", "police,council")]])
async def test_several_recipients_repeated_or_with_commas(world: World, to: list[tuple[str, str]]) -> None:
    query = [*to, ("purpose", "prevent"), ("lawful_basis", "public-task")]
    answer = await post(world, query=query)
    assert [one["recipient"] for one in answer.json["recipients"]] == ["police", "council"]


@pytest.mark.parametrize("key", ["abc", '"abc"'])
async def test_the_idempotency_key_is_bare_or_quoted(world: World, key: str) -> None:
    assert (await post(world, headers={"Idempotency-Key": key})).status == 202
    assert world.node.submissions[0].idempotency_key == "abc"


async def test_parameters_of_the_media_type_do_not_matter(world: World) -> None:
    await post(world, headers={"Content-Type": "Application/FHIR+JSON; fhirVersion=4.0; charset=UTF-8"})
    assert world.node.submissions[0].body.media_type == "application/fhir+json"


async def test_a_compressed_body_is_read(world: World) -> None:
    data = gzip.compress(b'{"type":"referral"}')
    assert (await post(world, data=data, headers={"Content-Encoding": "gzip"})).status == 202
    assert world.node.submissions[0].body.body == b'{"type":"referral"}'


async def test_status_is_what_the_post_said_without_the_warnings(world: World) -> None:
    accepted = (await post(world)).json
    answer = await ask(world, "GET", f"/v1/messages/{accepted['message_id']}", token="school-token")
    assert answer.status == 200
    matches("Message", answer.json)
    assert answer.json == {**accepted, "warnings": []}


@pytest.mark.parametrize("message_id", ["1b4e28ba-2fa1-41d2-883f-0016d3cca427", "not-an-id", "..", "%00"])
async def test_a_message_that_is_not_there(world: World, message_id: str) -> None:
    assert (await ask(world, "GET", f"/v1/messages/{message_id}", token="school-token")).code == "not-found"


# Parameters


@pytest.mark.parametrize("missing", ["to", "purpose", "lawful_basis"])
async def test_a_missing_parameter_is_named(world: World, missing: str) -> None:
    answer = await post(world, query={name: value for name, value in QUERY.items() if name != missing})
    assert (answer.code, answer.pointers) == ("missing-parameter", [f"/query/{missing}"])
    assert not world.node.submissions


async def test_all_missing_parameters_are_named_at_once(world: World) -> None:
    answer = await post(world, query={})
    assert answer.pointers == ["/query/to", "/query/purpose", "/query/lawful_basis"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("case", "Jane-Canary"),
        ("case", "00000000-0000-1000-8000-000000000000"),
        ("in_reply_to", "x"),
        ("expires_in", "0"),
        ("expires_in", "2592001"),
        ("expires_in", "-1"),
        ("expires_in", "1.5"),
        ("expires_in", "²"),
    ],
)
async def test_a_parameter_out_of_range_is_named_and_not_quoted(world: World, name: str, value: str) -> None:
    answer = await post(world, query={**QUERY, name: value})
    assert (answer.code, answer.pointers) == ("bad-request", [f"/query/{name}"])
    assert b"Canary" not in answer.body


@pytest.mark.parametrize("name", ["purpose", "lawful_basis", "adapter", "case", "in_reply_to", "expires_in"])
async def test_a_parameter_given_twice_is_refused(world: World, name: str) -> None:
    twice = [*QUERY.items(), (name, "1"), (name, "1")]
    answer = await post(world, query=twice)
    assert (answer.code, answer.pointers) == ("bad-request", [f"/query/{name}"])


async def test_an_unknown_parameter_is_refused_and_not_quoted(world: World) -> None:
    answer = await post(world, query={**QUERY, "Canary": "1"})
    assert (answer.code, answer.pointers) == ("bad-request", ["/query"])
    assert b"Canary" not in answer.body


@pytest.mark.parametrize("to", ["police,police", ",".join(f"agency-{i}" for i in range(21))])
async def test_recipients_are_few_and_different(world: World, to: str) -> None:
    answer = await post(world, query={**QUERY, "to": to})
    assert (answer.code, answer.pointers) == ("bad-request", ["/query/to"])


@pytest.mark.parametrize("to", ["Police", "po lice", "police,", "p" * 64, "\N{PILE OF POO}"])
async def test_a_recipient_that_cannot_be_an_agency(world: World, to: str) -> None:
    assert (await post(world, query={**QUERY, "to": to})).code == "unknown-recipient"


@pytest.mark.parametrize("key", ["", '""', "a b", "x" * 256, "caf\u00e9"])
async def test_an_idempotency_key_is_1_to_255_printable_ascii_characters(world: World, key: str) -> None:
    assert (await post(world, headers={"Idempotency-Key": key})).code == "idempotency-key-required"


async def test_no_idempotency_key(world: World) -> None:
    raw = raw_post(b"{}").replace(b"Idempotency-Key:", b"X-Other:")
    assert raw_code(await world.talk(raw)) == "idempotency-key-required"


@pytest.mark.parametrize("name", ["Idempotency-Key", "Content-Type"])
async def test_a_header_given_twice_is_refused(world: World, name: str) -> None:
    raw = raw_post(b"{}").replace(b"Host: x\r\n", b"Host: x\r\n" + name.encode() + b": text/plain\r\n")
    assert raw_code(await world.talk(raw)) == "bad-request"
    assert not world.node.submissions


# Bodies


@pytest.mark.parametrize("content_type", ["", "canary", "text/", "a/b/c", "text/plain\u00e9"])
async def test_what_is_no_media_type(world: World, content_type: str) -> None:
    answer = await post(world, headers={"Content-Type": content_type})
    assert answer.code == "unsupported-format"


@pytest.mark.parametrize("charset", ["utf-16", '"iso-8859-1"', "x; charset=utf-8"])
async def test_only_utf_8(world: World, charset: str) -> None:
    answer = await post(world, headers={"Content-Type": f"application/json; charset={charset}"})
    assert answer.code == "malformed-body"


async def test_a_body_at_the_limit_and_one_byte_more(small: World) -> None:
    assert (await post(small, data=b" " * 1000)).status == 202
    assert (await post(small, data=b" " * 1001)).code == "body-too-large"
    assert len(small.node.submissions) == 1


async def test_the_limit_counts_what_is_unpacked(world: World) -> None:
    bomb = gzip.compress(bytes(50 * MIB), 1)
    assert len(bomb) < MIB
    assert (await post(world, data=bomb, headers={"Content-Encoding": "gzip"})).code == "body-too-large"
    assert not world.node.submissions


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate"])
async def test_a_compressed_body_is_read_whole_or_refused(world: World, coding: str) -> None:
    document = b'{"type":"referral"}' + b" " * 600_000
    pack = zlib.compress if coding == "deflate" else gzip.compress
    whole, headers = pack(document), {"Content-Encoding": coding}
    assert (await post(world, data=whole, headers=headers)).status == 202
    assert world.node.submissions[0].body.body == document
    for damaged in (whole[:-1], whole[: len(whole) // 2], whole[:3], whole + b"x", whole[:-6] + b"xxxxxx"):
        assert (await post(world, data=damaged, headers=headers)).code == "malformed-body"
    members = pack(document) + pack(b"  ")
    assert (await post(world, data=members, headers=headers)).status == 202
    assert world.node.submissions[1].body.body == document + b"  "


async def test_a_coding_nobody_here_knows_is_refused(world: World) -> None:
    for coding in ("br", "canary", "gzip, gzip"):
        answer = await post(world, headers={"Content-Encoding": coding})
        assert (answer.code, answer.pointers) == ("unsupported-format", ["/header/Content-Encoding"])
    form = aiohttp.FormData()
    form.add_field("message", "{}", content_type="application/json")
    form.add_field("attachment", b"x", content_type="text/plain", filename="f")
    assert (await post(world, data=form, headers={"Content-Encoding": "gzip"})).code == "malformed-body"


async def test_a_body_that_cannot_be_unpacked(world: World) -> None:
    answer = await post(world, data=b"Canary, not gzip", headers={"Content-Encoding": "gzip"})
    assert answer.status == 400
    assert b"Canary" not in answer.body
    assert not world.node.submissions


@pytest.mark.parametrize("sent", [0, 1, 500])
async def test_a_half_sent_body_is_nothing(world: World, sent: int) -> None:
    assert await world.talk(raw_post(b" " * sent, length=1000), end=True) == b""
    assert await world.next_observed() == ("POST", "/v1/messages", 400)
    assert not world.node.submissions


async def test_a_half_sent_attachment_is_nothing(world: World) -> None:
    body = raw_form(b'form-data; name="attachment"; filename="a"', b"y" * 5000)
    raw = raw_post(body[:3000], length=len(body), content_type="multipart/form-data; boundary=b")
    assert await world.talk(raw, end=True) == b""
    assert await world.next_observed() == ("POST", "/v1/messages", 400)
    assert not world.node.submissions


async def test_a_form_that_ends_before_its_end_is_nothing(world: World) -> None:
    body = raw_form(b'form-data; name="attachment"; filename="a"', b"y" * 5000)
    assert (await post_form(world, body[:3000])).code in {"incomplete-body", "malformed-body"}
    assert not world.node.submissions


@pytest.mark.parametrize(
    "limits", [Limits(read_timeout=0.05), Limits(body_timeout=0.05)], ids=["pause", "whole"]
)
async def test_a_body_that_does_not_come_in_time(limits: Limits, quick_goodbye: None) -> None:
    async with serving(limits) as world:
        assert raw_code(await world.talk(raw_post(b"{", length=100))) == "request-timeout"
        assert not world.node.submissions


async def test_a_trickle_is_cut_off_though_it_never_pauses(quick_goodbye: None) -> None:
    async with serving(Limits(read_timeout=30, body_timeout=0.2)) as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
        writer.write(raw_post(b"", length=100_000))

        async def trickle() -> None:
            while True:
                writer.write(b" ")
                await asyncio.sleep(0.01)

        async with asyncio.TaskGroup() as group:
            drip = group.create_task(trickle())
            answer = await read_answer(reader)
            drip.cancel()
        writer.close()
        assert raw_code(answer) == "request-timeout"


# Attachments


async def test_attachments_are_streamed_in_order_and_whole(world: World) -> None:
    """30 MB whose bytes nobody holds at once; the second is told apart from the first."""
    block = bytes(range(256)) * 4096
    expected = hashlib.sha256(block * 30).digest()

    async def blocks() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield block

    digest = f"sha-256=:{b64encode(expected).decode()}:"
    files = [
        File("scan \u00e9.pdf", "application/pdf", blocks(), digest),
        File("note.txt", "text/plain", b"\r\n--b\r\n-- not a boundary\r\n"),
    ]
    accepted = await world.school.send(
        b"{}",
        media_type="application/json",
        to=["police"],
        purpose="prevent",
        lawful_basis="public-task",
        idempotency_key="k",
        attachments=files,
    )
    assert accepted["recipients"]
    note = b"\r\n--b\r\n-- not a boundary\r\n"
    assert world.node.uploads == [
        ("scan \u00e9.pdf", "application/pdf", 30 * MIB, expected),
        ("note.txt", "text/plain", len(note), hashlib.sha256(note).digest()),
    ]
    assert world.node.largest_piece <= 2 * PIECE


async def test_a_form_cut_into_single_bytes_is_the_same_form(world: World) -> None:
    data = b"\r\n--a-\r\n\r\n--\r\r\n--" * 20
    body = raw_form(b'form-data; name="attachment"; filename="a"', data)
    raw = raw_post(body, content_type="multipart/form-data; boundary=b")
    reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
    for i in range(len(raw)):
        writer.write(raw[i : i + 1])
        await asyncio.sleep(0)  # let the other side read before the next
    answer = await read_answer(reader)
    writer.close()
    assert b" 202 " in answer
    ((_, _, size, digest),) = world.node.uploads
    assert (size, digest) == (len(data), hashlib.sha256(data).digest())


async def test_an_attachment_that_is_not_what_was_announced(world: World) -> None:
    digest = f"sha-256=:{b64encode(bytes(32)).decode()}:"
    answer = await post(world, data=form((b"hello", {"Content-Digest": digest})))
    assert answer.code == "attachment-mismatch"


@pytest.mark.parametrize("digest", ["sha-256=:AAAA:", "sha-256=:====:"])
async def test_a_digest_that_cannot_be_one(world: World, digest: str) -> None:
    answer = await post(world, data=form((b"hello", {"Content-Digest": digest})))
    assert (answer.code, answer.pointers) == ("bad-request", ["/attachments/0/Content-Digest"])


async def test_attachments_within_the_limits_and_beyond(small: World) -> None:
    assert (await post(small, data=form((b"x" * 1000, {}), (b"x" * 1000, {})))).status == 202
    assert (await post(small, data=form((b"x" * 1000, {}), (b"x" * 1001, {})))).code == "body-too-large"
    assert (await post(small, data=form((b"", {}), (b"", {}), (b"", {})))).code == "body-too-large"
    assert len(small.node.submissions) == 1


async def test_the_message_of_a_form_has_the_limit_of_a_message(small: World) -> None:
    writer = aiohttp.MultipartWriter("form-data")
    part = writer.append(b" " * 1001, {"Content-Type": "application/json"})
    part.set_content_disposition("form-data", name="message")
    assert (await post(small, data=writer)).code == "body-too-large"


async def test_a_form_begins_with_the_message(world: World) -> None:
    answer = await post(world, data=form(message="attachment"))
    assert (answer.code, answer.pointers) == ("bad-request", ["/message"])
    answer = await post_form(world, b"--b--\r\n")
    assert (answer.code, answer.pointers) == ("bad-request", ["/message"])


@pytest.mark.parametrize(
    ("disposition", "more", "code"),
    [
        (b'form-data; name="message"', b"", "bad-request"),
        (b'form-data; name="canary"', b"", "bad-request"),
        (b'form-data; name="attachment"; filename="' + b"n" * 256 + b'"', b"", "bad-request"),
        (b'form-data; name="attachment"; filename="\xff"', b"", "bad-request"),
        (b"form-data; name=\"attachment\"; filename*=UTF-8''a%0Ab", b"", "bad-request"),
        (b'form-data; name="attachment"', b"Content-Type: canary\r\n", "bad-request"),
        (b'form-data; name="attachment"', b"Content-Type: multipart/mixed; boundary=c\r\n", "malformed-body"),
        (b'form-data; name="attachment"', b"Content-Transfer-Encoding: base64\r\n", "malformed-body"),
        (b'form-data; name="attachment"', b"Content-Encoding: gzip\r\n", "malformed-body"),
    ],
)
async def test_parts_that_are_not_attachments(
    world: World, disposition: bytes, more: bytes, code: str
) -> None:
    answer = await post_form(world, raw_form(disposition, more=more))
    assert answer.code == code
    assert b"canary" not in answer.body
    assert not world.node.submissions


async def test_an_attachment_without_name_type_or_digest(world: World) -> None:
    body = raw_form(b'form-data; name="attachment"', more=b"Content-Transfer-Encoding: binary\r\n")
    assert (await post_form(world, body)).status == 202
    assert world.node.uploads == [
        ("attachment-1", "application/octet-stream", 1, hashlib.sha256(b"x").digest())
    ]


@pytest.mark.parametrize(
    "body",
    [b"", b"canary", b"--b\r\ncanary", b"--b\r\n\r\n{}\r\n--c--\r\n", b"--b\r\ncanary\r\n\r\n{}\r\n--b--"],
)
async def test_what_is_no_form(world: World, body: bytes) -> None:
    answer = await post_form(world, body)
    assert answer.code in {"malformed-body", "incomplete-body", "bad-request", "unsupported-format"}
    assert b"canary" not in answer.body
    assert not world.node.submissions


async def test_a_form_without_a_boundary(world: World) -> None:
    answer = await post(world, headers={"Content-Type": "multipart/form-data"})
    assert answer.code == "malformed-body"


async def test_the_client_raises_the_problem_it_is_told(world: World) -> None:
    with pytest.raises(ApiProblem) as caught:
        await world.school.send(
            b"{}", media_type="a/b", to=[], purpose="p", lawful_basis="b", idempotency_key="k", expires_in=5
        )
    assert (caught.value.code, caught.value.status) == ("missing-parameter", 400)
    assert [one.pointer for one in caught.value.problems] == ["/query/to"]
    assert caught.value.hint


# Recall


async def test_a_recall_answers_with_the_status(world: World) -> None:
    path = f"/v1/messages/{(await post(world)).json['message_id']}"
    answer = await ask(world, "POST", f"{path}/recall", token="school-token")
    assert answer.status == 202
    matches("Message", answer.json)
    assert answer.json["recalled"] is not None
    assert (await ask(world, "GET", path, token="school-token")).json == answer.json


async def test_a_recall_needs_the_sender_and_its_permission(world: World) -> None:
    path = f"/v1/messages/{(await post(world)).json['message_id']}/recall"
    assert (await ask(world, "POST", path, token="police-token")).code == "not-found"
    assert (await ask(world, "POST", path, token="only-receives")).code == "not-permitted"
    unknown = "/v1/messages/1b4e28ba-2fa1-41d2-883f-0016d3cca427/recall"
    assert (await ask(world, "POST", unknown, token="school-token")).code == "not-found"
