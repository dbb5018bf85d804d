"""What to search an eavesdropper's catch for: every value written in the messages that were sent."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

_VALUE = re.compile(rb'value="([^"]+)"')
_STRUCTURAL = re.compile(rb"[a-z0-9-]+|https?://.*|urn:.*")
"""Codes, identifiers and URLs of the formats themselves: they would be found in any traffic."""
SHORTEST = 6
"""Bytes: shorter values turn up in ciphertext by chance."""


def traces(sent: Iterable[tuple[str, bytes]]) -> set[bytes]:
    """Every value of the documents that says something about a person."""
    found: set[bytes] = set()
    for media_type, body in sent:
        values = (
            _VALUE.findall(body)
            if media_type.endswith("xml")
            else map(str.encode, _strings(json.loads(body)))
        )
        found.update(value for value in values if len(value) >= SHORTEST and not _STRUCTURAL.fullmatch(value))
    return found


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
    elif isinstance(value, str):
        yield value
