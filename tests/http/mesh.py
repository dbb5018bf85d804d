"""Two real nodes with mailboxes, and raw MESH requests whose answers can be held to the MESH API.

The token is made here from the words of the MESH API, not by the code under test.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import io
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import yaml  # type: ignore[import-untyped]
from multidict import CIMultiDictProxy

from gateway import config
from gateway.http import auth
from gateway.http.client import Client
from gateway.http.ports import Permission
from gateway.messages import AgencyId, LawfulBasis, Purpose, Sector
from gateway.node import Node, now_ms
from gateway.provisioning import NewAgency, NewAgreement, agree, init_node
from tests.plugin_skips import SHARED_DATA
from tests.world import until

TRUST, COUNCIL = AgencyId("trust"), AgencyId("council")
HERE, THERE, SPARE, FAR = "X26ABC1", "X26ABC2", "X26ABC3", "X26FAR"
AGENCIES = {HERE: TRUST, THERE: COUNCIL, SPARE: COUNCIL}
V1, V2 = "application/vnd.mesh.v1+json", "application/vnd.mesh.v2+json"
WORKFLOW, FHIR, REFERRAL = "TEST_WORKFLOW", "TEST_FHIR", "TEST_REFERRAL"
KEY = "BackBone"
LARGE = 2**20
"""Bytes from which aiohttp wants a file."""
SPECIFICATION = SHARED_DATA / "health" / "specifications" / "mesh-api.yaml"

SETTINGS = """
[limits]
attachment_bytes = 3000000

[times]
tick = 0.05

[mesh]
shared_key_file = "shared-key"
uploads = 2

MAILBOXES
[[mesh.partners]]
id = "X26FAR"
agency = "far-away"
ods_code = "X28"

[[mesh.workflows]]
id = "TEST_WORKFLOW"
purpose = "health-care"
lawful_basis = "public-task"

[[mesh.workflows]]
id = "TEST_WORKFLOW_ACK"
purpose = "health-care"
lawful_basis = "public-task"
senders = ["X26ABC2"]
receivers = ["X26ABC1"]

[[mesh.workflows]]
id = "NO_AGREEMENT"
purpose = "homelessness"
lawful_basis = "public-task"

[[mesh.workflows]]
id = "TEST_FHIR"
purpose = "prevent"
lawful_basis = "vital-interests"
type = "referral"
adapter = "fhir-bars"
media_type = "application/fhir+json"

[[mesh.workflows]]
id = "TEST_REFERRAL"
purpose = "prevent"
lawful_basis = "public-task"
type = "referral"
media_type = "application/json"
"""


NAMES = {HERE: ("A trust", "X26"), THERE: ("A council", "X27"), SPARE: ("", "X27")}


def settings_of(agency: AgencyId, settings: str = SETTINGS) -> str:
    """The settings of one node: its own mailboxes, and the other's as partners."""
    parts = []
    for mailbox, owner in AGENCIES.items():
        name, ods_code = NAMES[mailbox]
        kind, secret = (
            ("mailboxes", f'password_file = "password-{mailbox}"') if owner == agency else ("partners", "")
        )
        parts.append(
            f'[[mesh.{kind}]]\nid = "{mailbox}"\nagency = "{owner}"\nname = "{name}"\n'
            f'ods_code = "{ods_code}"\n{secret}\n'
        )
    return settings.replace("MAILBOXES", "\n".join(parts))


def provision(folder: Path, settings: str = SETTINGS) -> None:
    """Set both nodes up; start nothing."""
    directory = folder / "directory.json"
    for agency in (TRUST, COUNCIL):
        node = folder / agency
        init_node(
            node,
            NewAgency(agency, agency.title(), Sector.HEALTH),
            directory=directory,
            spool=folder / "spool",
            port=0,
            admin_port=0,
        )
        with (node / config.FILE_NAME).open("a") as file:
            file.write(settings_of(agency, settings))
        secrets = {"shared-key": KEY, **{f"password-{one}": password(one) for one in AGENCIES}}
        for name, secret in secrets.items():
            (node / name).touch(mode=0o600)
            (node / name).write_text(f"{secret}\n")
    today = datetime.now(UTC) - timedelta(days=1)
    purposes = tuple(one for one in Purpose if one is not Purpose.HOMELESSNESS)
    both, kinds = (TRUST, COUNCIL), ("file", "referral", "decision")
    agree(
        directory,
        NewAgreement(
            "all", both, both, kinds, purposes, tuple(LawfulBasis), today, today + timedelta(days=9)
        ),
        replies=False,
    )


def password(mailbox: str) -> str:
    return f"secret of {mailbox}"


@dataclass
class Answer:
    """A response, read."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of an error, in either form."""
        assert b"canary" not in self.body
        found = self.json
        return str(found["detail"][0]["code"] if "detail" in found else found["errorCode"])


