"""COSE structures (RFC 9052): Sign1, Encrypt to one HPKE recipient, Encrypt0. Bytes in, bytes out.

Only what the product needs of each; anything else is refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.crypto import cbor
from gateway.crypto.cbor import CborError
from gateway.crypto.keys import Opener, OpenFailed, SealingKey, Signer, VerifyKey
from gateway.crypto.labels import (
    A256GCM,
    ALG,
    EK,
    HPKE_RECIPIENT,
    IV,
    KID,
    SIGNING_SUITES,
    SUITES,
    TAG_ENCRYPT,
    TAG_ENCRYPT0,
    TAG_SIGN1,
)
from gateway.hardening import Secret

KEY_LENGTH = 32
"""Bytes of a content key: A256GCM."""
NONCE_LENGTH = 12

_SUITE_OF = {alg: name for name, alg in SUITES.items()}
_A256GCM_HEADER = cbor.encode({ALG: A256GCM})


@dataclass(frozen=True, slots=True)
class Signed:
    """A parsed COSE_Sign1, not yet verified."""

    alg: int
    kid: bytes
    payload: bytes
    signature: bytes
    protected: bytes

    def verify(self, key: VerifyKey, context: bytes) -> bool:
        """Whether `key` signed this payload in this context (RFC 9052 section 4.4).

        The algorithm stated must be the key's: whoever wrote the header has nothing to choose.
        """
        return self.alg == key.alg and key.verify(
            self.signature, _to_be_signed(self.protected, context, self.payload)
        )


def sign1(payload: bytes, signer: Signer, context: bytes) -> bytes:
    """COSE_Sign1, tagged. `context` is the external_aad that separates kinds of statements."""
    protected = cbor.encode({ALG: signer.alg, KID: signer.kid})
    signature = signer.sign(_to_be_signed(protected, context, payload))
    return cbor.encode(cbor.tag(TAG_SIGN1, [protected, {}, payload, signature]))


def parse_sign1(data: bytes) -> Signed:
    """Read a COSE_Sign1. Raises CborError."""
    protected, unprotected, payload, signature = cbor.untag(cbor.decode(data), TAG_SIGN1, 4)
    header = _header(protected, {ALG: int, KID: bytes})
    if header[ALG] not in SIGNING_SUITES.values() or unprotected != {} or not _all_bytes(payload, signature):
        raise CborError("not a signature of the kind used here")
    return Signed(header[ALG], header[KID], payload, signature, protected)


def _to_be_signed(protected: bytes, context: bytes, payload: bytes) -> bytes:
    return cbor.encode(["Signature1", protected, context, payload])


@dataclass(frozen=True, slots=True)
class Encrypted:
    """A parsed COSE_Encrypt with one recipient, not yet opened."""

    protected: bytes
    """Serialized outer protected header."""
    extra: Any
    """The value of the one label besides the algorithm."""
    nonce: bytes
    ciphertext: bytes
    recipient_protected: bytes
    suite: str
    kid: bytes
    enc: bytes
    sealed_key: bytes

    def open(self, key: Opener) -> bytes:
        """The plaintext. Raises OpenFailed."""
        content_key = key.open(self.enc, self.sealed_key, _recipient_info(self.recipient_protected))
        # AESGCM takes shorter keys too; the protected header promises 256 bits.
        if len(content_key) != KEY_LENGTH:
            raise OpenFailed
        try:
            return AESGCM(content_key).decrypt(self.nonce, self.ciphertext, _encrypt_aad(self.protected))
        except (InvalidTag, ValueError):
            raise OpenFailed from None


def encrypt(plaintext: bytes, to: SealingKey, label: str, extra: Any) -> bytes:
    """COSE_Encrypt to one recipient by HPKE key encryption; `label: extra` joins the protected header."""
    protected = cbor.encode({ALG: A256GCM, label: extra})
    recipient_protected = cbor.encode({ALG: to.alg, KID: to.kid})
    # A fresh content key for every envelope, used for this one encryption: any nonce is used once with
    # it. It is random all the same, so that no reader depends on a fixed one.
    content_key, nonce = os.urandom(KEY_LENGTH), os.urandom(NONCE_LENGTH)
    enc, sealed_key = to.seal(content_key, _recipient_info(recipient_protected))
    ciphertext = AESGCM(content_key).encrypt(nonce, plaintext, _encrypt_aad(protected))
    recipient = [recipient_protected, {EK: enc}, sealed_key]
    return cbor.encode(cbor.tag(TAG_ENCRYPT, [protected, {IV: nonce}, ciphertext, [recipient]]))


def parse_encrypt(data: bytes, label: str) -> Encrypted:
    """Read a COSE_Encrypt. Raises CborError."""
    protected, unprotected, ciphertext, recipients = cbor.untag(cbor.decode(data), TAG_ENCRYPT, 4)
    header = _header(protected, {ALG: int, label: list})
    if header[ALG] != A256GCM or not cbor.is_list(recipients, 1) or not cbor.is_list(recipients[0], 3):
        raise CborError("not encryption of the kind used here")
    recipient_protected, recipient_unprotected, sealed_key = recipients[0]
    recipient = _header(recipient_protected, {ALG: int, KID: bytes})
    nonce, enc = _only(unprotected, IV), _only(recipient_unprotected, EK)
    suite = _SUITE_OF.get(recipient[ALG])
    if suite is None or not _all_bytes(ciphertext, sealed_key) or len(nonce) != NONCE_LENGTH:
        raise CborError("not encryption of the kind used here")
    return Encrypted(
        protected,
        header[label],
        nonce,
        ciphertext,
        recipient_protected,
        suite,
        recipient[KID],
        enc,
        sealed_key,
    )


def protected_value(data: bytes, label: str) -> Any:
    """What stands at `label` in the outer protected header of any COSE_Encrypt, whatever else it holds.

    For telling another version from damage. Raises CborError.
    """
    protected, *_ = cbor.untag(cbor.decode(data), TAG_ENCRYPT, 4)
    header = cbor.decode(protected) if isinstance(protected, bytes) else None
    if not isinstance(header, dict) or label not in header:
        raise CborError("not the header expected")
    return header[label]


def _recipient_info(recipient_protected: bytes) -> bytes:
    """HPKE info = Recipient_structure: draft-ietf-cose-hpke section 3.3.1. Its aad stays empty."""
    return cbor.encode([HPKE_RECIPIENT, A256GCM, recipient_protected, b""])


def _encrypt_aad(protected: bytes) -> bytes:
    """Enc_structure: RFC 9052 section 5.3."""
    return cbor.encode(["Encrypt", protected, b""])


def encrypt0(plaintext: bytes, key: Secret, nonce: bytes, context: bytes) -> bytes:
    """COSE_Encrypt0 with A256GCM under a key both sides know. The nonce must be new for the key."""
    aad = cbor.encode(["Encrypt0", _A256GCM_HEADER, context])
    ciphertext = AESGCM(key).encrypt(nonce, plaintext, aad)
    return cbor.encode(cbor.tag(TAG_ENCRYPT0, [_A256GCM_HEADER, {IV: nonce}, ciphertext]))


def decrypt0(data: bytes, key: Secret, nonce: bytes, context: bytes) -> bytes:
    """The plaintext of a COSE_Encrypt0 made with this nonce. Raises CborError or OpenFailed."""
    protected, unprotected, ciphertext = cbor.untag(cbor.decode(data), TAG_ENCRYPT0, 3)
    if protected != _A256GCM_HEADER or unprotected != {IV: nonce} or not _all_bytes(ciphertext):
        raise CborError("not encryption of the kind used here")
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, cbor.encode(["Encrypt0", protected, context]))
    except (InvalidTag, ValueError):
        raise OpenFailed from None


def _header(data: Any, fields: Mapping[Any, Any]) -> dict[Any, Any]:
    """A serialized protected header with exactly these fields. Raises CborError."""
    header = cbor.decode(data) if isinstance(data, bytes) else None
    if not isinstance(header, dict) or header.keys() != fields.keys():
        raise CborError("not the header expected")
    if not all(isinstance(header[label], kind) for label, kind in fields.items()):
        raise CborError("not the header expected")
    return header


def _only(unprotected: Any, label: int) -> bytes:
    """The one entry of an unprotected header. Raises CborError."""
    if isinstance(unprotected, dict) and unprotected.keys() == {label}:
        value = unprotected[label]
        if isinstance(value, bytes):
            return value
    raise CborError("not the header expected")


def _all_bytes(*values: Any) -> bool:
    return all(isinstance(value, bytes) for value in values)
