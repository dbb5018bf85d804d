"""A skipped test proves nothing: with `--strict-skips` it fails.

Two excuses: a missing `../shared/data` (reason: "shared data folder absent"), which is not ours to ship, and
"only root may mount" where the tests run as somebody else.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"
NO_DATA = "shared data folder absent"
EXCUSES = {
    NO_DATA: lambda: not SHARED_DATA.exists(),
    "only root may mount": lambda: os.geteuid() != 0,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--strict-skips", action="store_true", help="fail instead of skipping")


def _judge(report: Any, config: pytest.Config) -> None:
    """Turn a skip into a failure, in place."""
    if not config.getoption("--strict-skips") or report.outcome != "skipped" or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if any(excuse in reason and holds() for excuse, holds in EXCUSES.items()):
        return
    report.outcome = "failed"
    report.longrepr = f"--strict-skips: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _judge(report, item.config)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _judge(report, collector.config)
    return report
