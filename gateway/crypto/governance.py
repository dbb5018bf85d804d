"""The keys of those who govern the directory: Ed25519, each in a file of its own under a passphrase.

They are used offline, by a person, for `gateway directory sign`; no node has one.
"""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from gateway.crypto.keys import edwards
from gateway.errors import StartupError

SHORTEST_PASSPHRASE = 12
"""Characters."""


def new_key(passphrase: bytes) -> tuple[bytes, Ed25519PrivateKey]:
    """A new key: its file (PKCS #8, encrypted) and the key. Raises StartupError for a short passphrase."""
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise StartupError(f"the passphrase must have {SHORTEST_PASSPHRASE} characters or more")
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase)), key


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
