"""The broker for what only a production-like one can show."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.transport.production import Production


@pytest.fixture(scope="session")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    """One for each test process."""
    production = Production.start(tmp_path_factory.mktemp("tls"))
    yield production
    production.node.stop()
