"""The published vectors: each file names its outcome, and we reach it. A second implementation agrees."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag

from gateway.crypto import chunks, proof
from gateway.crypto.break_glass import confirm
from gateway.crypto.envelope import open_envelope, peek
from gateway.crypto.keys import OpeningKey, VerifyKey
from gateway.errors import ReceiptInvalid, RefusedByPeer
from gateway.messages import AgencyId, EnvelopeId, Header, Quorum, Reason, Receipt, Stage, read_reason
from gateway.protocol.break_glass import BreakGlass
from tests.crypto import independent
from tests.vectors import make

FOLDER = Path(__file__).parents[1] / "vectors"


def vectors(family: str, prefix: str = "") -> pytest.MarkDecorator:
    """Every vector of a family, under its file's name."""
    files = sorted((FOLDER / family).glob(f"{prefix}*.json"))
    assert files, "no vectors"
    return pytest.mark.parametrize(
        "vector", [pytest.param(json.loads(file.read_text("utf-8")), id=file.stem) for file in files]
    )


def finder(vector: dict[str, Any]) -> Callable[[AgencyId, bytes], VerifyKey | None]:
    """The vector's directory."""
    found = [
        (entry["agency"], VerifyKey.from_public(bytes.fromhex(entry["public"])))
        for entry in vector["directory"]
    ]
    by_key = {(agency, key.kid): key for agency, key in found}
    return lambda agency, kid: by_key.get((agency, kid))


def opened(vector: dict[str, Any]) -> tuple[Header, bytes]:
    keys = [OpeningKey(one["suite"], bytes.fromhex(one["secret"])) for one in vector["keys"]]
    result = open_envelope(
        bytes.fromhex(vector["envelope"]),
        recipient=vector["recipient"],
        keys={key.kid: key for key in keys},
        find_verify_key=finder(vector),
    )
    return result.header, result.content.reveal()


@vectors("envelope", "open-")
def test_an_envelope_opens_to_what_the_vector_says(vector: dict[str, Any]) -> None:
    assert vector["expect"] == "open"
    assert opened(vector) == (Header(**vector["header"]), bytes.fromhex(vector["content"]))
    assert peek(bytes.fromhex(vector["envelope"])).recipient == vector["recipient"]


@vectors("envelope", "[!o]")
def test_an_envelope_is_refused_for_the_reason_the_vector_says(vector: dict[str, Any]) -> None:
    with pytest.raises(RefusedByPeer) as refusal:
        opened(vector)
    assert refusal.value.reason == Reason(vector["expect"])
    told = vector.get("signed_header")
    assert refusal.value.header == (Header(**told) if told else None)


@vectors("envelope", "open-")
def test_another_implementation_opens_it_too(vector: dict[str, Any]) -> None:
    key, sender = vector["keys"][0], vector["header"]["sender"]
    [public] = [entry["public"] for entry in vector["directory"] if entry["agency"] == sender]
    header, content, routing = independent.open_envelope(
        bytes.fromhex(vector["envelope"]), key["suite"], bytes.fromhex(key["secret"]), bytes.fromhex(public)
    )
    told = vector["header"]
    assert content.hex() == vector["content"]
    assert [header[label] for label in (3, 4, 5, 6, 9, 10, 11, 12)] == [
        told[name]
        for name in (
            "type",
            "version",
            "sender",
            "recipient",
            "created",
            "expires",
            "purpose",
            "lawful_basis",
        )
    ]
    ids = {1: "message_id", 2: "envelope_id", 7: "case", 8: "in_reply_to"}
    assert {label: header[label].hex() for label in ids if label in header} == {
        label: told[name].replace("-", "") for label, name in ids.items() if told[name]
    }
    assert routing == [1, header[2], told["recipient"], told["expires"]]


