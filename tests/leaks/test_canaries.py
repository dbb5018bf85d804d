"""Promise 3: nothing a message says is found outside the two end nodes' memory.

Canaries are planted in every field of real examples; the road is run, failures included; then every byte
that was written anywhere is searched. The last tests plant leaks, to show that the search finds them.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import warnings
from collections.abc import AsyncIterator, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from gateway.crypto import content, cose, envelope
from gateway.crypto.keys import SigningKey
from gateway.errors import RefusedByUs
from gateway.http.client import ApiProblem, File
from gateway.messages import Content, EnvelopeId, Header, MessageId, Problem, Sensitive, new_id
from gateway.node import now_ms
from gateway.observability import logs
from gateway.transport.base import Lane, Sealed
from tests.leaks.canaries import canary, plant_json, plant_xml, search
from tests.road import reached, send, wait_for_arrival
from tests.world import COUNCIL, POLICE, QUICK, SCHOOL, World, provision, running, until


class Seen:
    """Everything that came out anywhere: answers of the API that are not content, metrics, logs."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.answers: list[str] = []
        self.log = io.StringIO()

    def everything(self, world: World, *folders: Path, output: str = "") -> list[str]:
        """Where canaries were found."""
        metrics = {f"metrics of {name}": node.metrics()[0] for name, node in world.nodes.items()}
        more = {"answers": "\n".join(self.answers).encode(), "log": self.log.getvalue().encode()}
        return search([world.folder, *folders], self.words, metrics | more | {"output": output.encode()})


@pytest.fixture
def seen() -> Iterator[Seen]:
    """Logs go where they can be searched."""
    seen = Seen()
    logs.configure(seen.log, "info")
    yield seen
    logs.configure(sys.stderr, "error")


