"""kill -9 at every named point of the road, one after the other: everything arrives, each once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench.nodes import RECIPIENT, SENDER
from tests.faults.ground import Ground, ground
from tests.faults.run import Run
from tests.faults.victim import RECEIVING, SENDING

VICTIM = ("-m", "tests.faults.victim")


async def died(made: Ground, agency: str) -> None:
    """Wait until the node has killed itself, and start it again as it should be."""
    async with asyncio.timeout(60):
        while made.nodes[agency].process.poll() is None:  # noqa: ASYNC110 - a process does not tell
            await asyncio.sleep(0.02)
    await asyncio.to_thread(made.restart, agency)


@pytest.mark.parametrize(
    ("agency", "points"), [(SENDER, SENDING), (RECIPIENT, RECEIVING)], ids=["sender", "recipient"]
)
def test_a_node_may_die_anywhere(
    tmp_path: Path, agency: str, points: dict[str, object], subtests: pytest.Subtests
) -> None:
    with ground(tmp_path) as made:
        for number, point in enumerate(points):
            with subtests.test(point):
                made.restart(agency, (*VICTIM, "kill", point, "1" if point.startswith("receipt") else "2"))

                async def play(number: int = number) -> None:
                    run = Run(made, messages=6, seed=number)
                    dying = asyncio.ensure_future(died(made, agency))
                    result = await run.play(faults=0)
                    await dying
                    assert result.findings.clean, str(result.findings)
                    assert result.accepted == result.delivered == 6

                asyncio.run(play())
