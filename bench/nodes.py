"""Two nodes in processes of their own, as an agency would run them, and what the system says of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

import psutil

from bench.ports import free_port
from gateway import config
from gateway.http import auth
from gateway.http.ports import Permission
from gateway.messages import AgencyId, LawfulBasis, Purpose, Sector
from gateway.provisioning import NewAgency, NewAgreement, agree, init_node

PROGRAM = ("-m", "gateway")
SENDER, RECIPIENT = AgencyId("sender"), AgencyId("recipient")


@dataclass
class BenchNode:
    """A node under load."""

    process: subprocess.Popen[bytes]
    url: str
    admin: str
    token: str
    folder: Path
    ports: tuple[int, int]

    def cpu(self) -> float:
        """CPU seconds used so far, user and system."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    def rss(self) -> int:
        """Resident memory, bytes."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def peak(self) -> int:
        """Largest resident memory so far, bytes (VmHWM)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics by its name and labels."""
        with urllib.request.urlopen(f"{self.admin}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return {m[1]: float(m[2]) for m in re.finditer(r"^([^#\s]\S*(?:\{.*\})?) (\S+)$", text, re.MULTILINE)}

    def stop(self) -> None:
        """Stop it by its pid."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_pair(
    folder: Path, broker: str = "", databases: Mapping[AgencyId, str] = MappingProxyType({})
) -> tuple[BenchNode, BenchNode]:
    """Set up and start the sender's and the recipient's node; without a broker, over a spool.

    `databases` are URLs of empty PostgreSQL databases; without them each node has a SQLite file.
    """
    provision_pair(folder, broker, databases)
    return start(folder / SENDER), start(folder / RECIPIENT)


def provision_pair(
    folder: Path, broker: str = "", databases: Mapping[AgencyId, str] = MappingProxyType({})
) -> None:
    """Set both nodes up, with an agreement between them; start nothing."""
    directory = folder / "directory.json"
    for agency in (SENDER, RECIPIENT):
        init_node(
            folder / agency,
            NewAgency(agency, agency.title(), Sector.HEALTH),
            directory=directory,
            spool=None if broker else folder / "spool",
            broker=broker,
            database=databases.get(agency, ""),
            port=free_port(),
            admin_port=free_port(),
        )
    today = datetime.now(UTC) - timedelta(hours=1)
    agreement = NewAgreement(
        "bench",
        (SENDER,),
        (RECIPIENT,),
        ("referral",),
        tuple(Purpose),
        tuple(LawfulBasis),
        today,
        today + timedelta(days=2),
    )
    agree(directory, agreement, replies=True)


def start_twin(node: BenchNode) -> BenchNode:
    """Start another process of the same node, which needs PostgreSQL for that."""
    return _launch(node.folder, node.token, (free_port(), free_port()))


def restart(node: BenchNode, program: Sequence[str] = PROGRAM) -> BenchNode:
    """Start a node again that was stopped or killed, on its ports."""
    return _launch(node.folder, node.token, node.ports, program)


def start(folder: Path) -> BenchNode:
    """Start a node that was set up, with a token for its agency."""
    settings = config.load(folder)
    token = auth.create_token(
        settings.path(settings.node.tokens),
        AgencyId(settings.node.agencies[0]),
        frozenset({Permission.SEND, Permission.RECEIVE}),
        int(time.time() * 1000),
    )
    return _launch(folder, token)


def _launch(
    folder: Path, token: str, ports: tuple[int, int] | None = None, program: Sequence[str] = PROGRAM
) -> BenchNode:
    http = config.load(folder).http
    port, admin_port = ports or (http.port, http.admin_port)
    with (folder / "node.log").open("ab") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, *program, "run", "--node", str(folder), "--log-level", "warning"),
                *("--port", str(port), "--admin-port", str(admin_port)),
            ],
            stderr=log,
        )
    node = BenchNode(
        process,
        f"http://127.0.0.1:{port}",
        f"http://127.0.0.1:{admin_port}",
        token,
        folder,
        (port, admin_port),
    )
    _until_ready(node)
    return node


def _until_ready(node: BenchNode) -> None:
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        if node.process.poll() is not None:
            raise SystemExit(f"a node did not start: {(node.folder / 'node.log').read_text()[-500:]}")
        try:
            with urllib.request.urlopen(f"{node.admin}/readyz", timeout=2) as answer:
                if json.load(answer):
                    return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("a node was not ready within a minute")
