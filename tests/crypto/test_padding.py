"""Padding: Padmé's lengths, always reached, and always undone."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.crypto.padding import pad, padded_length, unpad


def padme(length: int) -> int:
    """Algorithm 1 of the paper, as it is printed there."""
    exponent = math.floor(math.log2(length))
    mantissa = math.floor(math.log2(exponent)) + 1
    last_bits = exponent - mantissa
    mask = 2**last_bits - 1
    return (length + mask) & ~mask


@given(st.integers(2, 2**40))
def test_lengths_are_the_papers(length: int) -> None:
    assert padded_length(length) == padme(length)


@given(st.integers(0, 2**40))
def test_padding_is_bounded_and_stable(length: int) -> None:
    padded = padded_length(length)
    assert length <= padded <= length * 1.12
    assert padded_length(padded) == padded


@given(st.integers(2**6, 2**24))
def test_few_lengths_remain_to_be_seen(length: int) -> None:
    # All but the leading bits are zero: O(log log n) bits remain.
    padded = padded_length(length)
    leading = padded.bit_length().bit_length() + 1
    assert padded % (1 << max(0, padded.bit_length() - leading)) == 0


def test_every_length_is_reached_exactly() -> None:
    for length in (*range(600), 65_530, 65_536, 65_540, 70_000):
        assert len(pad(bytes(length))) == padded_length(length + 1)


@given(st.binary(max_size=2000))
def test_what_is_padded_comes_back(data: bytes) -> None:
    assert unpad(pad(data)) == data
    assert unpad(pad(data, most=len(data) + 1)) == data


@given(st.integers(0, 100), st.integers(0, 100))
def test_content_that_looks_like_padding_comes_back(marks: int, zeros: int) -> None:
    data = b"\x80" * marks + bytes(zeros)
    assert unpad(pad(data)) == data


def test_padding_stops_at_the_most() -> None:
    assert len(pad(bytes(1000), most=1010)) == 1010
    assert len(pad(bytes(1000))) == padded_length(1001) > 1010


@pytest.mark.parametrize("data", [b"", b"\0\0", b"no mark", b"\x80\0x", b"\x80\0\x01\0"])
def test_what_is_not_padding_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no padding"):
        unpad(data)
