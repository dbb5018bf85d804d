"""Padding: how long a plaintext is made, and how its end is found again (docs/envelope.md section 5).

How long: Padmé, from Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication
with PURBs", PoPETs 2019, algorithm 1: at most 12 per cent longer, and only O(log log n) bits of the length
remain to be seen. The end: one byte 0x80, then zeros (ISO/IEC 7816-4), which is unambiguous, reaches every
length exactly, and is only ever looked at after the ciphertext has been authenticated.
"""

from __future__ import annotations

_END = b"\x80"


def padded_length(length: int) -> int:
    """The length that `length` bytes are padded to; at least `length`."""
    if length < 2:
        return length
    exponent = length.bit_length() - 1
    mantissa_bits = exponent.bit_length()
    mask = (1 << (exponent - mantissa_bits)) - 1
    return (length + mask) & ~mask


def pad(data: bytes, most: int | None = None) -> bytes:
    """`data`, the end mark and zeros: as long as Padmé says, but not longer than `most` bytes."""
    length = padded_length(len(data) + 1)
    if most is not None:
        length = min(length, most)
    return (data + _END).ljust(length, b"\0")


def unpad(data: bytes) -> bytes:
    """What was padded. Raises ValueError when there is no end mark."""
    end = data.rfind(_END)
    if end < 0 or data.count(b"\0", end + 1) != len(data) - end - 1:
        raise ValueError("no padding")
    return data[:end]
