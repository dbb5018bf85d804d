"""Hostile inputs: noise, examples that were damaged, and examples with another structure."""

from __future__ import annotations

import json
from typing import Any

import cbor2
from hypothesis import strategies as st

from gateway.crypto import cbor
from tests.fuzz.kit import CANARY, CANARY_NUMBER

HOSTILE: tuple[bytes, ...] = (
    # CBOR: lengths of 2^62 and 2^64 - 1 for bytes, text, arrays, maps; tags; nesting; no end; other types
    *(bytes([kind]) + (1 << 62).to_bytes(8, "big") for kind in (0x5B, 0x7B, 0x9B, 0xBB)),
    *(bytes([kind]) + b"\xff" * 8 for kind in (0x5B, 0x7B, 0x9B, 0xBB, 0xDB)),
    *(bytes.fromhex(one) for one in ("9affffffff", "ba00ffffff", "99ffff", "9f", "bf", "5f", "ff")),
    *(b"\x81" * 5000, b"\xa1\x00" * 5000, b"\xd8\x1c" * 5000, b"\xd8\x1d\x00"),
    *(b"\xfb" + b"\x7f" * 8, b"\xf5"),
    # JSON and TOML: nesting, numbers without end, halves of characters, names twice
    *(b"[" * 5000, b'{"a":' * 5000, b'[{"":' * 3000, b"9" * 5000, b"-1e999", b"1e999", b"NaN", b"Infinity"),
    *(b'"\\ud800"', b"\\ud83d", b'{"version":1,"version":2}', b"null", b"true", b"[]", b"{}"),
    b"\xef\xbb\xbf",
    b"a = " + b"[" * 5000,
    # text
    *(b"\n", b"\r\n", b"\0", b"\x1b[2J", "\u2028".encode(), "é".encode(), b"\xc0\xaf", b"=" * 7),
    *(CANARY.encode(), json.dumps(CANARY).encode()),
)

_scalars: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.integers(-(1 << 64), (1 << 64) - 1),
    st.sampled_from((0, 1, -1, 1 << 53, 1 << 62, CANARY_NUMBER, 10**400)),
    st.sampled_from((CANARY, "", "é", "\ud800", "0", "A" * 5000, "-", "=", '{"a":1}', "[" * 3000)),
    st.text(max_size=20),
    st.booleans(),
    st.floats(),
)
_keys = st.one_of(
    st.integers(-5, 30), st.sampled_from((CANARY, "", "version", "\ud800")), st.text(max_size=5)
)


def _values(form: str) -> st.SearchStrategy[Any]:
    binary: st.SearchStrategy[Any] = st.one_of(st.binary(max_size=40), st.just(CANARY.encode()))
    leaves = st.one_of(_scalars, binary) if form == "cbor" else _scalars
    keys = _keys if form == "cbor" else _keys.map(str)
    return st.one_of(
        leaves,
        st.recursive(
            leaves,
            lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)),
            max_leaves=8,
        ),
        st.integers(1, 300).map(_nested),
    )


def _nested(depth: int) -> Any:
    value: Any = CANARY
    for _ in range(depth):
        value = [value]
    return value


VALUES = {form: _values(form) for form in ("cbor", "json")}


@st.composite
def damaged(draw: st.DrawFn, examples: tuple[bytes, ...]) -> bytes:
    """An example after a few accidents."""
    data = draw(st.sampled_from(examples))
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(0, len(data)))
        end = draw(st.integers(begin, min(len(data), begin + 64)))
        how = draw(st.sampled_from(("flip", "cut", "drop", "double", "insert", "overwrite", "splice")))
        if how == "flip" and begin < len(data):
            data = data[:begin] + bytes([data[begin] ^ (1 << draw(st.integers(0, 7)))]) + data[begin + 1 :]
        elif how == "cut":
            data = data[:begin]
        elif how == "drop":
            data = data[:begin] + data[end:]
        elif how == "double":
            data = data[:begin] + data[begin:end] * draw(st.sampled_from((2, 3, 500))) + data[end:]
        elif how == "insert":
            data = data[:begin] + draw(st.sampled_from(HOSTILE)) + data[begin:]
        elif how == "overwrite":
            piece = draw(st.sampled_from(HOSTILE))
            data = data[:begin] + piece + data[begin + len(piece) :]
        elif how == "splice":
            data = data[:begin] + draw(st.sampled_from(examples))[begin:]
    return data


