"""What is measured on: a private broker or a cluster of three, SQLite or a private PostgreSQL, two nodes."""

from __future__ import annotations

import asyncio
import secrets
import signal
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aio_pika
import psutil
import psycopg
import uvloop
from aio_pika.abc import AbstractConnection

from bench.nodes import RECIPIENT, SENDER, BenchNode, provision_pair, start
from gateway import config
from gateway.messages import AgencyId
from gateway.tls import broker_context
from gateway.transport import definitions, topology
from gateway.transport.definitions import VHOST
from tests.certificates import Authority
from tests.postgres import PostgresServer
from tests.rabbit import RabbitNode, cluster
from tests.transport.production import Production, add_admin

AGENCIES = [SENDER, RECIPIENT]
WATCHER = "bench"
"""An account of the cluster that may do anything, for the raw measurement."""

Connect = Callable[[], Awaitable[AbstractConnection]]

_SIZE = "SELECT MAX(size) FROM outbound_envelopes"


@dataclass
class Ground:
    """Everything that runs."""

    sender: BenchNode
    recipient: BenchNode
    connect: Connect
    """An AMQP client of nobody's."""
    brokers: list[RabbitNode]
    postgres: PostgresServer | None
    databases: dict[AgencyId, str]

    def broker_cpu(self) -> float:
        """CPU seconds of the brokers so far."""
        return _cpu([broker.folder for broker in self.brokers])

    def database_cpu(self) -> float:
        """CPU seconds of PostgreSQL so far."""
        return _cpu([self.postgres.folder] if self.postgres else [])

    def envelope_size(self) -> int:
        """Bytes of the largest envelope sent."""
        if self.databases:
            with psycopg.connect(self.databases[SENDER]) as connection:
                row = connection.execute(_SIZE).fetchone()
        else:
            with sqlite3.connect(self.sender.folder / "gateway.db") as database:
                row = database.execute(_SIZE).fetchone()
        return int(row[0]) if row else 0


def _cpu(folders: list[Path]) -> float:
    """Of the processes that were started on one of these folders, and of their children."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if any(str(folder) in command for folder in folders):
            found |= {one.pid: one for one in (process, *process.children(recursive=True))}
    total = 0.0
    for process in found.values():
        try:
            total += sum(process.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return total


def go(main: Coroutine[Any, Any, None]) -> None:
    """Run it; SIGTERM ends it as Ctrl-C does, so that brokers and databases are stopped then too."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


@asynccontextmanager
async def ground(folder: Path, *, store: str = "sqlite", clustered: bool = False) -> AsyncIterator[Ground]:
    """Set it all up; stop it by pid."""
    async with AsyncExitStack() as stack:
        postgres: PostgresServer | None = None
        databases: dict[AgencyId, str] = {}
        if store == "postgres":
            postgres = PostgresServer()
            stack.callback(postgres.stop)
            postgres.start()
            databases = {agency: postgres.create_database() for agency in AGENCIES}
        set_up = _cluster if clustered else _single
        brokers, connect = await set_up(stack, folder, databases)
        nodes = []
        for agency in AGENCIES:
            nodes.append(start(folder / agency))
            stack.callback(nodes[-1].stop)
        yield Ground(nodes[0], nodes[1], connect, brokers, postgres, databases)


async def _single(
    stack: AsyncExitStack, folder: Path, databases: dict[AgencyId, str]
) -> tuple[list[RabbitNode], Connect]:
    broker = RabbitNode()
    stack.callback(broker.stop)
    broker.start()
    url = broker.create_vhost()
    await topology.declare(url, AGENCIES)
    provision_pair(folder, url, databases)
    return [broker], lambda: aio_pika.connect(url)


async def _cluster(
    stack: AsyncExitStack, folder: Path, databases: dict[AgencyId, str]
) -> tuple[list[RabbitNode], Connect]:
    """Three brokers as deploy/rabbitmq has them: TLS 1.3, an account by certificate for each agency."""
    certificates = folder / "certificates"
    authority = Authority(certificates)
    for name in ("broker", WATCHER, *AGENCIES):
        authority.issue(name)
    members = cluster(certificates)
    for member in members:
        stack.callback(member.stop)
        member.start()
    first = members[0]
    add_admin(first)
    wanted = definitions.document(definitions.accounts(AGENCIES, {}, {}), VHOST, {})
    async with Production(first, authority).management() as management:
        await management.apply(wanted)
    first.rabbitmqctl("add_user", WATCHER, secrets.token_hex(16))
    first.rabbitmqctl("set_permissions", "-p", VHOST, WATCHER, ".*", ".*", ".*")
    provision_pair(folder, f"amqps://gateway@localhost:{first.port}/{VHOST}", databases)
    for agency in AGENCIES:
        _by_certificate(folder / agency / config.FILE_NAME, agency, members, authority)
    tls = broker_context(authority.ca, certificates / f"{WATCHER}.pem", certificates / f"{WATCHER}-key.pem")
    url = f"amqps://{WATCHER}@localhost:{first.port}/{VHOST}"
    return members, lambda: aio_pika.connect(url, ssl_context=tls, auth="EXTERNAL")


def _by_certificate(file: Path, agency: AgencyId, members: list[RabbitNode], authority: Authority) -> None:
    """Write the node's transport settings: every member, and its own certificate."""
    first, *more = (f'"amqps://{agency}@localhost:{member.port}/{VHOST}"' for member in members)
    head = file.read_text("utf-8").split("[transport]")[0]
    file.write_text(
        f'{head}[transport]\nkind = "rabbitmq"\nurl = {first}\nmore_urls = [{", ".join(more)}]\n'
        f'ca_file = "{authority.ca}"\ncert_file = "{authority.folder / agency}.pem"\n'
        f'key_file = "{authority.folder / agency}-key.pem"\n',
        "utf-8",
    )
