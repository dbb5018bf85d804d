"""Receipts: signed statements about an envelope that anybody with the directory can verify, offline.

docs/receipts.md specifies the bytes. Who may state what is part of verification.
"""

from __future__ import annotations

import uuid
from typing import Any

from gateway.crypto import cbor, cose
from gateway.crypto.cbor import CborError
from gateway.crypto.envelope import FindVerifyKey
from gateway.crypto.keys import SigningKey
from gateway.crypto.labels import MAX_RECEIPT, RECEIPT_CONTEXT, RECEIPT_VERSION
from gateway.errors import ReceiptInvalid
from gateway.messages import AGENCY_ID, AgencyId, EnvelopeId, MessageId, Reason, Receipt, Stage

_SENDERS_WORD = {Stage.ACCEPTED, Stage.FAILED, Stage.EXPIRED}
_RECIPIENTS_WORD = {Stage.RECEIVED, Stage.DELIVERED, Stage.REJECTED, Stage.EXPIRED}
_FIELDS = 10


def sign_receipt(receipt: Receipt, signer: SigningKey) -> bytes:
    """COSE_Sign1 over the statement."""
    payload = cbor.encode(
        [
            RECEIPT_VERSION,
            receipt.stage.value,
            uuid.UUID(receipt.message_id).bytes,
            uuid.UUID(receipt.envelope_id).bytes,
            receipt.envelope_digest,
            receipt.sender,
            receipt.recipient,
            receipt.issuer,
            receipt.at,
            receipt.reason.value if receipt.reason else None,
        ]
    )
    return cose.sign1(payload, signer, RECEIPT_CONTEXT)


def read_receipt(data: bytes) -> Receipt:
    """Read a receipt without verifying it. Raises ReceiptInvalid."""
    return _read(_parse(data))


def verify_receipt(data: bytes, find_verify_key: FindVerifyKey) -> Receipt:
    """Read and verify a receipt. Raises ReceiptInvalid with one constant sentence."""
    signed = _parse(data)
    receipt = _read(signed)
    may = receipt.issuer == receipt.sender and receipt.stage in _SENDERS_WORD
    may = may or (receipt.issuer == receipt.recipient and receipt.stage in _RECIPIENTS_WORD)
    if not may:
        raise ReceiptInvalid("the issuer may not state this stage")
    key = find_verify_key(receipt.issuer, signed.kid)
    if key is None:
        raise ReceiptInvalid("the directory lists no such key of the issuer")
    if not signed.verify(key, RECEIPT_CONTEXT):
        raise ReceiptInvalid("the signature does not verify")
    return receipt


def _parse(data: bytes) -> cose.Signed:
    if len(data) > MAX_RECEIPT:
        raise ReceiptInvalid("this is not a receipt")
    try:
        return cose.parse_sign1(data)
    except CborError:
        raise ReceiptInvalid("this is not a receipt") from None


def _read(signed: cose.Signed) -> Receipt:
    try:
        value = cbor.decode(signed.payload)
        if not cbor.is_list(value, _FIELDS) or value[0] != RECEIPT_VERSION:
            raise ReceiptInvalid("the receipt is of an unknown version")
        _, stage, message_id, envelope_id, digest, sender, recipient, issuer, at, reason = value
        if not isinstance(digest, bytes) or len(digest) != 32 or type(at) is not int or at < 0:
            raise ReceiptInvalid("this is not a receipt")
        return Receipt(
            Stage(stage),
            MessageId(str(uuid.UUID(bytes=message_id))),
            EnvelopeId(str(uuid.UUID(bytes=envelope_id))),
            digest,
            _agency(sender),
            _agency(recipient),
            _agency(issuer),
            at,
            Reason(reason) if reason is not None else None,
        )
    except (CborError, ValueError, TypeError):
        raise ReceiptInvalid("this is not a receipt") from None


def _agency(value: Any) -> AgencyId:
    if not isinstance(value, str) or not AGENCY_ID.fullmatch(value):
        raise ReceiptInvalid("this is not a receipt")
    return AgencyId(value)
