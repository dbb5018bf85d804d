"""Deterministic CBOR (RFC 8949 section 4.2.1): one encoding for each value, written and demanded.

Written with `cbor2`, after sorting maps bytewise by their encoded keys: its own canonical mode sorts
shorter keys first (RFC 7049), which differs as soon as a key needs more than one byte. Read by the reader
below, because what arrives comes from anybody who can reach the broker and is read before it is
authenticated: a general decoder follows shared references (a few hundred bytes then unfold to billions of
items), builds numbers, dates and patterns from tags, and takes many encodings for one value.

Known types: whole numbers of 64 bits, bytes, text, None, arrays, maps with numbers or text as keys, tags.
No booleans: in Python `True == 1`, so a map key or version `true` would pass for 1. No floats.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import cbor2

MAX_DEPTH = 8
"""Nesting that a reader follows; our deepest structure, COSE_Encrypt, has 5 levels."""
MAX_ITEMS = 50_000
"""Items in one value: 8 MB of memory at most; 1,000 attachments make about 7,000."""

_NULL = 0xF6
_UINT, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG = range(7)
_SMALLEST = {1: 24, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}
"""By width of the argument in bytes: the smallest number that needs it."""


class CborError(ValueError):
    """Not the deterministic encoding of a value this product uses."""


def encode(value: Any) -> bytes:
    """The one encoding of `value`. Raises CborError for a type that is not used here."""
    return cbor2.dumps(_sorted(value))


def _sorted(value: Any) -> Any:
    kind = type(value)
    if kind is bytes or kind is str or value is None:
        return value
    if kind is int and -(1 << 64) <= value < 1 << 64:
        return value
    if kind is list:
        return [_sorted(inner) for inner in value]
    if kind is dict:
        return {key: _sorted(value[key]) for key in sorted(value, key=_encoded_key)}
    if kind is cbor2.CBORTag:
        return cbor2.CBORTag(value.tag, _sorted(value.value))
    raise CborError("not a type used here")


def _encoded_key(key: Any) -> bytes:
    if type(key) is not int and type(key) is not str:
        raise CborError("not a type used as a key here")
    return cbor2.dumps(key)


def decode(data: bytes) -> Any:
    """Read one value. Raises CborError for anything but its deterministic encoding, whole."""
    reader = _Reader(data)
    try:
        value = reader.value(MAX_DEPTH)
    except (IndexError, UnicodeDecodeError):
        raise CborError("not whole, or not UTF-8") from None
    if reader.at != len(data):
        raise CborError("more bytes than one value")
    return value


class _Reader:
    """Reads well-formed deterministic CBOR at a position that only moves forward."""

    __slots__ = ("at", "data", "items")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.items = MAX_ITEMS

    def value(self, depth: int) -> Any:
        first = self.data[self.at]
        self.at += 1
        if first == _NULL:
            return None
        kind = first >> 5
        if kind > _TAG:
            raise CborError("not a type used here")
        argument = self._argument(first & 31)
        if kind == _UINT:
            return argument
        if kind == _NEGATIVE:
            return -1 - argument
        if kind == _BYTES:
            return self._take(argument)
        if kind == _TEXT:
            return self._take(argument).decode("utf-8")
        return self._nested(kind, argument, depth - 1)

    def _nested(self, kind: int, argument: int, depth: int) -> Any:
        if depth < 0:
            raise CborError("nested too deeply")
        if kind == _TAG:
            return cbor2.CBORTag(argument, self.value(depth))
        # Before anything is made of a length: it may be a lie of 2^64.
        self.items -= argument if kind == _ARRAY else 2 * argument
        if self.items < 0:
            raise CborError("too many items")
        if kind == _ARRAY:
            return [self.value(depth) for _ in range(argument)]
        return self._map(argument, depth)

    def _argument(self, short: int) -> int:
        """The number in an item's head, which must be in the shortest form; no indefinite lengths."""
        if short < 24:
            return short
        if short > 27:
            raise CborError("an indefinite length or a reserved form")
        width = 1 << (short - 24)
        number = int.from_bytes(self._take(width), "big")
        if number < _SMALLEST[width]:
            raise CborError("a number is not in its shortest form")
        return number

    def _take(self, length: int) -> bytes:
        end = self.at + length
        if end > len(self.data):
            raise CborError("ends early")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def _map(self, length: int, depth: int) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        before = b""
        for _ in range(length):
            start = self.at
            key = self.value(depth)
            if type(key) is not int and type(key) is not str:
                raise CborError("not a type used as a key here")
            # Strictly ascending: sorted, and none twice.
            encoded = self.data[start : self.at]
            if encoded <= before:
                raise CborError("keys are not in order, or one stands twice")
            before = encoded
            result[key] = self.value(depth)
        return result


def tag(number: int, value: Any) -> cbor2.CBORTag:
    """A tagged value."""
    return cbor2.CBORTag(number, value)


def untag(value: Any, number: int, length: int) -> list[Any]:
    """The array of `length` items under this tag. Raises CborError."""
    if isinstance(value, cbor2.CBORTag) and value.tag == number and is_list(value.value, length):
        return list(value.value)
    raise CborError("not the tag expected")


def is_list(value: Any, length: int) -> TypeGuard[list[Any]]:
    """Whether a value is an array of so many items."""
    return isinstance(value, list) and len(value) == length
