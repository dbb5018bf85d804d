"""What the vectors are made of: fixed keys and names, and the means to seal what seal() would not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.crypto import cbor, cose, envelope, keys
from gateway.crypto.labels import ENVELOPE_CONTEXT, ROUTING
from gateway.crypto.padding import pad
from gateway.messages import AgencyId, CaseId, EnvelopeId, Header, MessageId, Receipt, Stage

Vector = dict[str, Any]
Named = Iterator[tuple[str, Vector]]


def seed(name: str) -> bytes:
    return hashlib.sha256(f"referral-gateway test vector {name}".encode()).digest()


SCHOOL, POLICE, HOUSING = (
    AgencyId(name) for name in ("northtown-academy", "northtown-police", "northtown-housing")
)
SIGNING = {agency: keys.SigningKey.from_seed(seed(f"sign {agency}")) for agency in (SCHOOL, POLICE, HOUSING)}
STRANGER = keys.SigningKey.from_seed(seed("sign stranger"))
HYBRID = keys.OpeningKey("HPKE-9-KE", seed("open hybrid"))
OLDER = keys.OpeningKey("HPKE-9-KE", seed("open older"))
P256 = keys.OpeningKey("HPKE-7-KE", seed("open p256"))
NOT_OURS = keys.OpeningKey("HPKE-7-KE", seed("open not ours"))

HEADER = Header(
    MessageId("3f1c2a44-90d7-4b0e-8f6a-5c1d2e3f4a5b"),
    EnvelopeId("9b2e7c10-1f4d-4e6a-b3c8-7d5e6f708192"),
    "referral",
    1,
    SCHOOL,
    POLICE,
    CaseId("c4a80f53-6b2d-4d19-9e07-a1b2c3d4e5f6"),
    None,
    1_795_000_000_000,
    1_795_432_000_000,
    "prevent",
    "public-task",
)
OTHER_ID = "00112233-4455-4677-8899-aabbccddeeff"
CONTENT = b'{"type":"referral","version":1}'
DIGEST = hashlib.sha256(b"the sealed envelope").digest()
RECEIPT = Receipt(
    Stage.RECEIVED, HEADER.message_id, HEADER.envelope_id, DIGEST, SCHOOL, POLICE, POLICE, 1_795_000_060_000
)

DIRECTORY = [{"agency": agency, "public": key.public.public_bytes.hex()} for agency, key in SIGNING.items()]


def case(about: str, expect: str, sealed: bytes, *opening: keys.OpeningKey, **more: Any) -> Vector:
    return {
        "about": about,
        "expect": expect,
        "recipient": POLICE,
        "keys": [{"suite": key.suite, "secret": key.secret.hex()} for key in opening or (P256,)],
        "directory": DIRECTORY,
        "envelope": sealed.hex(),
        **more,
    }


def seal(header: Header = HEADER, content: bytes = CONTENT, to: keys.OpeningKey = P256) -> bytes:
    return envelope.seal(header, content, signer=SIGNING[SCHOOL], to=to.public)


def signed_payload(changes: dict[int, Any] | None = None, header: Header = HEADER) -> dict[int, Any]:
    """The signed payload of a good envelope; a change to None leaves that field of the header out."""
    fields = envelope._pack(header) | (changes or {})  # to make what seal() would not
    return {1: {label: value for label, value in fields.items() if value is not None}, 2: CONTENT}


def wrap(
    payload: Any,
    *,
    signer: keys.SigningKey = SIGNING[SCHOOL],
    context: bytes = ENVELOPE_CONTEXT,
    routing: Any = None,
) -> bytes:
    """Seal what a correct sender would not."""
    body = payload if isinstance(payload, bytes) else cbor.encode(payload)
    return encrypt(pad(cose.sign1(body, signer, context)), routing)


def encrypt(plaintext: bytes, routing: Any = None) -> bytes:
    if routing is None:
        routing = [1, bytes.fromhex(HEADER.envelope_id.replace("-", "")), POLICE, HEADER.expires]
    return cose.encrypt(plaintext, P256.public, ROUTING, routing)


def taken_apart(sealed: bytes) -> list[Any]:
    return list(cbor.decode(sealed).value)


def joined(parts: list[Any], number: int = 96) -> bytes:
    return cbor.encode(cbor.tag(number, parts))


def with_protected(changes: Mapping[Any, Any]) -> bytes:
    """A good envelope with another outer protected header."""
    parts = taken_apart(seal())
    return joined([cbor.encode(cbor.decode(parts[0]) | dict(changes)), *parts[1:]])


def header_fields(header: Header) -> dict[str, Any]:
    return {name: getattr(header, name) for name in header.__slots__}


def receipt_fields(receipt: Receipt) -> dict[str, Any]:
    stated = {name: getattr(receipt, name) for name in receipt.__slots__}
    if receipt.view is None:
        del stated["view"]  # vectors published before there were views stay as they are
    del stated["quorum"]  # and before there were openings
    if receipt.quorum is not None:
        approvals = [one.hex() for one in receipt.quorum.approvals]
        stated["quorum"] = {"agreement": receipt.quorum.agreement, "approvals": approvals}
    return stated | {"envelope_digest": receipt.envelope_digest.hex()}
