"""The FHIR face of real nodes in processes of their own: BaRS in, BaRS out, and kill -9 on the way."""

from __future__ import annotations

import base64
import json
import signal
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bench.nodes import RECIPIENT, SENDER, BenchNode, provision_pair, restart, start
from gateway import config
from gateway.adapters import fhir_xml
from gateway.adapters.fhir_bars import JSON, XML
from gateway.http.client import Client
from gateway.http.fhir_face import PREFIX, PROCESS_MESSAGE
from tests.adapters import fhir_r4
from tests.world import until

EXAMPLES = resources.files("gateway.adapters") / "examples" / "fhir-bars"
REQUESTS = ("ed-to-childrens-social-care.json", "mental-health-to-police-prevent.xml")
SETTINGS = """
[fhir]
lawful_basis = "legal-obligation"

[fhir.recipients]
2000090001 = "recipient"
"https://fhir.nhs.uk/Id/ods-organization-code|X9N01" = "sender"

[fhir.use_cases.a1t1]
purpose = "safeguarding-children"
lawful_basis = "public-task"
"""
SERVICE = {"system": "https://fhir.nhs.uk/Id/dos-service-id", "value": "2000090001"}
REFERRER = {"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "X9N01"}
DIE = ("-m", "tests.faults.victim", "kill")


@dataclass
class Answer:
    """What a node said, and under which status."""

    status: int
    document: dict[str, Any]

    @property
    def issue(self) -> str:
        return str(self.document["issue"][0]["code"])

    def resource(self, kind: str) -> dict[str, Any]:
        found = (entry["resource"] for entry in self.document["entry"])
        return next(one for one in found if one["resourceType"] == kind)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[list[BenchNode]]:
    provision_pair(tmp_path)
    for agency in (SENDER, RECIPIENT):
        with (tmp_path / agency / config.FILE_NAME).open("a") as file:
            file.write(SETTINGS)
    nodes = [start(tmp_path / SENDER), start(tmp_path / RECIPIENT)]
    yield nodes
    for node in nodes:
        node.stop()


def ids(case: str | None = None) -> dict[str, str]:
    return {"X-Request-Id": str(uuid.uuid4()), "X-Correlation-Id": case or str(uuid.uuid4())}


async def ask(node: BenchNode, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Answer:
    sent = {"Authorization": f"Bearer {node.token}", "Accept": JSON, **headers}
    timeout = aiohttp.ClientTimeout(total=60)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.request(method, node.url + path, headers=sent, data=body or None) as answer,
    ):
        return Answer(answer.status, await answer.json(content_type=None))


async def post(
    node: BenchNode, body: bytes, headers: dict[str, str], target: dict[str, str] | None = SERVICE
) -> Answer:
    content_type = JSON if body.lstrip().startswith(b"{") else XML
    sent = {"Content-Type": content_type, **headers}
    if target:
        sent["NHSD-Target-Identifier"] = base64.b64encode(json.dumps(target).encode()).decode()
    return await ask(node, "POST", PROCESS_MESSAGE, sent, body)


async def arrivals(node: BenchNode, wanted: int) -> list[dict[str, Any]]:
    """Wait for as many messages in the inbox; all that are there."""
    client = Client(node.url, node.token)
    found: list[dict[str, Any]] = []

    async def there() -> bool:
        found[:] = (await client.inbox(wait=2))["messages"]
        return len(found) >= wanted

    await until(there, f"{wanted} arrivals", timeout=60)
    await client.close()
    return found


async def test_bars_in_bars_out_and_the_answer_back(pair: list[BenchNode]) -> None:
    sender, recipient = pair
    for name in REQUESTS:
        body, headers = (EXAMPLES / name).read_bytes(), ids()
        taken = await post(sender, body, headers)
        assert taken.status == 200, taken.document
        assert fhir_r4.faults(taken.document) == []
        message_id = taken.resource("ServiceRequest")["id"]
        repeated = await post(sender, body, headers)
        assert (repeated.status, repeated.issue) == (409, "duplicate")
        changed = await post(sender, body + b"\n", headers)
        assert (changed.status, changed.issue) == (409, "conflict")

        (entry,) = await arrivals(recipient, 1)
        assert (entry["message_id"], entry["case"]) == (message_id, headers["X-Correlation-Id"])
        there = Client(recipient.url, recipient.token)
        opened = await there.open(message_id, accept=XML)
        found = fhir_xml.read(opened.body)
        assert found["id"] == message_id
        original = fhir_xml.read(body) if name.endswith("xml") else json.loads(body)
        assert person(found) == person(original)
        await there.ack([message_id])
        await there.close()

        async def delivered(message_id: str = message_id) -> bool:
            read = await ask(sender, "GET", f"{PREFIX}ServiceRequest/{message_id}", ids())
            stage = read.document["extension"][0]["extension"][1]
            return bool(read.document["status"] == "active" and stage["valueCode"] == "delivered")

        await until(delivered, "delivery")

    # The recipient's system answers the last one: the same thread, through its own node's face.
    response = json.loads((EXAMPLES / "childrens-social-care-response.json").read_bytes())
    header = response["entry"][0]["resource"]
    header["response"]["identifier"] = message_id
    answered = await post(
        recipient, json.dumps(response).encode(), ids(headers["X-Correlation-Id"]), target=None
    )
    assert answered.status == 200, answered.document
    (entry,) = await arrivals(sender, 1)
    assert (entry["type"], entry["in_reply_to"]) == ("decision", message_id)
    assert entry["case"] == headers["X-Correlation-Id"]


def person(bundle: dict[str, Any]) -> tuple[Any, ...]:
    """Birth date and first name parts of the Patient, however lists are written."""
    (patient,) = (
        entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == "Patient"
    )
    name = patient["name"][0] if isinstance(patient["name"], list) else patient["name"]
    given = name["given"] if isinstance(name["given"], list) else [name["given"]]
    return patient["birthDate"], name["family"], given


async def test_every_official_message_crosses(pair: list[BenchNode], shared_data: Path) -> None:
    wanted = {SENDER: 0, RECIPIENT: 0}
    for path in sorted((shared_data / "health" / "bars-ig-examples").glob("*.xml")):
        body = path.read_bytes()
        if b"$process-message" in body or b'"servicerequest-re' not in body:
            continue
        # What a response names as its sender is the one who was asked.
        back = b'"servicerequest-response"' in body
        taken = await post(pair[back], body, ids(), target=REFERRER if back else SERVICE)
        assert taken.status == 200, (path.name, taken.document)
        wanted[SENDER if back else RECIPIENT] += 1
    assert sum(wanted.values()) >= 20
    for node, agency in zip(pair, (SENDER, RECIPIENT), strict=True):
        client = Client(node.url, node.token)
        for entry in await arrivals(node, wanted[agency]):
            opened = await client.open(entry["message_id"], accept=JSON)
            assert fhir_r4.faults(json.loads(opened.body)) == []
        await client.close()


@pytest.mark.parametrize(
    ("point", "retried"),
    [
        ("intake: written, not committed", (200, "")),
        ("intake: committed, not answered", (409, "duplicate")),
    ],
)
async def test_a_retry_after_a_crash_is_neither_lost_nor_doubled(
    pair: list[BenchNode], point: str, retried: tuple[int, str]
) -> None:
    body, headers = (EXAMPLES / REQUESTS[0]).read_bytes(), ids()
    pair[0].stop()
    pair[0] = restart(pair[0], (*DIE, point, "1"))
    with pytest.raises(aiohttp.ClientError):
        await post(pair[0], body, headers)
    pair[0].process.wait(30)
    pair[0] = restart(pair[0])
    again = await post(pair[0], body, headers)
    assert (again.status, again.issue if again.status == 409 else "") == retried
    assert len(await arrivals(pair[1], 1)) == 1
    pair[0].process.send_signal(signal.SIGKILL)
    pair[0].process.wait(30)
    pair[0] = restart(pair[0])
    once_more = await post(pair[0], body, headers)
    assert (once_more.status, once_more.issue) == (409, "duplicate")
    assert len(await arrivals(pair[1], 1)) == 1
