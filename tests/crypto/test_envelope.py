"""Envelopes: what is sealed opens at its recipient, and whatever was done to it on the way is refused."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.crypto import cbor, cose, proof
from gateway.crypto.envelope import Opened, open_envelope, peek, seal
from gateway.crypto.keys import OpeningKey, SigningKey, VerifyKey
from gateway.crypto.labels import MAX_ENVELOPE, SIGNING_SUITES, SUITES
from gateway.crypto.padding import padded_length
from gateway.errors import ReceiptInvalid, RefusedByPeer
from gateway.messages import (
    AgencyId,
    CaseId,
    EnvelopeId,
    Header,
    LawfulBasis,
    MessageId,
    Purpose,
    Reason,
    Receipt,
    Stage,
    new_id,
)
from tests.crypto import independent
from tests.vectors.parts import P256, SIGNING, signed_payload, wrap

SCHOOL, POLICE = AgencyId("northtown-academy"), AgencyId("northtown-police")
SIGNER = SigningKey.generate()
KEYS = {suite: OpeningKey.generate(suite) for suite in SUITES}
BY_ID = {key.kid: key for key in KEYS.values()}
BOTH = pytest.mark.parametrize("suite", sorted(SUITES))

IDS = st.uuids(version=4).map(str)
AGENCIES = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True).map(AgencyId)
TIMES = st.integers(0, 2**53 - 1)
HEADERS = st.builds(
    Header,
    message_id=IDS.map(MessageId),
    envelope_id=IDS.map(EnvelopeId),
    type=st.text(max_size=64),
    version=st.integers(0, 100),
    sender=st.just(SCHOOL),
    recipient=AGENCIES,
    case=IDS.map(CaseId),
    in_reply_to=st.none() | IDS.map(MessageId),
    created=TIMES,
    expires=TIMES,
    purpose=st.sampled_from(Purpose),
    lawful_basis=st.sampled_from(LawfulBasis),
)


def header(**changes: Any) -> Header:
    plain = Header(
        MessageId(new_id()),
        EnvelopeId(new_id()),
        "referral",
        1,
        SCHOOL,
        POLICE,
        CaseId(new_id()),
        None,
        1_795_000_000_000,
        1_795_432_000_000,
        Purpose.PREVENT,
        LawfulBasis.PUBLIC_TASK,
    )
    return replace(plain, **changes)


def find(agency: AgencyId, kid: bytes) -> VerifyKey | None:
    return SIGNER.public if (agency, kid) == (SCHOOL, SIGNER.kid) else None


def opened(data: bytes, recipient: AgencyId = POLICE) -> Opened:
    return open_envelope(data, recipient=recipient, keys=BY_ID, find_verify_key=find)


def refusal(data: bytes, **changes: Any) -> RefusedByPeer:
    arguments: dict[str, Any] = {"recipient": POLICE, "keys": BY_ID, "find_verify_key": find}
    with pytest.raises(RefusedByPeer) as refused:
        open_envelope(data, **arguments | changes)
    return refused.value


@given(HEADERS, st.binary(max_size=3000), st.sampled_from(sorted(SUITES)))
def test_what_is_sealed_opens(head: Header, content: bytes, suite: str) -> None:
    key = KEYS[suite]
    sealed = seal(head, content, signer=SIGNER, to=key.public)
    result = opened(sealed, head.recipient)
    assert (result.header, result.content.reveal()) == (head, content)
    assert result.digest == hashlib.sha256(sealed).digest()
    assert result.signer_kid == SIGNER.kid
    outside = peek(sealed)
    assert (outside.envelope_id, outside.recipient, outside.expires) == (
        head.envelope_id,
        head.recipient,
        head.expires,
    )
    assert (outside.kid, outside.suite) == (key.kid, suite)


@BOTH
@given(content=st.binary(max_size=500))
def test_another_implementation_opens_what_we_seal(suite: str, content: bytes) -> None:
    sealed = seal(header(), content, signer=SIGNER, to=KEYS[suite].public)
    public = SIGNER.public.public_bytes
    assert independent.open_envelope(sealed, suite, KEYS[suite].secret, public)[1] == content


@BOTH
def test_a_bit_flipped_anywhere_is_refused(suite: str) -> None:
    sealed = bytearray(seal(header(), b"content", signer=SIGNER, to=KEYS[suite].public))
    for position in range(len(sealed)):
        sealed[position] ^= 1 << (position % 8)
        refused = refusal(bytes(sealed))
        assert refused.header is None
        assert refused.reason in {
            Reason.MALFORMED,
            Reason.UNKNOWN_VERSION,
            Reason.UNKNOWN_KEY,
            Reason.NOT_OPENED,
        }
        sealed[position] ^= 1 << (position % 8)
    assert opened(bytes(sealed)).content.reveal() == b"content"


@BOTH
def test_an_envelope_cut_anywhere_is_refused(suite: str) -> None:
    sealed = seal(header(), b"content", signer=SIGNER, to=KEYS[suite].public)
    for length in range(len(sealed)):
        assert refusal(sealed[:length]).reason is Reason.MALFORMED
        with pytest.raises(RefusedByPeer):
            peek(sealed[:length])


@given(st.binary(max_size=300))
def test_noise_is_malformed(noise: bytes) -> None:
    assert refusal(noise).reason is Reason.MALFORMED


@given(st.binary(max_size=30), st.integers(0, 2000))
def test_noise_spliced_into_an_envelope_is_refused(noise: bytes, at: int) -> None:
    sealed = seal(header(), b"content", signer=SIGNER, to=KEYS["HPKE-7-KE"].public)
    spliced = sealed[:at] + noise + sealed[at + len(noise) :]
    if spliced != sealed:
        assert refusal(spliced).header is None


@BOTH
def test_the_size_tells_only_what_padme_lets_through(suite: str) -> None:
    sizes = {len(seal(header(), bytes(n), signer=SIGNER, to=KEYS[suite].public)) for n in range(4000, 4400)}
    # 400 lengths of content, and of a sealed size only the Padmé steps of 128 bytes among them.
    assert len(sizes) <= 5
    assert len({b - a for a, b in zip(sorted(sizes), sorted(sizes)[1:], strict=False)}) == 1


def test_nothing_of_the_inside_is_seen_outside() -> None:
    head = header(type="mental-health-referral", purpose="mental-health", lawful_basis="vital-interests")
    sealed = seal(head, b"Name: Canary", signer=SIGNER, to=KEYS["HPKE-9-KE"].public)
    for secret in (
        b"Canary",
        b"mental",
        b"vital",
        SCHOOL.encode(),
        bytes.fromhex(head.case.replace("-", "")),
        bytes.fromhex(head.message_id.replace("-", "")),
        SIGNER.kid,
        SIGNER.public.public_bytes,
    ):
        assert secret not in sealed


def test_two_envelopes_of_one_content_have_nothing_secret_in_common() -> None:
    head, key = header(), KEYS["HPKE-9-KE"]
    first, second = (seal(head, b"x" * 5000, signer=SIGNER, to=key.public) for _ in range(2))
    blocks = {first[at : at + 16] for at in range(150, len(first) - 16)}
    shared = [at for at in range(150, len(second) - 16) if second[at : at + 16] in blocks]
    # Only the recipient's key id and algorithm repeat, in one place.
    assert max(shared) - min(shared) < 60


def test_an_envelope_to_a_key_we_do_not_hold() -> None:
    sealed = seal(header(), b"", signer=SIGNER, to=OpeningKey.generate().public)
    assert refusal(sealed).reason is Reason.UNKNOWN_KEY
    assert refusal(sealed, keys={}).reason is Reason.UNKNOWN_KEY


def test_a_key_held_under_a_wrong_name_opens_nothing() -> None:
    key, other = OpeningKey.generate(), OpeningKey.generate()
    sealed = seal(header(), b"", signer=SIGNER, to=key.public)
    assert refusal(sealed, keys={key.kid: other}).reason is Reason.NOT_OPENED


def test_the_algorithm_stated_is_the_keys() -> None:
    """A signature that would hold is not believed under the other algorithm's number."""
    for suite, other in (("Ed25519", -9), ("ESP256", -19)):
        signer = SigningKey.generate(suite)
        protected = cbor.encode({1: other, 4: signer.kid})
        signature = signer.sign(cbor.encode(["Signature1", protected, b"context", b"payload"]))
        signed = cose.parse_sign1(cbor.encode(cbor.tag(18, [protected, {}, b"payload", signature])))
        assert not signed.verify(signer.public, b"context")
        assert cose.parse_sign1(cose.sign1(b"payload", signer, b"context")).verify(signer.public, b"context")


