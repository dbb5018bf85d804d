"""The demo's world: five agencies, each with a node of its own in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway import config
from gateway.engine.tasks import Tasks
from gateway.errors import StartupError
from gateway.http import auth
from gateway.http.client import Client
from gateway.http.ports import Permission
from gateway.messages import AgencyId, LawfulBasis, Purpose, Sector
from gateway.provisioning import NewAgency, NewAgreement, agree, init_node
from gateway.transport import topology

START_TIMEOUT = 30.0
"""Seconds a node may take to listen."""
STOP_TIMEOUT = 20.0

ACADEMY = AgencyId("northtown-academy")
HOSPITAL = AgencyId("northtown-hospital")
POLICE = AgencyId("northtown-police")
HOUSING = AgencyId("northtown-housing")
COUNCIL = AgencyId("northtown-council")

AGENCIES = (
    NewAgency(ACADEMY, "Northtown Academy", Sector.EDUCATION),
    NewAgency(HOSPITAL, "Northtown General Hospital", Sector.HEALTH),
    NewAgency(POLICE, "Northtown Police Prevent Team", Sector.POLICE),
    NewAgency(HOUSING, "Northtown Homes", Sector.HOUSING),
    NewAgency(COUNCIL, "Northtown Council", Sector.LOCAL_AUTHORITY),
)

_BASES = (LawfulBasis.PUBLIC_TASK, LawfulBasis.LEGAL_OBLIGATION)
_AGREEMENTS = (
    ("prevent", (ACADEMY, HOSPITAL, COUNCIL, HOUSING), (POLICE,), (Purpose.PREVENT,)),
    (
        "safeguarding",
        (ACADEMY, HOSPITAL, POLICE),
        (COUNCIL,),
        (Purpose.SAFEGUARDING_CHILDREN, Purpose.SAFEGUARDING_ADULTS, Purpose.EARLY_HELP, Purpose.HEALTH_CARE),
    ),
    ("duty-to-refer", (POLICE, HOSPITAL), (HOUSING,), (Purpose.HOMELESSNESS,)),
)


@dataclass(slots=True)
class RunningNode:
    """One agency's node."""

    agency: NewAgency
    client: Client
    process: asyncio.subprocess.Process
    log: Tasks


@dataclass(slots=True)
class World:
    """What the story plays in."""

    folder: Path
    directory: Path
    spool: Path
    nodes: dict[AgencyId, RunningNode] = field(default_factory=dict)

    def client(self, agency: AgencyId) -> Client:
        """The API as this agency's own system uses it."""
        return self.nodes[agency].client


@asynccontextmanager
async def five_agencies(folder: Path, broker: str) -> AsyncIterator[World]:
    """Set the agencies up, start their nodes, and stop them again, whatever happens."""
    world = World(folder, folder / "directory.json", folder / "spool")
    for agency in AGENCIES:
        init_node(
            folder / agency.id,
            agency,
            directory=world.directory,
            spool=None if broker else world.spool,
            broker=broker,
            port=0,
            admin_port=0,
        )
    today = datetime.now(UTC) - timedelta(hours=1)
    for name, senders, recipients, purposes in _AGREEMENTS:
        new = NewAgreement(
            name, senders, recipients, ("referral",), purposes, _BASES, today, today + timedelta(days=365)
        )
        agree(world.directory, new, replies=True)
    if broker:
        await topology.declare(broker, [agency.id for agency in AGENCIES])
    try:
        started = await asyncio.gather(
            *(_start(folder / agency.id, agency) for agency in AGENCIES), return_exceptions=True
        )
        world.nodes = {node.agency.id: node for node in started if isinstance(node, RunningNode)}
        for outcome in started:
            if isinstance(outcome, BaseException):
                raise outcome
        yield world
    finally:
        await asyncio.gather(*(_stop(node) for node in world.nodes.values()))


async def _start(folder: Path, agency: NewAgency) -> RunningNode:
    settings = config.load(folder)
    token = auth.create_token(
        settings.path(settings.node.tokens),
        agency.id,
        frozenset({Permission.SEND, Permission.RECEIVE}),
        int(datetime.now(UTC).timestamp() * 1000),
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "run", "--node", str(folder)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(START_TIMEOUT):
            port = await _listening(process.stderr)
    except (TimeoutError, EOFError):
        process.kill()
        await process.wait()
        raise StartupError(f"the node of {agency.id} did not start; see {folder / 'node.log'}") from None
    log, stderr = Tasks(on_failure=lambda name, error: None), process.stderr
    log.spawn(lambda: _drain(stderr, folder / "node.log"), f"log-{agency.id}")
    return RunningNode(agency, Client(f"http://127.0.0.1:{port}", token), process, log)


async def _listening(stderr: asyncio.StreamReader) -> int:
    """Read the node's log until it says which port it listens on."""
    while line := await stderr.readline():
        with suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict) and entry.get("event") == "node-started":
                return int(entry["port"])
    raise EOFError


async def _drain(stderr: asyncio.StreamReader, log: Path) -> None:
    with log.open("ab") as file:
        while line := await stderr.readline():
            file.write(line)


async def _stop(node: RunningNode) -> None:
    await node.client.close()
    if node.process.returncode is None:
        node.process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await node.process.wait()
        except TimeoutError:
            node.process.kill()
            await node.process.wait()
    await node.log.cancel()
