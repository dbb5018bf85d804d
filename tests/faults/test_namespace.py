"""A node cut off by the network itself: packets vanish, nobody says that the connection is gone."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.nodes import RECIPIENT, SENDER, provision_pair, start
from bench.ports import free_port
from gateway import config
from gateway.http import auth
from gateway.http.client import Client
from gateway.http.ports import Permission
from gateway.node import now_ms
from gateway.transport import topology
from tests.rabbit import RabbitNode
from tests.road import referral, send
from tests.world import until

NAME = f"gw{os.getpid()}"
LINKS = {"api": "10.203.1", "broker": "10.203.2"}
"""A pair of interfaces for each: one to ask the node through, one to its broker, which is cut."""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextmanager
def namespace() -> Iterator[None]:
    """A network of its own, with two links to ours."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("only root may mount")  # and make networks
    ip("netns", "add", NAME)
    try:
        for link, network in LINKS.items():
            ip("link", "add", f"{NAME}{link[0]}", "type", "veth", "peer", "name", link, "netns", NAME)
            ip("addr", "add", f"{network}.1/24", "dev", f"{NAME}{link[0]}")
            ip("link", "set", f"{NAME}{link[0]}", "up")
            ip("-n", NAME, "addr", "add", f"{network}.2/24", "dev", link)
            ip("-n", NAME, "link", "set", link, "up")
        ip("-n", NAME, "link", "set", "lo", "up")
        yield
    finally:
        ip("netns", "del", NAME)


@contextmanager
def forwarded(port: int) -> Iterator[int]:
    """The broker, which listens on loopback only, at our end of the link to the node."""
    listener = socket.create_server((f"{LINKS['broker']}.1", 0))

    def pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        for one in (source, target):
            one.close()

    def accept() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", port))
            for pair in ((near, far), (far, near)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield int(listener.getsockname()[1])
    listener.close()


def launch(folder: Path, api: int, admin: int) -> subprocess.Popen[bytes]:
    """The node, within the namespace."""
    with (folder / "node.log").open("ab") as log:
        return subprocess.Popen(
            [
                *("ip", "netns", "exec", NAME, sys.executable, "-m", "gateway", "run"),
                *("--node", str(folder), "--port", str(api), "--admin-port", str(admin)),
            ],
            stderr=log,
        )


def ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2):
            return True
    except OSError:
        return False


async def test_a_node_whose_network_swallows_packets_notices_and_loses_nothing(tmp_path: Path) -> None:
    broker = RabbitNode()
    broker.start()
    recipient = None
    process = None
    try:
        url = broker.create_vhost()
        await topology.declare(url, [SENDER, RECIPIENT])
        provision_pair(tmp_path, url)
        with namespace(), forwarded(broker.port) as port:
            folder, here = tmp_path / SENDER, f"{LINKS['api']}.2"
            file = folder / config.FILE_NAME
            text = file.read_text().replace(f"127.0.0.1:{broker.port}", f"{LINKS['broker']}.1:{port}")
            text = text.replace('kind = "rabbitmq"', 'kind = "rabbitmq"\nallow_amqp = true')
            file.write_text(text.replace("[http]", f'[http]\nhost = "{here}"\nadmin_host = "{here}"', 1))
            settings = config.load(folder)
            may = frozenset({Permission.SEND, Permission.RECEIVE})
            token = auth.create_token(settings.path(settings.node.tokens), SENDER, may, now_ms())
            api, admin = free_port(), free_port()
            process = await asyncio.to_thread(launch, folder, api, admin)
            recipient = await asyncio.to_thread(start, tmp_path / RECIPIENT)
            client, theirs = Client(f"http://{here}:{api}", token), Client(recipient.url, recipient.token)
            watched = f"http://{here}:{admin}"

            async def is_ready() -> bool:
                return await asyncio.to_thread(ready, watched)

            async def is_not() -> bool:
                return not await is_ready()

            await until(is_ready, "it is connected", 60)
            sent = [(await send(client, referral(), to=[RECIPIENT]))["message_id"]]
            ip("link", "set", f"{NAME}b", "down")
            sent += [(await send(client, referral(), to=[RECIPIENT]))["message_id"] for _ in range(3)]
            await until(is_not, "the heartbeat notices", 90)
            sent += [(await send(client, referral(), to=[RECIPIENT]))["message_id"]]
            ip("link", "set", f"{NAME}b", "up")

            seen: list[str] = []

            async def all_came() -> bool:
                page = await theirs.inbox(limit=100)
                ids = [one["message_id"] for one in page["messages"]]
                if ids:
                    await theirs.ack(ids)
                seen.extend(ids)
                return len(seen) >= len(sent)

            await until(all_came, "all arrive", 120)
            assert sorted(seen) == sorted(sent), "each once"

            async def all_delivered() -> bool:
                stages = [(await client.status(one))["recipients"][0]["stage"] for one in sent]
                return set(stages) == {"delivered"}

            await until(all_delivered, "the receipts are back", 60)
            await client.close()
            await theirs.close()
    finally:
        if process is not None:
            process.terminate()
            process.wait(30)
        if recipient is not None:
            recipient.stop()
        broker.stop()
