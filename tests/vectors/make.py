"""Write the test vectors anew: `python -m tests.vectors.make [folder]`.

Keys come from fixed seeds; what is sealed is random each time, so the files are stored and need not be
reproducible. Every vector names its expected outcome. Run it only when the format changes: published
vectors are a promise that what was sealed once opens later.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cbor2

from gateway.crypto import cbor, chunks, cose, envelope, keys, proof
from gateway.crypto.labels import ENVELOPE_CONTEXT, RECEIPT_CONTEXT, ROUTING
from gateway.crypto.padding import pad
from gateway.messages import AgencyId, CaseId, EnvelopeId, Header, MessageId, Reason, Receipt, Stage

HERE = Path(__file__).parent
Vector = dict[str, Any]
Named = Iterator[tuple[str, Vector]]


def _seed(name: str) -> bytes:
    return hashlib.sha256(f"referral-gateway test vector {name}".encode()).digest()


SCHOOL, POLICE, HOUSING = (
    AgencyId(name) for name in ("northtown-academy", "northtown-police", "northtown-housing")
)
SIGNING = {agency: keys.SigningKey.from_seed(_seed(f"sign {agency}")) for agency in (SCHOOL, POLICE, HOUSING)}
STRANGER = keys.SigningKey.from_seed(_seed("sign stranger"))
HYBRID = keys.OpeningKey("HPKE-9-KE", _seed("open hybrid"))
OLDER = keys.OpeningKey("HPKE-9-KE", _seed("open older"))
P256 = keys.OpeningKey("HPKE-7-KE", _seed("open p256"))
NOT_OURS = keys.OpeningKey("HPKE-7-KE", _seed("open not ours"))

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
PAYLOAD = cbor.decode(cose.parse_sign1(proof.sign_receipt(RECEIPT, SIGNING[POLICE])).payload)

DIRECTORY = [{"agency": agency, "public": key.public.public_bytes.hex()} for agency, key in SIGNING.items()]


def _case(about: str, expect: str, sealed: bytes, *opening: keys.OpeningKey, **more: Any) -> Vector:
    return {
        "about": about,
        "expect": expect,
        "recipient": POLICE,
        "keys": [{"suite": key.suite, "secret": key.secret.hex()} for key in opening or (P256,)],
        "directory": DIRECTORY,
        "envelope": sealed.hex(),
        **more,
    }


def _seal(header: Header = HEADER, content: bytes = CONTENT, to: keys.OpeningKey = P256) -> bytes:
    return envelope.seal(header, content, signer=SIGNING[SCHOOL], to=to.public)


def _payload(changes: Mapping[int, Any] | None = None, header: Header = HEADER) -> dict[int, Any]:
    """The signed payload of a good envelope; a change to None leaves that field of the header out."""
    fields = envelope._pack(header) | (changes or {})  # to make what seal() would not
    return {1: {label: value for label, value in fields.items() if value is not None}, 2: CONTENT}


def _wrap(
    payload: Any,
    *,
    signer: keys.SigningKey = SIGNING[SCHOOL],
    context: bytes = ENVELOPE_CONTEXT,
    routing: Any = None,
) -> bytes:
    """Seal what a correct sender would not."""
    body = payload if isinstance(payload, bytes) else cbor.encode(payload)
    return _encrypt(pad(cose.sign1(body, signer, context)), routing)


def _encrypt(plaintext: bytes, routing: Any = None) -> bytes:
    if routing is None:
        routing = [1, bytes.fromhex(HEADER.envelope_id.replace("-", "")), POLICE, HEADER.expires]
    return cose.encrypt(plaintext, P256.public, ROUTING, routing)


def _parts(sealed: bytes) -> list[Any]:
    return list(cbor.decode(sealed).value)


def _joined(parts: list[Any], number: int = 96) -> bytes:
    return cbor.encode(cbor.tag(number, parts))


def _protected(changes: Mapping[Any, Any]) -> bytes:
    """A good envelope with another outer protected header."""
    parts = _parts(_seal())
    return _joined([cbor.encode(cbor.decode(parts[0]) | dict(changes)), *parts[1:]])


def opening() -> Named:
    """Envelopes that open."""
    told = {"header": _fields(HEADER), "content": CONTENT.hex()}
    yield "open-hybrid", _case("the default suite", "open", _seal(to=HYBRID), HYBRID, **told)
    yield "open-p256", _case("the suite for hardware modules", "open", _seal(), **told)
    yield (
        "open-older-key",
        _case("sealed before the key was changed", "open", _seal(to=OLDER), OLDER, HYBRID, **told),
    )
    answer = replace(HEADER, type="decision", in_reply_to=MessageId(OTHER_ID))
    told = {"header": _fields(answer), "content": CONTENT.hex()}
    yield "open-in-reply-to", _case("the optional field is there", "open", _seal(answer), **told)
    told = {"header": _fields(HEADER), "content": ""}
    yield "open-no-content", _case("no content at all", "open", _seal(content=b""), **told)


def damaged() -> Named:
    """Envelopes that are not well formed, outside or inside."""
    good, expect = _seal(), "malformed"
    parts = _parts(good)
    protected, iv, ciphertext, recipients = parts
    routing = cbor.decode(protected)["rg"]
    kid, ek = recipients[0][0], recipients[0][1]
    for name, about, sealed in (
        ("empty", "no bytes", b""),
        ("truncated", "the last byte is missing", good[:-1]),
        ("trailing-byte", "one byte more", good + b"\0"),
        ("not-cbor", "text", b"Dear colleague, please find attached"),
        ("chunk-tag", "tagged as a chunk", _joined(parts, 16)),
        ("long-form-length", "an array length not in its shortest form", good[:2] + b"\x98\x04" + good[3:]),
        ("indefinite-length", "an array of indefinite length", good[:2] + b"\x9f" + good[3:] + b"\xff"),
        (
            "map-key-twice",
            "the algorithm stands twice in the outer header",
            _joined([b"\xa3\x01\x03" + protected[1:], *parts[1:]]),
        ),
        (
            "map-keys-unsorted",
            "keys not in bytewise order",
            _joined([b"\xa2\x62rg" + cbor.encode(routing) + b"\x01\x03", *parts[1:]]),
        ),
        (
            "map-key-true",
            "true in the place of label 1",
            _joined([b"\xa2\x62rg" + cbor.encode(routing) + b"\xf5\x03", *parts[1:]]),
        ),
        ("unknown-protected-label", "an outer label of no version we know", _protected({99: 1})),
        ("other-content-algorithm", "A128GCM outside", _protected({1: 1})),
        ("routing-too-long", "a fifth routing fact", _protected({"rg": [*routing, 0]})),
        (
            "routing-recipient",
            "a recipient that is no agency identifier",
            _protected({"rg": [*routing[:2], "A b", 1]}),
        ),
        ("routing-version-one-as-text", "the version is text", _protected({"rg": ["1", *routing[1:]]})),
        ("two-recipients", "a second recipient", _joined([protected, iv, ciphertext, recipients * 2])),
        ("short-nonce", "a nonce of 11 bytes", _joined([protected, {5: iv[5][:11]}, ciphertext, recipients])),
        (
            "unknown-suite",
            "a key encryption algorithm of no suite we know",
            _joined(
                [protected, iv, ciphertext, [[cbor.encode(cbor.decode(kid) | {1: 46}), ek, recipients[0][2]]]]
            ),
        ),
        ("shared-references", "a few bytes that unfold to 10^12 items", _bomb()),
        ("nested-arrays", "10,000 arrays, each in the one before", b"\x81" * 10_000 + b"\0"),
        ("length-of-2^63", "an array that claims 2^63 items", b"\xd8\x60\x9b\x80" + bytes(7)),
        ("no-padding-mark", "the plaintext ends without the mark", _encrypt(cose.sign1(b"", STRANGER, b""))),
        ("padding-not-zeros", "something hides in the padding", _encrypt(pad(b"x" * 100) + b"y")),
        ("not-a-signature", "the plaintext is no COSE_Sign1", _encrypt(pad(cbor.encode([1, 2, 3])))),
        ("signature-alg-eddsa", "signed as EdDSA (-8), not Ed25519 (-19)", _encrypt(pad(_old_alg()))),
        ("header-field-missing", "no case", _wrap(_payload({7: None}))),
        ("header-field-unknown", "a label 13", _wrap(_payload({13: 1}))),
        ("header-id-not-random", "a UUID of version 1", _wrap(_payload({1: bytes(6) + b"\x11" + bytes(9)}))),
        ("header-sender", "a sender that is no agency identifier", _wrap(_payload({5: "NORTHTOWN"}))),
        ("header-type-too-long", "a type of 65 characters", _wrap(_payload({3: "r" * 65}))),
        ("header-negative-time", "created before 1970", _wrap(_payload({9: -1}))),
        ("payload-unknown-label", "something beside header and content", _wrap(_payload() | {3: b""})),
        ("content-not-bytes", "the content is text", _wrap(_payload() | {2: "text"})),
    ):
        yield f"malformed-{name}", _case(about, expect, sealed)


def refused() -> Named:
    """Well-formed envelopes that must not be believed."""
    parts = _parts(_seal())
    protected, iv, ciphertext, [[recipient, ek, sealed_key]] = parts
    routing = cbor.decode(protected)["rg"]
    yield (
        "unknown-version",
        _case("version 2 outside", "unknown-version", _protected({"rg": [2, *routing[1:]]})),
    )
    later = _joined([cbor.encode({1: 99, "rg": [2, {"new": "facts"}], "more": 1}), {}, None, []])
    yield "unknown-version-unlike-ours", _case("version 2, all else unknown", "unknown-version", later)

    yield "unknown-key", _case("sealed to somebody else's key", "unknown-key", _seal(to=NOT_OURS))
    other = cbor.encode(cbor.decode(recipient) | {1: 57})
    yield (
        "unknown-key-other-suite",
        _case(
            "our key id, but a suite that is not the key's",
            "unknown-key",
            _joined([protected, iv, ciphertext, [[other, ek, sealed_key]]]),
        ),
    )

    expect = "not-opened"
    flipped = ciphertext[:-1] + bytes([ciphertext[-1] ^ 1])
    rerouted = cbor.encode(cbor.decode(protected) | {"rg": [*routing[:2], HOUSING, routing[3]]})
    extended = cbor.encode(cbor.decode(protected) | {"rg": [*routing[:3], routing[3] + 1]})
    _, _, _, [[_, other_ek, other_key]] = _parts(_seal())
    for name, about, changed in (
        ("ciphertext", "one bit of the ciphertext", [protected, iv, flipped, [[recipient, ek, sealed_key]]]),
        (
            "nonce",
            "one byte of the nonce",
            [protected, {5: iv[5][:-1] + b"\0"}, ciphertext, [[recipient, ek, sealed_key]]],
        ),
        ("rerouted", "the broker changed the recipient", [rerouted, *parts[1:]]),
        ("extended", "the broker changed the expiry", [extended, *parts[1:]]),
        (
            "other-key",
            "another envelope's content key",
            [protected, iv, ciphertext, [[recipient, other_ek, other_key]]],
        ),
        (
            "ek-short",
            "an encapsulated key that is too short",
            [protected, iv, ciphertext, [[recipient, {-4: ek[-4][:-1]}, sealed_key]]],
        ),
        (
            "ek-not-on-curve",
            "an encapsulated key off the curve",
            [protected, iv, ciphertext, [[recipient, {-4: b"\4" + bytes(64)}, sealed_key]]],
        ),
        ("no-ciphertext", "a ciphertext of no bytes", [protected, iv, b"", [[recipient, ek, sealed_key]]]),
    ):
        yield f"not-opened-{name}", _case(about, expect, _joined(changed))
    yield "not-opened-key-of-128-bits", _case("a content key that is too short", expect, _short_key())

    expect = "bad-signature"
    signed = cose.parse_sign1(cose.sign1(cbor.encode(_payload()), SIGNING[SCHOOL], ENVELOPE_CONTEXT))
    altered = [signed.protected, {}, cbor.encode(_payload({3: "decision"})), signed.signature]
    yield "bad-signature-altered", _case("another type", expect, _encrypt(pad(_joined(altered, 18))))
    forged = [signed.protected, {}, signed.payload, STRANGER.sign(signed.payload)]
    yield (
        "bad-signature-forged",
        _case("signed by a stranger under the school's key id", expect, _encrypt(pad(_joined(forged, 18)))),
    )
    yield (
        "bad-signature-receipt-context",
        _case("signed as a receipt", expect, _wrap(_payload(), context=RECEIPT_CONTEXT)),
    )
    short = [signed.protected, {}, signed.payload, signed.signature[:-1]]
    yield "bad-signature-short", _case("63 bytes", expect, _encrypt(pad(_joined(short, 18))))

    expect = "unknown-sender"
    yield (
        "unknown-sender-key",
        _case("a key the directory does not list", expect, _wrap(_payload(), signer=STRANGER)),
    )
    yield (
        "unknown-sender-other-agencys-key",
        _case("housing signs as the school", expect, _wrap(_payload(), signer=SIGNING[HOUSING])),
    )
    yield (
        "unknown-sender-agency",
        _case("an agency the directory does not list", expect, _wrap(_payload({5: "elsewhere"}))),
    )

    # The signature holds, so the sender is known and is told.
    told = {"signed_header": _fields(replace(HEADER, recipient=HOUSING))}
    passed_on = _wrap(_payload({6: HOUSING}))
    yield (
        "readdressed",
        _case("signed for housing, sealed again to the police", "readdressed", passed_on, **told),
    )
    told = {"signed_header": _fields(HEADER)}
    for name, about, contradicting in (
        (
            "envelope-id",
            "another envelope id outside",
            [1, bytes.fromhex(OTHER_ID.replace("-", "")), *routing[2:]],
        ),
        ("recipient", "another recipient outside", [*routing[:2], HOUSING, routing[3]]),
        ("expires", "a later expiry outside", [*routing[:3], routing[3] + 1]),
    ):
        yield (
            f"mismatched-{name}",
            _case(about, "mismatched", _wrap(_payload(), routing=contradicting), **told),
        )


def receipts() -> Named:
    """Receipts, valid and not."""
    for stage, issuer, reason in (
        (Stage.ACCEPTED, SCHOOL, None),
        (Stage.RECEIVED, POLICE, None),
        (Stage.DELIVERED, POLICE, None),
        (Stage.REJECTED, POLICE, Reason.WRONG_AGENCY),
        (Stage.EXPIRED, POLICE, Reason.EXPIRED),
        (Stage.EXPIRED, SCHOOL, Reason.EXPIRED),
        (Stage.FAILED, SCHOOL, Reason.UNROUTABLE),
    ):
        told = replace(RECEIPT, stage=stage, issuer=issuer, reason=reason)
        by = "sender" if issuer == SCHOOL else "recipient"
        yield (
            f"valid-{stage}-by-{by}",
            _proof(f"{stage}, stated by the {by}", "valid", _signed(told), receipt=_stated(told)),
        )
    for stage, issuer, reason in (
        (Stage.ACCEPTED, POLICE, None),
        (Stage.RECEIVED, SCHOOL, None),
        (Stage.DELIVERED, SCHOOL, None),
        (Stage.REJECTED, SCHOOL, Reason.INVALID),
        (Stage.FAILED, POLICE, Reason.UNROUTABLE),
        (Stage.DELIVERED, HOUSING, None),
    ):
        told = replace(RECEIPT, stage=stage, issuer=issuer, reason=reason)
        by = {SCHOOL: "sender", POLICE: "recipient"}.get(issuer, "a-third")
        yield (
            f"wrong-issuer-{stage}-by-{by}",
            _proof("not theirs to state", proof.WRONG_ISSUER, _signed(told)),
        )

    good = _signed(RECEIPT)
    signed = cose.parse_sign1(good)
    altered = [signed.protected, {}, cbor.encode(PAYLOAD | {2: "delivered"}), signed.signature]
    expect = proof.BAD_SIGNATURE
    yield "bad-signature-altered", _proof("received made delivered", expect, _joined(altered, 18))
    as_envelope = cose.sign1(signed.payload, SIGNING[POLICE], ENVELOPE_CONTEXT)
    yield "bad-signature-envelope-context", _proof("signed as an envelope", expect, as_envelope)
    expect = proof.UNKNOWN_KEY
    yield "unknown-key", _proof("a key the directory does not list", expect, _signed(RECEIPT, STRANGER))
    yield "unknown-key-other-agencys", _proof("housing's key", expect, _signed(RECEIPT, SIGNING[HOUSING]))
    yield "unknown-version", _proof("version 2", proof.UNKNOWN_VERSION, _stating(PAYLOAD | {1: 2}))
    for name, about, data in (
        ("empty", "no bytes", b""),
        ("truncated", "the last byte is missing", good[:-1]),
        ("trailing-byte", "one byte more", good + b"\0"),
        ("too-long", "more than 4,096 bytes", _stating(PAYLOAD | {6: "a" * 5000})),
        ("envelope-tag", "tagged as an envelope", _joined(list(cbor.decode(good).value), 96)),
        (
            "unprotected-header",
            "something unsigned rides along",
            _joined([signed.protected, {99: 1}, signed.payload, signed.signature], 18),
        ),
        ("unknown-stage", "a stage that does not exist", _stating(PAYLOAD | {2: "read"})),
        (
            "unknown-reason",
            "a reason that does not exist",
            _stating(PAYLOAD | {2: "rejected", 10: "tuesday"}),
        ),
        ("reason-missing", "rejected, but not why", _stating(PAYLOAD | {2: "rejected"})),
        ("reason-uncalled-for", "received, with a reason", _stating(PAYLOAD | {10: "invalid"})),
        ("unknown-field", "a label 11", _stating(PAYLOAD | {11: 1})),
        ("digest-short", "a digest of 31 bytes", _stating(PAYLOAD | {5: DIGEST[:31]})),
        (
            "version-true",
            "true in the place of version 1",
            _joined(
                [signed.protected, {}, signed.payload.replace(b"\x01\x01", b"\x01\xf5", 1), signed.signature],
                18,
            ),
        ),
    ):
        yield f"not-a-receipt-{name}", _proof(about, proof.NOT_A_RECEIPT, data)


def sealed_chunks() -> Named:
    """Chunks of attachments."""
    key, chunk_id = _seed("chunk"), EnvelopeId(OTHER_ID)
    text = b"%PDF-1.7 a short attachment"
    last, middle = (chunks.seal_chunk(key, 3, flag, chunk_id, text) for flag in (True, False))
    empty = chunks.seal_chunk(key, 3, True, chunk_id, b"")

    def case(
        about: str, expect: str, data: bytes, *, index: int = 3, last: bool = True, **more: Any
    ) -> Vector:
        where = {"key": key.hex(), "index": index, "last": last, "id": chunk_id, "chunk": data.hex()}
        return {"about": about, "expect": expect, **where, **more}

    mismatch = "attachment-mismatch"
    yield "open-last", case("the last chunk, padded", "open", last, plaintext=text.hex())
    yield "open-middle", case("not the last", "open", middle, last=False, plaintext=text.hex())
    yield "open-empty", case("an attachment of no bytes", "open", empty, plaintext="")
    yield "mismatch-index", case("read as another chunk", mismatch, last, index=2)
    yield "mismatch-cut-off", case("read as the last, though more follow", mismatch, middle)
    yield (
        "mismatch-not-the-end",
        case("read as a middle one, though it is the last", mismatch, last, last=False),
    )
    swapped = chunks.seal_chunk(key, 3, True, EnvelopeId(HEADER.envelope_id), text)
    yield "mismatch-id", case("sealed under another id", mismatch, swapped)
    yield "mismatch-altered", case("one bit", mismatch, last[:-1] + bytes([last[-1] ^ 1]))
    yield "mismatch-envelope", case("an envelope", mismatch, _seal())


def _fields(header: Header) -> dict[str, Any]:
    return {name: getattr(header, name) for name in header.__slots__}


def _stated(receipt: Receipt) -> dict[str, Any]:
    stated = {name: getattr(receipt, name) for name in receipt.__slots__}
    return stated | {"envelope_digest": receipt.envelope_digest.hex()}


def _signed(receipt: Receipt, signer: keys.SigningKey | None = None) -> bytes:
    return proof.sign_receipt(receipt, signer or SIGNING[receipt.issuer])


def _stating(payload: dict[int, Any]) -> bytes:
    return cose.sign1(cbor.encode(payload), SIGNING[POLICE], RECEIPT_CONTEXT)


def _proof(about: str, expect: str, data: bytes, **more: Any) -> Vector:
    return {"about": about, "expect": expect, "directory": DIRECTORY, "cose": data.hex(), **more}


def _old_alg() -> bytes:
    payload, signer = cbor.encode(_payload()), SIGNING[SCHOOL]
    protected = cbor.encode({1: -8, 4: signer.kid})
    signature = signer.sign(cbor.encode(["Signature1", protected, ENVELOPE_CONTEXT, payload]))
    return _joined([protected, {}, payload, signature], 18)


def _short_key() -> bytes:
    """AES-128 under a header that says A256GCM: correct in all else."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    parts = _parts(_seal())
    recipient, nonce, content_key = parts[3][0][0], bytes(12), bytes(16)
    enc, sealed_key = P256.public.seal(content_key, cbor.encode(["HPKE Recipient", 3, recipient, b""]))
    plaintext = pad(cose.sign1(cbor.encode(_payload()), SIGNING[SCHOOL], ENVELOPE_CONTEXT))
    ciphertext = AESGCM(content_key).encrypt(nonce, plaintext, cbor.encode(["Encrypt", parts[0], b""]))
    return _joined([parts[0], {5: nonce}, ciphertext, [[recipient, {-4: enc}, sealed_key]]])


def _bomb() -> bytes:
    """Tag 28 marks a value as shared, tag 29 refers to it: each level holds ten of the one before."""
    level = cbor2.CBORTag(28, [])
    levels = [level, *(cbor2.CBORTag(28, [cbor2.CBORTag(29, i)] * 10) for i in range(12))]
    return cbor2.dumps(cbor2.CBORTag(96, levels))


def write(folder: Path) -> None:
    """Write every vector below `folder`, one file each."""
    families = {
        "envelope": (opening, damaged, refused),
        "receipts": (receipts,),
        "chunks": (sealed_chunks,),
    }
    for family, sources in families.items():
        (folder / family).mkdir(parents=True, exist_ok=True)
        for name, vector in (pair for source in sources for pair in source()):
            text = json.dumps(vector, indent=1) + "\n"
            (folder / family / f"{name}.json").write_text(text, "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
