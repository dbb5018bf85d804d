"""The published code lists that adapters go by: data files with their source and version."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any


@cache
def load(name: str) -> dict[str, Any]:
    """The list `data/NAME.json`. Callers share one copy and do not change it."""
    text = (resources.files("gateway.adapters") / "data" / f"{name}.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found
