"""Known answers of others, from the package `cryptography-vectors`: NIST's, the RFCs', the drafts'.

Through our own keys where those offer what a vector asks, else through the primitive they are made of.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import metadata, resources
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from gateway.crypto import keys
from gateway.crypto.audit_key import AuditVerifyKey
from gateway.crypto.keys import OpeningKey, SigningKey, VerifyKey

SOME = 100
"""Taken of a file with a thousand answers."""


def text(*path: str) -> str:
    return resources.files("cryptography_vectors").joinpath(*path).read_text("utf-8")


def answers(source: str, first: str, *, limit: int = 1_000_000) -> Iterator[dict[str, str]]:
    """The blocks of a file of `name = value` lines, each beginning with the name `first`."""
    found: dict[str, str] = {}
    count = 0
    for line in source.splitlines():
        name, separator, value = line.partition(" =")
        if not separator:
            continue
        if name == first and found:
            yield found
            found, count = {}, count + 1
            if count == limit:
                return
        found[name] = value.strip()
    yield found


def section(source: str, name: str) -> str:
    """One part of a file of NIST's, between its heading and the next."""
    [found] = re.findall(rf"^\[{re.escape(name)}\]$(.*?)(?=^\[|\Z)", source, re.MULTILINE | re.DOTALL)
    return str(found)


def raw(one: dict[str, str], *names: str) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(one[name]) for name in names)


def number(one: dict[str, str], *names: str) -> bytes:
    """Numbers of P-256 beside each other, 32 bytes each."""
    return b"".join(int(one[name], 16).to_bytes(32, "big") for name in names)


def test_the_answers_are_those_of_our_cryptography() -> None:
    assert metadata.version("cryptography-vectors") == metadata.version("cryptography")


def hpke(file: str, kem: int, kdf: int, aead: int) -> dict[str, Any]:
    wanted = (0, kem, kdf, aead)
    listed = json.loads(text("HPKE", file))
    [found] = [one for one in listed if (one["mode"], one["kem_id"], one["kdf_id"], one["aead_id"]) == wanted]
    return {name: bytes.fromhex(value) if isinstance(value, str) else value for name, value in found.items()}


def test_hpke_of_rfc_9180_with_p256() -> None:
    """Its ciphertexts have an aad, ours none: so the answers looked at are the key and nonce it derives."""
    vector = hpke("test-vectors.json", 0x0010, 0x0001, 0x0002)
    key = OpeningKey("HPKE-7-KE", vector["skRm"])
    assert key.public.public_bytes == vector["pkRm"]
    sealed = AESGCM(vector["key"]).encrypt(vector["base_nonce"], b"content key", b"")
    assert key.open(vector["enc"], sealed, vector["info"]) == b"content key"


def test_hpke_of_the_post_quantum_draft_with_the_hybrid_kem() -> None:
    """Its vector with SHAKE256 is one with ChaCha20-Poly1305: our KEM and key schedule, another cipher."""
    vector = hpke("hpke-pq-test-vectors.json", 0x647A, 0x0011, 0x0003)
    assert OpeningKey("HPKE-9-KE", vector["skRm"]).public.public_bytes == vector["pkRm"]
    private, _ = keys._hybrid(vector["skRm"])
    sealed = ChaCha20Poly1305(vector["key"]).encrypt(vector["base_nonce"], b"content key", b"")
    suite = Suite(KEM.MLKEM768_X25519, KDF.SHAKE256, AEAD.CHACHA20_POLY1305)
    assert suite.decrypt(vector["enc"] + sealed, private, vector["info"]) == b"content key"


def test_ml_kem_768() -> None:
    found = list(answers(text("asymmetric", "MLKEM", "kat_MLKEM_768.rsp"), "count", limit=SOME))
    assert len(found) == SOME
    for one in found:
        z, d, public, ct, ss, wrong_ct, rejected = raw(one, "z", "d", "pk", "ct", "ss", "ct_n", "ss_n")
        key = MLKEM768PrivateKey.from_seed_bytes(d + z)
        assert key.public_key().public_bytes_raw() == public
        assert key.decapsulate(ct) == ss
        assert key.decapsulate(wrong_ct) == rejected


