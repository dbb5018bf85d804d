"""Deterministic CBOR (RFC 8949 section 4.2.1): one encoding for each value, written and demanded.

Map keys are sorted bytewise by their encoding. `cbor2`'s own canonical mode sorts shorter keys first
(RFC 7049), which differs as soon as a key needs more than one byte, so maps are sorted here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

import cbor2


class CborError(ValueError):
    """Not the deterministic encoding of a value this product uses."""


MAX_DEPTH = 16
"""Nesting that a reader accepts; our deepest structure has 7 levels."""


def encode(value: Any) -> bytes:
    """The one encoding of `value`: ints, bytes, str, bool, None, lists, maps, tags."""
    return cbor2.dumps(_sorted(value))


def decode(data: bytes) -> Any:
    """Read one value. Raises CborError for anything but its deterministic encoding, whole."""
    try:
        value = _plain(cbor2.loads(data), MAX_DEPTH)
        again = encode(value)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError, MemoryError):
        raise CborError("not CBOR of the kind used here") from None
    # Written again it must be the same bytes: that leaves no second encoding, no duplicate keys (the
    # later would win and the bytes differ), no trailing bytes, no indefinite lengths.
    if again != data:
        raise CborError("not deterministic CBOR")
    return value


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        pairs = sorted((cbor2.dumps(key), key, inner) for key, inner in value.items())
        return {key: _sorted(inner) for _, key, inner in pairs}
    if isinstance(value, list):
        return [_sorted(inner) for inner in value]
    if isinstance(value, cbor2.CBORTag):
        return cbor2.CBORTag(value.tag, _sorted(value.value))
    return value


def _plain(value: Any, depth: int) -> Any:
    """The value as dicts and lists (`cbor2` gives frozen ones inside tags). Raises CborError for a type
    this product does not write, or nesting that is too deep."""
    if value is None or isinstance(value, (int, bytes, str)):
        return value
    if depth == 0:
        raise CborError("nested too deeply")
    if isinstance(value, (list, tuple)):
        return [_plain(inner, depth - 1) for inner in value]
    if isinstance(value, cbor2.CBORTag):
        return cbor2.CBORTag(value.tag, _plain(value.value, depth - 1))
    if isinstance(value, Mapping) and all(isinstance(key, (int, str)) for key in value):
        return {key: _plain(inner, depth - 1) for key, inner in value.items()}
    raise CborError("not a type used here")


def tag(number: int, value: Any) -> cbor2.CBORTag:
    """A tagged value."""
    return cbor2.CBORTag(number, value)


def untag(value: Any, number: int, length: int) -> list[Any]:
    """The array of `length` items under this tag. Raises CborError."""
    if isinstance(value, cbor2.CBORTag) and value.tag == number and is_list(value.value, length):
        return value.value
    raise CborError("not the tag expected")


def is_list(value: Any, length: int) -> TypeGuard[list[Any]]:
    """Whether a value is an array of so many items."""
    return isinstance(value, list) and len(value) == length
