"""Receipts and chunks, good and not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gateway.crypto import cbor, chunks, cose, keys, proof
from gateway.crypto.approval import Request, approve
from gateway.crypto.fields import raw_id
from gateway.crypto.labels import ENVELOPE_CONTEXT, RECEIPT_CONTEXT
from gateway.messages import Emergency, EnvelopeId, Quorum, Reason, Receipt, Stage
from gateway.protocol.break_glass import action
from tests.vectors.parts import (
    DIGEST,
    DIRECTORY,
    HEADER,
    HOUSING,
    OTHER_ID,
    POLICE,
    RECEIPT,
    SCHOOL,
    SIGNING,
    STRANGER,
    Named,
    Vector,
    joined,
    receipt_fields,
    seal,
    seed,
)

PAYLOAD = cbor.decode(cose.parse_sign1(proof.sign_receipt(RECEIPT, SIGNING[POLICE])).payload)


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
            _proof(f"{stage}, stated by the {by}", "valid", _signed(told), receipt=receipt_fields(told)),
        )
    told = replace(RECEIPT, stage=Stage.ACCEPTED, issuer=SCHOOL, view=("core", "narrative"))
    about = "accepted, with the view that the recipient was sent"
    yield "valid-accepted-with-view", _proof(about, "valid", _signed(told), receipt=receipt_fields(told))
    asked = Request(
        OTHER_ID,
        action(Emergency.RISK_TO_LIFE),
        POLICE,
        raw_id(RECEIPT.message_id),
        RECEIPT.at - 1,
        RECEIPT.at + 1,
    )
    people = {role: keys.SigningKey.from_seed(seed(f"role {role}")) for role in ("chief", "duty-lead")}
    quorum = Quorum("prevent-2026", tuple(approve(asked, one) for one in people.values()))
    opened = replace(RECEIPT, stage=Stage.OPENED, reason=Emergency.RISK_TO_LIFE, quorum=quorum)
    yield (
        "valid-opened-by-recipient",
        _proof(
            "opened in an emergency, with the approvals of the roles",
            "valid",
            _signed(opened),
            receipt=receipt_fields(opened),
            roles={role: one.public.public_bytes.hex() for role, one in people.items()},
        ),
    )
    told = replace(opened, issuer=SCHOOL)
    yield "wrong-issuer-opened-by-sender", _proof("not theirs to state", proof.WRONG_ISSUER, _signed(told))
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
    yield "bad-signature-altered", _proof("received made delivered", expect, joined(altered, 18))
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
        ("payload-not-a-map", "an array", cose.sign1(cbor.encode([1]), SIGNING[POLICE], RECEIPT_CONTEXT)),
        ("envelope-tag", "tagged as an envelope", joined(list(cbor.decode(good).value), 96)),
        (
            "unprotected-header",
            "something unsigned rides along",
            joined([signed.protected, {99: 1}, signed.payload, signed.signature], 18),
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
        ("view-uncalled-for", "received, with a view", _stating(PAYLOAD | {11: "core"})),
        (
            "approvals-missing",
            "opened, but not who approved it",
            _stating(PAYLOAD | {2: "opened", 10: "risk-to-life", 12: "prevent-2026"}),
        ),
        (
            "opened-reason-of-another-stage",
            "opened, with a reason for rejecting",
            _stating(PAYLOAD | {2: "opened", 10: "wrong-agency", 12: "prevent-2026", 13: [b""]}),
        ),
        ("digest-short", "a digest of 31 bytes", _stating(PAYLOAD | {5: DIGEST[:31]})),
        (
            "version-true",
            "true in the place of version 1",
            joined(
                [signed.protected, {}, signed.payload.replace(b"\x01\x01", b"\x01\xf5", 1), signed.signature],
                18,
            ),
        ),
    ):
        yield f"not-a-receipt-{name}", _proof(about, proof.NOT_A_RECEIPT, data)


def sealed_chunks() -> Named:
    """Chunks of attachments."""
    key, chunk_id = seed("chunk"), EnvelopeId(OTHER_ID)
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
    yield "mismatch-envelope", case("an envelope", mismatch, seal())


def _signed(receipt: Receipt, signer: keys.SigningKey | None = None) -> bytes:
    return proof.sign_receipt(receipt, signer or SIGNING[receipt.issuer])


def _stating(payload: dict[int, Any]) -> bytes:
    return cose.sign1(cbor.encode(payload), SIGNING[POLICE], RECEIPT_CONTEXT)


def _proof(about: str, expect: str, data: bytes, **more: Any) -> Vector:
    return {"about": about, "expect": expect, "directory": DIRECTORY, "cose": data.hex(), **more}
