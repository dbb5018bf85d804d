"""What users have today, measured in the same run on the same machine: MESH's sandbox, and AS2.

Their packages live in an environment of their own, .build/peers-venv, made when it is first needed.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bench.peers import sandbox
from bench.peers.bare import Bare
from bench.peers.sandbox import Client, Figures

VENV = Path(__file__).parents[2] / ".build" / "peers-venv"
HELD = 2_000
"""Messages in one go, as an inbox of a busy morning: no more than the sandbox does in a minute."""
REQUIREMENTS = Path(__file__).with_name("requirements.txt")


@dataclass(frozen=True)
class Peers:
    """What was measured."""

    mesh: Figures
    """Driven by mesh-client, a thread for each request in flight."""
    bare: Figures
    """Driven by a plain asynchronous client."""
    held: Figures
    """The same client, without a reset in between: the sandbox holds HELD messages at the end."""
    as2: float
    """Exchanges a second in one process."""
    as2_cpu: float
    """CPU seconds for each."""


def prepare() -> Path | None:
    """Make the environment if it is not there; None, and one line, if that fails."""
    python = VENV / "bin" / "python"
    done, wanted = VENV / ".installed", hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if done.exists() and done.read_text() == wanted:
        return python
    try:
        _run(sys.executable, "-m", "venv", "--clear", str(VENV))
        _run(str(python), "-m", "pip", "install", "--no-deps", "--requirement", str(REQUIREMENTS))
    except (OSError, subprocess.SubprocessError):
        print("peers: mesh-sandbox, mesh-client and pyas2lib cannot be installed here; left out\n")
        return None
    done.write_text(wanted)
    return python


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=300)


async def measure(
    python: Path, folder: Path, body: bytes, *, in_flight: int, rounds: int = 4
) -> Peers | None:
    """All of them, one after the other; None, and one line, if one does not work here."""
    try:
        async with sandbox.sandbox(python, folder) as (url, pid):
            async with _clients(python, url, body) as (sender, recipient):
                mesh = await sandbox.measure(url, pid, sender, recipient, rounds=rounds, in_flight=in_flight)
            limits = aiohttp.TCPConnector(limit=2 * in_flight + 8)
            async with aiohttp.ClientSession(connector=limits) as session:
                one = Bare(session, url, body)
                bare = await sandbox.measure(url, pid, one, one, rounds=rounds, in_flight=in_flight)
                held = await sandbox.measure(url, pid, one, one, rounds=1, in_flight=in_flight, size=HELD)
        as2, as2_cpu = await _as2(python, body)
    except (OSError, ValueError, TimeoutError) as error:
        print(f"peers: left out, {type(error).__name__}: {error}\n")
        return None
    return Peers(mesh, bare, held, as2, as2_cpu)


@asynccontextmanager
async def _clients(python: Path, url: str, body: bytes) -> AsyncIterator[tuple[Client, Client]]:
    """The sender's and the recipient's system, a process each."""
    sender = await Client.start(python, url, body)
    recipient = await Client.start(python, url, body)
    try:
        yield sender, recipient
    finally:
        await sender.stop()
        await recipient.stop()


async def _as2(python: Path, body: bytes, seconds: float = 5.0) -> tuple[float, float]:
    script = Path(__file__).with_name("drive_as2.py")
    process = await asyncio.create_subprocess_exec(python, script, stdin=PIPE, stdout=PIPE)
    asked = {"body": base64.b64encode(body).decode(), "seconds": seconds}
    try:
        async with asyncio.timeout(120):
            answered, _ = await process.communicate(json.dumps(asked).encode() + b"\n")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise OSError("pyas2lib does not work here")
    answer = json.loads(answered)
    return answer["count"] / answer["seconds"], answer["cpu"] / answer["count"]
