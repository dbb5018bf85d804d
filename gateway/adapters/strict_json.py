"""JSON read without mercy (RFC 8259, RFC 7493), for any adapter whose format is JSON.

The standard library's reader takes duplicate names, NaN, other encodings and nesting to the limit of the
stack. What is refused here could be read in two ways by two systems, or costs more than a message is worth.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from gateway.adapters.base import AdapterError
from gateway.messages import Problem

MAX_DEPTH = 64
"""Lists and objects inside each other. FHIR resources stay below 20."""
MAX_VALUES = 250_000
"""Commas and opening brackets, those inside text too: a bound on how many values there can be, so that 50 MB
of `[],[],[],` costs no gigabyte of memory."""
MAX_INTEGER_DIGITS = 18
"""Any receiver holds such a number in 64 bits. Identifiers are text."""

_TO_BRACKET = re.compile(rb'(?:[^"\[\]{}]++|"[^"\\]*+(?:\\.[^"\\]*+)*+"?)*+([\[\]{}]|\Z)', re.DOTALL)
"""All up to the next bracket outside a string, or to the end. It never goes back over a byte."""
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class _Refused(ValueError):
    """The argument is the rule that was broken, in words of our own."""


def loads(body: bytes) -> Any:
    """The value that `body` holds. Raises AdapterError (malformed); its problems name no value and no field.

    UTF-8 without a byte order mark; no name twice in one object; no NaN, no infinity, no number that is too
    large; no half of a surrogate pair; at most MAX_DEPTH deep. Safe and quick on bodies of any size.
    """
    try:
        return _loads(body)
    except _Refused as refused:
        rule = str(refused)
    except UnicodeDecodeError:
        rule = "UTF-8 encoding"
    except json.JSONDecodeError as error:
        rule = f"JSON syntax: see line {error.lineno}, column {error.colno}"
    # Raised out here so that it does not carry the reader's own error, which holds the whole document.
    raise AdapterError([Problem("", rule)], malformed=True)


def _loads(body: bytes) -> Any:
    if body.startswith(b"\xef\xbb\xbf"):
        raise _Refused("UTF-8 without a byte order mark")
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_VALUES:
        raise _Refused(f"at most {MAX_VALUES} values")
    _check_depth(body)
    value = json.loads(
        body.decode(),
        object_pairs_hook=_object,
        parse_constant=_no_constant,
        parse_int=_integer,
        parse_float=_number,
    )
    if _SURROGATE.search(body):
        _check_surrogates(value)
    return value


def _check_depth(body: bytes) -> None:
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for match in _TO_BRACKET.finditer(body):
        depth += 1 if match[1] in {b"[", b"{"} else -1
        if depth > MAX_DEPTH:
            raise _Refused(f"nesting at most {MAX_DEPTH} deep")
        if depth < 0:  # the end, or a bracket too many: the reader says where
            return


def _check_surrogates(value: Any) -> None:
    """A pair of escapes was joined by the reader; one that is still here is half of a pair."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        half = True
    else:
        half = False
    if half:
        raise _Refused("no half of a surrogate pair")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _Refused("each name once in an object")
    return made


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > MAX_INTEGER_DIGITS:
        raise _Refused(f"whole numbers of at most {MAX_INTEGER_DIGITS} digits")
    return int(text)


def _number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise _Refused("numbers within the range of a 64-bit float")
    return number


def _no_constant(_: str) -> NoReturn:
    raise _Refused("no NaN and no infinity")
