"""Fixtures for real servers and for the real input beside the project."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.fuzz.kit import MANY
from tests.plugin_skips import NO_DATA, SHARED_DATA
from tests.postgres import PostgresServer
from tests.rabbit import RabbitNode

# No test fails for having been slow: other processes may have the machine. Nor for what it drew this time:
# `make fuzz` draws anew, `make test` the same each time (tests/fuzz/kit.py says why).
settings.register_profile("patient", settings(), deadline=None, derandomize=not MANY)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def rabbit() -> Iterator[RabbitNode]:
    """One private RabbitMQ node for each test process."""
    node = RabbitNode()
    node.start()
    yield node
    node.stop()


@pytest.fixture
def broker_url(rabbit: RabbitNode) -> str:
    """A fresh virtual host."""
    return rabbit.create_vhost()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One private PostgreSQL server for each test process."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def shared_data() -> Path:
    """Real input written by others; not ours to ship."""
    if not SHARED_DATA.exists():
        pytest.skip(NO_DATA)
    return SHARED_DATA
