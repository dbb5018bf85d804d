"""Promises that only real processes can show: memory while an attachment streams, and kill -9."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.nodes import RECIPIENT, SENDER, BenchNode, restart, start_pair
from gateway.http.client import ApiProblem, Client, File, Unreachable
from gateway.transport import topology
from tests.road import referral
from tests.world import until

MIB = 1024 * 1024
SIZE = 100 * MIB
LIMIT = 300 * MIB


@pytest.fixture(params=["embedded", "rabbitmq"])
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[list[BenchNode]]:
    """The sender's and the recipient's node, in processes of their own, on each transport."""
    broker = request.getfixturevalue("broker_url") if request.param == "rabbitmq" else ""
    if broker:
        await topology.declare(broker, [SENDER, RECIPIENT])
    nodes = list(start_pair(tmp_path, broker))
    yield nodes
    for node in nodes:
        node.stop()


def pieces(seed: int) -> Iterator[bytes]:
    """A hundred MiB of noise, the same each time."""
    noise = random.Random(seed)
    for _ in range(SIZE // MIB):
        yield noise.randbytes(MIB)


async def stream(seed: int) -> AsyncIterator[bytes]:
    """The same as a stream."""
    for piece in pieces(seed):
        yield piece


async def send(client: Client, **change: Any) -> dict[str, Any]:
    """Send a referral from the bench's sender."""
    arguments: dict[str, Any] = {
        "media_type": "application/json",
        "to": [RECIPIENT],
        "purpose": "prevent",
        "lawful_basis": "public-task",
        "idempotency_key": str(uuid.uuid4()),
    }
    return await client.send(json.dumps(referral()).encode(), **(arguments | change))


async def test_a_hundred_megabytes_cross_in_less_than_three_hundred_of_memory(pair: list[BenchNode]) -> None:
    sender, recipient = Client(pair[0].url, pair[0].token), Client(pair[1].url, pair[1].token)
    digest = hashlib.sha256()
    for piece in pieces(7):
        digest.update(piece)
    field = f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    accepted = await send(
        sender, attachments=[File("scan.bin", "application/octet-stream", stream(7), field)]
    )

    async def there() -> bool:
        return bool((await recipient.inbox(wait=20))["messages"])

    await until(there, "arrival", timeout=90)
    arrived = hashlib.sha256()
    async for piece in recipient.attachment(accepted["message_id"], 0):
        arrived.update(piece)
    assert arrived.digest() == digest.digest()
    await recipient.ack([accepted["message_id"]])
    for node in pair:
        assert node.peak() < LIMIT
    await sender.close()
    await recipient.close()


async def test_what_was_answered_with_202_survives_kill_9_at_both_ends(pair: list[BenchNode]) -> None:
    """Both nodes are killed while messages flow; every accepted one arrives, each once."""
    accepted: dict[str, str] = {}
    keys = [str(uuid.uuid4()) for _ in range(60)]
    received: list[str] = []
    for round_ in range(3):
        sender = Client(pair[0].url, pair[0].token)
        for key in keys[round_ * 20 : round_ * 20 + 20]:
            accepted[key] = (await send(sender, idempotency_key=key))["message_id"]
        pair[round_ % 2].process.send_signal(signal.SIGKILL)
        pair[round_ % 2].process.wait(30)
        await sender.close()
        pair[round_ % 2] = restart(pair[round_ % 2])
    sender, recipient = Client(pair[0].url, pair[0].token), Client(pair[1].url, pair[1].token)
    for key, message_id in accepted.items():
        assert (await send(sender, idempotency_key=key))["message_id"] == message_id

    async def collected() -> bool:
        try:
            page = await recipient.inbox(wait=1)
            ids = [one["message_id"] for one in page["messages"]]
            if ids:
                await recipient.ack(ids)
        except (Unreachable, ApiProblem):
            return False
        received.extend(ids)
        return len(received) >= len(accepted)

    await until(collected, "all arrive", timeout=60)
    assert sorted(received) == sorted(accepted.values())

    async def final() -> bool:
        return all(
            [
                (await sender.status(message_id))["recipients"][0]["stage"] == "delivered"
                for message_id in accepted.values()
            ]
        )

    await until(final, "every ladder is final", timeout=60)
    await sender.close()
    await recipient.close()


def test_a_node_without_keys_or_database_says_what_to_do(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "run", "--node", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "gateway init" in done.stderr
