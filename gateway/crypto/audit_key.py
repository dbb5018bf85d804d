"""The post-quantum half of an agency's signature on audit checkpoints: ML-DSA-65 (FIPS 204).

Its 32-byte seed is derived (HKDF-SHA256, RFC 5869) from the secret that the agency's key file holds for its
own use. So it lives where the other private keys live, every process of a node has the same one, and nodes
made before there was an audit log have it too.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.crypto.labels import AUDIT_KEY_CONTEXT

SEED_LENGTH = 32
PUBLIC_LENGTH = 1952
"""Bytes of a public key: FIPS 204 table 2."""


class AuditVerifyKey:
    """A public ML-DSA-65 key."""

    def __init__(self, key: MLDSA65PublicKey) -> None:
        self._key = key
        self.public_bytes = key.public_bytes_raw()

    @classmethod
    def from_public(cls, data: bytes) -> AuditVerifyKey:
        """From 1,952 bytes. Raises ValueError."""
        if len(data) != PUBLIC_LENGTH:
            raise ValueError("a public ML-DSA-65 key has 1952 bytes")
        return cls(MLDSA65PublicKey.from_public_bytes(data))

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Whether the signature is this key's over this data."""
        try:
            self._key.verify(signature, data)
        except (InvalidSignature, ValueError):
            return False
        return True


class AuditKey:
    """A private ML-DSA-65 key."""

    def __init__(self, secret: bytes) -> None:
        """Derive it from the agency's own secret."""
        seed = HKDF(SHA256(), SEED_LENGTH, salt=None, info=AUDIT_KEY_CONTEXT).derive(secret)
        self._key = MLDSA65PrivateKey.from_seed_bytes(seed)
        self.public = AuditVerifyKey(self._key.public_key())

    def sign(self, data: bytes) -> bytes:
        """3,309 bytes."""
        return self._key.sign(data)

    def __repr__(self) -> str:
        return "AuditKey()"
