"""Envelopes that open, that are damaged, and that must not be believed."""

from __future__ import annotations

from dataclasses import replace

import cbor2
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.crypto import cbor, cose
from gateway.crypto.labels import ENVELOPE_CONTEXT, RECEIPT_CONTEXT
from gateway.crypto.padding import pad
from gateway.messages import MessageId
from tests.vectors.parts import (
    CONTENT,
    HEADER,
    HOUSING,
    HYBRID,
    NOT_OURS,
    OLDER,
    OTHER_ID,
    P256,
    SCHOOL,
    SIGNING,
    STRANGER,
    Named,
    case,
    encrypt,
    header_fields,
    joined,
    seal,
    signed_payload,
    taken_apart,
    with_protected,
    wrap,
)


def opening() -> Named:
    """Envelopes that open."""
    told = {"header": header_fields(HEADER), "content": CONTENT.hex()}
    yield "open-hybrid", case("the default suite", "open", seal(to=HYBRID), HYBRID, **told)
    yield "open-p256", case("the suite for hardware modules", "open", seal(), **told)
    yield (
        "open-older-key",
        case("sealed before the key was changed", "open", seal(to=OLDER), OLDER, HYBRID, **told),
    )
    answer = replace(HEADER, type="decision", in_reply_to=MessageId(OTHER_ID))
    told = {"header": header_fields(answer), "content": CONTENT.hex()}
    yield "open-in-reply-to", case("the optional field is there", "open", seal(answer), **told)
    told = {"header": header_fields(HEADER), "content": ""}
    yield "open-no-content", case("no content at all", "open", seal(content=b""), **told)


def damaged() -> Named:
    """Envelopes that are not well formed, outside or inside."""
    good, expect = seal(), "malformed"
    parts = taken_apart(good)
    protected, iv, ciphertext, recipients = parts
    routing = cbor.decode(protected)["rg"]
    kid, ek = recipients[0][0], recipients[0][1]
    kid_text = cbor.encode({1: 53, 4: "police"})
    version_1 = bytes(6) + b"\x11" + bytes(9)
    for name, about, sealed in (
        ("empty", "no bytes", b""),
        ("truncated", "the last byte is missing", good[:-1]),
        ("trailing-byte", "one byte more", good + b"\0"),
        ("not-cbor", "text", b"Dear colleague, please find attached"),
        ("chunk-tag", "tagged as a chunk", joined(parts, 16)),
        ("long-form-length", "an array length not in its shortest form", good[:2] + b"\x98\x04" + good[3:]),
        ("indefinite-length", "an array of indefinite length", good[:2] + b"\x9f" + good[3:] + b"\xff"),
        (
            "map-key-twice",
            "the algorithm stands twice in the outer header",
            joined([b"\xa3\x01\x03" + protected[1:], *parts[1:]]),
        ),
        (
            "map-keys-unsorted",
            "keys not in bytewise order",
            joined([b"\xa2\x62rg" + cbor.encode(routing) + b"\x01\x03", *parts[1:]]),
        ),
        (
            "map-key-true",
            "true in the place of label 1",
            joined([b"\xa2\x62rg" + cbor.encode(routing) + b"\xf5\x03", *parts[1:]]),
        ),
        ("unknown-protected-label", "an outer label of no version we know", with_protected({99: 1})),
        ("other-content-algorithm", "A128GCM outside", with_protected({1: 1})),
        ("routing-too-long", "a fifth routing fact", with_protected({"rg": [*routing, 0]})),
        (
            "routing-recipient",
            "a recipient that is no agency identifier",
            with_protected({"rg": [*routing[:2], "A b", 1]}),
        ),
        ("routing-version-one-as-text", "the version is text", with_protected({"rg": ["1", *routing[1:]]})),
        ("two-recipients", "a second recipient", joined([protected, iv, ciphertext, recipients * 2])),
        ("short-nonce", "a nonce of 11 bytes", joined([protected, {5: iv[5][:11]}, ciphertext, recipients])),
        (
            "unknown-suite",
            "a key encryption algorithm of no suite we know",
            joined(
                [protected, iv, ciphertext, [[cbor.encode(cbor.decode(kid) | {1: 46}), ek, recipients[0][2]]]]
            ),
        ),
        ("shared-references", "a few bytes that unfold to 10^12 items", _bomb()),
        ("nested-arrays", "10,000 arrays, each in the one before", b"\x81" * 10_000 + b"\0"),
        ("length-of-2^63", "an array that claims 2^63 items", b"\xd8\x60\x9b\x80" + bytes(7)),
        (
            "key-id-not-bytes",
            "a key id that is text",
            joined([protected, iv, ciphertext, [[kid_text, ek, recipients[0][2]]]]),
        ),
        ("no-padding-mark", "the plaintext ends without the mark", encrypt(cose.sign1(b"", STRANGER, b""))),
        ("padding-not-zeros", "something hides in the padding", encrypt(pad(b"x" * 100) + b"y")),
        ("not-a-signature", "the plaintext is no COSE_Sign1", encrypt(pad(cbor.encode([1, 2, 3])))),
        ("signature-alg-eddsa", "signed as EdDSA (-8), not Ed25519 (-19)", encrypt(pad(_old_alg()))),
        ("header-field-missing", "no case", wrap(signed_payload({7: None}))),
        ("header-field-unknown", "a label 13", wrap(signed_payload({13: 1}))),
        ("header-id-short", "a message id of 15 bytes", wrap(signed_payload({1: bytes(15)}))),
        (
            "header-id-not-random",
            "a UUID of version 1",
            wrap(signed_payload({1: version_1})),
        ),
        ("header-sender", "a sender that is no agency identifier", wrap(signed_payload({5: "NORTHTOWN"}))),
        ("header-type-too-long", "a type of 65 characters", wrap(signed_payload({3: "r" * 65}))),
        ("header-negative-time", "created before 1970", wrap(signed_payload({9: -1}))),
        ("payload-unknown-label", "something beside header and content", wrap(signed_payload() | {3: b""})),
        ("content-not-bytes", "the content is text", wrap(signed_payload() | {2: "text"})),
    ):
        yield f"malformed-{name}", case(about, expect, sealed)


