"""Chunks: an attachment comes out whole and in order, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.crypto import cose
from gateway.crypto.chunks import CHUNK_SIZE, is_chunk, new_key, open_chunk, seal_chunk
from gateway.crypto.envelope import seal
from gateway.crypto.keys import OpeningKey
from gateway.errors import RefusedByPeer
from gateway.messages import EnvelopeId, Reason, new_id
from tests.crypto import independent
from tests.crypto.test_envelope import SIGNER, header

ID = EnvelopeId(new_id())


def mismatch(*arguments: object) -> None:
    with pytest.raises(RefusedByPeer) as refused:
        open_chunk(*arguments)  # type: ignore[arg-type]
    assert (refused.value.reason, refused.value.header) == (Reason.ATTACHMENT_MISMATCH, None)


@given(st.binary(max_size=2000), st.integers(0, 2**40), st.booleans())
def test_a_chunk_opens_in_its_place(data: bytes, index: int, last: bool) -> None:
    key = new_key()
    sealed = seal_chunk(key, index, last, ID, data)
    assert open_chunk(key, index, last, ID, sealed) == data
    assert independent.open_chunk(key, index, last, bytes.fromhex(ID.replace("-", "")), sealed) == data


def test_a_chunk_opens_nowhere_else() -> None:
    key = new_key()
    sealed = seal_chunk(key, 1, False, ID, b"data")
    mismatch(key, 2, False, ID, sealed)
    mismatch(key, 1, True, ID, sealed)
    mismatch(key, 1, False, EnvelopeId(new_id()), sealed)
    mismatch(new_key(), 1, False, ID, sealed)
    # The same nonce byte for byte cannot come from another place: 2^8 is not (1, last).
    mismatch(key, 256, True, ID, sealed)


def test_a_bit_flipped_or_a_cut_anywhere_is_a_mismatch() -> None:
    key = new_key()
    sealed = bytearray(seal_chunk(key, 0, True, ID, b"data"))
    for position in range(len(sealed)):
        mismatch(key, 0, True, ID, bytes(sealed[:position]))
        sealed[position] ^= 1 << (position % 8)
        mismatch(key, 0, True, ID, bytes(sealed))
        sealed[position] ^= 1 << (position % 8)
    assert open_chunk(key, 0, True, ID, bytes(sealed)) == b"data"


def test_a_full_chunk_is_not_padded_and_the_last_never_longer() -> None:
    key = new_key()
    full = len(seal_chunk(key, 0, False, ID, bytes(CHUNK_SIZE)))
    assert full - CHUNK_SIZE < 80
    sizes = {len(seal_chunk(key, 0, True, ID, bytes(CHUNK_SIZE - n))) for n in range(0, 5000, 100)}
    # Without a limit, Padmé would make 2^20 bytes and an end mark 2^20 + 2^15 long.
    assert sizes == {full, full - 1}
    with pytest.raises(ValueError, match="CHUNK_SIZE"):
        seal_chunk(key, 0, True, ID, bytes(CHUNK_SIZE + 1))


def test_a_chunk_larger_than_one_is_refused() -> None:
    key = new_key()
    oversize = bytes(CHUNK_SIZE + 1) + b"\x80"
    context = b"referral-gateway chunk v1\0" + bytes.fromhex(ID.replace("-", ""))
    sealed = cose.encrypt0(oversize, key, bytes(11) + b"\1", context)
    mismatch(key, 0, True, ID, sealed)


def test_zeros_are_content_too() -> None:
    key = new_key()
    for data in (b"", b"\0", bytes(1000), b"\x80", b"\x80\0\0", b"x\x80"):
        assert open_chunk(key, 0, True, ID, seal_chunk(key, 0, True, ID, data)) == data


def test_chunks_and_envelopes_are_told_apart() -> None:
    assert is_chunk(seal_chunk(new_key(), 0, True, ID, b""))
    assert not is_chunk(seal(header(), b"", signer=SIGNER, to=OpeningKey.generate().public))
    assert not is_chunk(b"")


def test_keys_are_new_each_time() -> None:
    assert len({new_key() for _ in range(100)}) == 100
    assert len(new_key()) == 32