@pytest.mark.parametrize("suite", sorted(SIGNING_SUITES))
def test_an_envelope_is_signed_with_either_kind_of_key(suite: str) -> None:
    signer = SigningKey.generate(suite)
    sealed = seal(header(), b"content", signer=signer, to=KEYS["HPKE-7-KE"].public)
    opened = open_envelope(
        sealed,
        recipient=POLICE,
        keys={KEYS["HPKE-7-KE"].kid: KEYS["HPKE-7-KE"]},
        find_verify_key=lambda agency, kid: signer.public if kid == signer.kid else None,
    )
    assert (opened.content.reveal(), opened.signer_kid) == (b"content", signer.kid)


def test_a_sender_is_told_only_what_it_signed() -> None:
    """Without a verified signature there is no header, so nobody is told anything."""
    sealed = seal(header(), b"", signer=SIGNER, to=KEYS["HPKE-9-KE"].public)
    unknown = refusal(sealed, find_verify_key=lambda agency, kid: None)
    forged = refusal(sealed, find_verify_key=lambda agency, kid: SigningKey.generate().public)
    assert (unknown.reason, unknown.header) == (Reason.UNKNOWN_SENDER, None)
    assert (forged.reason, forged.header) == (Reason.BAD_SIGNATURE, None)
    elsewhere = refusal(sealed, recipient=AgencyId("northtown-housing"))
    assert elsewhere.reason is Reason.READDRESSED
    assert elsewhere.header is not None
    assert elsewhere.header.recipient == POLICE


