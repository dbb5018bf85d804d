"""What an agency's node keeps for itself and nobody else reads, sealed under a secret of the agency."""

from __future__ import annotations

import hmac
import os
from typing import Final

from gateway.crypto import cose
from gateway.crypto.keys import OpenFailed
from gateway.crypto.labels import OWN_CONTEXT
from gateway.crypto.padding import pad, unpad

_SALT: Final = 16
"""Bytes of the random salt, which stands first and makes every key a fresh one."""
_NONCE: Final = bytes(cose.NONCE_LENGTH)
"""The same each time: a key seals once."""


def seal_own(secret: bytes, name: str, plaintext: bytes) -> bytes:
    """Seal `plaintext`; it opens under the same secret and name only."""
    salt = os.urandom(_SALT)
    return salt + cose.encrypt0(pad(plaintext), _key(secret, salt), _NONCE, _context(name))


def open_own(secret: bytes, name: str, data: bytes) -> bytes:
    """What was sealed. Raises ValueError when it was altered, or sealed under another secret or name."""
    try:
        padded = cose.decrypt0(data[_SALT:], _key(secret, data[:_SALT]), _NONCE, _context(name))
    except OpenFailed:
        raise ValueError("not sealed under this secret and name") from None
    return unpad(padded)


def _key(secret: bytes, salt: bytes) -> bytes:
    return hmac.digest(secret, OWN_CONTEXT + b"\0" + salt, "sha256")


def _context(name: str) -> bytes:
    return OWN_CONTEXT + b"\0" + name.encode()
