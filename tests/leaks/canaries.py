"""Canaries: unique values planted wherever a document takes text, and the search for them in raw bytes."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from gateway import schemas
from gateway.adapters import Registry
from gateway.adapters.base import AdapterError, Native


def canary() -> str:
    """A value that occurs nowhere else. A word, so that it fits wherever a name does."""
    return "Canary" + uuid4().hex[:16]


def plant_json(document: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A copy with a canary in every text that may hold one (stays valid), and the canaries."""
    copy, planted = json.loads(json.dumps(document)), []
    for holder, key in list(_texts(copy)):
        before, holder[key] = holder[key], canary()
        if schemas.validate(copy["type"], copy["version"], copy):
            holder[key] = before  # a code, a date, a number: it must stay what it is
        else:
            planted.append(holder[key])
    return copy, planted


def plant_xml(body: bytes) -> tuple[bytes, list[str]]:
    """The same for FHIR XML: every value attribute that the adapter lets be anything."""
    read = Registry.load().by_name("fhir-bars").to_canonical

    def accepts(text: bytes) -> bool:
        try:
            message = read(Native("application/fhir+xml", text))
        except AdapterError:
            return False
        return not schemas.validate(message.type, message.version, message.document)

    values = [match.span(1) for match in re.finditer(rb'value="([A-Z][^"]{3,})"', body)]
    planted: list[str] = []
    for start, end in reversed(values):
        word = canary()
        changed = body[:start] + word.encode() + body[end:]
        if accepts(changed):
            body = changed
            planted.append(word)
    return body, planted


def _texts(value: Any) -> Iterator[tuple[Any, Any]]:
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in list(items):
        if isinstance(inner, str) and key not in {"type", "version"}:
            yield value, key
        else:
            yield from _texts(inner)


def forms(word: str) -> list[bytes]:
    """How a value may stand in raw bytes: plain, lower case, UTF-16, hex, and base64 at each alignment."""
    plain = word.encode()
    found = [plain, plain.lower(), word.encode("utf-16-le"), plain.hex().encode()]
    for shift in range(3):
        # Whatever stands around it, the middle of its base64 form is the same.
        encoded = base64.b64encode(b"x" * shift + plain)
        found.append(encoded[4 if shift else 0 : -4])
    return found


def search(folders: Iterable[Path], words: Iterable[str], more: dict[str, bytes] | None = None) -> list[str]:
    """Where canaries are found: every file below the folders, and named bytes."""
    needles = [form for word in words for form in forms(word)]
    pattern = re.compile(b"|".join(map(re.escape, needles)))
    found = [
        str(path)
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and pattern.search(_read(path))
    ]
    return found + [name for name, data in (more or {}).items() if pattern.search(data)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""  # the transport is at work: it was collected meanwhile