def test_refusals_and_results_print_no_content() -> None:
    sealed = seal(header(), b"Canary", signer=SIGNER, to=KEYS["HPKE-9-KE"].public)
    result = opened(sealed)
    assert "Canary" not in repr(result)
    assert "Canary" not in repr(refusal(sealed[:-1]))


def test_the_largest_envelope_opens_and_one_larger_is_neither_made_nor_read() -> None:
    key = KEYS["HPKE-7-KE"]
    largest = bytes(15 * 1024 * 1024)
    sealed = seal(header(), largest, signer=SIGNER, to=key.public)
    assert len(sealed) <= MAX_ENVELOPE
    assert len(opened(sealed).content) == len(largest)
    with pytest.raises(ValueError, match="too large"):
        seal(header(), bytes(MAX_ENVELOPE), signer=SIGNER, to=key.public)
    # Correct in all but its size, so that nothing else can be what refuses it.
    whole = wrap(signed_payload() | {2: largest})
    assert opened_by_p256(whole) == largest
    too_long = wrap(signed_payload() | {2: bytes(MAX_ENVELOPE)})
    with pytest.raises(RefusedByPeer) as refused:
        opened_by_p256(too_long)
    assert refused.value.reason is Reason.MALFORMED


def opened_by_p256(data: bytes) -> bytes:
    """The content of an envelope that the vectors' makers sealed."""
    result = open_envelope(
        data,
        recipient=POLICE,
        keys={P256.kid: P256},
        find_verify_key=lambda agency, kid: SIGNING[agency].public,
    )
    return result.content.reveal()


def test_an_envelope_is_not_a_receipt_and_a_receipt_is_not_an_envelope() -> None:
    sealed = seal(header(), b"", signer=SIGNER, to=KEYS["HPKE-9-KE"].public)
    with pytest.raises(ReceiptInvalid):
        proof.verify_receipt(sealed, find)
    receipt = Receipt(
        Stage.ACCEPTED,
        MessageId(new_id()),
        EnvelopeId(new_id()),
        os.urandom(32),
        SCHOOL,
        POLICE,
        SCHOOL,
        1_795_000_000_000,
    )
    assert refusal(proof.sign_receipt(receipt, SIGNER)).reason is Reason.MALFORMED


def test_the_padding_fills_the_plaintext_to_padmes_length() -> None:
    overhead = 16  # AES-GCM tag
    for length in (0, 1, 23, 24, 255, 256, 257, 5000, 65_535, 65_537):
        sealed = seal(header(), bytes(length), signer=SIGNER, to=KEYS["HPKE-7-KE"].public)
        ciphertext = cose.parse_encrypt(sealed, "rg").ciphertext
        plaintext = len(ciphertext) - overhead
        assert padded_length(plaintext) == plaintext
