"""HPKE-9-KE and a JavaScript implementation, node/envelope.mjs: each opens what the other sealed."""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest

from gateway.crypto.envelope import open_envelope, seal
from gateway.crypto.keys import SigningKey
from gateway.errors import RefusedByPeer
from gateway.messages import Header, Reason
from tests.vectors.parts import CONTENT, HEADER, HYBRID, OLDER, POLICE, seed

PROGRAM = Path(__file__).parent / "node" / "envelope.mjs"
VECTORS = Path(__file__).parents[1] / "vectors" / "envelope"
ED25519, P256 = (SigningKey.from_seed(seed(f"javascript {suite}"), suite) for suite in ("Ed25519", "ESP256"))
LABELS = dict(enumerate(Header.__slots__, start=1))
"""Of docs/envelope.md 4.3: the fields of our own type stand in their order."""
LIBRARIES = ("@noble/post-quantum", "@hpke/core")
"""Whose KEM, and cipher of HPKE, the program takes: two by different authors."""
IDS = {"message_id", "envelope_id", "case", "in_reply_to"}


@pytest.fixture(scope="module")
def node() -> str:
    """The program; with the packages it needs beside it."""
    found = shutil.which("node")
    if found is None or not (PROGRAM.parent / "node_modules" / ".package-lock.json").exists():
        pytest.skip("no Node.js with the packages of tests/interop/node: run tools/ensure-node-packages")
    return found


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ask(node: str, **request: Any) -> dict[str, Any]:
    done = subprocess.run(
        [node, str(PROGRAM)],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def told(header: Header) -> dict[str, Any]:
    """A header by label, identifiers as hexadecimal."""
    fields = {str(label): getattr(header, name) for label, name in LABELS.items()}
    return {
        label: uuid.UUID(value).hex if LABELS[int(label)] in IDS else value
        for label, value in fields.items()
        if value is not None
    }


@pytest.mark.parametrize("signer", [ED25519, P256], ids=["Ed25519", "ESP256"])
def test_javascript_opens_our_envelope_and_verifies_it(node: str, library: str, signer: SigningKey) -> None:
    sealed = seal(HEADER, CONTENT, signer=signer, to=HYBRID.public)
    asked = {"do": "open", "library": library, "seed": HYBRID.secret.hex()}
    asked["sender"] = signer.public.public_bytes.hex()
    answer = ask(node, **asked, envelope=sealed.hex())
    assert answer == {
        "routing": [1, uuid.UUID(HEADER.envelope_id).hex, POLICE, HEADER.expires],
        "header": told(HEADER),
        "content": CONTENT.hex(),
    }
    other = SigningKey.from_seed(seed("javascript other"), signer.public.suite).public.public_bytes.hex()
    altered = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for wrong in ({"sender": other}, {"seed": OLDER.secret.hex()}, {"envelope": altered.hex()}):
        assert "refused" in ask(node, **({**asked, "envelope": sealed.hex()} | wrong))


@pytest.mark.parametrize("name", ["open-hybrid", "open-older-key", "open-hybrid-signed-p256"])
def test_javascript_opens_the_published_vectors(node: str, library: str, name: str) -> None:
    vector = json.loads((VECTORS / f"{name}.json").read_text("utf-8"))
    [public] = [one["public"] for one in vector["directory"] if one["agency"] == vector["header"]["sender"]]
    answer = ask(
        node,
        do="open",
        library=library,
        envelope=vector["envelope"],
        seed=vector["keys"][0]["secret"],
        sender=public,
    )
    assert answer["content"] == vector["content"]
    assert answer["header"] == told(Header(**vector["header"]))


def test_we_open_an_envelope_of_javascripts(node: str, library: str) -> None:
    answer = ask(
        node,
        do="seal",
        library=library,
        recipientKey=HYBRID.public.public_bytes.hex(),
        signingSeed=ED25519.seed.hex(),
        header=told(HEADER),
        content=CONTENT.hex(),
    )
    sealed = bytes.fromhex(answer["envelope"])

    def opened(data: bytes) -> Any:
        return open_envelope(
            data,
            recipient=POLICE,
            keys={HYBRID.kid: HYBRID},
            find_verify_key=lambda _, kid: ED25519.public if kid == ED25519.kid else None,
        )

    found = opened(sealed)
    assert (found.header, found.content.reveal(), found.suite) == (HEADER, CONTENT, "HPKE-9-KE")
    ours = seal(HEADER, CONTENT, signer=ED25519, to=HYBRID.public)
    assert len(sealed) == len(ours), "padded alike"
    with pytest.raises(RefusedByPeer) as refusal:
        opened(sealed[:-1] + bytes([sealed[-1] ^ 1]))
    assert refusal.value.reason is Reason.NOT_OPENED
