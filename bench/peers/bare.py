"""MESH's API from a plain asynchronous client: without the cost of mesh-client and its threads."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import aiohttp

SENDER, RECIPIENT = "X26ABC1", "X26ABC2"
KEY = b"Banana"
PAUSE = 0.02
"""Seconds between two looks into an inbox that had nothing new."""
ACCEPT = "application/vnd.mesh.v2+json"


class Bare:
    """Does what drive_mesh.py does, in this process."""

    def __init__(self, session: aiohttp.ClientSession, url: str, body: bytes) -> None:
        self._session, self._url, self._body = session, f"{url}/messageexchange", body

    async def do(self, what: str, count: int, in_flight: int) -> float:
        """Send or collect; the CPU seconds are not told apart from the caller's and so not given."""
        await (self._send(count, in_flight) if what == "send" else self._collect(count, in_flight))
        return 0.0

    async def _send(self, count: int, in_flight: int) -> None:
        headers = {"Mex-To": RECIPIENT, "Mex-WorkflowID": "BENCH", "Mex-Chunk-Range": "1:1"}
        numbers = iter(range(count))

        async def worker() -> None:
            for _ in numbers:
                await self._ask("POST", SENDER, "outbox", 202, headers)

        await _together(in_flight, worker)

    async def _collect(self, count: int, in_flight: int) -> None:
        queue: asyncio.Queue[str | None] = asyncio.Queue()

        async def worker() -> None:
            while (message_id := await queue.get()) is not None:
                if await self._ask("GET", RECIPIENT, f"inbox/{message_id}", 200) != self._body:
                    raise SystemExit("the sandbox handed something else over")
                await self._ask("PUT", RECIPIENT, f"inbox/{message_id}/status/acknowledged", 200)

        async def lister() -> None:
            seen: set[str] = set()
            while len(seen) < count:
                async with self._session.get(
                    self._path(RECIPIENT, "inbox"), headers=_head(RECIPIENT)
                ) as answer:
                    listed = (await answer.json(content_type=None))["messages"]
                new = [one for one in listed if one not in seen]
                seen.update(new)
                for message_id in new:
                    queue.put_nowait(message_id)
                while not queue.empty():  # noqa: ASYNC110 - pages overlap, so not queue.join()
                    await asyncio.sleep(0.002)
                if not new:
                    await asyncio.sleep(PAUSE)
            for _ in range(in_flight):
                queue.put_nowait(None)

        await asyncio.gather(lister(), _together(in_flight, worker))

    def _path(self, mailbox: str, rest: str) -> str:
        return f"{self._url}/{mailbox}/{rest}"

    async def _ask(
        self, method: str, mailbox: str, rest: str, wanted: int, headers: dict[str, str] | None = None
    ) -> bytes:
        data = self._body if method == "POST" else None
        asked = self._session.request(
            method, self._path(mailbox, rest), headers=_head(mailbox) | (headers or {}), data=data
        )
        async with asked as answer:
            if answer.status != wanted:
                raise SystemExit(f"the sandbox answered {answer.status}")
            return await answer.read()


async def _together(in_flight: int, worker: Callable[[], Awaitable[None]]) -> None:
    await asyncio.gather(*(worker() for _ in range(in_flight)))


def _head(mailbox: str) -> dict[str, str]:
    """MESH's own authorisation: a keyed hash of mailbox, nonce, count, password, minute."""
    nonce, minute = uuid.uuid4(), datetime.fromtimestamp(time.time(), UTC).strftime("%Y%m%d%H%M")
    secret = f"{mailbox}:{nonce}:1:password:{minute}".encode()
    digest = hmac.new(KEY, secret, hashlib.sha256).hexdigest()
    return {
        "Authorization": f"NHSMESH {mailbox}:{nonce}:1:{minute}:{digest}",
        "Accept": ACCEPT,
        "Content-Type": "application/octet-stream",
    }
