"""Deterministic CBOR: one encoding for each value, and no other is read."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.crypto import cbor
from gateway.crypto.cbor import CborError

NUMBERS = st.integers(-(2**64), 2**64 - 1)
KEYS = NUMBERS | st.text(max_size=30)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | NUMBERS | st.binary(max_size=300) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
).filter(lambda value: depth(value) <= cbor.MAX_DEPTH)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(VALUES)
def test_what_is_written_is_read_back(value: Any) -> None:
    assert cbor.decode(cbor.encode(value)) == value


@given(VALUES)
def test_a_general_reader_reads_the_same(value: Any) -> None:
    assert cbor2.loads(cbor.encode(value)) == value


@given(st.binary(max_size=40) | VALUES.map(cbor2.dumps))
def test_whatever_is_read_has_only_that_encoding(data: bytes) -> None:
    try:
        value = cbor.decode(data)
    except CborError:
        return
    assert cbor.encode(value) == data


@given(VALUES, st.data())
def test_a_cut_or_longer_encoding_is_not_read(value: Any, data: st.DataObject) -> None:
    encoded = cbor.encode(value)
    with pytest.raises(CborError):
        cbor.decode(encoded[: data.draw(st.integers(0, len(encoded) - 1))])
    with pytest.raises(CborError):
        cbor.decode(encoded + data.draw(st.binary(min_size=1, max_size=3)))


def test_keys_stand_in_bytewise_order() -> None:
    # RFC 8949 section 4.2.1 gives this very order; length-first (RFC 7049) would put -1 before 100.
    value = {"aa": 0, 100: 0, -1: 0, "z": 0, 10: 0}
    assert cbor.encode(value).hex() == "a50a001864002000617a0062616100"


@pytest.mark.parametrize(
    ("encoded", "what"),
    [
        ("1817", "a small number in two bytes"),
        ("190018", "a number in three bytes that needs two"),
        ("1a0000ffff", "a number in five bytes that needs three"),
        ("1b00000000ffffffff", "a number in nine bytes that needs five"),
        ("5801ff", "a length not in its shortest form"),
        ("9f00ff", "an array of indefinite length"),
        ("5f4100ff", "bytes of indefinite length"),
        ("bf0000ff", "a map of indefinite length"),
        ("a201000100", "a key that stands twice"),
        ("a202000100", "keys out of order"),
        ("a1f500", "true as a key: in Python equal to 1"),
        ("a1400000", "bytes as a key"),
        ("a1800000", "an array as a key"),
        ("f4", "false"),
        ("f5", "true"),
        ("f7", "undefined"),
        ("e0", "a simple value"),
        ("f97e00", "not a number"),
        ("fb3ff0000000000000", "a float"),
        ("1c", "a reserved form"),
        ("ff", "a break on its own"),
        ("61ff", "text that is not UTF-8"),
        ("", "nothing"),
    ],
)
def test_another_encoding_or_type_is_not_read(encoded: str, what: str) -> None:
    with pytest.raises(CborError):
        cbor.decode(bytes.fromhex(encoded))


@pytest.mark.parametrize(
    "value", [True, 1.5, {True: 1}, {b"k": 1}, {1, 2}, (1, 2), 1 << 64, -(1 << 64) - 1, object()]
)
def test_another_type_is_not_written(value: Any) -> None:
    with pytest.raises(CborError):
        cbor.encode(value)


def test_nesting_is_bounded() -> None:
    deepest = b"\x81" * cbor.MAX_DEPTH + b"\0"
    assert cbor.encode(cbor.decode(deepest)) == deepest
    with pytest.raises(CborError):
        cbor.decode(b"\x81" + deepest)
    with pytest.raises(CborError):
        cbor.decode(b"\xc1" * 1_000_000 + b"\0")


def test_the_number_of_items_is_bounded() -> None:
    assert len(cbor.decode(cbor.encode([0] * cbor.MAX_ITEMS))) == cbor.MAX_ITEMS
    for many in ([0] * (cbor.MAX_ITEMS + 1), [[0] * (cbor.MAX_ITEMS // 2)] * 2):
        with pytest.raises(CborError):
            cbor.decode(cbor.encode(many))


@pytest.mark.parametrize("head", ["9b", "bb", "5b", "7b"])
def test_a_length_that_is_a_lie_allocates_nothing(head: str) -> None:
    with pytest.raises(CborError):
        cbor.decode(bytes.fromhex(head) + b"\x7f" + b"\xff" * 7)


def test_shared_references_are_not_followed() -> None:
    # Unfolded, this would be 10^12 items; what is read is no larger than what was sent.
    levels = [cbor2.CBORTag(28, [])]
    levels += [cbor2.CBORTag(28, [cbor2.CBORTag(29, i)] * 10) for i in range(12)]
    sent = cbor2.dumps(levels)
    assert cbor.encode(cbor.decode(sent)) == sent
    with pytest.raises(CborError):
        cbor.untag(cbor.decode(sent), 28, 10)


@given(VALUES.filter(lambda value: depth(value) <= cbor.MAX_DEPTH - 2))
def test_a_tag_is_only_taken_for_what_it_is(value: Any) -> None:
    tagged = cbor.decode(cbor.encode(cbor.tag(96, [value])))
    assert cbor.untag(tagged, 96, 1) == [value]
    for wrong in ((97, 1), (96, 2)):
        with pytest.raises(CborError):
            cbor.untag(tagged, *wrong)
    with pytest.raises(CborError):
        cbor.untag(value, 96, 1)
