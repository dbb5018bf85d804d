"""Which message types this node knows, and their schema files. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

TYPES: Mapping[str, frozenset[int]] = {
    "referral": frozenset({1}),
    "decision": frozenset({1}),
    "file": frozenset({1}),
}
"""Every message type with its versions. A published version never changes its meaning: a change that could
refuse a document that was valid before is a new version, in a new file beside the old one."""


def is_known(type: str, version: int) -> bool:  # noqa: A002 - the word of the envelope's header
    """Whether this node has the schema of this type and version."""
    return version in TYPES.get(type, ())


@cache
def schema(type: str, version: int) -> dict[str, Any]:  # noqa: A002
    """The schema of a known type and version. Callers share one copy and do not change it."""
    return _read(type, version)


@cache
def common() -> dict[str, Any]:
    """The parts that schemas share, under `$defs`."""
    return _read("common", 1)


def _read(folder: str, version: int) -> dict[str, Any]:
    text = (resources.files("gateway.schemas") / folder / f"{version}.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found
