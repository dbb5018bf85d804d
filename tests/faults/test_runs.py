"""Short, seeded runs of what `make faults` does for long: random faults on every store and broker."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.faults.ground import ground
from tests.faults.run import Run

COMBINATIONS = [
    ("sqlite", "embedded"),
    ("sqlite", "single"),
    pytest.param("postgres", "single", marks=pytest.mark.xdist_group("postgres")),
    pytest.param("postgres", "cluster", marks=pytest.mark.xdist_group("cluster")),
]


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("store", "broker"), COMBINATIONS)
def test_nothing_is_lost_duplicated_or_unexplained(tmp_path: Path, store: str, broker: str) -> None:
    with ground(tmp_path, store=store, broker=broker) as made:
        result = asyncio.run(Run(made, messages=60, seed=11).play(faults=5))
    assert result.findings.clean, f"{result.findings} after {dict(result.faults)}"
    assert result.accepted == result.delivered == 60
    assert sum(result.faults.values()) == 5
