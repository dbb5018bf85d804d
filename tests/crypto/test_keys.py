"""Keys: what is made again from its secret is the same key, and nothing prints a secret."""

from __future__ import annotations

import hashlib

import pytest

from gateway.crypto import cbor, governance
from gateway.crypto.keys import OpenFailed, OpeningKey, SealingKey, SigningKey, VerifyKey
from gateway.crypto.labels import DEFAULT_SUITE, SIGNING_SUITES, SUITES
from gateway.errors import StartupError

BOTH_SIGNING = pytest.mark.parametrize("suite", sorted(SIGNING_SUITES))
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of P-256's base point: SEC 2 section 2.4.2."""
BOTH = pytest.mark.parametrize("suite", sorted(SUITES))


def test_the_default_is_the_hybrid_suite() -> None:
    assert OpeningKey.generate().suite == DEFAULT_SUITE == "HPKE-9-KE"


@BOTH_SIGNING
def test_signing(suite: str) -> None:
    key = SigningKey.generate(suite)
    assert (key.public.suite, key.alg, key.public.alg) == (suite, SIGNING_SUITES[suite], key.alg)
    signature = key.sign(b"data")
    assert len(signature) == 64
    assert key.public.verify(signature, b"data")
    assert not key.public.verify(signature, b"date")
    for wrong in (b"", signature[:-1], signature + b"\0", bytes(64), b"\xff" * 64):
        assert not key.public.verify(wrong, b"data")
    for other in SIGNING_SUITES:
        assert not SigningKey.generate(other).public.verify(signature, b"data")


def test_p256_signatures_are_those_of_rfc_6979() -> None:
    # RFC 6979 appendix A.2.5, SHA-256, message "sample".
    key = SigningKey.from_seed(
        bytes.fromhex("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721"), "ESP256"
    )
    assert key.public.public_bytes.hex().upper() == (
        "0460FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6"
        "7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299"
    )
    assert key.sign(b"sample").hex().upper() == (
        "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716"
        "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8"
    )


def test_numbers_of_a_p256_signature_are_below_the_order() -> None:
    key = SigningKey.generate("ESP256")
    signature = key.sign(b"data")
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    for one, other in ((0, s), (r, 0), (r + ORDER, s), (r, s + ORDER)):
        if max(one, other) < 1 << 256:
            assert not key.public.verify(one.to_bytes(32, "big") + other.to_bytes(32, "big"), b"data")


def test_ed25519_is_that_of_rfc_8032() -> None:
    # RFC 8032 section 7.1, test 2.
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    key = SigningKey.from_seed(seed)
    assert key.public.public_bytes.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert key.sign(b"\x72").hex().startswith("92a009a9f0d4cab8720e820b5f642540")


@BOTH_SIGNING
def test_a_signing_key_comes_back_from_its_seed(suite: str) -> None:
    key = SigningKey.generate(suite)
    again = SigningKey.from_seed(key.seed, suite)
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
    signing, signing_p256 = SigningKey.generate().public, SigningKey.generate("ESP256").public
    p256 = OpeningKey.generate("HPKE-7-KE").public
    hybrid = OpeningKey.generate("HPKE-9-KE").public
    point, signing_point = p256.public_bytes, signing_p256.public_bytes
    for key, fields in (
        (signing, {1: 1, -1: 6, -2: signing.public_bytes}),
        (p256, {1: 2, -1: 1, -2: point[1:33], -3: point[33:]}),
        (signing_p256, {1: 2, -1: 1, -2: signing_point[1:33], -3: signing_point[33:]}),
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
    "data",
    [b"", bytes(31), bytes(33), bytes(65), b"\4" + b"\1" * 64, b"\4" + b"\xff" * 64],
    ids=["empty", "31 bytes", "33 bytes", "no point", "off the curve", "above the field"],
)
def test_a_public_signing_key_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        VerifyKey.from_public(data)


P = 2**255 - 19
EIGHTH = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD83D3D706A17C7


@pytest.mark.parametrize("sign", [0, 1 << 255])
@pytest.mark.parametrize("y", [0, 1, P - 1, EIGHTH, P - EIGHTH, P, P + 1, P + 3, 2**255 - 1])
def test_a_key_under_which_nobodys_signatures_verify_is_none(y: int, sign: int) -> None:
    """Points of small order (RFC 8032 section 8.9 leaves them to us), and other encodings of points."""
    public = (y | sign).to_bytes(32, "little")
    with pytest.raises(ValueError, match="of anybody"):
        VerifyKey.from_public(public)
    with pytest.raises(StartupError):
        governance.public_key(public)


@pytest.mark.parametrize(
    "point",
    [
        *(number.to_bytes(32, "little") for number in (0, 1, P - 1, P, P + 1)),
        bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
        bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    ],
)
def test_a_key_with_which_everybody_agrees_on_zero_is_none(point: bytes) -> None:
    public = OpeningKey.generate("HPKE-9-KE").public.public_bytes
    SealingKey.from_public("HPKE-9-KE", public)
    with pytest.raises(ValueError, match="shared key"):
        SealingKey.from_public("HPKE-9-KE", public[:-32] + point)


def test_a_point_has_one_form() -> None:
    point = SigningKey.generate("ESP256").public.public_bytes
    compressed = bytes([2 + (point[-1] & 1)]) + point[1:33]
    hybrid = bytes([6 + (point[-1] & 1)]) + point[1:]
    for form in (compressed, hybrid):
        with pytest.raises(ValueError):
            VerifyKey.from_public(form)
        with pytest.raises(ValueError):
            SealingKey.from_public("HPKE-7-KE", form)


@pytest.mark.parametrize(
    ("suite", "secret"),
    [("Ed25519", bytes(31)), ("ESP256", bytes(32)), ("ESP256", b"\1" * 31), ("x", bytes(32))],
)
def test_a_signing_secret_that_is_none_is_refused(suite: str, secret: bytes) -> None:
    with pytest.raises(ValueError):
        SigningKey.from_seed(secret, suite)


@pytest.mark.parametrize(
    ("suite", "secret"),
    [("HPKE-9-KE", bytes(31)), ("HPKE-7-KE", bytes(32)), ("HPKE-7-KE", b"\xff" * 32), ("x", bytes(32))],
)
def test_a_secret_that_is_none_is_refused(suite: str, secret: bytes) -> None:
    with pytest.raises(ValueError):
        OpeningKey(suite, secret)


def test_secrets_are_not_printed() -> None:
    signing = [SigningKey.generate(suite) for suite in SIGNING_SUITES]
    opening = [OpeningKey.generate(suite) for suite in SUITES]
    secrets: list[tuple[SigningKey | OpeningKey, bytes]] = [
        *((one, one.seed) for one in signing),
        *((one, one.secret) for one in opening),
    ]
    for key, secret in secrets:
        for shown in (repr(key), str(key), f"{key}", repr([key])):
            assert secret.hex() not in shown
            assert repr(secret) not in shown
            assert key.kid.hex()[:16] in shown
