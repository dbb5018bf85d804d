"""Proposals of agencies: what is signed, and what is no proposal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.crypto import cbor, cose
from gateway.crypto.keys import SigningKey
from gateway.crypto.labels import APPROVAL_CONTEXT, PROPOSAL_CONTEXT
from gateway.crypto.proposal import (
    LARGEST_TEXT,
    LONGEST,
    MAX_PROPOSAL,
    NOTHING,
    Kind,
    Proposal,
    ProposalInvalid,
    read_proposal,
    sign_proposal,
)
from gateway.messages import AgencyId

KEYS = {suite: SigningKey.generate(suite) for suite in ("Ed25519", "ESP256")}
KEY = KEYS["Ed25519"]
NOW = 1_800_000_000_000
SCHOOL = AgencyId("school")
OWN = Proposal(Kind.ENTRY, SCHOOL, "school", NOW, NOW + LONGEST, bytes(31) + b"\x01", '{"id":"school"}')
CONSENT = replace(OWN, kind=Kind.AGREEMENT, subject="one", base=NOTHING)
ENDED = replace(OWN, kind=Kind.WITHDRAW, subject="one", text="")

times = st.integers(0, 2**52)
proposals = st.builds(
    lambda kind, created, lives, base, text: Proposal(
        kind,
        SCHOOL,
        "school" if kind is Kind.ENTRY else "one",
        created,
        created + lives,
        base,
        "" if kind is Kind.WITHDRAW else text,
    ),
    st.sampled_from(Kind),
    times,
    st.integers(1, LONGEST),
    st.binary(min_size=32, max_size=32).filter(any),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
)


@pytest.mark.parametrize("suite", KEYS)
@given(proposal=proposals)
@settings(max_examples=50)
def test_what_was_signed_is_read(suite: str, proposal: Proposal) -> None:
    read = read_proposal(sign_proposal(proposal, KEYS[suite]))
    assert (read.proposal, read.kid) == (proposal, KEYS[suite].kid)
    assert read.verify(KEYS[suite].public)
    assert not read.verify(SigningKey.generate(suite).public)


@pytest.mark.parametrize("suite", KEYS)
def test_every_altered_byte_is_found(suite: str) -> None:
    whole = sign_proposal(OWN, KEYS[suite])
    for at in range(len(whole)):
        altered = bytearray(whole)
        altered[at] ^= 1
        try:
            read = read_proposal(bytes(altered))
        except ProposalInvalid:
            continue
        assert read.kid != KEYS[suite].kid or not read.verify(KEYS[suite].public)


@given(data=st.data())
def test_nothing_else_is_read_nor_verifies(data: st.DataObject) -> None:
    whole = sign_proposal(OWN, KEY)
    start = data.draw(st.integers(0, len(whole)))
    cut = data.draw(st.integers(0, 20))
    other = whole[:start] + data.draw(st.binary(max_size=20)) + whole[start + cut :]
    try:
        read = read_proposal(other)
    except ProposalInvalid:
        return
    assert other == whole or read.kid != KEY.kid or not read.verify(KEY.public)


def test_it_is_known_by_what_was_signed_not_by_the_signature() -> None:
    """ECDSA: whoever has (r, s) can write (r, n - s), which verifies as well."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    whole = sign_proposal(OWN, KEYS["ESP256"])
    s = int.from_bytes(whole[-32:], "big")
    twin = whole[:-32] + (order - s).to_bytes(32, "big")
    assert read_proposal(twin).verify(KEYS["ESP256"].public)
    assert read_proposal(twin).digest == read_proposal(whole).digest
    assert read_proposal(sign_proposal(CONSENT, KEY)).digest != read_proposal(whole).digest


@pytest.mark.parametrize(
    "proposal",
    [
        replace(OWN, subject="police"),
        replace(OWN, base=NOTHING),
        replace(OWN, text=""),
        replace(OWN, expires=NOW),
        replace(OWN, expires=NOW + LONGEST + 1),
        replace(OWN, text="a" * (LARGEST_TEXT + 1)),
        replace(CONSENT, text=""),
        replace(ENDED, base=NOTHING),
        replace(ENDED, text="{}"),
    ],
)
def test_what_could_never_be_granted_is_not_signed_nor_read(proposal: Proposal) -> None:
    with pytest.raises(ValueError, match="not a proposal"):
        sign_proposal(proposal, KEY)
    whole = cbor.decode(cose.parse_sign1(sign_proposal(OWN, KEY)).payload)
    fields = (proposal.kind, proposal.agency, proposal.subject, proposal.created, proposal.expires)
    changed = whole | dict(enumerate([*map(_plain, fields), proposal.base, proposal.text], 2))
    assert not _is_read(changed)


def _plain(value: object) -> object:
    return str(value) if isinstance(value, str) else value


def _is_read(payload: Any) -> bool:
    try:
        read_proposal(cose.sign1(cbor.encode(payload), KEY, PROPOSAL_CONTEXT))
    except ProposalInvalid as error:
        assert str(error) == "this is not a proposal"
        return False
    return True


@pytest.mark.parametrize(
    "change",
    [
        {1: 2},
        {2: "other"},
        {2: 1},
        {2: ["entry"]},
        {3: "School"},
        {3: None},
        {4: ""},
        {5: -1},
        {6: "soon"},
        {7: b""},
        {8: b"{}"},
        {9: 1},
        {"kind": "entry"},
    ],
)
def test_other_fields_are_refused(change: dict[Any, Any]) -> None:
    payload = cbor.decode(cose.parse_sign1(sign_proposal(OWN, KEY)).payload)
    assert _is_read(payload)
    assert not _is_read(payload | change)
    assert not _is_read({label: value for label, value in payload.items() if label not in change} | {10: 1})


def test_other_statements_are_no_proposals() -> None:
    payload = cose.parse_sign1(sign_proposal(OWN, KEY)).payload
    assert not read_proposal(cose.sign1(payload, KEY, APPROVAL_CONTEXT)).verify(KEY.public)
    for data in (b"", bytes(MAX_PROPOSAL + 1), cose.sign1(b"\xa0", KEY, PROPOSAL_CONTEXT)):
        with pytest.raises(ProposalInvalid):
            read_proposal(data)


def test_the_largest_fits() -> None:
    largest = replace(OWN, agency=AgencyId("a" * 63), subject="a" * 63, text="a" * LARGEST_TEXT)
    assert read_proposal(sign_proposal(largest, KEYS["ESP256"])).proposal == largest
