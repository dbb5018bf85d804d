"""A second implementation of opening, written from docs/envelope.md and docs/receipts.md alone.

It shares no code with `gateway.crypto` and does not use `cryptography`'s HPKE: the KEMs and key schedules
are put together here from primitives (RFC 9180, draft-ietf-hpke-pq), so that ours is checked against the
specifications and not against itself. It is lenient where strictness is not what is being shown.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import XOFHash
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


class Refused(Exception):
    """The envelope or receipt does not hold."""


def open_envelope(
    data: bytes, suite: str, secret: bytes, sender_public: bytes
) -> tuple[dict[int, Any], bytes, list[Any]]:
    """The signed header, the content and the routing facts. Raises Refused or InvalidTag."""
    message = cbor2.loads(data)
    if message.tag != 96:
        raise Refused
    protected, unprotected, ciphertext, [[recipient_protected, recipient_unprotected, sealed_key]] = (
        message.value
    )
    alg = {"HPKE-9-KE": 57, "HPKE-7-KE": 53}[suite]
    if cbor2.loads(recipient_protected)[1] != alg or cbor2.loads(protected)[1] != 3:
        raise Refused
    info = cbor2.dumps(["HPKE Recipient", 3, recipient_protected, b""])
    content_key = HPKE[suite](secret, recipient_unprotected[-4], info, sealed_key)
    aad = cbor2.dumps(["Encrypt", protected, b""])
    padded = AESGCM(content_key).decrypt(unprotected[5], ciphertext, aad)
    signed = padded.rstrip(b"\0")
    if signed[-1:] != b"\x80":
        raise Refused
    payload = cbor2.loads(verify(signed[:-1], sender_public, b"referral-gateway envelope v1"))
    return payload[1], payload[2], cbor2.loads(protected)["rg"]


def verify(data: bytes, public: bytes, context: bytes) -> bytes:
    """The payload of a COSE_Sign1 made with this key in this context. Raises Refused."""
    message = cbor2.loads(data)
    protected, unprotected, payload, signature = message.value
    p256 = len(public) == 65
    cose_key = {1: 2, -1: 1, -2: public[1:33], -3: public[33:]} if p256 else {1: 1, -1: 6, -2: public}
    header = {1: -9 if p256 else -19, 4: hashlib.sha256(cbor2.dumps(cose_key)).digest()}
    if message.tag != 18 or unprotected != {} or cbor2.loads(protected) != header or len(signature) != 64:
        raise Refused
    signed = cbor2.dumps(["Signature1", protected, context, payload])
    try:
        if p256:
            numbers = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
            point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
            point.verify(encode_dss_signature(*numbers), signed, ec.ECDSA(hashes.SHA256()))
        else:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, signed)
    except InvalidSignature:
        raise Refused from None
    return payload


def open_chunk(key: bytes, index: int, last: bool, chunk_id: bytes, data: bytes) -> bytes:
    """The plaintext of one sealed chunk. Raises InvalidTag."""
    protected, _, ciphertext = cbor2.loads(data).value
    aad = cbor2.dumps(["Encrypt0", protected, b"referral-gateway chunk v1\0" + chunk_id])
    padded = AESGCM(key).decrypt(index.to_bytes(11, "big") + bytes([last]), ciphertext, aad)
    return padded.rstrip(b"\0")[:-1]


def hybrid_open(seed: bytes, enc: bytes, info: bytes, sealed: bytes) -> bytes:
    """MLKEM768-X25519 (0x647a), SHAKE256 (0x0011), AES-256-GCM (0x0002)."""
    xof = XOFHash(hashes.SHAKE256(digest_size=96))
    xof.update(seed)
    expanded = xof.squeeze(96)
    kem = mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
    dh = x25519.X25519PrivateKey.from_private_bytes(expanded[64:])
    kem_ciphertext, share = enc[:1088], enc[1088:]
    shared_secret = hashlib.sha3_256(
        kem.decapsulate(kem_ciphertext)
        + dh.exchange(x25519.X25519PublicKey.from_public_bytes(share))
        + share
        + dh.public_key().public_bytes_raw()
        + b"\\.//^\\"
    ).digest()
    suite_id = b"HPKE" + bytes.fromhex("647a00110002")

    def prefixed(value: bytes) -> bytes:
        return len(value).to_bytes(2, "big") + value

    # One-stage key schedule: base mode, no pre-shared key.
    length = 32 + 12 + 64
    context = b"\0" + prefixed(b"") + prefixed(info)
    secrets = prefixed(b"") + prefixed(shared_secret)
    labeled = secrets + b"HPKE-v1" + suite_id + prefixed(b"secret") + length.to_bytes(2, "big") + context
    derived = hashlib.shake_256(labeled).digest(length)
    return AESGCM(derived[:32]).decrypt(derived[32:44], sealed, b"")


def p256_open(secret: bytes, enc: bytes, info: bytes, sealed: bytes) -> bytes:
    """DHKEM(P-256, HKDF-SHA256) (0x0010), HKDF-SHA256 (0x0001), AES-256-GCM (0x0002): RFC 9180."""
    private = ec.derive_private_key(int.from_bytes(secret, "big"), ec.SECP256R1())
    public = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    shared = private.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), enc))
    kem_id, suite_id = b"KEM\x00\x10", b"HPKE" + bytes.fromhex("001000010002")

    def extract(salt: bytes, suite: bytes, label: bytes, ikm: bytes) -> bytes:
        return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, "sha256")

    def expand(key: bytes, suite: bytes, label: bytes, context: bytes, length: int) -> bytes:
        labeled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + context
        return hmac.digest(key, labeled + b"\1", "sha256")[:length]

    eae_prk = extract(b"", kem_id, b"eae_prk", shared)
    shared_secret = expand(eae_prk, kem_id, b"shared_secret", enc + public, 32)
    context = b"\0" + extract(b"", suite_id, b"psk_id_hash", b"") + extract(b"", suite_id, b"info_hash", info)
    secret = extract(shared_secret, suite_id, b"secret", b"")
    key = expand(secret, suite_id, b"key", context, 32)
    nonce = expand(secret, suite_id, b"base_nonce", context, 12)
    return AESGCM(key).decrypt(nonce, sealed, b"")


HPKE = {"HPKE-9-KE": hybrid_open, "HPKE-7-KE": p256_open}