def token(
    mailbox: str,
    *,
    nonce: str | None = None,
    count: int | str = 0,
    at: datetime | None = None,
    secret: str | None = None,
    key: str = KEY,
) -> str:
    """An authorization header as the MESH API describes it."""
    nonce = nonce or str(uuid.uuid4())
    stamp = (at or datetime.now(UTC)).strftime("%Y%m%d%H%M")
    signed = ":".join((mailbox, nonce, str(count), secret or password(mailbox), stamp))
    digest = hmac.new(key.encode(), signed.encode(), hashlib.sha256).hexdigest()
    return f"NHSMESH {mailbox}:{nonce}:{count}:{stamp}:{digest}"


@dataclass
class MeshWorld:
    """The nodes, and a client of each one's own API."""

    nodes: dict[AgencyId, Node]
    session: aiohttp.ClientSession
    own: dict[AgencyId, Client]

    def url(self, mailbox: str = HERE) -> str:
        """Of the node that serves a mailbox; of the trust's for any other."""
        return f"http://127.0.0.1:{self.nodes[AGENCIES.get(mailbox, TRUST)].port}"

    async def ask(
        self,
        method: str,
        path: str,
        *,
        mailbox: str = HERE,
        at: str = "",
        accept: str = V2,
        authorization: str | None = None,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
    ) -> Answer:
        """One request, at the node of `mailbox` or `at`. `path` begins after the mailbox, or is whole."""
        where = path if path.startswith("/messageexchange") else f"/messageexchange/{mailbox}{path}"
        sent = {"Accept": accept, "Authorization": authorization or token(mailbox), **(headers or {})}
        async with self.session.request(
            method,
            f"{self.url(at or mailbox)}{where}",
            headers={name: value for name, value in sent.items() if value != "-"},
            data=io.BytesIO(data) if isinstance(data, bytes) and len(data) > LARGE else data,
            auto_decompress=False,
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def send(
        self, data: Any = b"body", *, to: str = THERE, workflow: str = WORKFLOW, **more: Any
    ) -> Answer:
        """POST outbox."""
        wanted = {"Mex-To": to, "Mex-WorkflowID": workflow, "Content-Type": "application/octet-stream"}
        headers = {**wanted, **more.pop("headers", {})}
        return await self.ask("POST", "/outbox", headers=headers, data=data, **more)

    async def accepted(self, data: Any = b"body", **more: Any) -> str:
        """The identifier of a message that was accepted."""
        answer = await self.send(data, **more)
        assert answer.status == 202, answer.body
        return str(answer.json["message_id"])

    async def chunk(self, message_id: str, number: int, total: int, data: bytes, **more: Any) -> Answer:
        """POST outbox/{message_id}/{chunk_number}."""
        headers = {"Mex-Chunk-Range": f"{number}:{total}"} | more.pop("headers", {})
        return await self.ask("POST", f"/outbox/{message_id}/{number}", headers=headers, data=data, **more)

    async def listed(self, mailbox: str = THERE) -> list[str]:
        """What waits."""
        return list((await self.ask("GET", "/inbox", mailbox=mailbox)).json["messages"])

    async def arrived(self, message_id: str, mailbox: str = THERE) -> None:
        """Wait until it is there."""

        async def there() -> bool:
            return message_id in await self.listed(mailbox)

        await until(there, f"arrival of {message_id}")


@asynccontextmanager
async def mesh_world(folder: Path, settings: str = SETTINGS) -> AsyncIterator[MeshWorld]:
    """A world, stopped at the end."""
    provision(folder, settings)
    nodes: dict[AgencyId, Node] = {}
    own: dict[AgencyId, Client] = {}
    try:
        for agency in (TRUST, COUNCIL):
            found = config.load(folder / agency)
            nodes[agency] = Node(found)
            await nodes[agency].start()
            tokens = found.path(found.node.tokens)
            secret = auth.create_token(tokens, agency, frozenset(Permission), now_ms())
            own[agency] = Client(f"http://127.0.0.1:{nodes[agency].port}", secret)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
            yield MeshWorld(nodes, session, own)
    finally:
        for client in own.values():
            await client.close()
        for node in nodes.values():
            await node.stop()


@functools.cache
def specification() -> Any:
    """NHS England's OpenAPI document."""
    return yaml.safe_load(SPECIFICATION.read_text("utf-8"))


def matches(answer: Answer, method: str, path: str, media_type: str) -> None:
    """Hold an answer to the MESH API."""
    told = specification()["paths"][path][method]["responses"][str(answer.status)]
    assert answer.headers["Content-Type"].startswith(media_type)
    schema = told["content"][media_type if media_type in told["content"] else "application/json"]["schema"]
    jsonschema.Draft202012Validator(schema).validate(answer.json)
    assert set(answer.json) <= set(schema["properties"])
