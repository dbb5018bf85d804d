"""Canonical fields that FHIR has no place for, carried as Observations a person can read.

What may live here: which fields those are (`unmapped`), how one becomes an Observation (`observation`) and
how Observations become fields again (`restore`). Each Observation's code is a JSON pointer (RFC 6901) into
the canonical document, in our code system; a list travels whole, with a component for each of its values.
So a referral written as FHIR says everything the canonical document says.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gateway.adapters import fhir_terms as terms
from gateway.adapters.fhir_bundle import Resource, code_of, objects, one

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{0,39}")
_INDEX = re.compile(r"[0-9]{1,3}")
_MAX_PARTS = 10
_WORD_START = re.compile(r"(?<=[a-z])(?=[A-Z])")


def unmapped(document: Mapping[str, Any], mapped: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(pointer, value) of every scalar or list of `document` that `mapped` lacks or has otherwise."""
    for name, value in document.items():
        other = mapped.get(name)
        if isinstance(value, Mapping):
            inside = unmapped(value, other if isinstance(other, Mapping) else {})
            yield from ((f"/{name}{pointer}", inner) for pointer, inner in inside)
        elif value != other and (value or not isinstance(value, list)):
            yield f"/{name}", value


def observation(pointer: str, value: Any) -> dict[str, Any]:
    """What an Observation for this field holds beyond status and subject: code, then value or components."""
    code = {"coding": [{"system": terms.FIELD, "code": pointer, "display": _in_words(pointer)}]}
    if not isinstance(value, list):
        return {"code": code} | _value(value)
    parts = [
        {"code": {"coding": [{"system": terms.FIELD, "code": place, "display": _in_words(place)}]}}
        | _value(part)
        for place, part in _leaves(value)
    ]
    return {"code": code, "component": parts}


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        inside: Iterable[tuple[str, Any]] = value.items()
    elif isinstance(value, list):
        inside = ((str(index), item) for index, item in enumerate(value))
    else:
        yield place, value
        return
    for name, inner in inside:
        yield from _leaves(inner, f"{place}/{name}")


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"valueBoolean": value}
    if isinstance(value, int):
        return {"valueInteger": value}
    if isinstance(value, float):
        return {"valueQuantity": {"value": value}}
    return {"valueString": value}


def _in_words(pointer: str) -> str:
    """`/concern/alreadyTried` as a reader would say it: "Concern: already tried"."""
    parts = [_WORD_START.sub(" ", part).lower() for part in pointer.split("/")[1:]]
    shown = [str(int(part) + 1) if part.isdecimal() else part for part in parts]
    return ": ".join(shown).capitalize()


def restore(document: dict[str, Any], observations: Sequence[Resource]) -> None:
    """Put the fields that `observations` carry into `document`, over what was mapped there. Never raises.

    What would not fit the document's shape is passed over; the schema judges the rest.
    """
    for found in observations:
        names = (code_of(found, "code", terms.FIELD) or "").split("/")[1:]
        fits = 0 < len(names) <= _MAX_PARTS and all(_NAME.fullmatch(name) for name in names)
        if not fits or names[0] in ("type", "version"):  # these two the mapping alone decides
            continue
        components = objects(found, "component")
        value: Any = [] if components else _read(found)
        for component in components:
            place = (code_of(component, "code", terms.FIELD) or "").split("/")[1:]
            if place and len(place) <= _MAX_PARTS:
                _put(value, place, _read(component))
        if value is not None:
            _put(document, names, value)


def is_field(found: Resource) -> bool:
    """Whether this Observation carries a canonical field."""
    return code_of(found, "code", terms.FIELD) is not None


def _read(found: Resource) -> Any:
    """The value, in its own type: XML carries every type as text."""
    if isinstance(value := found.get("valueString"), str):
        return value
    if (value := found.get("valueBoolean")) is not None:
        return value in (True, "true")
    number: float | None = None
    try:
        if (value := found.get("valueInteger")) is not None:
            number = int(value)
        elif (value := one(found, "valueQuantity").get("value")) is not None:
            number = float(value)
        return number if number is None or math.isfinite(number) else None
    except (TypeError, ValueError, OverflowError):
        return None


def _put(container: Any, parts: Sequence[str], value: Any) -> None:
    """Set the value at `parts`, making lists and objects on the way; list positions must come in order."""
    for position, part in enumerate(parts):
        last = position + 1 == len(parts)
        fresh = value if last else ([] if _INDEX.fullmatch(parts[position + 1]) else {})
        if isinstance(container, list) and _INDEX.fullmatch(part) and int(part) <= len(container):
            if int(part) == len(container):
                container.append(fresh)
            container = container[int(part)]
        elif isinstance(container, dict) and _NAME.fullmatch(part):
            if last or part not in container:
                container[part] = fresh
            container = container[part]
        else:
            return
