"""HPKE with a private key that is elsewhere: the same as the library's, and as RFC 9180's vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cryptography_vectors
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from gateway.crypto import dhkem
from gateway.crypto.keys import OpenFailed, OpeningKey

KEY = OpeningKey.generate("HPKE-7-KE")


def exchange_of(secret: bytes) -> dhkem.Exchange:
    """As a token does it."""
    private = ec.derive_private_key(int.from_bytes(secret, "big"), ec.SECP256R1())
    curve = ec.SECP256R1()
    return lambda point: private.exchange(
        ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(curve, point)
    )


def the_vector() -> dict[str, Any]:
    """RFC 9180's for base mode, DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM."""
    name = Path(cryptography_vectors.__file__).parent / "HPKE" / "test-vectors.json"
    suite = {"mode": 0, "kem_id": 16, "kdf_id": 1, "aead_id": 2}
    [found] = [one for one in json.loads(name.read_text()) if suite.items() <= one.items()]
    assert isinstance(found, dict)
    return found


def test_the_published_vector() -> None:
    vector = {
        name: bytes.fromhex(value) if isinstance(value, str) else value
        for name, value in the_vector().items()
    }
    made = dhkem.schedule(exchange_of(vector["skRm"]), vector["pkRm"], vector["enc"], vector["info"])
    assert made == (vector["key"], vector["base_nonce"])


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_what_the_library_seals_opens(content: bytes, info: bytes) -> None:
    enc, sealed = KEY.public.seal(content, info)
    exchange = exchange_of(KEY.secret)
    assert dhkem.open_single(exchange, KEY.public.public_bytes, enc, sealed, info) == content
    with pytest.raises(OpenFailed):
        dhkem.open_single(exchange, KEY.public.public_bytes, enc, sealed, info + b"x")


def test_no_bad_point_reaches_the_token() -> None:
    def token(point: bytes) -> bytes:
        raise AssertionError("asked")

    enc, sealed = KEY.public.seal(bytes(32), b"")
    off_curve = enc[:-1] + bytes([enc[-1] ^ 1])
    compressed = bytes([2 + (enc[-1] & 1)]) + enc[1:33]
    for bad in (b"", enc[:-1], enc + b"\0", off_curve, compressed, bytes(65), b"\x04" + bytes(64)):
        with pytest.raises(OpenFailed):
            dhkem.open_single(token, KEY.public.public_bytes, bad, sealed, b"")
