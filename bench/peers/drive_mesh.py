"""A system on MESH as it is today: NHS England's mesh-client in threads. Run by the peers' Python.

Reads one JSON object a line, does it, answers with one line. The first says where and what:
{"url", "body" (base64)}; then {"do": "send" or "collect", "count", "in_flight"}.
"""

from __future__ import annotations

import base64
import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mesh_client import MeshClient

SENDER, RECIPIENT = "X26ABC1", "X26ABC2"
"""Two of the mailboxes that the sandbox comes with."""
PAUSE = 0.02
"""Seconds between two looks into an inbox that had nothing new."""


class System:
    """One agency's system: a client, with its own connection, for each thread."""

    def __init__(self, url: str, body: bytes) -> None:
        self._url, self._body = url, body
        self._clients: dict[str, list[Any]] = {SENDER: [], RECIPIENT: []}

    def _take(self, mailbox: str, count: int) -> list[Any]:
        clients = self._clients[mailbox]
        while len(clients) < count:
            clients.append(MeshClient(self._url, mailbox, "password", shared_key=b"Banana"))
        return clients[:count]

    def send(self, count: int, in_flight: int) -> None:
        """Send so many."""

        def one(client: Any, _: int) -> None:
            client.send_message(RECIPIENT, self._body, workflow_id="BENCH")

        _all(self._take(SENDER, in_flight), one, iter(range(count)))

    def collect(self, count: int, in_flight: int) -> None:
        """List, get, compare, acknowledge, until so many are done."""
        lister, *clients = self._take(RECIPIENT, in_flight + 1)

        def one(client: Any, message_id: str) -> None:
            if client.retrieve_message(message_id).read() != self._body:
                raise SystemExit("the sandbox handed something else over")
            client.acknowledge_message(message_id)

        def arriving() -> Iterator[str]:
            seen: set[str] = set()
            while len(seen) < count:
                new = [one for one in lister.list_messages() if one not in seen]
                seen.update(new)
                yield from new
                if not new:
                    time.sleep(PAUSE)

        _all(clients, one, arriving())

    def close(self) -> None:
        """Close every connection."""
        for client in itertools.chain(*self._clients.values()):
            client.close()


def _all(clients: list[Any], one: Callable[[Any, Any], None], work: Iterator[Any]) -> None:
    """Do all the work with a thread for each client, each taking the next when it is done."""
    lock, nothing = threading.Lock(), object()

    def worker(client: Any) -> None:
        while True:
            with lock:
                item = next(work, nothing)
            if item is nothing:
                return
            one(client, item)

    with ThreadPoolExecutor(len(clients)) as pool:
        for done in [pool.submit(worker, client) for client in clients]:
            done.result()


def main() -> None:
    """Answer line by line."""
    first = json.loads(sys.stdin.readline())
    system = System(first["url"], base64.b64decode(first["body"]))
    for line in sys.stdin:
        asked = json.loads(line)
        do = system.send if asked["do"] == "send" else system.collect
        cpu, started = time.process_time(), time.perf_counter()
        do(asked["count"], asked["in_flight"])
        answer = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}
        print(json.dumps(answer), flush=True)
    system.close()


if __name__ == "__main__":
    main()
