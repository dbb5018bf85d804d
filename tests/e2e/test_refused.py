"""Envelopes that must not be taken: refused, counted, set aside, and the honest sender told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.crypto import content, envelope, proof
from gateway.crypto.keys import Signer, SigningKey
from gateway.messages import (
    AgencyId,
    Content,
    Emergency,
    EnvelopeId,
    Header,
    MessageId,
    Reason,
    Sensitive,
    Stage,
    new_id,
)
from gateway.node import now_ms
from gateway.store import inbox
from gateway.transport.base import Lane, Sealed
from tests.road import ladder, metric, reached, referral, refusal, send, wait_for_arrival
from tests.world import COUNCIL, IMPATIENT, POLICE, QUICK, SCHOOL, World, provision, running, until

TWO_HOURS = 2 * 3600 * 1000


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Three agencies on the embedded transport, with quick clockwork."""
    async with running(provision(tmp_path, extra=QUICK)) as world:
        yield world


def header(**change: object) -> Header:
    """The header of a referral from the school to the police."""
    now = now_ms()
    plain = Header(
        MessageId(new_id()),
        EnvelopeId(new_id()),
        "referral",
        1,
        SCHOOL,
        POLICE,
        new_id(),  # type: ignore[arg-type]
        None,
        now,
        now + TWO_HOURS,
        "prevent",
        "public-task",
    )
    return replace(plain, **change)  # type: ignore[arg-type]


def sealed(
    world: World, head: Header, *, document: bytes | None = None, signer: Signer | None = None
) -> bytes:
    """An envelope as the school's node would make it, unless told otherwise."""
    from gateway.adapters import json_native

    body = document if document is not None else json_native.dumps(referral())
    to = world.nodes[POLICE].parts.keys[POLICE].current_opening.public
    signer = signer or world.nodes[SCHOOL].parts.keys[SCHOOL].signing
    return envelope.seal(head, content.encode_content(Content(Sensitive(body))), signer=signer, to=to)


async def post(world: World, body: bytes, *, to: AgencyId = POLICE, envelope_id: str | None = None) -> None:
    """Put bytes on the transport, as whoever controls the broker could."""
    await world.nodes[SCHOOL].parts.transport.publish(
        Sealed(EnvelopeId(envelope_id or new_id()), to, Lane.MESSAGES, now_ms() + TWO_HOURS, body)
    )


async def refused(world: World, reason: Reason, agency: AgencyId = POLICE) -> None:
    """Wait until it is refused for that reason; then it is counted, set aside, and not in the inbox."""
    sample = f'gateway_envelopes_refused_total{{reason="{reason.value}"}}'
    await until(lambda: metric(world, agency, sample) == 1, f"refusal: {reason.value}")
    dead = f'gateway_dead_lettered_total{{reason="{reason.value}"}}'
    await until(lambda: metric(world, agency, dead) == 1, "dead letter counted")
    rows = await world.nodes[agency].parts.store.read(
        lambda s: s.execute("SELECT reason FROM dead_letters").fetchall()
    )
    assert [row[0] for row in rows] == [reason.value]
    await until(lambda: list((world.folder / "spool" / agency / "dead").iterdir()), "the dead letter itself")
    assert (await world.clients[agency].inbox())["messages"] == []


async def owed_to_school(world: World, message_id: str) -> list[tuple[Stage, Reason | Emergency | None]]:
    """What the police's node stated about a message, as its receipts say."""
    rows = await world.nodes[POLICE].parts.store.read(
        lambda s: s.execute("SELECT cose FROM receipts").fetchall()
    )
    receipts = [proof.read_receipt(row[0]) for row in rows]
    return [(one.stage, one.reason) for one in receipts if one.message_id == message_id]


async def test_what_the_helper_makes_is_taken_when_nothing_is_wrong(world: World) -> None:
    head = header()
    await post(world, sealed(world, head), envelope_id=head.envelope_id)
    await wait_for_arrival(world, head.message_id)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[:-1], Reason.MALFORMED),
        (lambda data: data[: len(data) // 2], Reason.MALFORMED),
        (lambda data: data[:-40] + bytes([data[-40] ^ 1]) + data[-39:], Reason.NOT_OPENED),
        (lambda data: b"not an envelope", Reason.MALFORMED),
        (lambda data: b"", Reason.MALFORMED),
    ],
    ids=["one byte short", "half", "one bit", "something else", "nothing"],
)
async def test_altered_and_truncated(world: World, change: object, reason: Reason) -> None:
    assert callable(change)
    await post(world, change(sealed(world, header())))
    await refused(world, reason)


