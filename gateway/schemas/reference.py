"""The reference validator: jsonschema. Slow and plain; the tests hold the compiled one to it.

Nothing on the road imports this module: the library takes a tenth of a second to load.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker, ValidationError, validators
from jsonschema.protocols import Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from gateway.messages import Problem
from gateway.schemas import files
from gateway.schemas.rules import MAX_PROBLEMS, NOT_JSON, problem


def validate_reference(type: str, version: int, document: Mapping[str, Any]) -> list[Problem]:  # noqa: A002
    """What `gateway.schemas.validate` answers, from the other library. The order may differ."""
    try:
        json.dumps(document, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, TypeError, RecursionError):
        return [NOT_JSON]
    found = (one for error in _validator(type, version).iter_errors(document) for one in _problems(error))
    return list(islice(dict.fromkeys(found), MAX_PROBLEMS))


@cache
def _validator(type: str, version: int) -> Validator:  # noqa: A002
    common = files.common()
    registry: Registry[Any] = Registry().with_resource(common["$id"], DRAFT202012.create_resource(common))
    made: Validator = _Ecma(files.schema(type, version), registry=registry, format_checker=FormatChecker())
    return made


def _pattern(validator: Validator, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """`pattern` as ECMA-262 means it: Python's own `$` would also match before a final line feed."""
    del schema
    if validator.is_type(instance, "string") and not re.search(re.sub(r"\$$", r"\\Z", pattern), instance):
        yield ValidationError("does not match")


_Ecma: type[Validator] = validators.extend(Draft202012Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call]


def _problems(error: ValidationError) -> Iterator[Problem]:
    keyword, path = str(error.validator), error.absolute_path
    value: Any = error.validator_value
    instance: Any = error.instance
    if keyword == "required":  # the library names the missing field in its message only
        for name in value:
            if name not in instance:
                yield problem(keyword, name, path)
    elif keyword == "anyOf":
        yield problem(keyword, [name for branch in value for name in branch["required"]], path)
    else:
        yield problem(keyword, value, path)
