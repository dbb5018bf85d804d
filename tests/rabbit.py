"""A private RabbitMQ node: its own ports, data folder and Erlang port mapper; started and stopped by pid."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from bench.ports import free_port

SCRIPTS = Path(os.environ.get("RABBITMQ_SERVER", "/usr/lib/rabbitmq/bin/rabbitmq-server")).parent
"""As root the wrapper in /usr/sbin would change to the user rabbitmq."""
START_TIMEOUT = 90.0
"""Seconds."""
DEPLOYED = Path(__file__).parents[1] / "deploy" / "rabbitmq"
"""What operators are given; a production-like node starts from it."""


def installed() -> bool:
    """Whether Debian's package is here; `make test` installs it."""
    return (SCRIPTS / "rabbitmq-server").exists()


class RabbitNode:
    """One broker on loopback.

    With `tls`, a folder that holds ca.pem, broker.pem and broker-key.pem, it runs what deploy/rabbitmq ships:
    TLS 1.3 and accounts by certificate on `port`, management over TLS on `management_port`. `cluster` makes
    several of these.
    """

    def __init__(self, tls: Path | None = None) -> None:
        if not installed():
            raise RuntimeError("RabbitMQ is not installed: `make test` installs it")
        # A short path: Erlang's limits on node names and sockets are old.
        self.folder = Path(tempfile.mkdtemp(prefix="rmq-"))
        self.name = f"rmq{uuid4().hex[:8]}@localhost"
        self.port, self.management_port, self._dist, self._epmd = (free_port() for _ in range(4))
        self._own_epmd = self._epmd
        self._process: subprocess.Popen[bytes] | None = None
        (self.folder / "rabbitmq.conf").write_text(self._plain() if tls is None else self._deployed(tls))
        (self.folder / "plugins").write_text(
            "[].\n" if tls is None else (DEPLOYED / "enabled_plugins").read_text("utf-8")
        )

    def _plain(self) -> str:
        return (
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            "loopback_users = none\n"
            "vm_memory_high_watermark.absolute = 2GB\ndisk_free_limit.absolute = 50MB\n"
        )

    def _deployed(self, tls: Path, members: Sequence[str] = ()) -> str:
        """The shipped settings with our ports and files, and without members with no cluster."""
        ours = {
            "listeners.ssl.1": f"127.0.0.1:{self.port}",
            "management.ssl.ip": "127.0.0.1",
            "management.ssl.port": str(self.management_port),
            "disk_free_limit.absolute": "50MB",
            **{
                f"cluster_formation.classic_config.nodes.{number}": name
                for number, name in enumerate(members, 1)
            },
        }
        lines = []
        for line in (DEPLOYED / "rabbitmq.conf").read_text("utf-8").splitlines():
            name, _, value = line.partition(" = ")
            if members or not name.startswith("cluster_"):
                value = ours.get(name, value).replace("/etc/rabbitmq/tls", str(tls))
                lines.append(f"{name} = {value}" if value else line)
        return "\n".join(lines) + "\n"

    @property
    def data(self) -> Path:
        """Where the broker keeps what it stores and logs."""
        return self.folder

    def _env(self) -> dict[str, str]:
        return os.environ | {
            "HOME": str(self.folder),
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_DIST_PORT": str(self._dist),
            "ERL_EPMD_PORT": str(self._epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none",
        }

    def start(self) -> None:
        """Start (again) and wait until it serves."""
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [str(SCRIPTS / "rabbitmq-server")],
                env=self._env(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        ends = time.monotonic() + START_TIMEOUT
        while time.monotonic() < ends:
            if self._process.poll() is not None:
                break
            if self._ready():
                return
            time.sleep(0.2)
        text = (self.folder / "output").read_text(errors="replace")[-2000:]
        self.stop()
        raise RuntimeError(f"RabbitMQ did not start:\n{text}")

    def _ready(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return b"completed with" in (self.folder / "output").read_bytes().split(b"Starting broker")[-1]

    def rabbitmqctl(self, *arguments: str) -> str:
        """Run rabbitmqctl against this node."""
        done = subprocess.run(
            [str(SCRIPTS / "rabbitmqctl"), "-q", "-n", self.name, *arguments],
            env=self._env(),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout

    def create_vhost(self) -> str:
        """A fresh virtual host; its URL."""
        name = uuid4().hex[:12]
        self.rabbitmqctl("add_vhost", name)
        self.rabbitmqctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
        return self.url(name)

    def url(self, vhost: str) -> str:
        """The URL of a virtual host."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{vhost}"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the broker (the whole group: a script runs Erlang)."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """kill -9; the data stays."""
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait(30)
            self._process = None

    def halt(self) -> None:
        """Let it write down what it knows and end; the data stays."""
        if self._process is not None and self._process.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        self._process = None

    def stop(self) -> None:
        """Stop everything this node started and delete its folder."""
        self.halt()
        if self._epmd == self._own_epmd:
            self._stop_epmd()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _stop_epmd(self) -> None:
        """The port mapper detaches itself: it is found by our private port in its environment."""
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                command = (entry / "cmdline").read_bytes()
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            if b"epmd" in command and f"ERL_EPMD_PORT={self._epmd}".encode() in environment:
                os.kill(int(entry.name), signal.SIGTERM)


def cluster(tls: Path, size: int = 3) -> list[RabbitNode]:
    """A cluster as deploy/rabbitmq ships it, on loopback, not started. Stop the first last."""
    nodes = [RabbitNode(tls) for _ in range(size)]
    for node in nodes:
        node._epmd = nodes[0]._epmd  # one port mapper, or they would not find each other
        (node.folder / "rabbitmq.conf").write_text(node._deployed(tls, [one.name for one in nodes]))
        cookie = node.folder / ".erlang.cookie"
        cookie.write_text("one-secret-for-all-of-them")
        cookie.chmod(0o400)
    return nodes