def refused() -> Named:
    """Well-formed envelopes that must not be believed."""
    parts = taken_apart(seal())
    protected, iv, ciphertext, [[recipient, ek, sealed_key]] = parts
    routing = cbor.decode(protected)["rg"]
    yield (
        "unknown-version",
        case("version 2 outside", "unknown-version", with_protected({"rg": [2, *routing[1:]]})),
    )
    later = joined([cbor.encode({1: 99, "rg": [2, {"new": "facts"}], "more": 1}), {}, None, []])
    yield "unknown-version-unlike-ours", case("version 2, all else unknown", "unknown-version", later)

    yield "unknown-key", case("sealed to somebody else's key", "unknown-key", seal(to=NOT_OURS))
    other = cbor.encode(cbor.decode(recipient) | {1: 57})
    yield (
        "unknown-key-other-suite",
        case(
            "our key id, but a suite that is not the key's",
            "unknown-key",
            joined([protected, iv, ciphertext, [[other, ek, sealed_key]]]),
        ),
    )

    expect = "not-opened"
    flipped = ciphertext[:-1] + bytes([ciphertext[-1] ^ 1])
    rerouted = cbor.encode(cbor.decode(protected) | {"rg": [*routing[:2], HOUSING, routing[3]]})
    extended = cbor.encode(cbor.decode(protected) | {"rg": [*routing[:3], routing[3] + 1]})
    _, _, _, [[_, other_ek, other_key]] = taken_apart(seal())
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
        yield f"not-opened-{name}", case(about, expect, joined(changed))
    yield "not-opened-key-of-128-bits", case("a content key that is too short", expect, _short_key())

    expect = "bad-signature"
    signed = cose.parse_sign1(cose.sign1(cbor.encode(signed_payload()), SIGNING[SCHOOL], ENVELOPE_CONTEXT))
    altered = [signed.protected, {}, cbor.encode(signed_payload({3: "decision"})), signed.signature]
    yield "bad-signature-altered", case("another type", expect, encrypt(pad(joined(altered, 18))))
    forged = [signed.protected, {}, signed.payload, STRANGER.sign(signed.payload)]
    yield (
        "bad-signature-forged",
        case("signed by a stranger under the school's key id", expect, encrypt(pad(joined(forged, 18)))),
    )
    yield (
        "bad-signature-receipt-context",
        case("signed as a receipt", expect, wrap(signed_payload(), context=RECEIPT_CONTEXT)),
    )
    short = [signed.protected, {}, signed.payload, signed.signature[:-1]]
    yield "bad-signature-short", case("63 bytes", expect, encrypt(pad(joined(short, 18))))

    expect = "unknown-sender"
    yield (
        "unknown-sender-key",
        case("a key the directory does not list", expect, wrap(signed_payload(), signer=STRANGER)),
    )
    yield (
        "unknown-sender-other-agencys-key",
        case("housing signs as the school", expect, wrap(signed_payload(), signer=SIGNING[HOUSING])),
    )
    yield (
        "unknown-sender-agency",
        case("an agency the directory does not list", expect, wrap(signed_payload({5: "elsewhere"}))),
    )

    # The signature holds, so the sender is known and is told.
    told = {"signed_header": header_fields(replace(HEADER, recipient=HOUSING))}
    passed_on = wrap(signed_payload({6: HOUSING}))
    yield (
        "readdressed",
        case("signed for housing, sealed again to the police", "readdressed", passed_on, **told),
    )
    told = {"signed_header": header_fields(HEADER)}
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
            case(about, "mismatched", wrap(signed_payload(), routing=contradicting), **told),
        )


def _old_alg() -> bytes:
    payload, signer = cbor.encode(signed_payload()), SIGNING[SCHOOL]
    protected = cbor.encode({1: -8, 4: signer.kid})
    signature = signer.sign(cbor.encode(["Signature1", protected, ENVELOPE_CONTEXT, payload]))
    return joined([protected, {}, payload, signature], 18)


def _short_key() -> bytes:
    """AES-128 under a header that says A256GCM: correct in all else."""

    parts = taken_apart(seal())
    recipient, nonce, content_key = parts[3][0][0], bytes(12), bytes(16)
    enc, sealed_key = P256.public.seal(content_key, cbor.encode(["HPKE Recipient", 3, recipient, b""]))
    plaintext = pad(cose.sign1(cbor.encode(signed_payload()), SIGNING[SCHOOL], ENVELOPE_CONTEXT))
    ciphertext = AESGCM(content_key).encrypt(nonce, plaintext, cbor.encode(["Encrypt", parts[0], b""]))
    return joined([parts[0], {5: nonce}, ciphertext, [[recipient, {-4: enc}, sealed_key]]])


def _bomb() -> bytes:
    """Tag 28 marks a value as shared, tag 29 refers to it: each level holds ten of the one before."""
    level = cbor2.CBORTag(28, [])
    levels = [level, *(cbor2.CBORTag(28, [cbor2.CBORTag(29, i)] * 10) for i in range(12))]
    return cbor2.dumps(cbor2.CBORTag(96, levels))
