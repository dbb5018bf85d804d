"""Keys: what is made again from its secret is the same key, and nothing prints a secret."""

from __future__ import annotations

import hashlib

import pytest

from gateway.crypto import cbor
from gateway.crypto.keys import OpenFailed, OpeningKey, SealingKey, SigningKey, VerifyKey
from gateway.crypto.labels import DEFAULT_SUITE, SUITES

BOTH = pytest.mark.parametrize("suite", sorted(SUITES))


def test_the_default_is_the_hybrid_suite() -> None:
    assert OpeningKey.generate().suite == DEFAULT_SUITE == "HPKE-9-KE"


def test_signing() -> None:
    key = SigningKey.generate()
    signature = key.sign(b"data")
    assert key.public.verify(signature, b"data")
    assert not key.public.verify(signature, b"date")
    assert not key.public.verify(signature[:-1], b"data")
    assert not SigningKey.generate().public.verify(signature, b"data")


def test_ed25519_is_that_of_rfc_8032() -> None:
    # RFC 8032 section 7.1, test 2.
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    key = SigningKey.from_seed(seed)
    assert key.public.public_bytes.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert key.sign(b"\x72").hex().startswith("92a009a9f0d4cab8720e820b5f642540")


def test_a_signing_key_comes_back_from_its_seed() -> None:
    key = SigningKey.generate()
    again = SigningKey.from_seed(key.seed)
    assert (again.kid, again.seed) == (key.kid, key.seed)
    assert VerifyKey.from_public(key.public.public_bytes).kid == key.kid


@BOTH
def test_an_opening_key_comes_back_from_its_secret(suite: str) -> None:
    key = OpeningKey.generate(suite)
    again = OpeningKey.from_secret(suite, key.secret)
    public = SealingKey.from_public(suite, key.public.public_bytes)
    assert again.kid == key.kid == public.kid
    assert again.open(*public.seal(b"k" * 32, b"info"), b"info") == b"k" * 32


@BOTH
def test_only_the_right_key_and_info_open(suite: str) -> None:
    key = OpeningKey.generate(suite)
    enc, sealed = key.public.seal(b"k" * 32, b"info")
    for wrong in (
        lambda: OpeningKey.generate(suite).open(enc, sealed, b"info"),
        lambda: key.open(enc, sealed, b"other"),
        lambda: key.open(enc, sealed[:-1] + bytes([sealed[-1] ^ 1]), b"info"),
        lambda: key.open(bytes(len(enc)), sealed, b"info"),
        lambda: key.open(enc[:-1], sealed, b"info"),
        lambda: key.open(enc + sealed[:1], sealed[1:], b"info"),
    ):
        with pytest.raises(OpenFailed):
            wrong()


def test_key_ids_are_thumbprints_of_the_required_fields() -> None:
    signing, p256 = SigningKey.generate().public, OpeningKey.generate("HPKE-7-KE").public
    hybrid = OpeningKey.generate("HPKE-9-KE").public
    point = p256.public_bytes
    for key, fields in (
        (signing, {1: 1, -1: 6, -2: signing.public_bytes}),
        (p256, {1: 2, -1: 1, -2: point[1:33], -3: point[33:]}),
        (hybrid, {1: 7, 3: 57, -1: hybrid.public_bytes}),
    ):
        assert key.kid == hashlib.sha256(cbor.encode(fields)).digest()


@pytest.mark.parametrize(
    ("suite", "data"),
    [
        ("HPKE-9-KE", b""),
        ("HPKE-9-KE", bytes(1215)),
        ("HPKE-9-KE", b"\xff" * 1216),
        ("HPKE-7-KE", bytes(65)),
        ("HPKE-7-KE", b"\4" + b"\1" * 64),
        ("HPKE-7-KE", b"\2" + bytes(32)),
        ("HPKE-0-KE", bytes(65)),
    ],
)
def test_a_public_key_that_is_none_is_refused(suite: str, data: bytes) -> None:
    with pytest.raises(ValueError):
        SealingKey.from_public(suite, data)


@pytest.mark.parametrize(
    ("suite", "secret"),
    [("HPKE-9-KE", bytes(31)), ("HPKE-7-KE", bytes(32)), ("HPKE-7-KE", b"\xff" * 32), ("x", bytes(32))],
)
def test_a_secret_that_is_none_is_refused(suite: str, secret: bytes) -> None:
    with pytest.raises(ValueError):
        OpeningKey(suite, secret)


def test_secrets_are_not_printed() -> None:
    signing = SigningKey.generate()
    opening = [OpeningKey.generate(suite) for suite in SUITES]
    secrets = {signing: signing.seed} | {one: one.secret for one in opening}
    for key, secret in secrets.items():
        for shown in (repr(key), str(key), f"{key}", repr([key])):
            assert secret.hex() not in shown
            assert repr(secret) not in shown
            assert key.kid.hex()[:16] in shown
