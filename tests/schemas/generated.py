"""Documents for the validators to disagree about: our examples, bent, and others drawn from the schemas."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

from hypothesis import strategies as st

from gateway.schemas import files

CANARY = "Zebedee-Canary"
"""Stands in every field name and text made up here: no problem may repeat it."""


def _read_examples() -> dict[str, dict[str, Any]]:
    folder = resources.files("gateway.schemas") / "examples"
    return {
        f"{name}/{one.name}": json.loads(one.read_bytes())
        for name in files.TYPES
        for one in (folder / name).iterdir()
        if one.name.endswith(".json")
    }


EXAMPLES = _read_examples()
ABOUT_PEOPLE = sorted(name for name in EXAMPLES if not name.startswith("file/"))
"""Those that adapters map: a file travels as it is."""

# What two regular-expression engines, two ideas of a character and two ideas of a number may differ on.
WIDE = "\N{MATHEMATICAL SCRIPT CAPITAL X}"
FULL_WIDTH_DIGITS = "\uff11\uff12\uff13\uff14\uff15\uff16"
PLAIN = [
    *("", " ", "x", CANARY, "\u00a0", "\u2003", "\ufeff", "\u0085", WIDE * 3, "\nx"),
    *("2026-11-23", "2026-02-30", "2023-02-29", "1066-10-14", "\u0662\u0660\u0662\u0666-11-23"),
    *("2026-11-23T09:30:00Z", "2026-11-23T09:30:00z", "2026-11-23T24:00:00Z", "2026-11-23T09:30:00.12+01:00"),
    *("AAA", "aaa", "AAAA", "UUE", "a@b", "a@b@c", "\u00e1@\u00e9", "a\u00a0b@c"),
    *("text/plain", "text", "f" * 64, "F" * 64, "f" * 63),
    *("U", "766969008", "12345", FULL_WIDTH_DIGITS, "MTH", "Mth", "en", "en-GB", "en_GB", "e"),
    *("other", "yes", "declined", "not-sought", "nhs-number", "1", "X", "referral"),
    *("x" * 300, "x" * 301, WIDE * 300, WIDE * 301, "x" * 20_001, " " * 301),
]
TEXTS = [*PLAIN, *(f"{one}\n" for one in PLAIN if len(one) < 100)]
STRINGS = st.sampled_from(TEXTS)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    STRINGS,
    st.text(st.characters(codec="utf-8"), max_size=8),
    st.sampled_from([0, 1, 1.0, -1, 2, 0.5, 100, 100.5, 130, 131, 130.0, 10**17, 1e300, -0.0]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["name", "text", "code", "value", "scheme", CANARY]), inner, max_size=3
        ),
    ),
    max_leaves=6,
)


@st.composite
def bent_examples(draw: st.DrawFn) -> dict[str, Any]:
    """One of our examples after one to three changes at random places."""
    document = copy.deepcopy(draw(st.sampled_from(list(EXAMPLES.values()))))
    for _ in range(draw(st.integers(1, 3))):
        _bend(draw, document)
    return document


def _bend(draw: st.DrawFn, document: dict[str, Any]) -> None:
    place: Any = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or draw(st.integers(0, 3)) == 0:
            break
        place = place[key]
    change = draw(st.sampled_from(["replace", "replace", "remove", "add", "repeat"]))
    if change == "replace":
        place[key] = draw(VALUES)
    elif change == "remove":
        del place[key]
    elif change == "add" and isinstance(place, dict):
        place[
            draw(st.sampled_from([CANARY, "note", "code", "overrideReason", "reasonCode", "questions"]))
        ] = draw(VALUES)
    elif isinstance(place[key], list):
        place[key] = place[key] * draw(st.sampled_from([2, 60, 120]))


@st.composite
def drawn(draw: st.DrawFn, schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """A value that follows `schema`, mostly: now and then something else, or a field left out."""
    if draw(st.integers(0, 150)) == 150:
        return draw(VALUES)
    if "$ref" in schema:
        target = files.common() if schema["$ref"].startswith("urn:") else root
        return draw(drawn(target["$defs"][schema["$ref"].rpartition("/")[2]], target))
    return draw(_follow(schema, root))


def _follow(schema: Mapping[str, Any], root: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema["type"]
    if kind == "object":
        return _object(schema, root)
    if kind == "array":
        return st.lists(drawn(schema["items"], root), min_size=schema.get("minItems", 0), max_size=2)
    if kind in {"integer", "number"}:
        return st.sampled_from(
            [schema["minimum"], schema["maximum"], schema["maximum"] + 1, schema["minimum"] + 1.0]
        )
    return st.booleans() if kind == "boolean" else _text(schema)


def _text(schema: Mapping[str, Any]) -> st.SearchStrategy[str]:
    fitting = [one for one in TEXTS if len(one) <= schema["maxLength"] and re.search(schema["pattern"], one)]
    return st.integers(0, 30).flatmap(lambda i: STRINGS if i == 30 else st.sampled_from(fitting))


@st.composite
def _object(draw: st.DrawFn, schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    wanted = set(schema.get("required", ()))
    if "anyOf" in schema:
        wanted.add(draw(st.sampled_from(schema["anyOf"]))["required"][0])
    optional = st.sampled_from(sorted(schema["properties"]))
    wanted.update(draw(st.lists(optional, max_size=2)))
    if draw(st.integers(0, 60)) == 60:
        wanted.discard(draw(optional))
    return {name: draw(drawn(schema["properties"][name], root)) for name in sorted(wanted)}
