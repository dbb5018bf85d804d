"""Envelopes of HPKE-7-KE and python-cwt: each opens what the other sealed, and verifies what it signed.

python-cwt is somebody else's COSE (RFC 9052) with draft-ietf-cose-hpke; its HPKE is `pyhpke`. Nothing of it
is patched: it knows the numbers 53, -9 and -19 and the structure that becomes HPKE's info. What is ours
alone, the payload and the padding (docs/envelope.md 4.2 to 5), is taken apart and put together here with
`cbor2`, without code of the gateway's.

python-cwt asks for `cbor2` 5, which reads what a tag holds into lists; `cbor2` 6, which the gateway runs on,
reads it into tuples, and python-cwt then refuses even its own messages. So it is handed tags that hold lists
(`tag`), which its `decode` takes as well as bytes.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import cbor2
import pytest
from cwt import COSE, COSEKey, Recipient
from cwt.cose_key_interface import COSEKeyInterface
from cwt.enums import COSEAlgs, COSEHeaders
from cwt.exceptions import DecodeError, VerifyError
from cwt.utils import ResolvedHeader

from gateway.crypto import envelope, proof
from gateway.crypto.keys import OpeningKey, SigningKey, VerifyKey
from gateway.errors import RefusedByPeer
from gateway.messages import AgencyId, Reason
from tests.vectors.parts import CONTENT, HEADER, P256, POLICE, RECEIPT, SCHOOL, seed

ENVELOPE_CONTEXT, RECEIPT_CONTEXT = b"referral-gateway envelope v1", b"referral-gateway receipt v1"
SIGNERS = {suite: SigningKey.from_seed(seed(f"cwt {suite}"), suite) for suite in ("Ed25519", "ESP256")}
ALGS = {"Ed25519": COSEAlgs.ED25519, "ESP256": COSEAlgs.ESP256}
EITHER = pytest.mark.parametrize("suite", sorted(SIGNERS))


def signing_key(suite: str, *, private: bool) -> COSEKeyInterface:
    """Our signing key as python-cwt has keys."""
    key = SIGNERS[suite]
    public = key.public.public_bytes
    if suite == "Ed25519":
        params = {1: 1, 2: key.kid, 3: ALGS[suite], -1: 6, -2: public}
    else:
        params = {1: 2, 2: key.kid, 3: ALGS[suite], -1: 1, -2: public[1:33], -3: public[33:]}
    return COSEKey.new(params | ({-4: key.seed} if private else {}))


def opening_key(key: OpeningKey, *, private: bool) -> COSEKeyInterface:
    """Our P-256 opening key likewise."""
    point = key.public.public_bytes
    params = {1: 2, 2: key.kid, 3: COSEAlgs.HPKE_7_KE, -1: 1, -2: point[1:33], -3: point[33:]}
    return COSEKey.new(params | ({-4: key.secret, 4: [8]} if private else {4: []}))


def tag(data: bytes) -> cbor2.CBORTag:
    """A COSE message for python-cwt: see above."""

    def thawed(value: Any) -> Any:
        if isinstance(value, tuple):
            return [thawed(one) for one in value]
        return dict(value) if isinstance(value, Mapping) else value

    read = cbor2.loads(data)
    return cbor2.CBORTag(read.tag, thawed(read.value))


def unpadded(plaintext: bytes) -> bytes:
    stripped = plaintext.rstrip(b"\0")
    assert stripped[-1:] == b"\x80"
    return stripped[:-1]


def payload() -> bytes:
    """The payload of docs/envelope.md 4.2, by hand."""
    ids = {label: uuid.UUID(one).bytes for label, one in ((1, HEADER.message_id), (2, HEADER.envelope_id))}
    fields: dict[int, Any] = ids | {
        3: "referral",
        4: 1,
        5: SCHOOL,
        6: POLICE,
        7: uuid.UUID(HEADER.case).bytes,
        9: HEADER.created,
        10: HEADER.expires,
        11: "prevent",
        12: "public-task",
    }
    return cbor2.dumps({1: fields, 2: CONTENT})


def signed_by_cwt(suite: str, body: bytes, context: bytes) -> bytes:
    header = {COSEHeaders.ALG: ALGS[suite], COSEHeaders.KID: SIGNERS[suite].kid}
    return COSE.new().encode_and_sign(
        body, signing_key(suite, private=True), protected=header, external_aad=context
    )


def sealed_by_cwt(plaintext: bytes, recipient: str = POLICE) -> bytes:
    """A COSE_Encrypt of python-cwt's making, to our key."""
    routing = [1, uuid.UUID(HEADER.envelope_id).bytes, recipient, HEADER.expires]
    to = Recipient.new(
        protected={COSEHeaders.ALG: COSEAlgs.HPKE_7_KE, COSEHeaders.KID: P256.kid},
        recipient_key=opening_key(P256, private=False),
    )
    return COSE.new().encode_and_encrypt(
        plaintext,
        COSEKey.generate_symmetric_key(alg="A256GCM"),
        protected=ResolvedHeader({1: 3, "rg": routing}),
        recipients=[to],
    )


