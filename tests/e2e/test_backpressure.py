"""Promise 9: far above what it can do, a node says no with a time to come back, and keeps every 202."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bench.nodes import RECIPIENT, SENDER, BenchNode, restart, start_pair
from gateway import config
from gateway.http.client import ApiProblem, Client
from tests.road import referral
from tests.world import until

MIB = 1024 * 1024
REQUESTS, AT_ONCE = 3000, 160
"""Ten times as many at once as the limit below lets in."""
LIMITS = "\n[limits]\nrequests = 16\noutbox_envelopes = 40\n"


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[list[BenchNode]]:
    """Two nodes in processes of their own; the sender's has small limits."""
    nodes = list(start_pair(tmp_path))
    nodes[0].stop()
    with (tmp_path / SENDER / config.FILE_NAME).open("a") as file:
        file.write(LIMITS)
    nodes[0] = restart(nodes[0])
    yield nodes
    for node in nodes:
        node.stop()


async def test_ten_times_the_load_is_answered_with_no_and_every_yes_is_kept(pair: list[BenchNode]) -> None:
    sender, recipient = Client(pair[0].url, pair[0].token), Client(pair[1].url, pair[1].token)
    body = json.dumps(referral()).encode()
    accepted: set[str] = set()
    refused: Counter[tuple[int, str]] = Counter()
    room = asyncio.Semaphore(AT_ONCE)

    async def send(key: str) -> None:
        async with room:
            try:
                answer = await sender.send(
                    body,
                    media_type="application/json",
                    to=[RECIPIENT],
                    purpose="prevent",
                    lawful_basis="public-task",
                    idempotency_key=key,
                )
                accepted.add(answer["message_id"])
            except ApiProblem as problem:
                assert problem.retry_after, problem.code
                refused[problem.status, problem.code] += 1

    await asyncio.gather(*(send(str(uuid.uuid4())) for _ in range(REQUESTS // 10)))
    before = pair[0].peak()
    await asyncio.gather(*(send(str(uuid.uuid4())) for _ in range(REQUESTS)))
    assert accepted
    assert sum(refused.values()) > REQUESTS // 10, "it was not ten times too much"
    assert {status for status, _ in refused} <= {429, 503}
    assert {code for _, code in refused} <= {"busy", "outbox-full", "rate-limited"}
    assert pair[0].peak() - before < 32 * MIB

    arrived: list[str] = []

    async def all_there() -> bool:
        page = await recipient.inbox(wait=2, limit=100)
        ids = [one["message_id"] for one in page["messages"]]
        if ids:
            await recipient.ack(ids)
        arrived.extend(ids)
        return len(arrived) >= len(accepted)

    await until(all_there, "every 202 is honoured", timeout=80)
    assert sorted(arrived) == sorted(accepted)
    await sender.close()
    await recipient.close()
