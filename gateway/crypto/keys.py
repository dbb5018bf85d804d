"""Keys: signing (Ed25519, ECDSA P-256) and opening (HPKE), private and public, known by their thumbprints.

Objects hold keys ready for use, so that nothing is parsed on the hot path. Private ones print nothing.
"""

from __future__ import annotations

import hashlib
import os
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import XOFHash
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from gateway.crypto import cbor
from gateway.crypto.labels import (
    AKP,
    CRV_ED25519,
    CRV_P256,
    DEFAULT_SUITE,
    EC2,
    KEY_ALG,
    KTY,
    OKP,
    SIGNING_SUITES,
    SUITE_ED25519,
    SUITE_ESP256,
    SUITE_HYBRID,
    SUITE_P256,
    SUITES,
)

_SUITES = {
    SUITE_HYBRID: Suite(KEM.MLKEM768_X25519, KDF.SHAKE256, AEAD.AES_256_GCM),
    SUITE_P256: Suite(KEM.P256, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
}
_ENC_LENGTH = {SUITE_HYBRID: 1120, SUITE_P256: 65}
"""Bytes of the encapsulated key: ML-KEM-768 ciphertext and X25519 share; an uncompressed point."""
_MLKEM_PUBLIC = 1184
_POINT = 65
"""Bytes of an uncompressed P-256 point (SEC 1 section 2.3.3)."""
_P: Final = 2**255 - 19
_EIGHTH: Final = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD83D3D706A17C7
_SMALL_ORDER: Final = frozenset({0, 1, _P - 1, _EIGHTH, _P - _EIGHTH})
"""The y of Edwards25519's points of order 1, 2, 4 and 8."""
SIGNATURE_LENGTH: Final = 64
"""Bytes of a signature, of either kind."""


class OpenFailed(Exception):
    """HPKE decryption failed: not sealed to this key, or altered."""


def _thumbprint(key: dict[int, object]) -> bytes:
    """COSE Key Thumbprint with SHA-256 (RFC 9679 section 3): the hash of the required fields only.

    The parameters -1, -2 and -3 are those of the key type (docs/envelope.md 9.2).
    """
    return hashlib.sha256(cbor.encode(key)).digest()


def _p256_thumbprint(point: bytes) -> bytes:
    return _thumbprint({KTY: EC2, -1: CRV_P256, -2: point[1:33], -3: point[33:]})


def _point(data: bytes) -> ec.EllipticCurvePublicKey:
    """From an uncompressed point. Raises ValueError for any other form: one key has one encoding."""
    if len(data) != _POINT or data[0] != 4:
        raise ValueError("a P-256 public key is an uncompressed point of 65 bytes")
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), data)


def edwards(data: bytes) -> Ed25519PublicKey:
    """An Ed25519 public key from 32 bytes. Raises ValueError.

    Also for a point of small order, under which signatures verify that nobody made, and for a y that is not
    reduced: one key has one encoding.
    """
    y = int.from_bytes(data, "little") & ((1 << 255) - 1)
    if y >= _P or y in _SMALL_ORDER:
        raise ValueError("not the public key of anybody")
    return Ed25519PublicKey.from_public_bytes(data)


def _montgomery(data: bytes) -> x25519.X25519PublicKey:
    """An X25519 public key from 32 bytes. Raises ValueError, also for a point that agrees on nothing."""
    key = x25519.X25519PublicKey.from_public_bytes(data)
    # With one of small order the shared secret is zero whatever the private key is: sealing would fail.
    x25519.X25519PrivateKey.from_private_bytes(bytes(32)).exchange(key)
    return key


def _scalar(secret: bytes) -> ec.EllipticCurvePrivateKey:
    """From 32 bytes. Raises ValueError."""
    if len(secret) != 32:
        raise ValueError("a private key has 32 bytes")
    return ec.derive_private_key(int.from_bytes(secret, "big"), ec.SECP256R1())


class Signer(Protocol):
    """A private signing key, wherever it lives: all that signing asks of one."""

    @property
    def kid(self) -> bytes:
        """Its id: the thumbprint of its public half."""
        ...

    @property
    def alg(self) -> int:
        """Its COSE algorithm."""
        ...

    @property
    def public(self) -> VerifyKey:
        """Its public half."""
        ...

    def sign(self, data: bytes) -> bytes:
        """64 bytes, in the form that VerifyKey.verify takes."""
        ...


