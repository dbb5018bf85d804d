"""What a broken rule is called, whichever validator found it. Pure.

A problem is built from where (a pointer) and the schema's own keyword and its value, never from the document:
promise 3. Schemas close every object, so no validator looks inside a field it does not know, and a pointer
holds only field names of the schema and positions in lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from gateway.messages import Problem
from gateway.schemas import files

MAX_PROBLEMS = 50
"""How many problems one answer lists."""

NOT_JSON = Problem("", "only what JSON can carry: well-formed text, finite numbers, no deep nesting")
"""The document is not even a JSON value (RFC 8259)."""

_KINDS = {
    "object": "an object",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}
_MANY_CODES = 10


def _one_of(codes: list[str]) -> str:
    if len(codes) > _MANY_CODES:
        return "one of the codes that docs/messages.md lists"
    return f"one of: {', '.join(codes)}"


@cache
def _patterns() -> Mapping[str, str]:
    """Each pattern of our schemas, as its `$comment` says it for people."""
    schemas = [files.common(), *(files.schema(name, v) for name, vs in files.TYPES.items() for v in vs)]
    parts = [part for schema in schemas for part in subschemas(schema)]
    return {part["pattern"]: part["$comment"] for part in parts if "pattern" in part}


_RULES: Mapping[str, Callable[[Any], str]] = {
    "additionalProperties": lambda _: "no other fields are allowed here",
    "anyOf": lambda names: f"at least one of: {', '.join(names)}",
    "const": lambda value: f"always {value}",
    "enum": _one_of,
    "maxItems": lambda limit: f"at most {limit} items",
    "maxLength": lambda limit: f"at most {limit} characters",
    "maximum": lambda limit: f"at most {limit}",
    "minItems": lambda limit: f"at least {limit} item{'s' if limit > 1 else ''}",
    "minLength": lambda limit: f"at least {limit} character{'s' if limit > 1 else ''}",
    "minProperties": lambda limit: f"at least {limit} field{'s' if limit > 1 else ''}",
    "minimum": lambda limit: f"at least {limit}",
    "pattern": lambda pattern: _patterns()[pattern],
    "type": lambda kind: _KINDS[kind],
}
KEYWORDS = frozenset(_RULES) | {"required"}
"""The keywords that can fail. Our schemas use no other: a test reads them all."""


def problem(keyword: str, value: Any, path: Iterable[str | int]) -> Problem:
    """The problem with what stands at `path`, where `keyword` with this `value` is not satisfied.

    For `required`, value is the missing field, and the problem points to where it should be. For `anyOf`,
    value is the list of fields of which one is needed.
    """
    if keyword == "required":
        return Problem(pointer((*path, value)), "required")
    return Problem(pointer(path), _RULES[keyword](value))


def pointer(path: Iterable[str | int]) -> str:
    """RFC 6901."""
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in path)


def subschemas(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """`schema` and every schema in it. References are not followed."""
    yield schema
    for keyword in ("properties", "$defs"):
        for part in schema.get(keyword, {}).values():
            yield from subschemas(part)
    for keyword in ("anyOf", "allOf"):
        for part in schema.get(keyword, ()):
            yield from subschemas(part)
    for keyword in ("items", "if", "then"):
        if keyword in schema:
            yield from subschemas(schema[keyword])
