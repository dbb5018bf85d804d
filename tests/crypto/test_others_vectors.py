"""Vectors of draft-ietf-cose-hpke-pq-pqt, made by others: our keys, key ids and HPKE layer agree with them.

Their external_aad is not stated beside them; "The Fellowship of the Ring" was found by trying, and the
authentication tag proves it (docs/envelope.md 11.4).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.crypto import cbor
from gateway.crypto.keys import OpeningKey
from tests.crypto import independent

EXTERNAL_AAD = b"The Fellowship of the Ring"


@pytest.fixture
def theirs(shared_data: Path) -> dict[str, Any]:
    """By algorithm name: their COSE key and message."""
    listed = json.loads((shared_data / "crypto" / "cose-vectors.json").read_text("utf-8"))
    return {
        one["alg"]: (cbor2.loads(bytes.fromhex(one["key"])), cbor2.loads(bytes.fromhex(one["hex"])))
        for one in listed
    }


def test_our_key_from_their_seed_is_their_key(theirs: dict[str, Any]) -> None:
    cose_key, _ = theirs["HPKE-9-KE"]
    key = OpeningKey("HPKE-9-KE", cose_key[-2])
    assert (key.public.public_bytes, key.kid, key.public.alg) == (cose_key[-1], cose_key[2], cose_key[3])


def test_their_key_ids_are_thumbprints_as_we_make_them(theirs: dict[str, Any]) -> None:
    assert len(theirs) == 12
    for cose_key, _ in theirs.values():
        required = {1: cose_key[1], 3: cose_key[3], -1: cose_key[-1]}
        assert hashlib.sha256(cbor.encode(required)).digest() == cose_key[2]


def test_their_message_opens_through_every_layer(theirs: dict[str, Any]) -> None:
    cose_key, message = theirs["HPKE-9-KE"]
    protected, unprotected, ciphertext, [[recipient, ek, sealed_key]] = message.value
    info = cbor.encode(["HPKE Recipient", 3, recipient, b""])
    content_key = OpeningKey("HPKE-9-KE", cose_key[-2]).open(ek[-4], sealed_key, info)
    assert content_key == independent.hybrid_open(cose_key[-2], ek[-4], info, sealed_key)

    aad = cbor.encode(["Encrypt", protected, EXTERNAL_AAD])
    plaintext = AESGCM(content_key).decrypt(unprotected[5], ciphertext, aad)
    assert plaintext.endswith(b"We are your friends, Frodo.")
    with pytest.raises(InvalidTag):
        AESGCM(content_key).decrypt(unprotected[5], ciphertext, cbor.encode(["Encrypt", protected, b""]))
