"""Two agencies of one node send to each other: one database holds what both of them know of an envelope."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway import config
from gateway.http import auth
from gateway.http.client import Client
from gateway.http.ports import Permission
from gateway.messages import AgencyId, LawfulBasis, Purpose, Sector
from gateway.node import Node, now_ms
from gateway.provisioning import NewAgency, NewAgreement, agree, init_node
from tests.road import send
from tests.world import POLICE, SCHOOL, until


@pytest.fixture
async def clients(tmp_path: Path) -> AsyncIterator[dict[AgencyId, Client]]:
    """A client of each agency, both at the same node."""
    today, both = datetime.now(UTC) - timedelta(days=1), (SCHOOL, POLICE)
    for agency in both:
        init_node(
            tmp_path / "node",
            NewAgency(agency, agency.title(), Sector.HEALTH),
            directory=tmp_path / "directory.json",
            spool=tmp_path / "spool",
            port=0,
            admin_port=0,
        )
    agreement = NewAgreement(
        *("all", both, both, ("referral",), tuple(Purpose), tuple(LawfulBasis)),
        starts=today,
        ends=today + timedelta(days=9),
    )
    agree(tmp_path / "directory.json", agreement, replies=False)
    settings = config.load(tmp_path / "node")
    node = Node(settings)
    await node.start()
    tokens = settings.path(settings.node.tokens)
    found = {
        agency: Client(
            f"http://127.0.0.1:{node.port}",
            auth.create_token(tokens, agency, frozenset(Permission), now_ms()),
        )
        for agency in both
    }
    yield found
    for client in found.values():
        await client.close()
    await node.stop()


async def stages(school: Client, message_id: str) -> list[str]:
    ladder = (await school.status(message_id))["recipients"][0]
    return [receipt["stage"] for receipt in ladder["receipts"]]


async def test_a_message_to_a_neighbour_arrives_and_is_delivered(clients: dict[AgencyId, Client]) -> None:
    school, police = clients[SCHOOL], clients[POLICE]
    key = str(uuid.uuid4())
    message_id = (await send(school, idempotency_key=key))["message_id"]

    async def arrived() -> bool:
        return [one["message_id"] for one in (await police.inbox(wait=1))["messages"]] == [message_id]

    await until(arrived, "arrival", timeout=5)
    await police.ack([message_id])

    async def delivered() -> bool:
        return bool((await school.status(message_id))["recipients"][0]["stage"] == "delivered")

    await until(delivered, "delivered", timeout=5)
    assert await stages(school, message_id) == ["accepted", "received", "delivered"]


async def test_a_neighbour_rejects(clients: dict[AgencyId, Client]) -> None:
    message_id = (await send(clients[SCHOOL]))["message_id"]

    async def arrived() -> bool:
        return bool((await clients[POLICE].inbox(wait=1))["messages"])

    await until(arrived, "arrival", timeout=5)
    await clients[POLICE].reject(message_id, reason="wrong-agency")

    async def rejected() -> bool:
        return bool((await clients[SCHOOL].status(message_id))["recipients"][0]["stage"] == "rejected")

    await until(rejected, "rejected", timeout=5)