def opened(sealed: bytes, suite: str) -> envelope.Opened:
    keys = {SIGNERS[suite].kid: SIGNERS[suite].public}
    return envelope.open_envelope(
        sealed, recipient=POLICE, keys={P256.kid: P256}, find_verify_key=lambda _, kid: keys.get(kid)
    )


@EITHER
def test_cwt_opens_our_envelope_and_verifies_it(suite: str) -> None:
    sealed = envelope.seal(HEADER, CONTENT, signer=SIGNERS[suite], to=P256.public)
    outer, _, plaintext = COSE.new(verify_kid=True).decode_with_headers(
        tag(sealed), opening_key(P256, private=True)
    )
    assert outer["rg"] == [1, uuid.UUID(HEADER.envelope_id).bytes, POLICE, HEADER.expires]
    signed = unpadded(plaintext)
    header, unprotected, body = COSE.new(verify_kid=True).decode_with_headers(
        tag(signed), signing_key(suite, private=False), external_aad=ENVELOPE_CONTEXT
    )
    assert (header[1], unprotected) == (int(ALGS[suite]), {})
    assert body == payload()


@EITHER
def test_we_open_an_envelope_of_cwts(suite: str) -> None:
    sealed = sealed_by_cwt(signed_by_cwt(suite, payload(), ENVELOPE_CONTEXT) + b"\x80")
    found = opened(sealed, suite)
    assert (found.header, found.content.reveal(), found.suite) == (HEADER, CONTENT, "HPKE-7-KE")


@EITHER
def test_both_refuse_what_was_altered_or_signed_for_something_else(suite: str) -> None:
    sealed = envelope.seal(HEADER, CONTENT, signer=SIGNERS[suite], to=P256.public)
    altered = sealed[:-1] + bytes([sealed[-1] ^ 1])
    with pytest.raises(DecodeError):
        COSE.new().decode(tag(altered), opening_key(P256, private=True))
    signed = unpadded(COSE.new().decode(tag(sealed), opening_key(P256, private=True)))
    with pytest.raises(VerifyError):
        COSE.new().decode(tag(signed), signing_key(suite, private=False), external_aad=RECEIPT_CONTEXT)

    def refused(data: bytes) -> Reason:
        with pytest.raises(RefusedByPeer) as refusal:
            opened(data, suite)
        return refusal.value.reason

    good = signed_by_cwt(suite, payload(), ENVELOPE_CONTEXT) + b"\x80"
    theirs = sealed_by_cwt(good)
    assert refused(theirs[:-1] + bytes([theirs[-1] ^ 1])) is Reason.NOT_OPENED
    assert refused(sealed_by_cwt(good, recipient="elsewhere")) is Reason.MISMATCHED
    other = sealed_by_cwt(signed_by_cwt(suite, payload(), RECEIPT_CONTEXT) + b"\x80")
    assert refused(other) is Reason.BAD_SIGNATURE


@EITHER
def test_receipts_are_verified_both_ways(suite: str) -> None:
    signer = SIGNERS[suite]

    def find(agency: AgencyId, kid: bytes) -> VerifyKey | None:
        return signer.public if (agency, kid) == (RECEIPT.issuer, signer.kid) else None

    ours = proof.sign_receipt(RECEIPT, signer)
    body = COSE.new(verify_kid=True).decode(
        tag(ours), signing_key(suite, private=False), external_aad=RECEIPT_CONTEXT
    )
    theirs = signed_by_cwt(suite, body, RECEIPT_CONTEXT)
    assert proof.verify_receipt(theirs, find) == RECEIPT
