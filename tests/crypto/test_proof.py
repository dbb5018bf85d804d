"""Receipts: who may state what, and that a signature covers all of it. The vectors hold the rest."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.crypto import proof
from gateway.crypto.keys import SigningKey, VerifyKey
from gateway.crypto.labels import MAX_RECEIPT
from gateway.errors import ReceiptInvalid
from gateway.messages import (
    AgencyId,
    Emergency,
    EnvelopeId,
    MessageId,
    Quorum,
    Reason,
    Receipt,
    Stage,
    new_id,
)
from gateway.protocol import views
from gateway.protocol.break_glass import MAX_ROLES

SENDER, RECIPIENT, OTHER = AgencyId("a" * 63), AgencyId("northtown-police"), AgencyId("northtown-housing")
KEYS = {agency: SigningKey.generate() for agency in (SENDER, RECIPIENT, OTHER)}
WITH_REASON = {Stage.REJECTED, Stage.EXPIRED, Stage.FAILED, Stage.OPENED}
MAY_STATE = {
    SENDER: {Stage.ACCEPTED, Stage.FAILED, Stage.EXPIRED},
    RECIPIENT: {Stage.RECEIVED, Stage.DELIVERED, Stage.REJECTED, Stage.EXPIRED, Stage.OPENED},
    OTHER: set[Stage](),
}


def find(agency: AgencyId, kid: bytes) -> VerifyKey | None:
    key = KEYS.get(agency)
    return key.public if key and key.kid == kid else None


def receipt(stage: Stage, issuer: AgencyId, reason: Reason = Reason.ATTACHMENT_MISMATCH) -> Receipt:
    opened = stage is Stage.OPENED
    return Receipt(
        stage,
        MessageId(new_id()),
        EnvelopeId(new_id()),
        bytes(range(32)),
        SENDER,
        RECIPIENT,
        issuer,
        1_795_000_000_000,
        (Emergency.RISK_TO_LIFE if opened else reason) if stage in WITH_REASON else None,
        quorum=Quorum("prevent-2026", (b"as signed",)) if opened else None,
    )


@pytest.mark.parametrize(("stage", "issuer"), list(itertools.product(Stage, MAY_STATE)))
def test_who_may_state_what(stage: Stage, issuer: AgencyId) -> None:
    stated = receipt(stage, issuer)
    signed = proof.sign_receipt(stated, KEYS[issuer])
    assert proof.read_receipt(signed) == stated
    if stage in MAY_STATE[issuer]:
        assert proof.verify_receipt(signed, find) == stated
    else:
        with pytest.raises(ReceiptInvalid, match="may not state"):
            proof.verify_receipt(signed, find)


@given(st.sampled_from(Reason), st.integers(0, 2**53 - 1))
def test_every_reason_and_time_can_be_stated(reason: Reason, at: int) -> None:
    stated = replace(receipt(Stage.REJECTED, RECIPIENT, reason), at=at)
    signed = proof.sign_receipt(stated, KEYS[RECIPIENT])
    assert proof.verify_receipt(signed, find) == stated
    assert len(signed) < MAX_RECEIPT


def test_a_key_that_ended_states_nothing_about_a_time_after_that() -> None:
    stated = receipt(Stage.RECEIVED, RECIPIENT)
    signed = proof.sign_receipt(stated, KEYS[RECIPIENT])
    public = KEYS[RECIPIENT].public.public_bytes
    ended = VerifyKey.from_public(public, ends=stated.at + 1)
    assert proof.verify_receipt(signed, lambda _, kid: ended) == stated
    ended = VerifyKey.from_public(public, ends=stated.at)
    with pytest.raises(ReceiptInvalid, match=proof.UNKNOWN_KEY):
        proof.verify_receipt(signed, lambda _, kid: ended)


@pytest.mark.parametrize("groups", range(1, len(views.GROUPS) + 1))
def test_a_view_of_any_width_can_be_stated(groups: int) -> None:
    stated = replace(receipt(Stage.ACCEPTED, SENDER), view=tuple(views.GROUPS)[:groups])
    assert proof.verify_receipt(proof.sign_receipt(stated, KEYS[SENDER]), find) == stated


def test_no_more_approvals_are_read_than_an_agreement_has_roles() -> None:
    for count in (MAX_ROLES, MAX_ROLES + 1):
        quorum = Quorum("prevent-2026", (b"as signed",) * count)
        signed = proof.sign_receipt(replace(receipt(Stage.OPENED, RECIPIENT), quorum=quorum), KEYS[RECIPIENT])
        if count == MAX_ROLES:
            assert proof.verify_receipt(signed, find).quorum == quorum
            continue
        with pytest.raises(ReceiptInvalid, match=proof.NOT_A_RECEIPT):
            proof.read_receipt(signed)


def test_a_bit_flipped_or_a_cut_anywhere_is_invalid() -> None:
    signed = bytearray(proof.sign_receipt(receipt(Stage.REJECTED, RECIPIENT), KEYS[RECIPIENT]))
    for position in range(len(signed)):
        for damaged in (signed[:position], _flipped(signed, position)):
            with pytest.raises(ReceiptInvalid):
                proof.verify_receipt(bytes(damaged), find)


def _flipped(data: bytearray, position: int) -> bytearray:
    return data[:position] + bytes([data[position] ^ 1 << (position % 8)]) + data[position + 1 :]


@given(st.binary(max_size=200))
def test_noise_is_not_a_receipt(noise: bytes) -> None:
    with pytest.raises(ReceiptInvalid, match=proof.NOT_A_RECEIPT):
        proof.read_receipt(noise)
