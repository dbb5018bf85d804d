"""Paths into nested objects and lists, for formats that are mapped field by field.

What may live here: finding and placing one value. A path is names with dots between; a name may be followed
by a selector: `person.name[0].familyName[0]`; `person.identifier[scheme=upn].value`, the one that says so
(several with & between); `givenName[1:]`, all from the second on. It serves the canonical document and nested
native ones alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

_STEP = re.compile(r"([^.\[\]]+)(?:\[([^\]]*)\])?")


@dataclass(frozen=True, slots=True)
class _Step:
    name: str
    index: int | None = None
    to_the_end: bool = False
    match: tuple[tuple[str, str], ...] = ()


@cache
def _steps(path: str) -> tuple[_Step, ...]:
    return tuple(_step(name, selector) for name, selector in _STEP.findall(path))


def _step(name: str, selector: str) -> _Step:
    if "=" in selector:
        pairs = (pair.partition("=") for pair in selector.split("&"))
        return _Step(name, match=tuple((key, value) for key, _, value in pairs))
    number = selector.removesuffix(":")
    return _Step(name, int(number) if number else None, selector.endswith(":"))


def get(document: Any, path: str) -> Any:
    """The value at `path`, or None. Without a selector the first of several; one value is a list of one."""
    steps = _steps(path)
    found = document
    for i, step in enumerate(steps):
        found = found.get(step.name) if isinstance(found, Mapping) else None
        if found is None:
            return None
        last = i == len(steps) - 1
        if step.index is not None or step.match or (isinstance(found, list) and not last):
            found = _select(found if isinstance(found, list) else [found], step)
    return found


def _select(items: list[Any], step: _Step) -> Any:
    if step.match:
        return next((item for item in items if _matches(item, step)), None)
    index = step.index or 0
    if step.to_the_end:
        return items[index:]
    return items[index] if index < len(items) else None


def _matches(item: Any, step: _Step) -> bool:
    return isinstance(item, Mapping) and all(item.get(key) == value for key, value in step.match)


def put(document: dict[str, Any], path: str, value: Any) -> None:
    """Place `value` at `path`, with the objects and lists on the way. `prune` clears the gaps of lists."""
    *way, last = _steps(path)
    holder = document
    for step in way:
        holder = _enter(holder, step)
    if last.index is None:
        holder[last.name] = value
        return
    items = holder.setdefault(last.name, [])
    items.extend([None] * (last.index + (not last.to_the_end) - len(items)))
    if last.to_the_end:
        items[last.index :] = value
    else:
        items[last.index] = value


def _enter(holder: dict[str, Any], step: _Step) -> dict[str, Any]:
    if step.index is None and not step.match:
        inner: dict[str, Any] = holder.setdefault(step.name, {})
        return inner
    items: list[dict[str, Any]] = holder.setdefault(step.name, [])
    if step.match:
        found: dict[str, Any] | None = _select(items, step)
        if found is None:
            found = dict(step.match)
            items.append(found)
        return found
    index = step.index or 0
    items.extend({} for _ in range(index + 1 - len(items)))
    return items[index]


def prune(value: Any) -> Any:
    """`value` without None, blank text, empty lists and empty objects at any depth."""
    if isinstance(value, Mapping):
        kept = ((name, prune(inner)) for name, inner in value.items())
        return {name: inner for name, inner in kept if inner not in (None, "", [], {})}
    if isinstance(value, list):
        return [inner for inner in map(prune, value) if inner not in (None, "", [], {})]
    return value


def shown(path: str) -> str:
    """The path as mapping pages write it: `person.name[].familyName[]`."""
    return re.sub(r"\[[^\]]*\]", "[]", path)


def selected(path: str) -> list[str]:
    """What the path's selectors ask for, in words: "scheme upn"."""
    found = (f"{key} {value}" for step in _steps(path) for key, value in step.match)
    return list(found)


def pointer(path: str) -> str:
    """The path as a JSON pointer (RFC 6901), for problems."""
    parts: list[str] = []
    for step in _steps(path):
        parts.append(step.name)
        if step.index is not None and not step.to_the_end:
            parts.append(str(step.index))
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)
