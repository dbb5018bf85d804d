"""A run: one system sends, another collects, faults come in between; then all are well, and we count."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import uuid
from collections import Counter
from dataclasses import dataclass, field

from bench.nodes import RECIPIENT, SENDER, BenchNode
from gateway.crypto import proof
from gateway.directory import file as directory_file
from gateway.errors import ReceiptInvalid
from gateway.http.client import ApiProblem, Client, Unreachable
from gateway.messages import FINAL_STAGES
from tests.faults.ground import Ground
from tests.faults.history import Findings, History, check
from tests.road import referral

SENDERS = 6
"""Requests under way at once."""
TRY = 8.0
"""Seconds a system waits for one answer before it asks again."""
PAUSE = 0.1
"""Seconds between two attempts."""
FINISH = 90.0
"""Seconds after the last fault within which everything must have arrived."""
_BODY = json.dumps(referral()).encode()
_FINAL = {stage.value for stage in FINAL_STAGES}
_TROUBLE = (ApiProblem, Unreachable, TimeoutError, OSError)


@dataclass
class Result:
    """What came of a run."""

    findings: Findings
    requests: int
    accepted: int
    delivered: int
    faults: Counter[str] = field(default_factory=Counter)


class Run:
    """One run over a ground."""

    def __init__(self, ground: Ground, *, messages: int, seed: int = 0, finish: float = FINISH) -> None:
        self._ground = ground
        self._keys = [str(uuid.UUID(int=random.Random(seed).getrandbits(128) + n)) for n in range(messages)]
        self._random = random.Random(seed)
        self._finish = finish
        self._done: set[str] = set()
        self._unanswered: set[str] = set()
        """Messages whose acknowledgement was sent and not answered: it may or may not count."""
        self.history = History()
        self.faults: Counter[str] = Counter()
        self._sent_all = asyncio.Event()

    async def play(self, faults: int) -> Result:
        """Send, collect, inject `faults` faults evenly over the messages, heal, wait, count."""
        collecting = asyncio.ensure_future(self._collect())
        injecting = asyncio.ensure_future(self._inject(faults))
        waiting: asyncio.Queue[str] = asyncio.Queue()
        for key in self._keys:
            waiting.put_nowait(key)
        await asyncio.gather(*(self._send(waiting) for _ in range(SENDERS)))
        self._sent_all.set()
        await injecting
        await self._wait_until_final()
        collecting.cancel()
        await asyncio.wait({collecting})
        history = self.history
        return Result(
            check(history), len(self._keys), len(history.accepted), len(history.acknowledged), self.faults
        )

    def _client(self, agency: str) -> Client:
        node: BenchNode = self._ground.nodes[agency]
        return Client(node.url, node.token, timeout=TRY)

    async def _send(self, waiting: asyncio.Queue[str]) -> None:
        """As a local system does: the same key until it has an answer."""
        while not waiting.empty():
            key = waiting.get_nowait()
            while key not in self._done:
                client = self._client(SENDER)
                try:
                    answer = await client.send(
                        _BODY,
                        media_type="application/json",
                        to=[RECIPIENT],
                        purpose="prevent",
                        lawful_basis="public-task",
                        idempotency_key=key,
                    )
                    self.history.answered(key, answer["message_id"])
                    self._done.add(key)
                except _TROUBLE:
                    await asyncio.sleep(PAUSE)
                finally:
                    await client.close()

    async def _collect(self) -> None:
        """As a local system does: list, open, acknowledge; an acknowledgement without an answer again."""
        while True:
            client = self._client(RECIPIENT)
            try:
                for message_id in list(self._unanswered):
                    await self._acknowledge(client, message_id)
                page = await client.inbox(wait=1)
                for one in page["messages"]:
                    await self._take(client, one["message_id"])
            except _TROUBLE:
                await asyncio.sleep(PAUSE)
            finally:
                await client.close()

    async def _take(self, client: Client, message_id: str) -> None:
        if message_id in self.history.acknowledged:
            self.history.listed_after_ack[message_id] += 1
        await client.open(message_id)
        self._unanswered.add(message_id)
        await self._acknowledge(client, message_id)

    async def _acknowledge(self, client: Client, message_id: str) -> None:
        await client.ack([message_id])
        self._unanswered.discard(message_id)
        self.history.acknowledged[message_id] += 1

    async def _inject(self, faults: int) -> None:
        """One fault after every so many answers, each over before the next."""
        possible = self._ground.faults()
        for number in range(faults):
            wanted = len(self._keys) * (number + 1) // (faults + 1)
            while len(self._done) < wanted and not self._sent_all.is_set():  # noqa: ASYNC110 - a count
                await asyncio.sleep(PAUSE)
            name, fault = self._random.choice(possible)
            self.faults[name] += 1
            await asyncio.to_thread(fault)

    async def _wait_until_final(self) -> None:
        """Wait until every ladder is final, or time is over; then verify every receipt."""
        known = set().union(*self.history.accepted.values())
        ends = asyncio.get_running_loop().time() + self._finish
        while known - self.history.final.keys() and asyncio.get_running_loop().time() < ends:
            for message_id in sorted(known - self.history.final.keys()):
                try:
                    await self._look(message_id)
                except _TROUBLE:
                    break
            await asyncio.sleep(PAUSE)
        for message_id in known - self.history.final.keys():
            self.history.final[message_id] = "unknown"

    async def _look(self, message_id: str) -> None:
        client = self._client(SENDER)
        try:
            (ladder,) = (await client.status(message_id))["recipients"]
        finally:
            await client.close()
        if ladder["stage"] in _FINAL:
            self.history.final[message_id] = ladder["stage"]
            directory = self._ground.nodes[SENDER].folder.parent / "directory.json"
            find = directory_file.load(directory).verify_key
            for receipt in ladder["receipts"]:
                text = receipt["receipt"]
                try:
                    proof.verify_receipt(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), find)
                except ReceiptInvalid:
                    self.history.unverified += 1