class Opener(Protocol):
    """A private HPKE key, wherever it lives: all that opening asks of one."""

    @property
    def suite(self) -> str:
        """The suite it is for, such as HPKE-9-KE."""
        ...

    @property
    def kid(self) -> bytes:
        """Its id: the thumbprint of its public half."""
        ...

    @property
    def public(self) -> SealingKey:
        """Its public half."""
        ...

    def open(self, enc: bytes, sealed: bytes, info: bytes) -> bytes:
        """The content key. Raises OpenFailed."""
        ...


class VerifyKey:
    """A public signing key: Ed25519 (RFC 8032), or ECDSA with P-256 and SHA-256 (FIPS 186-5)."""

    def __init__(self, key: Ed25519PublicKey | ec.EllipticCurvePublicKey, ends: int | None = None) -> None:
        """`ends`: milliseconds, see `ended`. Raises ValueError for another curve than P-256."""
        self._key = key
        self._ends = ends
        if isinstance(key, Ed25519PublicKey):
            self.suite = SUITE_ED25519
            self.public_bytes = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
            self.kid = _thumbprint({KTY: OKP, -1: CRV_ED25519, -2: self.public_bytes})
        else:
            if not isinstance(key.curve, ec.SECP256R1):
                raise ValueError("not a key on P-256")  # noqa: TRY004 - what is wrong is a value
            self.suite = SUITE_ESP256
            self.public_bytes = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            self.kid = _p256_thumbprint(self.public_bytes)
        self.alg = SIGNING_SUITES[self.suite]

    @classmethod
    def from_public(cls, data: bytes, ends: int | None = None) -> VerifyKey:
        """From 32 bytes (Ed25519) or an uncompressed point of 65 (P-256): the length says which.

        Raises ValueError.
        """
        return cls(_point(data) if len(data) == _POINT else edwards(data), ends)

    def ended(self, at: int) -> bool:
        """Whether it signs nothing any more that says it was made then, in milliseconds.

        Of a key that was destroyed a copy may be about: whoever has it can only speak of the past.
        """
        return self._ends is not None and at >= self._ends

    @property
    def spki(self) -> bytes:
        """The key as a SubjectPublicKeyInfo in DER (RFC 5280 section 4.1)."""
        return self._key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Whether the signature, 64 bytes, is this key's over this data."""
        if len(signature) != SIGNATURE_LENGTH:
            return False
        try:
            if isinstance(self._key, Ed25519PublicKey):
                self._key.verify(signature, data)
            else:
                r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
                self._key.verify(encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """A private signing key in memory."""

    def __init__(self, key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> None:
        """Raises ValueError for another curve than P-256."""
        self._key = key
        self.public = VerifyKey(key.public_key())
        self.kid = self.public.kid
        self.alg = self.public.alg

    @classmethod
    def generate(cls, suite: str = SUITE_ED25519) -> SigningKey:
        """A new key from the system's random source. Raises ValueError for an unknown suite."""
        if suite == SUITE_ED25519:
            return cls(Ed25519PrivateKey.generate())
        if suite == SUITE_ESP256:
            return cls(ec.generate_private_key(ec.SECP256R1()))
        raise ValueError("unknown suite")

    @classmethod
    def from_seed(cls, seed: bytes, suite: str = SUITE_ED25519) -> SigningKey:
        """From its secret: the 32-byte seed of an Ed25519 key, or the P-256 scalar. Raises ValueError."""
        if suite == SUITE_ED25519:
            return cls(Ed25519PrivateKey.from_private_bytes(seed))
        if suite == SUITE_ESP256:
            return cls(_scalar(seed))
        raise ValueError("unknown suite")

    @property
    def seed(self) -> bytes:
        """The secret itself, for the key store only."""
        if isinstance(self._key, Ed25519PrivateKey):
            return self._key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        return self._key.private_numbers().private_value.to_bytes(32, "big")

    def sign(self, data: bytes) -> bytes:
        """64 bytes: as RFC 8032 has them, or r and s (RFC 9053 section 2.1)."""
        if isinstance(self._key, Ed25519PrivateKey):
            return self._key.sign(data)
        # The nonce comes from key and data (RFC 6979): a weak random source would give the key away.
        r, s = decode_dss_signature(
            self._key.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        )
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def __repr__(self) -> str:
        return f"SigningKey({self.public.suite}, kid={self.kid.hex()[:16]})"


class SealingKey:
    """A public HPKE key that content keys are sealed to."""

    def __init__(
        self, suite: str, key: MLKEM768X25519PublicKey | ec.EllipticCurvePublicKey, public: bytes
    ) -> None:
        self.suite = suite
        self.alg = SUITES[suite]
        self._key = key
        self.public_bytes = public
        if suite == SUITE_HYBRID:
            self.kid = _thumbprint({KTY: AKP, KEY_ALG: self.alg, -1: public})
        else:
            self.kid = _p256_thumbprint(public)

    @classmethod
    def from_public(cls, suite: str, data: bytes) -> SealingKey:
        """From its raw form: ML-KEM-768 key and X25519 key (1,216 bytes), or an uncompressed point (65).

        Raises ValueError.
        """
        if suite == SUITE_HYBRID:
            if len(data) != _MLKEM_PUBLIC + 32:
                raise ValueError("a hybrid public key has 1216 bytes")
            hybrid = MLKEM768X25519PublicKey(
                mlkem.MLKEM768PublicKey.from_public_bytes(data[:_MLKEM_PUBLIC]),
                _montgomery(data[_MLKEM_PUBLIC:]),
            )
            return cls(suite, hybrid, data)
        if suite == SUITE_P256:
            return cls(suite, _point(data), data)
        raise ValueError("unknown suite")

    def seal(self, content_key: bytes, info: bytes) -> tuple[bytes, bytes]:
        """HPKE single-shot (RFC 9180 section 6.1): the encapsulated key, and the sealed content key."""
        sealed = _SUITES[self.suite].encrypt(content_key, self._key, info)
        cut = _ENC_LENGTH[self.suite]
        return sealed[:cut], sealed[cut:]


class OpeningKey:
    """A private HPKE key in memory."""

    def __init__(self, suite: str, secret: bytes) -> None:
        """From its secret: the 32-byte seed of the hybrid key, or the P-256 scalar. Raises ValueError."""
        self.suite = suite
        self.secret = secret
        if len(secret) != 32:
            raise ValueError("a private key has 32 bytes")
        if suite == SUITE_HYBRID:
            self._key, public = _hybrid(secret)
        elif suite == SUITE_P256:
            self._key = _scalar(secret)
            public = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        else:
            raise ValueError("unknown suite")
        self.public = SealingKey.from_public(suite, public)
        self.kid = self.public.kid

    @classmethod
    def generate(cls, suite: str = DEFAULT_SUITE) -> OpeningKey:
        """A new key from the system's random source."""
        if suite == SUITE_P256:
            number = ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value
            return cls(suite, number.to_bytes(32, "big"))
        return cls(suite, os.urandom(32))

    @classmethod
    def from_secret(cls, suite: str, secret: bytes) -> OpeningKey:
        """The key with this secret. Raises ValueError."""
        return cls(suite, secret)

    def open(self, enc: bytes, sealed: bytes, info: bytes) -> bytes:
        """The content key. Raises OpenFailed."""
        if len(enc) != _ENC_LENGTH[self.suite]:
            raise OpenFailed
        try:
            return _SUITES[self.suite].decrypt(enc + sealed, self._key, info)
        except (InvalidTag, ValueError):
            raise OpenFailed from None

    def __repr__(self) -> str:
        return f"OpeningKey({self.suite}, kid={self.kid.hex()[:16]})"


_PrivateKey = MLKEM768X25519PrivateKey | ec.EllipticCurvePrivateKey


def _hybrid(seed: bytes) -> tuple[_PrivateKey, bytes]:
    """Expand the seed as draft-irtf-cfrg-hybrid-kems does: SHAKE256 to an ML-KEM and an X25519 seed."""
    xof = XOFHash(hashes.SHAKE256(digest_size=96))
    xof.update(seed)
    expanded = xof.squeeze(96)
    kem = mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
    dh = x25519.X25519PrivateKey.from_private_bytes(expanded[64:])
    public = kem.public_key().public_bytes_raw() + dh.public_key().public_bytes_raw()
    return MLKEM768X25519PrivateKey(kem, dh), public
