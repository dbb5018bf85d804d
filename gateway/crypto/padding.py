"""Padmé padding: how long a plaintext is made, so that its size says little about it.

Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", PoPETs 2019,
algorithm 1: at most 12 per cent longer, and only O(log log n) bits of the length remain to be seen.
"""

from __future__ import annotations


def padded_length(length: int) -> int:
    """The length that `length` bytes are padded to; at least `length`."""
    if length < 2:
        return length
    exponent = length.bit_length() - 1
    mantissa_bits = exponent.bit_length()
    mask = (1 << (exponent - mantissa_bits)) - 1
    return (length + mask) & ~mask
