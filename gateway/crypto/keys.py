"""Keys: signing (Ed25519) and opening (HPKE), private and public, each known by its thumbprint.

Objects hold keys ready for use, so that nothing is parsed on the hot path. Private ones print nothing.
"""

from __future__ import annotations

import hashlib
import os

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
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


class OpenFailed(Exception):
    """HPKE decryption failed: not sealed to this key, or altered."""


def _thumbprint(key: dict[int, object]) -> bytes:
    """COSE Key Thumbprint with SHA-256 (RFC 9679 section 3): the hash of the required fields only.

    The parameters -1, -2 and -3 are those of the key type (docs/envelope.md 9.2).
    """
    return hashlib.sha256(cbor.encode(key)).digest()


class VerifyKey:
    """A public Ed25519 key (RFC 8032)."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key
        self.public_bytes = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.kid = _thumbprint({KTY: OKP, -1: CRV_ED25519, -2: self.public_bytes})

    @classmethod
    def from_public(cls, data: bytes) -> VerifyKey:
        """From 32 bytes. Raises ValueError."""
        return cls(Ed25519PublicKey.from_public_bytes(data))

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Whether the signature is this key's over this data."""
        try:
            self._key.verify(signature, data)
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """A private Ed25519 key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = VerifyKey(key.public_key())
        self.kid = self.public.kid

    @classmethod
    def generate(cls) -> SigningKey:
        """A new key from the system's random source."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> SigningKey:
        """From its 32-byte seed. Raises ValueError."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @property
    def seed(self) -> bytes:
        """The secret itself, for the key store only."""
        return self._key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())

    def sign(self, data: bytes) -> bytes:
        """64 bytes."""
        return self._key.sign(data)

    def __repr__(self) -> str:
        return f"SigningKey(kid={self.kid.hex()[:16]})"


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
            self.kid = _thumbprint({KTY: EC2, -1: CRV_P256, -2: public[1:33], -3: public[33:]})

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
                x25519.X25519PublicKey.from_public_bytes(data[_MLKEM_PUBLIC:]),
            )
            return cls(suite, hybrid, data)
        if suite == SUITE_P256:
            if len(data) != _ENC_LENGTH[SUITE_P256]:
                raise ValueError("a P-256 public key is an uncompressed point of 65 bytes")
            return cls(suite, ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), data), data)
        raise ValueError("unknown suite")

    def seal(self, content_key: bytes, info: bytes) -> tuple[bytes, bytes]:
        """HPKE single-shot (RFC 9180 section 6.1): the encapsulated key, and the sealed content key."""
        sealed = _SUITES[self.suite].encrypt(content_key, self._key, info)
        cut = _ENC_LENGTH[self.suite]
        return sealed[:cut], sealed[cut:]


class OpeningKey:
    """A private HPKE key."""

    def __init__(self, suite: str, secret: bytes) -> None:
        """From its secret: the 32-byte seed of the hybrid key, or the P-256 scalar. Raises ValueError."""
        self.suite = suite
        self.secret = secret
        if len(secret) != 32:
            raise ValueError("a private key has 32 bytes")
        if suite == SUITE_HYBRID:
            self._key, public = _hybrid(secret)
        elif suite == SUITE_P256:
            self._key = ec.derive_private_key(int.from_bytes(secret, "big"), ec.SECP256R1())
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
