"""A JSON statement signed on its own, outside any envelope: a conformance report of the sandbox."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, Final

from gateway.crypto import cose
from gateway.crypto.cbor import CborError
from gateway.crypto.keys import Signer, VerifyKey

MAX_STATEMENT: Final = 1024 * 1024
"""Bytes."""


class StatementInvalid(Exception):
    """The statement does not hold; the argument says why, in words of our own."""


def sign_statement(statement: Mapping[str, Any], signer: Signer, context: bytes) -> dict[str, str]:
    """The statement in a COSE_Sign1, and the public key that verifies it; both base64url."""
    payload = json.dumps(statement, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    return {
        "signed": _text(cose.sign1(payload, signer, context)),
        "key": _text(signer.public.public_bytes),
    }


def read_statement(document: Any, context: bytes) -> tuple[dict[str, Any], str]:
    """What was signed, and the id of the key that signed it (hex). Raises StatementInvalid.

    Whose key that is, is for the reader to know: compare its id with the one that the signer shows.
    """
    if not isinstance(document, dict):
        raise StatementInvalid("this is not a signed statement")
    try:
        key = VerifyKey.from_public(_bytes(document.get("key")))
        signed = cose.parse_sign1(_bytes(document.get("signed")))
    except ValueError:  # CborError is one
        raise StatementInvalid("this is not a signed statement") from None
    if signed.kid != key.kid or not signed.verify(key, context):
        raise StatementInvalid("the signature does not verify")
    try:
        statement = json.loads(signed.payload)
    except (ValueError, RecursionError):
        statement = None
    if not isinstance(statement, dict):  # the key is the document's own: anybody may sign anything
        raise StatementInvalid("what was signed is not a statement")
    return statement, key.kid.hex()


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: Any) -> bytes:
    if not isinstance(text, str) or len(text) > MAX_STATEMENT:
        raise CborError("not base64url")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise CborError("not base64url") from None
