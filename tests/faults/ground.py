"""Where a run happens: two real nodes, a store of either kind, a broker of either kind, all private."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench.nodes import PROGRAM, RECIPIENT, SENDER, BenchNode, provision_pair, restart, start
from gateway import config
from gateway.messages import AgencyId
from gateway.transport import definitions, topology
from gateway.transport.definitions import VHOST
from tests.certificates import Authority
from tests.postgres import PostgresServer
from tests.rabbit import RabbitNode, cluster
from tests.transport.production import Production, add_admin

AGENCIES = [SENDER, RECIPIENT]


class Wire:
    """A TCP proxy between the nodes and a broker, which can be cut."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: set[socket.socket] = set()
        self._is_cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Drop every connection and take none."""
        self._is_cut = True
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Take connections again."""
        self._is_cut = False

    def close(self) -> None:
        """End it."""
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target), 5) if not self._is_cut else None
            except OSError:
                if self._listener.fileno() < 0:
                    return
                far = None
            if far is None:
                near.close()
                continue
            far.settimeout(None)  # it was for connecting only
            for pair in ((near, far), (far, near)):
                self._open.add(pair[0])
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._open.discard(source)
        source.close()


@dataclass
class Ground:
    """Everything of a run that can be made to fail."""

    nodes: dict[str, BenchNode]
    brokers: list[RabbitNode] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)
    postgres: PostgresServer | None = None

    def restart(self, agency: str, program: Sequence[str] = PROGRAM) -> None:
        """Start a node again; kill what is left of it."""
        node = self.nodes[agency]
        if node.process.poll() is None:
            node.process.kill()
        node.process.wait(30)
        self.nodes[agency] = restart(node, program)

    # the faults

    def kill_node(self, agency: str) -> None:
        """kill -9 and start again."""
        self.nodes[agency].process.send_signal(signal.SIGKILL)
        self.restart(agency)

    def pause_node(self, agency: str, seconds: float = 1.0) -> None:
        """SIGSTOP for a moment."""
        process = self.nodes[agency].process
        process.send_signal(signal.SIGSTOP)
        threading.Event().wait(seconds)
        process.send_signal(signal.SIGCONT)

    def kill_broker(self, number: int) -> None:
        """kill -9 of a broker, or of one member of its cluster, and start again."""
        self.brokers[number].kill()
        self.brokers[number].start()

    def cut_wire(self, seconds: float = 1.0) -> None:
        """Nothing passes between nodes and brokers for a moment."""
        for wire in self.wires:
            wire.cut()
        threading.Event().wait(seconds)
        for wire in self.wires:
            wire.mend()

    def kill_postgres(self) -> None:
        """kill -9 of the database server and start again."""
        assert self.postgres is not None
        self.postgres.kill()
        self.postgres.start()

    def faults(self) -> list[tuple[str, Callable[[], None]]]:
        """What can be done here, each by its name."""
        found: list[tuple[str, Callable[[], None]]] = []
        for agency in AGENCIES:
            found += [
                (f"kill -9 of the {agency}'s node", partial(self.kill_node, agency)),
                (f"pause of the {agency}'s node", partial(self.pause_node, agency)),
            ]
        for number in range(len(self.brokers)):
            found.append(("kill -9 of a broker", partial(self.kill_broker, number)))
        if self.wires:
            found.append(("network cut", self.cut_wire))
        if self.postgres is not None:
            found.append(("kill -9 of PostgreSQL", self.kill_postgres))
        return found


@contextlib.contextmanager
def ground(folder: Path, *, store: str = "sqlite", broker: str = "embedded") -> Iterator[Ground]:
    """Set everything up, and stop it by its pid."""
    with contextlib.ExitStack() as stack:
        databases: dict[AgencyId, str] = {}
        made = Ground({})
        if store == "postgres":
            made.postgres = PostgresServer()
            stack.callback(made.postgres.stop)
            made.postgres.start()
            databases = {agency: made.postgres.create_database() for agency in AGENCIES}
        if broker == "embedded":
            provision_pair(folder, "", databases)
        elif broker == "single":
            _single(stack, made, folder, databases)
        else:
            _cluster(stack, made, folder, databases)
        for agency in AGENCIES:
            made.nodes[agency] = start(folder / agency)
            stack.callback(_stop, made, agency)
        yield made


def _single(stack: contextlib.ExitStack, made: Ground, folder: Path, databases: dict[AgencyId, str]) -> None:
    node = RabbitNode()
    stack.callback(node.stop)
    node.start()
    made.brokers, made.wires = [node], [Wire(node.port)]
    stack.callback(made.wires[0].close)
    url = node.create_vhost()
    asyncio.run(topology.declare(url, AGENCIES))
    provision_pair(folder, url.replace(str(node.port), str(made.wires[0].port)), databases)


def _cluster(stack: contextlib.ExitStack, made: Ground, folder: Path, databases: dict[AgencyId, str]) -> None:
    """Three brokers as deploy/rabbitmq has them: TLS, an account by certificate for each agency."""
    certificates = folder / "certificates"
    certificates.mkdir()
    authority = Authority(certificates)
    for name in ("broker", *AGENCIES):
        authority.issue(name)
    members = cluster(certificates)
    for member in members:
        stack.callback(member.stop)
        member.start()
    add_admin(members[0])
    made.brokers = members
    made.wires = [Wire(member.port) for member in members]
    for wire in made.wires:
        stack.callback(wire.close)
    wanted = definitions.document(definitions.accounts(AGENCIES, {}, {}), VHOST, {})

    async def apply() -> None:
        async with Production(members[0], authority).management() as management:
            await management.apply(wanted)

    asyncio.run(apply())
    first = f"amqps://gateway@localhost:{made.wires[0].port}/{VHOST}"
    provision_pair(folder, first, databases)
    for agency in AGENCIES:
        urls = [f'"amqps://{agency}@localhost:{wire.port}/{VHOST}"' for wire in made.wires]
        file = folder / agency / config.FILE_NAME
        head = file.read_text("utf-8").split("[transport]")[0]
        file.write_text(
            f'{head}[transport]\nkind = "rabbitmq"\nurl = {urls[0]}\nmore_urls = [{", ".join(urls[1:])}]\n'
            f'ca_file = "{authority.ca}"\ncert_file = "{certificates / agency}.pem"\n'
            f'key_file = "{certificates / agency}-key.pem"\n',
            "utf-8",
        )


def _stop(made: Ground, agency: str) -> None:
    node = made.nodes[agency]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        os.kill(node.process.pid, signal.SIGCONT)
    node.stop()