def noise() -> st.SearchStrategy[bytes]:
    """Anything."""
    return st.one_of(
        st.binary(max_size=400),
        st.sampled_from(HOSTILE),
        st.lists(st.one_of(st.sampled_from(HOSTILE), st.binary(max_size=9)), max_size=4).map(b"".join),
    )


@st.composite
def restructured(draw: st.DrawFn, examples: tuple[bytes, ...], form: str) -> bytes:
    """An example, well formed but for one to three places where it holds something else."""
    data = draw(st.sampled_from(examples))
    kind = "cbor" if form == "cbor" else "json"
    try:
        value = _read(data, form)
    except (ValueError, RecursionError):
        value = draw(VALUES[kind])
    for _ in range(draw(st.integers(1, 3))):
        value = _changed(draw, value, kind)
    return _write(value, form)


def _read(data: bytes, form: str) -> Any:
    if form == "cbor":
        return cbor.decode(data)
    if form == "lines":
        return [json.loads(line) for line in data.splitlines()]
    return json.loads(data)


def _write(value: Any, form: str) -> bytes:
    if form == "cbor":
        try:
            return cbor.encode(value)  # the only form that is read on
        except (ValueError, TypeError):
            return _any_cbor(value)
    if form == "lines" and isinstance(value, list):
        return b"".join(_any_json(one) + b"\n" for one in value)
    return _any_json(value)


def _any_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _any_cbor(value: Any) -> bytes:
    try:
        return cbor2.dumps(value)
    except (ValueError, TypeError):  # half a character
        return b"\x61\xff"


def _changed(draw: st.DrawFn, value: Any, kind: str) -> Any:
    """The value with one place in it changed, also inside what stands there encoded."""
    inside = _opened(value, kind)
    if inside is not None and draw(st.integers(0, 4)):
        return _closed(_changed(draw, inside, kind), kind)
    if isinstance(value, cbor2.CBORTag):
        if draw(st.integers(0, 5)):
            return cbor2.CBORTag(value.tag, _changed(draw, value.value, kind))
        return cbor2.CBORTag(draw(st.integers(0, 100)), value.value)
    if isinstance(value, list | dict) and value and draw(st.integers(0, 4)):
        places = list(value) if isinstance(value, dict) else range(len(value))
        at = draw(st.sampled_from(places))
        copy: Any = value.copy()
        copy[at] = _changed(draw, value[at], kind)
        return copy
    return _other(draw, value, kind)


def _other(draw: st.DrawFn, value: Any, kind: str) -> Any:
    """Something else instead, less of it, or more."""
    how = draw(st.sampled_from(("replace", "replace", "less", "more")))
    if isinstance(value, dict) and how != "replace":
        if how == "less" and value:
            gone = draw(st.sampled_from(list(value)))
            return {name: one for name, one in value.items() if name != gone}
        name = draw(_keys if kind == "cbor" else _keys.map(str))
        return {**value, name: draw(VALUES[kind])}
    if isinstance(value, list) and how != "replace":
        if how == "less":
            return value[:-1]
        return value + value[-1:] * draw(st.sampled_from((1, 2, 2000))) + [draw(VALUES[kind])]
    if isinstance(value, str | bytes) and how != "replace":
        return value[:-1] if how == "less" else value * 2
    if type(value) is int and how != "replace":
        return value + (1 if how == "more" else -1)
    return draw(VALUES[kind])


def _opened(value: Any, kind: str) -> Any:
    """What a byte string of CBOR, or a text of JSON, holds; None for any other."""
    try:
        if kind == "cbor" and isinstance(value, bytes) and len(value) > 1:
            return cbor.decode(value)
        if kind == "json" and isinstance(value, str) and value.startswith("{"):
            return json.loads(value)
    except (ValueError, RecursionError):
        pass
    return None


def _closed(value: Any, kind: str) -> Any:
    if kind == "cbor":
        return _write(value, "cbor")
    return json.dumps(value, separators=(",", ":"))
