"""With any one step of the durability removed, the checker turns red: it can fail."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench.nodes import RECIPIENT, SENDER
from tests.faults.ground import ground
from tests.faults.run import Run
from tests.faults.test_points import VICTIM, died
from tests.faults.victim import SPOILT_RECIPIENT, SPOILT_SENDER

SPOILT = [(SENDER, step) for step in SPOILT_SENDER] + [(RECIPIENT, step) for step in SPOILT_RECIPIENT]


@pytest.mark.parametrize(("agency", "step"), SPOILT, ids=[step for _, step in SPOILT])
def test_a_missing_step_is_noticed(tmp_path: Path, agency: str, step: str) -> None:
    with ground(tmp_path) as made:
        made.restart(agency, (*VICTIM, "spoil", step))

        async def play() -> str:
            dying = asyncio.ensure_future(died(made, agency))
            result = await Run(made, messages=6, finish=6.0).play(faults=0)
            await dying
            return str(result.findings) if result.findings.clean else ""

        assert asyncio.run(play()) == "", "the checker saw nothing"
