"""The specifications say what the code does: their examples are bytes that exist, their anchors are cited."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature

from gateway.crypto import cbor, cose, labels, proof, proposal
from gateway.crypto.content import MAX_CHUNKS, MAX_ITEMS
from gateway.crypto.keys import OpeningKey, SigningKey, VerifyKey
from gateway.messages import AgencyId, Stage
from tests.vectors.parts import P256

ROOT = Path(__file__).parents[2]
ENVELOPE = (ROOT / "docs" / "envelope.md").read_text("utf-8")
RECEIPTS = (ROOT / "docs" / "receipts.md").read_text("utf-8")
VECTORS = ROOT / "tests" / "vectors"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def annotated(block: str) -> bytes:
    """The bytes of an example, without its notes."""
    return bytes.fromhex("".join(line.split("#")[0] for line in block.splitlines()))


def vector(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text("utf-8"))
    return found


def test_the_example_is_the_vector_it_says_it_is() -> None:
    outside, inside = map(annotated, blocks(ENVELOPE, "hex"))
    stored = vector("envelope/open-p256")
    assert outside.hex() == stored["envelope"]
    assert cose.parse_encrypt(outside, labels.ROUTING).open(P256) == inside
    key = OpeningKey(stored["keys"][0]["suite"], bytes.fromhex(stored["keys"][0]["secret"]))
    assert key.kid == P256.kid
    assert stored["keys"][0]["secret"] in ENVELOPE
    assert stored["directory"][0]["public"] in ENVELOPE


@pytest.mark.parametrize("page", ["envelope", "receipts"])
def test_what_the_code_cites_is_there(page: str) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
    there = set(re.findall(r"^(?:## )?(\d+(?:\.\d+)?) ", text, re.MULTILINE))
    cited: set[str] = set()
    for source in (*(ROOT / "gateway").rglob("*.py"), *(ROOT / "tests" / "crypto").glob("*.py")):
        found = re.findall(
            rf"docs/{page}\.md (?:sections? )?(\d+(?:\.\d+)?)(?: to (\d+))?", source.read_text("utf-8")
        )
        cited |= {number for pair in found for number in pair if number}
    assert cited
    assert cited <= there


@pytest.mark.parametrize("page", [ENVELOPE, RECEIPTS])
def test_paragraphs_are_numbered_without_a_gap(page: str) -> None:
    section, paragraph = 0, 0
    for heading, major, minor in re.findall(r"^(?:## (\d+)|(\d+)\.(\d+)) ", page, re.MULTILINE):
        if heading:
            section, paragraph = section + 1, 0
            assert int(heading) == section
        else:
            paragraph += 1
            assert (int(major), int(minor)) == (section, paragraph)
    assert section > 2


def test_the_numbers_on_the_page_are_those_in_the_code() -> None:
    for number in (labels.MAX_ENVELOPE, labels.MAX_RECEIPT, MAX_ITEMS, MAX_CHUNKS):
        assert f"{number:,}" in ENVELOPE
    for name, number in labels.SIGNING_SUITES.items():
        assert re.search(rf"^\| {name} .*\| {number} \|", ENVELOPE, re.MULTILINE)
    for name, number in labels.SUITES.items():
        assert re.search(rf"^\| {name} .*\| {number} \|", ENVELOPE, re.MULTILINE)
    for context in (labels.ENVELOPE_CONTEXT, labels.CHUNK_CONTEXT):
        assert f"`{context.decode()}`" in ENVELOPE
    assert f"`{labels.RECEIPT_CONTEXT.decode()}`" in RECEIPTS


def test_the_page_on_the_directory_says_how_a_proposal_is_made() -> None:
    page = (ROOT / "docs" / "directory.md").read_text("utf-8")
    for number in (proposal.LARGEST_TEXT, proposal.MAX_PROPOSAL):
        assert f"{number:,}" in page
    assert f"`{labels.PROPOSAL_CONTEXT.decode()}`" in page
    assert all(f"`{kind}`" in page for kind in proposal.Kind)
    assert proposal.LONGEST == 30 * 24 * 3_600_000
    rows = re.findall(r"^\| (\d) \| (.*) \|$", page, re.MULTILINE)
    example = proposal.Proposal(
        proposal.Kind.AGREEMENT, AgencyId("school"), "one", 0, 1, proposal.NOTHING, "{}"
    )
    payload = cose.parse_sign1(proposal.sign_proposal(example, SigningKey.generate())).payload
    assert [int(label) for label, _ in rows] == list(cbor.decode(payload))


def test_every_stage_and_every_refusal_of_a_receipt_is_explained() -> None:
    for stage in Stage:
        assert re.search(rf"^\| `{stage}` \|", RECEIPTS, re.MULTILINE)
    for sentence in (
        proof.NOT_A_RECEIPT,
        proof.UNKNOWN_VERSION,
        proof.WRONG_ISSUER,
        proof.UNKNOWN_KEY,
        proof.BAD_SIGNATURE,
    ):
        assert f"| {sentence} |" in RECEIPTS


def test_every_outcome_of_opening_is_explained_and_has_a_vector() -> None:
    section = ENVELOPE[ENVELOPE.index("## 8 ") : ENVELOPE.index("## 9 ")]
    explained = set(re.findall(r"\| `([a-z-]+)` \|$", section, re.MULTILINE))
    outcomes = {vector(f"envelope/{path.stem}")["expect"] for path in (VECTORS / "envelope").glob("*.json")}
    assert outcomes == explained | {"open"}


def test_the_verifier_on_the_page_agrees_with_ours() -> None:
    [program] = blocks(RECEIPTS, "python")
    place: dict[str, Any] = {}
    exec(compile(program, "docs/receipts.md", "exec"), place)
    held = 0
    for path in sorted((VECTORS / "receipts").glob("*.json")):
        stored = vector(f"receipts/{path.stem}")
        directory = {
            "agencies": [
                {
                    "id": one["agency"],
                    "keys": [
                        {
                            "use": "sign",
                            "suite": _suite(one["public"]),
                            "public": _base64(one["public"]),
                            "revoked": None,
                        }
                    ],
                }
                for one in stored["directory"]
            ]
        }
        if stored["expect"] == "valid":
            stated = place["verify"](bytes.fromhex(stored["cose"]), directory)
            assert (stated[2], stated[8]) == (stored["receipt"]["stage"], stored["receipt"]["issuer"])
            held += 1
            for key in (key for one in directory["agencies"] for key in one["keys"]):
                key["revoked"] = "2026-01-01T00:00:00Z"
            with pytest.raises(ValueError, match=proof.UNKNOWN_KEY):
                place["verify"](bytes.fromhex(stored["cose"]), directory)
        elif stored["expect"] in {proof.WRONG_ISSUER, proof.UNKNOWN_KEY}:
            with pytest.raises(ValueError, match=stored["expect"]):
                place["verify"](bytes.fromhex(stored["cose"]), directory)
        elif stored["expect"] == proof.BAD_SIGNATURE:
            with pytest.raises(InvalidSignature):
                place["verify"](bytes.fromhex(stored["cose"]), directory)
    assert held == 10


def _suite(public: str) -> str:
    return VerifyKey.from_public(bytes.fromhex(public)).suite


def _base64(public: str) -> str:
    return base64.urlsafe_b64encode(bytes.fromhex(public)).decode().rstrip("=")


def test_the_page_on_cryptography_lists_every_algorithm_and_context() -> None:
    page = (ROOT / "docs" / "crypto.md").read_text("utf-8")
    numbers = {**labels.SUITES, **labels.SIGNING_SUITES, "A256GCM": labels.A256GCM}
    for name, number in numbers.items():
        constant = next(one for one, value in vars(labels).items() if value == number and one.isupper())
        assert f"`{constant}` {number}" in page, name
    contexts = [name for name in vars(labels) if name.endswith("_CONTEXT")]
    assert len(contexts) >= 9
    assert [name for name in contexts if f"`{name}`" not in page] == []


def test_what_separates_one_use_of_a_key_from_another_stands_in_one_place_or_on_the_page() -> None:
    section = (ROOT / "docs" / "crypto.md").read_text("utf-8").split("\n## ")[4]
    found = [
        (path.name, text)
        for path in (ROOT / "gateway").rglob("*.py")
        for text in re.findall(r'b"(referral-gateway(?:/1 [^"\\]+| [^"\\]+ v\d))', path.read_text("utf-8"))
    ]
    assert len(found) > 10
    for name, text in found:
        if not text.startswith("referral-gateway/1 "):
            assert name == "labels.py", text
        else:
            assert text.removeprefix("referral-gateway/1 ") in section, text