def test_ml_dsa_65() -> None:
    """With contexts, which ours has none of: so the signatures go through the primitive."""
    count = 0
    for one in answers(text("asymmetric", "MLDSA", "kat_MLDSA_65_det_pure.rsp"), "count"):
        xi, public, signed, message, context = raw(one, "xi", "pk", "sm", "msg", "ctx")
        assert MLDSA65PrivateKey.from_seed_bytes(xi).public_key().public_bytes_raw() == public
        ours = AuditVerifyKey.from_public(public)
        assert ours.public_bytes == public
        signature = signed[: -len(message)]
        MLDSA65PublicKey.from_public_bytes(public).verify(signature, message, context)
        assert not ours.verify(signature, message), "another context than ours"
        count += 1
    assert count == 100


def test_ed25519() -> None:
    lines = text("asymmetric", "Ed25519", "sign.input").splitlines()
    assert len(lines) == 1024
    for line in lines:
        secret, public, message, signed = (bytes.fromhex(part) for part in line.split(":")[:4])
        key = SigningKey.from_seed(secret[:32])
        assert key.public.public_bytes == public
        assert key.sign(message) == signed[:64]
        assert VerifyKey.from_public(public).verify(signed[:64], message)
        assert not VerifyKey.from_public(public).verify(signed[:64], message + b"\0")


@pytest.mark.parametrize("standard", ["FIPS_186-2", "FIPS_186-3"])
def test_public_keys_on_p256(standard: str) -> None:
    outcomes = []
    for one in answers(section(text("asymmetric", "ECDSA", standard, "PKV.rsp"), "P-256"), "Qx"):
        try:
            VerifyKey.from_public(b"\4" + number(one, "Qx", "Qy"))
            held = True
        except (ValueError, OverflowError):  # a coordinate of more than 32 bytes has no such form
            held = False
        assert held == one["Result"].startswith("P"), one["Result"]
        outcomes.append(held)
    assert len(outcomes) == 12
    assert set(outcomes) == {True, False}


@pytest.mark.parametrize("file", ["SigVer.rsp", "SigGen.txt"])
def test_ecdsa_on_p256_with_sha256(file: str) -> None:
    outcomes = []
    for one in answers(section(text("asymmetric", "ECDSA", "FIPS_186-3", file), "P-256,SHA-256"), "Msg"):
        key = VerifyKey.from_public(b"\4" + number(one, "Qx", "Qy"))
        held = key.verify(number(one, "R", "S"), bytes.fromhex(one["Msg"]))
        assert held == one.get("Result", "P").startswith("P")
        outcomes.append(held)
    assert len(outcomes) == 15
    assert True in outcomes


def test_deterministic_ecdsa_of_rfc_6979() -> None:
    source = text("asymmetric", "ECDSA", "RFC6979", "evppkey_ecdsa_rfc6979.txt")
    # The private key is RFC 6979's, appendix A.2.5; the file has it in PEM.
    secret = bytes.fromhex("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721")
    key = SigningKey.from_seed(secret, "ESP256")
    form = r'DigestSign = SHA256\nKey = P-256_PRIV\n.*\nInput = "(\w+)"\nOutput = ([0-9A-F]+)'
    found = re.findall(form, source)
    assert [message for message, _ in found] == ["sample", "test"]
    for message, der in found:
        r, s = decode_dss_signature(bytes.fromhex(der))
        assert key.sign(message.encode()) == r.to_bytes(32, "big") + s.to_bytes(32, "big")


def test_x25519() -> None:
    count = 0
    for one in answers(text("asymmetric", "X25519", "rfc7748.txt"), "COUNT"):
        if "INPUT_SCALAR" not in one:
            continue
        scalar, point, result = raw(one, "INPUT_SCALAR", "INPUT_U", "OUTPUT_U")
        assert (
            X25519PrivateKey.from_private_bytes(scalar).exchange(X25519PublicKey.from_public_bytes(point))
            == result
        )
        count += 1
    assert count >= 3
