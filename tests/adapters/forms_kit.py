"""What the tests of the school and housing adapters share: writing, reading back, and damage."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from importlib import resources
from typing import Any

from hypothesis import strategies as st

from gateway import schemas
from gateway.adapters import codes
from gateway.adapters.base import Adapter, AdapterError, Native
from gateway.messages import Canonical
from gateway.schemas import files
from tests.adapters.test_fhir_write import header
from tests.schemas.generated import VALUES, bent_examples, drawn

CANARY = "Zebedee-Canary"
MAX_NOTE = 20_000


MESSAGES = st.one_of(
    bent_examples(),
    *(drawn(files.schema(kind, 1), files.schema(kind, 1)) for kind in ("referral", "decision")),
)
"""Canonical documents, most of them valid."""


def is_valid(document: Any) -> bool:
    return (
        isinstance(document, dict)
        and document.get("type") in ("referral", "decision")
        and schemas.validate(document["type"], 1, document) == []
    )


def examples(name: str) -> dict[str, bytes]:
    """Our examples of one adapter."""
    folder = resources.files("gateway.adapters") / "examples" / name
    return {one.name: one.read_bytes() for one in sorted(folder.iterdir(), key=lambda one: one.name)}


def read(adapter: Adapter, body: bytes | Any) -> dict[str, Any]:
    """The document, valid. `body` may be what is to be JSON."""
    found = body if isinstance(body, bytes) else json.dumps(body).encode()
    message = adapter.to_canonical(Native(adapter.media_types[0], found))
    assert schemas.validate(message.type, message.version, message.document) == []
    return dict(message.document)


def write(adapter: Adapter, document: dict[str, Any]) -> bytes:
    canonical = Canonical(document["type"], 1, document)
    return adapter.from_canonical(header(document["type"]), canonical, adapter.media_types[0]).body


def refusals(adapter: Adapter, body: bytes | Any) -> dict[str, str]:
    """Rules by pointer of a body that is refused, whose error holds nothing of it."""
    found = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        adapter.to_canonical(Native(adapter.media_types[0], found))
    except AdapterError as refused:
        error: BaseException | None = refused
        while error is not None:
            assert CANARY not in repr(error) + str(getattr(error, "problems", ""))
            error = error.__context__
        assert refused.problems
        return {problem.pointer: problem.rule for problem in refused.problems}
    return {}


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(name of the field, value) of every scalar inside."""
    if isinstance(value, dict):
        for inner, below in value.items():
            yield from leaves(below, inner)
    elif isinstance(value, list):
        for below in value:
            yield from leaves(below, name)
    else:
        yield name, value


def spellings(name: str, value: Any) -> set[str]:
    """How a value may stand in words."""
    if isinstance(value, bool):
        return {"yes" if value else "no", str(value).lower()}
    text = str(value).strip()
    found = {text, " ".join(text.split()), text.replace("-", " ")}
    if name == "ethnicityCode":
        found.add(codes.ethnicity_name(text) or "")
    if name in {"sexCode", "genderCode"}:
        found.add(codes.sex_name(text) or "")
    if name == "accuracyIndicator":
        found |= {{"A": "certain", "E": "estimated", "U": "not known"}[letter] for letter in text}
    return {one.casefold() for one in found if one}


def unsaid(document: dict[str, Any], said: str) -> list[str]:
    """The names of the fields whose values are not in a text."""
    folded = said.casefold()
    return [
        name
        for name, value in leaves(document)
        if name not in {"type", "version"}
        and spellings(name, value)
        and not any(one in folded for one in spellings(name, value))
    ]


def keeps_everything(adapter: Adapter, document: dict[str, Any], no_form: set[str]) -> None:
    """What is written reads back valid and says all of it; or it is refused at one of these pointers."""
    try:
        body = write(adapter, document)
    except AdapterError as refused:
        assert {problem.pointer for problem in refused.problems} <= no_form
        return
    message = adapter.to_canonical(Native(adapter.media_types[0], body))
    if any(len(str(message.document.get(name, ""))) > MAX_NOTE for name in ("note", "reasonText")):
        return  # read, but too long for the schema: the sender is told
    assert schemas.validate(message.type, 1, message.document) == []
    assert unsaid(document, everything(dict(message.document))) == []


def everything(document: dict[str, Any]) -> str:
    """Every value of a document in one text, codes in words too."""
    return "\n".join(one for name, value in leaves(document) for one in sorted(spellings(name, value)))


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) inside."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [(value, key) for key in keys] + [found for key in keys for found in places(value[key])]


@st.composite
def damaged(draw: st.DrawFn, bodies: list[Any]) -> Any:
    """One of the JSON bodies with one to three parts replaced, removed, wrapped or renamed."""
    document = copy.deepcopy(draw(st.sampled_from(bodies)))
    for _ in range(draw(st.integers(1, 3))):
        spots = places(document)
        if not spots:
            break
        container, key = draw(st.sampled_from(spots))
        change = draw(st.sampled_from(["replace", "remove", "wrap", "empty"]))
        if change == "remove":
            del container[key]
        else:
            was = container[key]
            container[key] = {"replace": draw(VALUES), "wrap": [was, was], "empty": type(was)()}[change]
    return document
