"""A directory that three govern, where people's keys cost little (tests/cheap_keys.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cheap_keys import cheap_keys as cheap_keys  # noqa: PLC0414 - fixtures are found by their names
from tests.directory.ground import Ground
from tests.world import COUNCIL, POLICE, SCHOOL, provision


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    provision(tmp_path, (SCHOOL, POLICE, COUNCIL), agreements=False)
    made = Ground(tmp_path)
    made.begin()
    return made
