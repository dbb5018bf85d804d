"""NHS England's MESH sandbox as a process of its own, and what it does at a given concurrency."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
import urllib.request
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.peers.bare import Bare
from bench.ports import free_port

ROUND = 256
"""Messages between two resets: for each request the sandbox looks through all it holds; this spares it."""


@dataclass(frozen=True)
class Figures:
    """Messages a second, and CPU seconds for each."""

    sent: float
    collected: float
    end_to_end: float
    """Both at once: what the others are compared with."""
    server_cpu: float
    client_cpu: float


class Client:
    """A subprocess that runs drive_mesh.py for us."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, python: Path, url: str, body: bytes) -> Client:
        """Start it and say where and what."""
        script = Path(__file__).with_name("drive_mesh.py")
        client = cls(await asyncio.create_subprocess_exec(python, script, stdin=PIPE, stdout=PIPE))
        await client._say({"url": url, "body": base64.b64encode(body).decode()})
        return client

    async def _say(self, what: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what).encode() + b"\n")
        await self._process.stdin.drain()

    async def do(self, what: str, count: int, in_flight: int) -> float:
        """Have it send or collect; the CPU seconds it took."""
        assert self._process.stdout is not None
        await self._say({"do": what, "count": count, "in_flight": in_flight})
        async with asyncio.timeout(300):
            line = await self._process.stdout.readline()
        if not line:
            raise OSError("mesh-client ended")
        return float(json.loads(line)["cpu"])

    async def stop(self) -> None:
        """End it."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def sandbox(python: Path, folder: Path) -> AsyncIterator[tuple[str, int]]:
    """Its URL and pid. Everything in memory, one worker: it cannot have more."""
    port = free_port()
    options = ("--host", "127.0.0.1", "--port", str(port), "--log-level", "error", "--no-access-log")
    with (folder / "mesh-sandbox.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(python, "-m", "uvicorn", "mesh_sandbox.api:app", *options),
            env=os.environ | {"STORE_MODE": "memory", "SHARED_KEY": "Banana"},
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(_answers, url):
                if process.returncode is not None:
                    raise OSError("mesh-sandbox did not start")
                await asyncio.sleep(0.1)
        yield url, process.pid
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2):
            return True
    except OSError:
        return False


async def measure(
    url: str,
    pid: int,
    sender: Client | Bare,
    recipient: Client | Bare,
    *,
    rounds: int,
    in_flight: int,
    size: int = ROUND,
) -> Figures:
    """Send and then collect; then both at once; in rounds of `size` messages, once warm."""
    await sender.do("send", ROUND, in_flight)
    await recipient.do("collect", ROUND, in_flight)
    await asyncio.to_thread(_reset, url)
    spent = dict.fromkeys(("send", "collect", "both"), 0.0)
    server, clients = 0.0, 0.0
    for _ in range(rounds):
        started = time.perf_counter()
        await sender.do("send", size, in_flight)
        sent = time.perf_counter()
        await recipient.do("collect", size, in_flight)
        collected = time.perf_counter()
        await asyncio.to_thread(_reset, url)
        cpu, again = _cpu(pid), time.perf_counter()
        used = await asyncio.gather(
            sender.do("send", size, in_flight), recipient.do("collect", size, in_flight)
        )
        ended = time.perf_counter()
        spent["send"] += sent - started
        spent["collect"] += collected - sent
        spent["both"] += ended - again
        server += _cpu(pid) - cpu
        clients += sum(used)
        await asyncio.to_thread(_reset, url)
    count = rounds * size
    return Figures(
        count / spent["send"],
        count / spent["collect"],
        count / spent["both"],
        server / count,
        clients / count,
    )


def _reset(url: str) -> None:
    asked = urllib.request.Request(f"{url}/messageexchange/admin/reset", method="DELETE")
    with urllib.request.urlopen(asked, timeout=30):
        pass


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system
