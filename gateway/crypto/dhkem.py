"""Opening HPKE-7-KE with a private key that stays in a token: only the Diffie-Hellman step needs it.

`cryptography` does HPKE with keys in memory alone. Here are the receiver's steps of RFC 9180, base mode, for
DHKEM(P-256, HKDF-SHA256), HKDF-SHA256 and AES-256-GCM, on its primitives; sealing needs no private key and
stays with the library.
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from gateway.crypto.keys import OpenFailed

Exchange = Callable[[bytes], bytes]
"""ECDH of the private key with a public one (uncompressed point, 65 bytes): the x coordinate, 32 bytes."""

_POINT = 65
_VERSION = b"HPKE-v1"
_MODE_BASE = b"\x00"
_KEM = b"KEM\x00\x10"
"""suite_id of the KEM: RFC 9180 section 4.1, with DHKEM(P-256, HKDF-SHA256) = 0x0010 of section 7.1."""
_HPKE = b"HPKE\x00\x10\x00\x01\x00\x02"
"""suite_id: section 5.1, with HKDF-SHA256 = 0x0001 and AES-256-GCM = 0x0002."""
_KEY_LENGTH, _NONCE_LENGTH, _SECRET_LENGTH = 32, 12, 32


def open_single(exchange: Exchange, public: bytes, enc: bytes, sealed: bytes, info: bytes) -> bytes:
    """SetupBaseR and ContextR.Open with an empty aad, once (RFC 9180 section 6.1).

    `public` is the recipient's own point. Raises OpenFailed, and what `exchange` raises.
    """
    key, nonce = schedule(exchange, public, enc, info)
    try:
        return AESGCM(key).decrypt(nonce, sealed, b"")
    except (InvalidTag, ValueError):
        raise OpenFailed from None


def schedule(exchange: Exchange, public: bytes, enc: bytes, info: bytes) -> tuple[bytes, bytes]:
    """SetupBaseR: the key, and the nonce of the first message.

    Raises OpenFailed, and what `exchange` raises.
    """
    if len(enc) != _POINT:
        raise OpenFailed
    try:
        # An invalid point is refused here, before the token sees it (section 7.1.4).
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), enc)
    except ValueError:
        raise OpenFailed from None
    return _key_schedule(_decap(exchange(enc), enc, public), info)


def _decap(shared: bytes, enc: bytes, public: bytes) -> bytes:
    """Decap without its Diffie-Hellman: section 4.1."""
    secret = _labeled_extract(_KEM, b"", b"eae_prk", shared)
    return _labeled_expand(_KEM, secret, b"shared_secret", enc + public, _SECRET_LENGTH)


def _key_schedule(shared_secret: bytes, info: bytes) -> tuple[bytes, bytes]:
    """KeyScheduleR of mode_base: section 5.1."""
    context = (
        _MODE_BASE
        + _labeled_extract(_HPKE, b"", b"psk_id_hash", b"")
        + _labeled_extract(_HPKE, b"", b"info_hash", info)
    )
    secret = _labeled_extract(_HPKE, shared_secret, b"secret", b"")
    key = _labeled_expand(_HPKE, secret, b"key", context, _KEY_LENGTH)
    return key, _labeled_expand(_HPKE, secret, b"base_nonce", context, _NONCE_LENGTH)


def _labeled_extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return HKDF.extract(SHA256(), salt or None, _VERSION + suite + label + ikm)


def _labeled_expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    labeled = length.to_bytes(2, "big") + _VERSION + suite + label + info
    return HKDFExpand(SHA256(), length, labeled).derive(prk)
