"""The validator on the road: jsonschema-rs, compiled once for each schema (docs/decisions/0006)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any

import jsonschema_rs

from gateway.messages import Problem
from gateway.schemas import files
from gateway.schemas.rules import MAX_PROBLEMS, NOT_JSON, problem

MANY_VALUES = 5_000
"""A document of more values than this is told its first problem only: listing is eager and takes up to 50 µs
for each problem, so that a body of two million wrong codes would hold the node for a minute and a half."""


def validate(type: str, version: int, document: Mapping[str, Any]) -> list[Problem]:  # noqa: A002
    """What is wrong with `document`: nothing, or up to MAX_PROBLEMS places with the rule broken there.

    The type and version must be known (`is_known`), otherwise KeyError. Safe on hostile input.
    """
    validator = _validator(type, version)
    try:
        if validator.is_valid(document):
            return []
        errors = validator.iter_errors(document) if _is_small(document) else _first(validator, document)
        found = (_problem(error) for error in errors)
        return list(dict.fromkeys(islice(found, MAX_PROBLEMS)))
    except ValueError:  # a lone surrogate, a key that is not text, nesting beyond 255
        return [NOT_JSON]


@cache
def _validator(type: str, version: int) -> jsonschema_rs.Draft202012Validator:  # noqa: A002
    if not files.is_known(type, version):
        raise KeyError(type, version)
    common = files.common()
    registry = jsonschema_rs.Registry([(common["$id"], common)])
    # The mask keeps values out of the library's messages, should one be printed; nothing here reads them.
    return jsonschema_rs.Draft202012Validator(
        files.schema(type, version), registry=registry, mask="(hidden)", offline=True
    )


def _first(
    validator: jsonschema_rs.Draft202012Validator, document: Mapping[str, Any]
) -> Iterator[jsonschema_rs.ValidationError]:
    try:
        validator.validate(document)
    except jsonschema_rs.ValidationError as error:
        yield error


def _problem(error: jsonschema_rs.ValidationError) -> Problem:
    kind = error.kind
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.AnyOf):
        names = [nested.kind.value for branch in kind.context for nested in branch]
        return problem("anyOf", names, error.instance_path)
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.Type):
        return problem("type", kind.types[0], error.instance_path)
    return problem(kind.name, kind.value, error.instance_path)


def _is_small(document: Mapping[str, Any]) -> bool:
    """Whether it holds at most MANY_VALUES values. Looks no further than that."""
    waiting: list[Any] = [document]
    seen = 0
    while waiting:
        value = waiting.pop()
        children = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
        seen += len(children)
        if seen > MANY_VALUES:
            return False
        waiting.extend(children)
    return True
