"""Approvals: several people, one request."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.crypto import cbor, cose
from gateway.crypto.approval import LONGEST, ApprovalInvalid, Request, approve, read_request, verify_approvals
from gateway.crypto.keys import SigningKey
from gateway.crypto.labels import APPROVAL_CONTEXT, RECEIPT_CONTEXT
from gateway.messages import AgencyId, new_id

ANN, BOB, EVE = SigningKey.generate(), SigningKey.generate(), SigningKey.generate()
PEOPLE = {"ann": ANN.public, "bob": BOB.public}
NOW = 1_800_000_000_000
REQUEST = Request(new_id(), "destroy-key", AgencyId("school-a"), bytes(32), NOW, NOW + 1000)


def test_each_who_approved_is_named() -> None:
    one, two = approve(REQUEST, ANN), approve(REQUEST, BOB)
    assert verify_approvals([one, two], PEOPLE, NOW) == (REQUEST, frozenset({"ann", "bob"}))
    assert read_request(one) == REQUEST


def test_one_person_twice_is_one_person() -> None:
    twice = [approve(REQUEST, ANN), approve(REQUEST, ANN)]
    assert verify_approvals(twice, {**PEOPLE, "also-ann": ANN.public}, NOW)[1] in ({"ann"}, {"also-ann"})


@pytest.mark.parametrize(
    "other",
    [
        replace(REQUEST, request_id=new_id()),
        replace(REQUEST, action="export-key"),
        replace(REQUEST, agency=AgencyId("school-b")),
        replace(REQUEST, subject=bytes(16)),
        replace(REQUEST, asked=NOW - 1),
        replace(REQUEST, until=NOW + 1001),
    ],
)
def test_approvals_of_different_requests_do_not_add_up(other: Request) -> None:
    with pytest.raises(ApprovalInvalid, match="different"):
        verify_approvals([approve(REQUEST, ANN), approve(other, BOB)], PEOPLE, NOW)


def test_strangers_do_not_count() -> None:
    with pytest.raises(ApprovalInvalid, match="somebody"):
        verify_approvals([approve(REQUEST, ANN), approve(REQUEST, EVE)], PEOPLE, NOW)


@pytest.mark.parametrize(("now", "why"), [(NOW - 1, "future"), (NOW + 1000, "expired")])
def test_a_request_has_its_time(now: int, why: str) -> None:
    with pytest.raises(ApprovalInvalid, match=why):
        verify_approvals([approve(REQUEST, ANN)], PEOPLE, now)


def test_no_request_stays_open_for_long() -> None:
    with pytest.raises(ValueError, match="not a request"):
        approve(replace(REQUEST, until=NOW + LONGEST + 1), ANN)


def test_every_altered_byte_is_refused() -> None:
    whole = approve(REQUEST, ANN)
    for at in range(len(whole)):
        altered = bytearray(whole)
        altered[at] ^= 1
        with pytest.raises(ApprovalInvalid):
            verify_approvals([bytes(altered)], PEOPLE, NOW)


def test_other_statements_and_other_fields_are_no_approvals() -> None:
    payload = cose.parse_sign1(approve(REQUEST, ANN)).payload
    more = {**cbor.decode(payload), 8: 1}
    longer = {**cbor.decode(payload), 7: NOW + LONGEST + 1}
    for data in (
        b"",
        bytes(2000),
        cose.sign1(payload, ANN, RECEIPT_CONTEXT),
        cose.sign1(cbor.encode(more), ANN, APPROVAL_CONTEXT),
        cose.sign1(cbor.encode(longer), ANN, APPROVAL_CONTEXT),
        cose.sign1(b"\xa0", ANN, APPROVAL_CONTEXT),
    ):
        with pytest.raises(ApprovalInvalid):
            verify_approvals([data], PEOPLE, NOW)
    with pytest.raises(ApprovalInvalid, match="no approval"):
        verify_approvals([], PEOPLE, NOW)