@pytest.fixture(params=["embedded", "rabbitmq"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """Three agencies, on each transport, with quick clockwork."""
    broker = request.getfixturevalue("broker_url") if request.param == "rabbitmq" else ""
    async with running(provision(tmp_path, broker=broker, extra=QUICK), broker=broker) as world:
        yield world


def examples() -> list[tuple[str, bytes, list[str]]]:
    """Our own examples of every format with canaries: media type, body, canaries."""
    found = []
    for entry in (resources.files("gateway.schemas") / "examples" / "referral").iterdir():
        document, words = plant_json(json.loads(entry.read_bytes()))
        found.append(("application/json", json.dumps(document).encode(), words))
    for entry in (resources.files("gateway.adapters") / "examples" / "fhir-bars").iterdir():
        if entry.name.endswith(".xml"):
            body, words = plant_xml(entry.read_bytes())
            found.append(("application/fhir+xml", body, words))
    return found


async def run_the_road(world: World, seen: Seen, *, more: Path | None = None) -> None:
    """Everything that can happen to a message, each with canaries of its own."""
    school, police = world.clients[SCHOOL], world.clients[POLICE]
    bodies = examples()
    if more is not None:
        path = next((more / "health" / "bars-ig-examples").glob("REFREQ01*.xml"))
        bodies.append(("application/fhir+xml", *plant_xml(path.read_bytes())))
    for media_type, body, words in bodies:
        assert len(words) >= 10, "canaries must be planted nearly everywhere"
        seen.words += words
        name, inside, key = canary(), canary(), canary()
        seen.words += [name, inside, key]
        attachment = File(f"{name}.pdf", "application/pdf", inside.encode() * 1000)
        answer = await send(
            school, body, media_type=media_type, attachments=[attachment], idempotency_key=key
        )
        seen.answers.append(json.dumps(answer))
        await wait_for_arrival(world, answer["message_id"])
        assert (await police.open(answer["message_id"])).body  # opened in memory, as its system would
        async for _ in police.attachment(answer["message_id"], 0):
            pass
        seen.answers.append(json.dumps(await police.inbox()))
    delivered, rejected = [one["message_id"] for one in (await police.inbox())["messages"]][:2]
    await police.ack([delivered])
    seen.answers.append(json.dumps(await police.reject(rejected, reason="wrong-agency")))
    await reached(world, delivered, "delivered")
    await reached(world, rejected, "rejected")
    await run_failures(world, seen, bodies[0][1])


async def run_failures(world: World, seen: Seen, body: bytes) -> None:
    """Refusals at intake and on arrival, expiry, with canaries in whatever is wrong."""
    school = world.clients[SCHOOL]
    word = canary()
    seen.words.append(word)
    wrong = json.loads(body)
    wrong[word] = word  # an unknown field
    wrong["person"]["dateOfBirth"] = word
    wrong["concern"]["category"] = [word]
    attempts: list[tuple[Any, dict[str, Any]]] = [
        (wrong, {}),
        (body[: len(body) // 2], {}),
        (b"<" + word.encode() + b">", {"media_type": "application/fhir+xml"}),
        (b"\xff\xfe" + word.encode("utf-16-le"), {}),
        (f'{{"{word}": 1, "{word}": 2}}'.encode(), {}),
        (body, {"purpose": word}),
        (body, {"lawful_basis": word}),
        (body, {"to": [word]}),
        (body, {"adapter": word}),
        (body, {"case": word}),
        (body, {"media_type": f"application/{word}"}),
        (body, {"attachments": [File(word, "text/plain", word.encode(), "sha-256=:" + "A" * 43 + "=:")]}),
    ]
    for data, change in attempts:
        with pytest.raises(ApiProblem) as refused:
            await send(school, data, **change)
        problem = refused.value
        seen.answers.append(f"{problem.code} {problem.title} {problem.hint} {problem.problems}")
    # badly signed, with a canary inside
    head = Header(
        MessageId(new_id()), EnvelopeId(new_id()), "referral", 1, SCHOOL, POLICE, new_id(),  # type: ignore[arg-type]
        None, now_ms(), now_ms() + 60_000, "prevent", "public-task",
    )  # fmt: skip
    to = world.nodes[POLICE].parts.keys[POLICE].current_opening.public
    forged = envelope.seal(
        head, content.encode_content(Content(Sensitive(body))), signer=SigningKey.generate(), to=to
    )
    await world.nodes[SCHOOL].parts.transport.publish(
        Sealed(head.envelope_id, POLICE, Lane.MESSAGES, head.expires, forged)
    )
    expiring = (await send(school, body, to=[COUNCIL], expires_in=1))["message_id"]
    await reached(world, expiring, "expired", COUNCIL)
    text = lambda: world.nodes[POLICE].metrics()[0]
    await until(lambda: b'refused_total{reason="unknown-sender"} 1.0' in text(), "the forgery is refused")


async def test_no_canary_is_found_anywhere(
    world: World, seen: Seen, request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]
) -> None:
    shared = Path(__file__).parents[3] / "shared" / "data"
    await run_the_road(world, seen, more=shared if shared.exists() else None)
    folders = [request.getfixturevalue("rabbit").data] if "rabbitmq" in request.node.name else []
    out, err = capfd.readouterr()
    assert seen.log.getvalue().count("\n") > 20, "there is a log to search"
    assert seen.everything(world, *folders, output=out + err) == []


async def _world_with_one_message(world: World, seen: Seen) -> None:
    _, body, words = examples()[0]
    seen.words += words
    answer = await send(world.clients[SCHOOL], body)
    await wait_for_arrival(world, answer["message_id"])


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[World]:
    """Two agencies for planting leaks."""
    async with running(provision(tmp_path, [SCHOOL, POLICE])) as world:
        yield world


async def test_a_planted_leak_in_the_envelope_is_found(
    small: World, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Encryption replaced by a cipher that does nothing: databases and spool would hold plaintext."""

    class Nothing:
        def __init__(self, key: bytes) -> None:
            pass

        def encrypt(self, nonce: bytes, data: bytes, aad: bytes) -> bytes:
            return data

        decrypt = encrypt

    monkeypatch.setattr(cose, "AESGCM", Nothing)
    await _world_with_one_message(small, seen)
    assert any("gateway.db" in name for name in seen.everything(small))


async def test_a_planted_leak_in_a_problem_is_found(
    small: World, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway.engine import checking

    def careless(canonical: Any) -> None:
        raise RefusedByUs(
            "invalid-content", problems=[Problem("/concern", str(canonical.document["concern"]))]
        )

    monkeypatch.setattr(checking, "_validate", careless)
    _, body, words = examples()[0]
    seen.words += words
    with pytest.raises(ApiProblem) as refused:
        await send(small.clients[SCHOOL], body)
    seen.answers.append(str(refused.value.problems))
    assert seen.everything(small) == ["answers"]


def test_planted_leaks_in_logs_do_not_get_out(seen: Seen, capfd: pytest.CaptureFixture[str]) -> None:
    """What a careless developer or a library would log is held back; what is printed is found."""
    word = canary()
    log = logs.get_logger()
    log.info("message-accepted", message_id=word, agency=word, type=word)
    log.info(word)
    logging.getLogger("aiohttp.server").error("could not parse %s", word)
    try:
        raise ValueError(word)
    except ValueError as error:
        log.error("internal-error", exc=error)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(word, stacklevel=1)
    assert search([], [word], {"log": seen.log.getvalue().encode()}) == []
    os.write(2, word.encode())
    assert search([], [word], {"output": "".join(capfd.readouterr()).encode()}) == ["output"]
