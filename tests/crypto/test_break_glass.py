"""Who may have a message opened in an emergency: the quorum's rules, before an opening and after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from gateway.crypto import proof
from gateway.crypto.approval import ApprovalInvalid, Request, approve
from gateway.crypto.break_glass import check_quorum, confirm, read_opening
from gateway.crypto.fields import raw_id
from gateway.crypto.keys import SigningKey
from gateway.crypto.labels import MAX_RECEIPT
from gateway.errors import ReceiptInvalid
from gateway.messages import (
    AgencyId,
    Emergency,
    EnvelopeId,
    MessageId,
    Quorum,
    Receipt,
    Stage,
    new_id,
)
from gateway.protocol.break_glass import MAX_ROLES, BreakGlass, action

ANN, BOB, CAT, EVE = (SigningKey.generate() for _ in range(4))
LONG = AgencyId("a" * 63)
MESSAGE, OTHER = MessageId(new_id()), MessageId(new_id())
NOW = 1_800_000_000_000
RULE = BreakGlass(
    2, tuple((name, key.public.public_bytes) for name, key in (("lead", ANN), ("duty", BOB), ("head", CAT)))
)
REQUEST = Request(new_id(), action(Emergency.RISK_TO_LIFE), LONG, raw_id(MESSAGE), NOW, NOW + 60_000)
NODE = SigningKey.generate()
NOTICE = Receipt(
    Stage.OPENED,
    MESSAGE,
    EnvelopeId(new_id()),
    bytes(32),
    AgencyId("school"),
    LONG,
    LONG,
    NOW + 1,
    Emergency.RISK_TO_LIFE,
    quorum=Quorum("school-to-police", (approve(REQUEST, ANN), approve(REQUEST, BOB))),
)


def flipped(approval: bytes) -> bytes:
    """With its last bit, which is of the signature, the other way round."""
    return approval[:-1] + bytes([approval[-1] ^ 1])


def roles(approvals: Sequence[bytes], message: MessageId = MESSAGE, now: int = NOW) -> set[str]:
    return set(check_quorum(approvals, RULE, LONG, message, now)[2])


def test_enough_roles_are_a_quorum_and_more_do_no_harm() -> None:
    one, two, three = (approve(REQUEST, key) for key in (ANN, BOB, CAT))
    assert roles([one, two]) == {"lead", "duty"}
    assert roles([three, one, two]) == {"lead", "duty", "head"}
    assert read_opening(one) == (REQUEST, Emergency.RISK_TO_LIFE, MESSAGE)


@pytest.mark.parametrize(
    ("approvals", "why"),
    [
        ([], "no approval"),
        ([approve(REQUEST, ANN)], "1 of the 2"),
        ([approve(REQUEST, ANN), approve(REQUEST, ANN)], "1 of the 2"),
        ([approve(REQUEST, ANN), approve(REQUEST, EVE)], "somebody who may not"),
        (
            [approve(REQUEST, ANN), approve(replace(REQUEST, action=action(Emergency.SERIOUS_HARM)), BOB)],
            "diff",
        ),
        ([approve(REQUEST, ANN), flipped(approve(REQUEST, BOB))], "does not verify"),
        ([approve(REQUEST, ANN)] * (MAX_ROLES + 1), "more approvals"),
    ],
)
def test_what_is_no_quorum(approvals: list[bytes], why: str) -> None:
    with pytest.raises(ApprovalInvalid, match=why):
        roles(approvals)


@pytest.mark.parametrize(
    "other",
    [
        replace(REQUEST, subject=raw_id(OTHER)),
        replace(REQUEST, agency=AgencyId("housing")),
        replace(REQUEST, action="destroy-key"),
        replace(REQUEST, action="break-glass/boredom"),
        replace(REQUEST, action="break-glass"),
        replace(REQUEST, subject=bytes(32)),
    ],
)
def test_approvals_of_something_else_open_nothing(other: Request) -> None:
    with pytest.raises(ApprovalInvalid, match="not for opening this"):
        roles([approve(other, ANN), approve(other, BOB)])


def test_a_request_for_something_else_cannot_be_read_as_an_opening() -> None:
    for other in (replace(REQUEST, action="destroy-key"), replace(REQUEST, subject=bytes(16))):
        with pytest.raises(ApprovalInvalid, match="something else"):
            read_opening(approve(other, ANN))


@pytest.mark.parametrize(("now", "why"), [(NOW + 60_000, "expired"), (NOW - 1, "future")])
def test_a_request_opens_in_its_time_only(now: int, why: str) -> None:
    with pytest.raises(ApprovalInvalid, match=why):
        roles([approve(REQUEST, ANN), approve(REQUEST, BOB)], now=now)


def find(agreement: str, sender: AgencyId, recipient: AgencyId, at: int) -> BreakGlass | None:
    """What a directory says."""
    there = (agreement, sender, recipient) == ("school-to-police", NOTICE.sender, LONG)
    return RULE if there and at < NOW + 10_000 else None


def verified(notice: Receipt) -> Receipt:
    """As a reader gets it: over the bytes, with the issuer's signature checked."""
    return proof.verify_receipt(
        proof.sign_receipt(notice, NODE), lambda agency, kid: NODE.public if agency == LONG else None
    )


def test_a_notice_carries_its_quorum() -> None:
    notice = verified(NOTICE)
    assert notice == NOTICE
    assert confirm(notice, find) == {"lead", "duty"}


@pytest.mark.parametrize(
    ("notice", "why"),
    [
        (replace(NOTICE, reason=Emergency.STAFF_UNAVAILABLE), "reason"),
        (replace(NOTICE, message_id=OTHER), "not for opening this"),
        (replace(NOTICE, at=NOW + 60_000), "no agreement"),
        (replace(NOTICE, at=NOW - 1), "future"),
        (replace(NOTICE, quorum=Quorum("another", NOTICE.quorum.approvals)), "no agreement"),  # type: ignore[union-attr]
        (replace(NOTICE, sender=AgencyId("housing")), "no agreement"),
        (replace(NOTICE, quorum=Quorum("school-to-police", ())), "no approval"),
    ],
)
def test_a_notice_whose_quorum_does_not_hold_is_valid_and_says_so(notice: Receipt, why: str) -> None:
    """That it was opened is the recipient's word in any case, and must not be lost for want of a quorum."""
    with pytest.raises(ApprovalInvalid, match=why):
        confirm(verified(notice), find)


def test_only_the_recipient_tells_of_an_opening_and_with_all_that_belongs_to_it() -> None:
    with pytest.raises(ReceiptInvalid, match="may not state"):
        verified(replace(NOTICE, issuer=NOTICE.sender))
    for less in (replace(NOTICE, quorum=None), replace(NOTICE, reason=None)):
        with pytest.raises(ReceiptInvalid, match="not a receipt"):
            verified(less)
    with pytest.raises(ReceiptInvalid, match="not a receipt"):
        verified(replace(NOTICE, stage=Stage.REJECTED))
    with pytest.raises(ApprovalInvalid):
        confirm(replace(NOTICE, stage=Stage.RECEIVED), find)


def test_the_largest_notice_fits_into_a_receipt() -> None:
    people = [SigningKey.generate() for _ in range(MAX_ROLES)]
    longest = max(Emergency, key=len)
    request = replace(REQUEST, action=action(longest))
    quorum = Quorum("a" * 63, tuple(approve(request, one) for one in people))
    notice = replace(NOTICE, sender=AgencyId("s" * 63), reason=longest, quorum=quorum)
    assert len(proof.sign_receipt(notice, NODE)) <= MAX_RECEIPT