@vectors("receipts", "valid-")
def test_a_receipt_states_what_the_vector_says(vector: dict[str, Any]) -> None:
    stage, quorum = Stage(vector["receipt"]["stage"]), vector["receipt"].get("quorum")
    told = vector["receipt"] | {
        "stage": stage,
        "envelope_digest": bytes.fromhex(vector["receipt"]["envelope_digest"]),
        "reason": read_reason(stage, vector["receipt"]["reason"]) if vector["receipt"]["reason"] else None,
        "view": tuple(vector["receipt"]["view"]) if "view" in vector["receipt"] else None,
        "quorum": Quorum(quorum["agreement"], tuple(map(bytes.fromhex, quorum["approvals"])))
        if quorum
        else None,
    }
    receipt = proof.verify_receipt(bytes.fromhex(vector["cose"]), finder(vector))
    assert receipt == Receipt(**told)
    assert proof.read_receipt(bytes.fromhex(vector["cose"])) == receipt
    if quorum:
        rule = BreakGlass(2, tuple((role, bytes.fromhex(key)) for role, key in vector["roles"].items()))
        assert confirm(receipt, lambda *asked: rule) == set(vector["roles"])


@vectors("receipts", "[!v]")
def test_a_receipt_is_invalid_for_the_reason_the_vector_says(vector: dict[str, Any]) -> None:
    with pytest.raises(ReceiptInvalid) as refusal:
        proof.verify_receipt(bytes.fromhex(vector["cose"]), finder(vector))
    assert str(refusal.value) == vector["expect"]


@vectors("receipts", "valid-")
def test_another_implementation_verifies_it_too(vector: dict[str, Any]) -> None:
    issuer = vector["receipt"]["issuer"]
    [public] = [entry["public"] for entry in vector["directory"] if entry["agency"] == issuer]
    context = b"referral-gateway receipt v1"
    payload = independent.verify(bytes.fromhex(vector["cose"]), bytes.fromhex(public), context)
    assert vector["receipt"]["stage"].encode() in payload
    with pytest.raises(independent.Refused):
        independent.verify(bytes.fromhex(vector["cose"]), bytes.fromhex(public), b"another context")
    approvals = vector["receipt"].get("quorum", {}).get("approvals", [])
    for approval, key in zip(approvals, vector.get("roles", {}).values(), strict=True):
        independent.verify(bytes.fromhex(approval), bytes.fromhex(key), b"referral-gateway approval v1")


@vectors("chunks")
def test_a_chunk_opens_or_not_as_the_vector_says(vector: dict[str, Any]) -> None:
    key, data = bytes.fromhex(vector["key"]), bytes.fromhex(vector["chunk"])
    index, last, chunk_id = vector["index"], vector["last"], EnvelopeId(vector["id"])
    raw_id = bytes.fromhex(vector["id"].replace("-", ""))
    if vector["expect"] == "open":
        plaintext = bytes.fromhex(vector["plaintext"])
        assert chunks.open_chunk(key, index, last, chunk_id, data) == plaintext
        assert independent.open_chunk(key, index, last, raw_id, data) == plaintext
        return
    with pytest.raises(RefusedByPeer) as refusal:
        chunks.open_chunk(key, index, last, chunk_id, data)
    assert refusal.value.reason == Reason(vector["expect"])


def test_the_script_still_writes_the_vectors_that_are_stored(tmp_path: Path) -> None:
    make.write(tmp_path)

    def outcomes(folder: Path) -> dict[str, Any]:
        return {
            str(file.relative_to(folder)): json.loads(file.read_text("utf-8")) | {"envelope": "", "cose": ""}
            for file in folder.rglob("*.json")
        }

    stored, made = outcomes(FOLDER), outcomes(tmp_path)
    for one in (*stored.values(), *made.values()):
        one.pop("chunk", None)
    assert made == stored


@pytest.mark.parametrize("suite", ["HPKE-9-KE", "HPKE-7-KE"])
def test_a_wrong_key_does_not_pass_the_other_implementation(suite: str) -> None:
    vector = json.loads((FOLDER / "envelope" / "open-hybrid.json").read_text("utf-8"))
    secret = bytes.fromhex(vector["keys"][0]["secret"])
    with pytest.raises((InvalidTag, independent.Refused)):
        independent.open_envelope(
            bytes.fromhex(vector["envelope"]),
            suite,
            secret[::-1],
            bytes.fromhex(vector["directory"][0]["public"]),
        )
