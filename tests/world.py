"""A world of agencies in one process: real nodes, real HTTP, real stores, a real transport.

`World` starts a node for each agency named, with sharing agreements between all of them, over the
transport it is given. Nothing is mocked; a test reaches into a node's parts only to break them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

from gateway import config
from gateway.http import auth
from gateway.http.client import Client
from gateway.http.ports import Permission
from gateway.messages import AgencyId, LawfulBasis, Purpose, Sector
from gateway.node import Node, now_ms
from gateway.provisioning import NewAgency, NewAgreement, agree, init_node
from gateway.transport import topology

SCHOOL, POLICE, COUNCIL = AgencyId("school"), AgencyId("police"), AgencyId("council")
SECTORS = {SCHOOL: Sector.EDUCATION, POLICE: Sector.POLICE, COUNCIL: Sector.LOCAL_AUTHORITY}

QUICK = """
[times]
tick = 0.05
settle = 60.0
"""
"""Settings for tests of what time does."""
IMPATIENT = QUICK.replace("settle = 60.0", "settle = 0.0")
"""The same, for a sender that does not wait for the recipient's last word."""


@dataclass
class World:
    """Running nodes, one for each agency."""

    folder: Path
    directory: Path
    nodes: dict[AgencyId, Node] = field(default_factory=dict)
    clients: dict[AgencyId, Client] = field(default_factory=dict)

    async def start(self, agency: AgencyId) -> None:
        """Start (again) the node of an agency."""
        settings = config.load(self.folder / agency)
        node = Node(settings)
        await node.start()
        self.nodes[agency] = node
        token = auth.create_token(
            settings.path(settings.node.tokens),
            agency,
            frozenset({Permission.SEND, Permission.RECEIVE}),
            now_ms(),
        )
        self.clients[agency] = Client(f"http://127.0.0.1:{node.port}", token)

    async def stop(self, agency: AgencyId) -> None:
        """Stop the node of an agency."""
        await self.clients.pop(agency).close()
        await self.nodes.pop(agency).stop()


def provision(
    folder: Path,
    agencies: Sequence[AgencyId] = (SCHOOL, POLICE, COUNCIL),
    *,
    broker: str = "",
    databases: Mapping[AgencyId, str] = MappingProxyType({}),
    extra: Mapping[AgencyId, str] | str = "",
    agreements: bool = True,
) -> World:
    """Make the nodes' folders, keys, directory and agreements; start nothing."""
    world = World(folder, folder / "directory.json")
    for agency in agencies:
        init_node(
            folder / agency,
            NewAgency(agency, agency.title(), SECTORS.get(agency, Sector.HEALTH)),
            directory=world.directory,
            spool=None if broker else folder / "spool",
            broker=broker,
            database=databases.get(agency, ""),
            port=0,
            admin_port=0,
        )
        more = extra if isinstance(extra, str) else extra.get(agency, "")
        with (folder / agency / config.FILE_NAME).open("a") as file:
            file.write(more)
    if agreements:
        today = datetime.now(UTC) - timedelta(days=1)
        everyone = tuple(agencies)
        agree(
            world.directory,
            NewAgreement(
                "all-to-all",
                everyone,
                everyone,
                ("referral", "decision"),
                tuple(Purpose),
                tuple(LawfulBasis),
                today,
                today + timedelta(days=30),
            ),
            replies=False,
        )
    return world


@asynccontextmanager
async def running(
    world: World, agencies: Sequence[AgencyId] | None = None, broker: str = ""
) -> AsyncIterator[World]:
    """Start nodes, and stop whatever runs at the end."""
    names = [path.parent.name for path in sorted(world.folder.glob(f"*/{config.FILE_NAME}"))]
    wanted = list(agencies) if agencies is not None else [AgencyId(name) for name in names]
    if broker:
        await topology.declare(broker, [AgencyId(name) for name in names])
    try:
        for agency in wanted:
            await world.start(agency)
        yield world
    finally:
        for agency in list(world.nodes):
            await world.stop(agency)


async def until(condition: Callable[[], object], what: str, timeout: float = 60.0) -> None:
    """Wait until `condition` holds (a value or an awaitable value); fail with `what` if it never does."""
    ends = asyncio.get_running_loop().time() + timeout
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return
        assert asyncio.get_running_loop().time() < ends, f"never happened: {what}"
        await asyncio.sleep(0.01)
