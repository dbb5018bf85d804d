"""Envelopes and receipts of the other kinds of keys: P-256 to sign with, P-256 to seal to."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from gateway.crypto import cbor, cose, envelope, keys, proof
from gateway.crypto.labels import ENVELOPE_CONTEXT, RECEIPT_CONTEXT
from gateway.crypto.padding import pad
from tests.vectors.parts import (
    CONTENT,
    HEADER,
    HYBRID,
    P256,
    POLICE,
    RECEIPT,
    SCHOOL,
    SIGNING,
    Named,
    Vector,
    case,
    encrypt,
    header_fields,
    joined,
    receipt_fields,
    seal,
    seed,
    signed_payload,
    taken_apart,
)

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of P-256's base point: SEC 2 section 2.4.2."""
SCHOOLS = keys.SigningKey.from_seed(seed("sign p256 school"), "ESP256")
POLICES = keys.SigningKey.from_seed(seed("sign p256 police"), "ESP256")
DIRECTORY = [
    {"agency": SCHOOL, "public": SCHOOLS.public.public_bytes.hex()},
    {"agency": POLICE, "public": POLICES.public.public_bytes.hex()},
]


def signed_with_p256() -> Named:
    """Envelopes whose signature is ECDSA's, and what passes for one."""
    told = {"header": header_fields(HEADER), "content": CONTENT.hex()}
    for name, about, to in (
        ("open-p256-signed-p256", "P-256 for both", P256),
        ("open-hybrid-signed-p256", "the default suite, signed with P-256", HYBRID),
    ):
        sealed = envelope.seal(HEADER, CONTENT, signer=SCHOOLS, to=to.public)
        yield name, _case(about, "open", sealed, to, **told)

    protected, payload, signature = _signed(SCHOOLS, -9)
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    other_s = signature[:32] + (ORDER - s).to_bytes(32, "big")
    yield (
        "open-p256-other-s",
        _case("the other of the two values of s", "open", _sealed(protected, payload, other_s), **told),
    )
    for name, about, changed in (
        ("der", "r and s in DER", encode_dss_signature(r, s)),
        ("short", "63 bytes", signature[:-1]),
        ("long", "65 bytes", signature + b"\0"),
        ("s-zero", "s is 0", signature[:32] + bytes(32)),
        ("r-above-order", "r is the order of the group", ORDER.to_bytes(32, "big") + signature[32:]),
        ("swapped", "s before r", signature[32:] + signature[:32]),
    ):
        yield (
            f"bad-signature-p256-{name}",
            _case(about, "bad-signature", _sealed(protected, payload, changed)),
        )

    as_ed25519 = _sealed(*_signed(SCHOOLS, -19))
    yield (
        "bad-signature-alg-ed25519",
        _case("a P-256 key's signature, called Ed25519", "bad-signature", as_ed25519),
    )
    yield (
        "bad-signature-alg-esp256",
        case(
            "an Ed25519 key's signature, called ESP256",
            "bad-signature",
            _sealed(*_signed(SIGNING[SCHOOL], -9)),
        ),
    )
    yield (
        "malformed-signature-alg-es256",
        _case("signed as ES256 (-7), not ESP256 (-9)", "malformed", _sealed(*_signed(SCHOOLS, -7))),
    )


def sealed_with_p256() -> Named:
    """Encapsulated keys of DHKEM(P-256) in other forms, and the suites exchanged."""
    protected, iv, ciphertext, [[recipient, ek, sealed_key]] = taken_apart(seal())
    point = ek[-4]
    prime = 2**256 - 2**224 + 2**192 + 2**96 - 1
    negative = (prime - int.from_bytes(point[33:], "big")).to_bytes(32, "big")
    for name, about, changed in (
        ("compressed", "a compressed point", bytes([2 + (point[-1] & 1)]) + point[1:33]),
        ("hybrid-form", "the point in hybrid form", bytes([6 + (point[-1] & 1)]) + point[1:]),
        ("infinity", "no point, in 65 bytes", bytes(65)),
        ("above-field", "coordinates above the field", b"\4" + b"\xff" * 64),
        ("negative", "the point on the other side, with the same x", point[:33] + negative),
    ):
        sealed = joined([protected, iv, ciphertext, [[recipient, {-4: changed}, sealed_key]]])
        yield f"not-opened-ek-{name}", case(about, "not-opened", sealed)

    protected, iv, ciphertext, [[recipient, ek, sealed_key]] = taken_apart(seal(to=HYBRID))
    other = cbor.encode(cbor.decode(recipient) | {1: 53})
    yield (
        "unknown-key-hybrid-as-p256",
        case(
            "a hybrid key's id under the suite of P-256",
            "unknown-key",
            joined([protected, iv, ciphertext, [[other, ek, sealed_key]]]),
            HYBRID,
        ),
    )


def receipts_with_p256() -> Named:
    """Receipts signed with P-256."""
    good = proof.sign_receipt(RECEIPT, POLICES)
    told = {"receipt": receipt_fields(RECEIPT)}
    yield "valid-received-signed-p256", _proof("signed with P-256", "valid", good, **told)
    signed = cose.parse_sign1(good)
    for name, about, protected, signature in (
        ("p256-short", "63 bytes", signed.protected, signed.signature[:-1]),
        (
            "p256-altered",
            "one bit",
            signed.protected,
            signed.signature[:-1] + bytes([signed.signature[-1] ^ 1]),
        ),
    ):
        data = joined([protected, {}, signed.payload, signature], 18)
        yield f"bad-signature-{name}", _proof(about, proof.BAD_SIGNATURE, data)
    protected = cbor.encode({1: -19, 4: POLICES.kid})
    signature = POLICES.sign(cbor.encode(["Signature1", protected, RECEIPT_CONTEXT, signed.payload]))
    data = joined([protected, {}, signed.payload, signature], 18)
    yield "bad-signature-alg-ed25519", _proof("called Ed25519", proof.BAD_SIGNATURE, data)


def _signed(signer: keys.SigningKey, alg: int) -> tuple[bytes, bytes, bytes]:
    """Header, payload and signature that fit together, whatever algorithm the header states."""
    payload, protected = cbor.encode(signed_payload()), cbor.encode({1: alg, 4: signer.kid})
    return protected, payload, signer.sign(cbor.encode(["Signature1", protected, ENVELOPE_CONTEXT, payload]))


def _sealed(protected: bytes, payload: bytes, signature: bytes) -> bytes:
    return encrypt(pad(joined([protected, {}, payload, signature], 18)))


def _case(about: str, expect: str, sealed: bytes, *opening: keys.OpeningKey, **more: object) -> Vector:
    return case(about, expect, sealed, *opening, **more) | {"directory": DIRECTORY}


def _proof(about: str, expect: str, data: bytes, **more: object) -> Vector:
    return {"about": about, "expect": expect, "directory": DIRECTORY, "cose": data.hex(), **more}
