"""The load: a sender's system that posts and a recipient's system that collects, over real HTTP."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, field

import aiohttp

from bench.nodes import RECIPIENT, BenchNode

WINDOW = 512
"""Referrals posted and not yet collected: the load that can go on for ever, not one that piles up."""
PARAMETERS = {"to": RECIPIENT, "purpose": "safeguarding-children", "lawful_basis": "public-task"}


@dataclass
class Outcome:
    """What one run of the load came to. Times are seconds."""

    accepted: dict[str, float] = field(default_factory=dict)
    """Message id -> when its POST began (perf_counter)."""
    answered: list[float] = field(default_factory=list)
    """POST to 202."""
    handed_over: list[float] = field(default_factory=list)
    """POST to the message, opened, in the recipient's system."""
    said_no: int = 0
    """429 and 503 answers, each repeated later with the same key."""
    seconds: float = 0.0
    """First POST to the last `delivered` receipt recorded at the sender's node."""


class Load:
    """Posts `count` referrals and collects them."""

    def __init__(self, sender: BenchNode, recipient: BenchNode, body: bytes) -> None:
        self._sender, self._recipient, self._body = sender, recipient, body

    async def run(self, count: int, *, in_flight: int, rate: float | None = None) -> Outcome:
        """As fast as `in_flight` posts at once allow, or at `rate` a second, evenly spaced."""
        outcome = Outcome()
        before = self._delivered()
        room = asyncio.Semaphore(WINDOW)
        limits = aiohttp.TCPConnector(limit=in_flight + 8)
        async with aiohttp.ClientSession(connector=limits) as session:
            started = time.perf_counter()
            collector = asyncio.ensure_future(self._collect(session, count, room, outcome))
            if rate is None:
                await self._as_fast(session, count, in_flight, room, outcome)
            else:
                await self._paced(session, count, rate, outcome)
            async with asyncio.timeout(600):
                await collector
            while self._delivered() - before < count:  # noqa: ASYNC110 - another process, seen by its metrics
                await asyncio.sleep(0.02)
            outcome.seconds = time.perf_counter() - started
        return outcome

    def _delivered(self) -> float:
        return self._sender.metrics().get('gateway_stages_total{stage="delivered"}', 0.0)

    async def _as_fast(
        self,
        session: aiohttp.ClientSession,
        count: int,
        in_flight: int,
        room: asyncio.Semaphore,
        outcome: Outcome,
    ) -> None:
        numbers = iter(range(count))

        async def worker() -> None:
            for _ in numbers:
                async with asyncio.timeout(600):
                    await room.acquire()
                await self._post(session, outcome)

        await asyncio.gather(*(worker() for _ in range(in_flight)))

    async def _paced(self, session: aiohttp.ClientSession, count: int, rate: float, outcome: Outcome) -> None:
        """Open loop: a slow answer does not slow the next post down."""
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                await asyncio.sleep(max(0.0, started + number / rate - time.perf_counter()))
                group.create_task(self._post(session, outcome))

    async def _post(self, session: aiohttp.ClientSession, outcome: Outcome) -> None:
        headers = {
            "Authorization": f"Bearer {self._sender.token}",
            "Idempotency-Key": uuid.uuid4().hex,
            "Content-Type": "application/json",
        }
        url = f"{self._sender.url}/v1/messages"
        began = time.perf_counter()
        while True:
            async with session.post(url, params=PARAMETERS, headers=headers, data=self._body) as answer:
                if answer.status == 202:
                    document = await answer.json()
                    outcome.accepted[document["message_id"]] = began
                    outcome.answered.append(time.perf_counter() - began)
                    return
                if answer.status not in {429, 503}:
                    raise SystemExit(f"the node answered {answer.status}: {await answer.text()}")
                outcome.said_no += 1
            await asyncio.sleep(0.25)

    async def _collect(
        self, session: aiohttp.ClientSession, count: int, room: asyncio.Semaphore, outcome: Outcome
    ) -> None:
        headers = {"Authorization": f"Bearer {self._recipient.token}"}
        url = f"{self._recipient.url}/v1/inbox"
        seen: dict[str, float] = {}
        while len(seen) < count:
            parameters = {"limit": "100", "wait": "5", "content": "true"}
            async with session.get(url, params=parameters, headers=headers) as answer:
                messages = (await answer.json())["messages"]
            now = time.perf_counter()
            ids = [message["message_id"] for message in messages]
            for message_id in ids:
                if message_id in seen:
                    raise SystemExit("a message was handed over twice")
                seen[message_id] = now
                room.release()
            if ids:
                async with session.post(f"{url}/ack", headers=headers, json={"message_ids": ids}) as answer:
                    if answer.status != 200:
                        raise SystemExit(f"ack answered {answer.status}")
        outcome.handed_over = [at - outcome.accepted[m] for m, at in seen.items() if m in outcome.accepted]
