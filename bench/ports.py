"""TCP ports for servers that benchmarks and tests start, which nothing else takes before they listen."""

from __future__ import annotations

import os
import random
import socket

FIRST, SPAN, SLICES = 10_000, 2_000, 11
"""Below 32768, where Linux starts to give ports to outgoing connections: one of those could take ours between
the look and the server's own listen. Each test worker (pytest-xdist) has a slice of its own."""

_given: set[int] = set()


def free_port() -> int:
    """A port on loopback that nothing listens on, and that this process was not given before."""
    start = FIRST + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % SLICES * SPAN
    for port in random.sample(range(start, start + SPAN), SPAN):
        if port not in _given and _is_free(port):
            _given.add(port)
            return port
    raise RuntimeError(f"no free port from {start} to {start + SPAN - 1}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
