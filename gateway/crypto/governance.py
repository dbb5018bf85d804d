"""The keys of those who govern the directory: Ed25519, each in a file of its own under a passphrase.

They are used offline, by a person, for `gateway directory sign`; no node has one.
"""

from __future__ import annotations

import base64
import os
import textwrap
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from gateway.crypto.keys import edwards
from gateway.errors import StartupError

SHORTEST_PASSPHRASE = 12
"""Characters."""
_N, _R, _P = 1 << 14, 8, 5
"""scrypt's cost: 16 MiB of memory, which every `openssl` allows, five times over."""
_PBES2: Final = bytes.fromhex("06092a864886f70d01050d")
"""id-PBES2 (RFC 8018 appendix A.4), as the next two in DER."""
_SCRYPT: Final = bytes.fromhex("06092b06010401da47040b")
"""id-scrypt (RFC 7914 section 7)."""
_AES256_CBC: Final = bytes.fromhex("060960864801650304012a")
_INTEGER, _OCTETS, _SEQUENCE = 0x02, 0x04, 0x30


def new_key(passphrase: bytes) -> tuple[bytes, Ed25519PrivateKey]:
    """A new key: its file (PKCS #8, encrypted) and the key. Raises StartupError for a short passphrase."""
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise StartupError(f"the passphrase must have {SHORTEST_PASSPHRASE} characters or more")
    key = Ed25519PrivateKey.generate()
    return _sealed(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), passphrase), key


def _sealed(data: bytes, passphrase: bytes) -> bytes:
    """EncryptedPrivateKeyInfo (RFC 5958) in PEM. The library would take PBKDF2 with 2,048 rounds."""
    salt, nonce = os.urandom(16), os.urandom(16)
    key = Scrypt(salt=salt, length=32, n=_N, r=_R, p=_P).derive(passphrase)
    padder, cipher = PKCS7(128).padder(), Cipher(algorithms.AES(key), modes.CBC(nonce)).encryptor()
    sealed = cipher.update(padder.update(data) + padder.finalize()) + cipher.finalize()
    costs = _der(_SEQUENCE, _der(_OCTETS, salt), *(_number(one) for one in (_N, _R, _P)))
    kdf, scheme = _der(_SEQUENCE, _SCRYPT, costs), _der(_SEQUENCE, _AES256_CBC, _der(_OCTETS, nonce))
    algorithm = _der(_SEQUENCE, _PBES2, _der(_SEQUENCE, kdf, scheme))
    text = base64.b64encode(_der(_SEQUENCE, algorithm, _der(_OCTETS, sealed))).decode()
    lines = ["-----BEGIN ENCRYPTED PRIVATE KEY-----", *textwrap.wrap(text, 64)]
    return "\n".join([*lines, "-----END ENCRYPTED PRIVATE KEY-----", ""]).encode()


def _der(tag: int, *parts: bytes) -> bytes:
    """One element (X.690) of at most 255 bytes."""
    body = b"".join(parts)
    return bytes([tag, *([0x81] if len(body) > 127 else []), len(body)]) + body


def _number(value: int) -> bytes:
    return _der(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def load_key(pem: bytes, passphrase: bytes) -> Ed25519PrivateKey:
    """The key in a file. Raises StartupError."""
    try:
        key = load_pem_private_key(pem, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise StartupError("the key file is not of this kind, or the passphrase is another one") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise StartupError("the key file does not hold an Ed25519 key")
    return key


def public_key(raw: bytes) -> Ed25519PublicKey:
    """From 32 bytes. Raises StartupError."""
    try:
        return edwards(raw)
    except ValueError:
        raise StartupError("this is not an Ed25519 public key") from None


def raw(key: Ed25519PublicKey) -> bytes:
    """Its 32 bytes."""
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)
