"""A key file at rest: its document sealed under a passphrase (docs/keys.md section 2).

    {"format": "referral-gateway-keys-protected", "version": 1, "agency": ...,
     "scrypt": {"salt": 16 bytes, "n": ..., "r": 8, "p": 1}, "sealed": COSE_Encrypt0}     bytes as base64url

The key is scrypt(passphrase, salt) (RFC 7914), the cipher AES-256-GCM in a COSE_Encrypt0 (RFC 9052) whose
external_aad holds the agency and the parameters. A file is sealed anew, with a new salt, at each write.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Final

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from gateway.crypto import cbor, cose
from gateway.crypto.key_files import decode, encode
from gateway.crypto.labels import KEY_FILE_CONTEXT
from gateway.errors import StartupError
from gateway.hardening import Secret, wiped
from gateway.messages import AgencyId

FORMAT: Final = "referral-gateway-keys-protected"
VERSION: Final = 1
SHORTEST_PASSPHRASE: Final = 12
"""Bytes."""
_N, _R, _P = 1 << 16, 8, 1
"""scrypt's cost: 64 MiB of memory and about a quarter of a second."""
_LEAST, _MOST = 1 << 15, 1 << 18
"""What a file may ask for as n: never so little that guessing is cheap, never more than 256 MiB."""
_SALT: Final = 16
_NONCE: Final = bytes(cose.NONCE_LENGTH)
"""The same each time: the salt makes every key a fresh one, which seals once."""


def check_passphrase(passphrase: Secret) -> Secret:
    """The passphrase, if it is long enough. Raises StartupError."""
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise StartupError(f"the passphrase of the keys must have {SHORTEST_PASSPHRASE} characters or more")
    return passphrase


def protect(document: Mapping[str, Any], passphrase: Secret, agency: AgencyId) -> dict[str, Any]:
    """The document of a protected file that holds this one. Raises StartupError for a short passphrase."""
    salt = os.urandom(_SALT)
    with wiped(_key(check_passphrase(passphrase), salt, _N)) as key:
        sealed = cose.encrypt0(json.dumps(document).encode(), key, _NONCE, _context(agency, salt, _N))
    return {
        "format": FORMAT,
        "version": VERSION,
        "agency": agency,
        "scrypt": {"salt": encode(salt), "n": _N, "r": _R, "p": _P},
        "sealed": encode(sealed),
    }


def is_protected(document: Any) -> bool:
    """Whether this is the document of a protected file."""
    return isinstance(document, dict) and document.get("format") == FORMAT


def reveal(document: Mapping[str, Any], passphrase: Secret, agency: AgencyId) -> Any:
    """The document inside. Raises OpenFailed for another passphrase or an altered file, else ValueError."""
    costs = document.get("scrypt")
    if document.keys() != {"format", "version", "agency", "scrypt", "sealed"} or not isinstance(costs, dict):
        raise ValueError("not a protected key file")
    if (document["version"], document["agency"]) != (VERSION, agency):
        raise ValueError("not a protected key file of this agency")
    n = costs.get("n")
    # Before any work: the file may be hostile, and memory is what scrypt spends.
    if type(n) is not int or not _LEAST <= n <= _MOST or n.bit_count() != 1:
        raise ValueError("not a cost that is taken here")
    salt = decode(costs.get("salt"))
    if len(salt) != _SALT or costs != {"salt": costs["salt"], "n": n, "r": _R, "p": _P}:
        raise ValueError("not a cost that is taken here")
    with wiped(_key(passphrase, salt, n)) as key:
        return json.loads(cose.decrypt0(decode(document["sealed"]), key, _NONCE, _context(agency, salt, n)))


def _key(passphrase: Secret, salt: bytes, n: int) -> bytearray:
    key = bytearray(cose.KEY_LENGTH)
    Scrypt(salt=salt, length=len(key), n=n, r=_R, p=_P).derive_into(passphrase, key)
    return key


def _context(agency: AgencyId, salt: bytes, n: int) -> bytes:
    return KEY_FILE_CONTEXT + b"\0" + cbor.encode([VERSION, str(agency), salt, n, _R, _P])
