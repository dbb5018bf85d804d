"""docs/observability.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.observability.metrics import METRICS
from gateway.observability.reference import describe

PAGE = (Path(__file__).parents[2] / "docs" / "observability.md").read_text("utf-8")


def test_the_generated_part_is_current() -> None:
    _, _, generated = PAGE.partition("`make docs` -->\n")
    assert generated.strip() == describe().strip(), "run `make docs`"


def test_the_alerts_name_metrics_that_exist() -> None:
    prose, _, _ = PAGE.partition("## Reference")
    named = set(re.findall(r"gateway_[a-z_]+", prose))
    assert len(named) > 5
    assert named <= {f"gateway_{metric.name}" for metric in METRICS}