async def test_an_unknown_version(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(envelope, "ENVELOPE_VERSION", 2)
        future = sealed(world, header())
    await post(world, future)
    await refused(world, Reason.UNKNOWN_VERSION)


async def test_wrongly_signed_with_a_key_the_directory_does_not_list(world: World) -> None:
    await post(world, sealed(world, header(), signer=SigningKey.generate()))
    await refused(world, Reason.UNKNOWN_SENDER)


async def test_signed_by_another_agency_in_the_schools_name(world: World) -> None:
    await post(world, sealed(world, header(), signer=world.nodes[COUNCIL].parts.keys[COUNCIL].signing))
    await refused(world, Reason.UNKNOWN_SENDER)


async def test_delivered_to_a_node_it_was_not_sealed_for(world: World) -> None:
    await post(world, sealed(world, header()), to=COUNCIL)
    await refused(world, Reason.UNKNOWN_KEY, COUNCIL)


async def test_readdressed_the_signer_is_told_and_its_own_ladder_is_untouched(world: World) -> None:
    """The council, an honest recipient once, seals the school's signed words to the police."""
    accepted = await send(world.clients[SCHOOL], to=[COUNCIL])
    head = header(message_id=accepted["message_id"], recipient=COUNCIL)
    await post(world, sealed(world, head))
    await refused(world, Reason.READDRESSED)
    assert await owed_to_school(world, accepted["message_id"]) == [(Stage.REJECTED, Reason.READDRESSED)]
    unmatched = 'gateway_receipts_refused_total{why="unmatched"}'
    await until(lambda: metric(world, SCHOOL, unmatched) == 1, "the stray receipt is counted at the school")
    assert (await ladder(world, accepted["message_id"], COUNCIL))["stage"] in {"accepted", "received"}


async def test_replayed_it_is_not_handed_over_again(world: World) -> None:
    head = header()
    body = sealed(world, head)
    await post(world, body, envelope_id=head.envelope_id)
    await wait_for_arrival(world, head.message_id)
    await world.clients[POLICE].ack([head.message_id])
    await post(world, body)
    await refused(world, Reason.REPLAYED)
    assert await owed_to_school(world, head.message_id) == [(Stage.RECEIVED, None), (Stage.DELIVERED, None)]


async def test_a_second_envelope_for_the_same_message_is_a_replay_and_its_signer_is_told(
    world: World,
) -> None:
    head = header()
    await post(world, sealed(world, head))
    await wait_for_arrival(world, head.message_id)
    await world.clients[POLICE].ack([head.message_id])
    await post(world, sealed(world, replace(head, envelope_id=EnvelopeId(new_id()))))
    await refused(world, Reason.REPLAYED)
    assert (Stage.REJECTED, Reason.REPLAYED) in await owed_to_school(world, head.message_id)


async def test_what_was_refused_once_is_not_let_in_later(world: World) -> None:
    """A clock that was wrong and is put right must not turn a rejection into a delivery."""
    head = header(created=now_ms() + TWO_HOURS, expires=now_ms() + 2 * TWO_HOURS)
    body = sealed(world, head)
    await post(world, body)
    await refused(world, Reason.CLOCK_SKEW)
    parts = world.nodes[POLICE].parts
    object.__setattr__(parts, "now", lambda: now_ms() + TWO_HOURS)
    await post(world, body)
    replayed = 'gateway_envelopes_refused_total{reason="replayed"}'
    await until(lambda: metric(world, POLICE, replayed) == 1, "the second copy is refused too")
    assert (await world.clients[POLICE].inbox())["messages"] == []


async def test_a_sender_whose_clock_is_two_hours_ahead_is_told_why(world: World) -> None:
    object.__setattr__(world.nodes[SCHOOL].parts, "now", lambda: now_ms() + TWO_HOURS)
    message_id = (await send(world.clients[SCHOOL]))["message_id"]
    receipts = (await reached(world, message_id, "rejected"))["receipts"]
    assert receipts[-1]["reason"] == "clock-skew"


async def test_expired_on_arrival(world: World) -> None:
    head = header(created=now_ms() - TWO_HOURS, expires=now_ms() - 1)
    await post(world, sealed(world, head))
    await refused(world, Reason.EXPIRED)
    assert await owed_to_school(world, head.message_id) == [(Stage.EXPIRED, Reason.EXPIRED)]


@pytest.mark.parametrize(
    ("change", "document", "reason"),
    [
        ({"type": "invention"}, None, Reason.UNKNOWN_TYPE),
        ({"version": 9}, None, Reason.UNKNOWN_TYPE),
        ({"purpose": "curiosity"}, None, Reason.NO_AGREEMENT),
        ({"lawful_basis": "because"}, None, Reason.NO_AGREEMENT),
        ({}, b"{}", Reason.INVALID),
        ({}, b"not json", Reason.INVALID),
        ({"type": "decision"}, None, Reason.INVALID),
    ],
)
async def test_an_authentic_envelope_that_breaks_a_rule_is_answered(
    world: World, change: dict[str, object], document: bytes | None, reason: Reason
) -> None:
    """A sender whose node does not check is checked all the same."""
    head = header(**change)
    await post(world, sealed(world, head, document=document))
    await refused(world, reason)
    assert await owed_to_school(world, head.message_id) == [(Stage.REJECTED, reason)]


async def test_the_recipients_directory_decides_too(world: World) -> None:
    """An agreement withdrawn while a message is on its way."""
    police = world.nodes[POLICE].parts
    document = police.directory.document.model_copy(update={"agreements": ()})
    from gateway.directory.model import Directory

    police.source._current = Directory(document)  # type: ignore[attr-defined]
    message_id = (await send(world.clients[SCHOOL]))["message_id"]
    receipts = (await reached(world, message_id, "rejected"))["receipts"]
    assert receipts[-1]["reason"] == "no-agreement"


async def test_not_collected_in_time_it_expires_and_the_sender_is_told(world: World) -> None:
    message_id = (await send(world.clients[SCHOOL], expires_in=1))["message_id"]
    receipts = (await reached(world, message_id, "expired"))["receipts"]
    assert receipts[-1]["stage"] == "expired"
    assert (await world.clients[POLICE].inbox())["messages"] == []
    problem = await _problem_of_ack(world, message_id)
    assert problem in {"expired", "not-found"}


async def test_a_recipient_that_is_gone_for_good_does_not_leave_the_sender_waiting(tmp_path: Path) -> None:
    async with running(provision(tmp_path, extra=IMPATIENT), [SCHOOL]) as world:
        message_id = (await send(world.clients[SCHOOL], expires_in=1))["message_id"]
        receipts = (await reached(world, message_id, "expired"))["receipts"]
        assert (receipts[-1]["issuer"], receipts[-1]["stage"]) == (SCHOOL, "expired")


async def test_chunks_that_do_not_open_reject_the_message(world: World) -> None:
    """An attachment altered on the way."""
    from gateway.crypto import chunks
    from gateway.messages import Attachment

    head, chunk_id, key = header(), EnvelopeId(new_id()), chunks.new_key()
    attachment = Attachment("a.pdf", "application/pdf", 5, b"\0" * 32, key, (chunk_id,))
    from gateway.adapters import json_native

    carried = Content(Sensitive(json_native.dumps(referral())), attachments=(attachment,))
    parts = world.nodes[SCHOOL].parts
    body = envelope.seal(
        head,
        content.encode_content(carried),
        signer=parts.keys[SCHOOL].signing,
        to=world.nodes[POLICE].parts.keys[POLICE].current_opening.public,
    )
    await post(world, body)
    held = lambda: world.nodes[POLICE].parts.store.read(lambda s: inbox.body_of(s, head.envelope_id))
    await until(held, "the envelope waits for its chunk")
    assert (await world.clients[POLICE].inbox())["messages"] == []
    await post(world, chunks.seal_chunk(key, 0, True, chunk_id, b"hello"), envelope_id=chunk_id)
    refused_ = 'gateway_envelopes_refused_total{reason="attachment-mismatch"}'
    await until(lambda: metric(world, POLICE, refused_) == 1, "refusal")
    assert await owed_to_school(world, head.message_id) == [(Stage.REJECTED, Reason.ATTACHMENT_MISMATCH)]


async def _problem_of_ack(world: World, message_id: str) -> str:
    from gateway.http.client import ApiProblem

    try:
        await world.clients[POLICE].ack([message_id])
    except ApiProblem as problem:
        return problem.code
    return "accepted"


async def test_intake_is_refused_while_the_directory_is_out_of_date(world: World) -> None:
    object.__setattr__(world.nodes[SCHOOL].parts.directory, "expires", now_ms() - 1)
    problem = await refusal(world.clients[SCHOOL])
    assert (problem.code, problem.status) == ("directory-expired", 503)
    assert problem.retry_after
