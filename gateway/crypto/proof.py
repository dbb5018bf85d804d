"""Receipts: signed statements about an envelope that anybody with the directory can verify, offline.

docs/receipts.md specifies the bytes. Who may state what is part of verification. Whether the approvals in
`opened` make a quorum is not: the issuer's word that it opened a message counts in any case (break_glass.py).
"""

from __future__ import annotations

from typing import Any

from gateway.crypto import cbor, cose
from gateway.crypto.cbor import CborError
from gateway.crypto.envelope import FindVerifyKey
from gateway.crypto.fields import raw_id, read_agency, read_bytes, read_id, read_number, read_text
from gateway.crypto.keys import Signer
from gateway.crypto.labels import MAX_RECEIPT, RECEIPT_CONTEXT, RECEIPT_VERSION
from gateway.errors import ReceiptInvalid
from gateway.messages import EnvelopeId, MessageId, Quorum, Receipt, Stage, read_reason
from gateway.protocol.break_glass import MAX_ROLES

NOT_A_RECEIPT = "this is not a receipt"
UNKNOWN_VERSION = "the receipt is of an unknown version"
WRONG_ISSUER = "the issuer may not state this stage"
UNKNOWN_KEY = "the directory lists no such key of the issuer"
BAD_SIGNATURE = "the signature does not verify"

_SENDERS_WORD = frozenset({Stage.ACCEPTED, Stage.FAILED, Stage.EXPIRED})
_RECIPIENTS_WORD = frozenset({Stage.RECEIVED, Stage.DELIVERED, Stage.REJECTED, Stage.EXPIRED, Stage.OPENED})
_WITH_REASON = frozenset({Stage.REJECTED, Stage.EXPIRED, Stage.FAILED, Stage.OPENED})

# docs/receipts.md 2.2
_VERSION, _STAGE, _MESSAGE, _ENVELOPE, _DIGEST, _SENDER, _RECIPIENT, _ISSUER, _AT = range(1, 10)
_REASON, _VIEW, _AGREEMENT, _APPROVALS = range(10, 14)
_LABELS = frozenset(range(_VERSION, _AT + 1))


def sign_receipt(receipt: Receipt, signer: Signer) -> bytes:
    """The receipt as a COSE_Sign1, at most MAX_RECEIPT bytes."""
    payload: dict[int, Any] = {
        _VERSION: RECEIPT_VERSION,
        _STAGE: receipt.stage.value,
        _MESSAGE: raw_id(receipt.message_id),
        _ENVELOPE: raw_id(receipt.envelope_id),
        _DIGEST: receipt.envelope_digest,
        _SENDER: str(receipt.sender),
        _RECIPIENT: str(receipt.recipient),
        _ISSUER: str(receipt.issuer),
        _AT: receipt.at,
    }
    if receipt.reason is not None:
        payload[_REASON] = receipt.reason.value
    if receipt.view is not None:
        payload[_VIEW] = ",".join(receipt.view)
    if receipt.quorum is not None:
        payload[_AGREEMENT] = receipt.quorum.agreement
        payload[_APPROVALS] = list(receipt.quorum.approvals)
    return cose.sign1(cbor.encode(payload), signer, RECEIPT_CONTEXT)


def read_receipt(data: bytes) -> Receipt:
    """Read a receipt without verifying it. Raises ReceiptInvalid."""
    return _read(_parse(data))


def verify_receipt(data: bytes, find_verify_key: FindVerifyKey) -> Receipt:
    """Read and verify a receipt. Raises ReceiptInvalid with one of the sentences above."""
    signed = _parse(data)
    receipt = _read(signed)
    may_state = (receipt.issuer == receipt.sender and receipt.stage in _SENDERS_WORD) or (
        receipt.issuer == receipt.recipient and receipt.stage in _RECIPIENTS_WORD
    )
    if not may_state:
        raise ReceiptInvalid(WRONG_ISSUER)
    key = find_verify_key(receipt.issuer, signed.kid)
    if key is None or key.ended(receipt.at):
        raise ReceiptInvalid(UNKNOWN_KEY)
    if not signed.verify(key, RECEIPT_CONTEXT):
        raise ReceiptInvalid(BAD_SIGNATURE)
    return receipt


def _parse(data: bytes) -> cose.Signed:
    if len(data) > MAX_RECEIPT:
        raise ReceiptInvalid(NOT_A_RECEIPT)
    try:
        return cose.parse_sign1(data)
    except CborError:
        raise ReceiptInvalid(NOT_A_RECEIPT) from None


def _read(signed: cose.Signed) -> Receipt:
    try:
        value = cbor.decode(signed.payload)
        if not isinstance(value, dict) or not isinstance(value.get(_VERSION), int):
            raise ReceiptInvalid(NOT_A_RECEIPT)
        if value[_VERSION] != RECEIPT_VERSION:
            raise ReceiptInvalid(UNKNOWN_VERSION)
        stage = Stage(read_text(value.get(_STAGE)))
        expected = _LABELS | {_REASON} if stage in _WITH_REASON else _LABELS
        if stage is Stage.OPENED:
            expected |= {_AGREEMENT, _APPROVALS}
        if value.keys() != expected and not (stage is Stage.ACCEPTED and value.keys() == expected | {_VIEW}):
            raise ReceiptInvalid(NOT_A_RECEIPT)
        return Receipt(
            stage,
            MessageId(read_id(value[_MESSAGE])),
            EnvelopeId(read_id(value[_ENVELOPE])),
            read_bytes(value[_DIGEST], 32),
            read_agency(value[_SENDER]),
            read_agency(value[_RECIPIENT]),
            read_agency(value[_ISSUER]),
            read_number(value[_AT]),
            read_reason(stage, read_text(value[_REASON])) if stage in _WITH_REASON else None,
            _read_view(value[_VIEW]) if _VIEW in value else None,
            _read_quorum(value) if stage is Stage.OPENED else None,
        )
    except ValueError:  # CborError, or no such stage or reason
        raise ReceiptInvalid(NOT_A_RECEIPT) from None


def _read_view(value: Any) -> tuple[str, ...]:
    # Each name is short; all of them together may be longer than one.
    if not isinstance(value, str):
        raise CborError("not a view")
    return tuple(read_text(name) for name in value.split(","))


def _read_quorum(value: dict[Any, Any]) -> Quorum:
    approvals = value[_APPROVALS]
    if not isinstance(approvals, list) or len(approvals) > MAX_ROLES:
        raise CborError("not approvals")
    if not all(isinstance(one, bytes) for one in approvals):
        raise CborError("not approvals")
    return Quorum(read_agency(value[_AGREEMENT]), tuple(approvals))
