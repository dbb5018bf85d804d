"""Attachments, sealed in chunks: 100 MB flows without 100 MB of memory.

Each attachment has a random key of its own, listed in the sealed envelope. Chunks follow the STREAM
construction (Hoang, Reyhanitabar, Rogaway, Vizár, "Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance", CRYPTO 2015): a counter and a last-chunk flag make the nonce, so chunks cannot be
dropped, repeated, reordered or cut off at the end unnoticed. docs/envelope.md section 7 has the bytes.
"""

from __future__ import annotations

import os

from gateway.crypto import cose
from gateway.crypto.fields import raw_id
from gateway.crypto.keys import OpenFailed
from gateway.crypto.labels import CHUNK_CONTEXT, TAG_ENCRYPT0
from gateway.crypto.padding import pad, unpad
from gateway.errors import RefusedByPeer
from gateway.hardening import Secret
from gateway.messages import EnvelopeId, Reason

CHUNK_SIZE = 1024 * 1024
"""Bytes of plaintext in every chunk but the last."""
_FULL = CHUNK_SIZE + 1
"""Bytes of a full chunk with its end mark. The last chunk is padded to at most this, so that a size tells
no more of an attachment than Padmé does, and a full chunk carries no padding at all."""


def new_key() -> bytes:
    """A key for one attachment to one recipient, used for nothing else."""
    return os.urandom(32)


def seal_chunk(key: Secret, index: int, last: bool, envelope_id: EnvelopeId, plaintext: bytes) -> bytes:
    """Seal chunk number `index` (from 0), which travels under an envelope id of its own.

    Raises ValueError when it is longer than CHUNK_SIZE.
    """
    if len(plaintext) > CHUNK_SIZE:
        raise ValueError("a chunk is at most CHUNK_SIZE bytes")
    return cose.encrypt0(pad(plaintext, _FULL), key, _nonce(index, last), _context(envelope_id))


def open_chunk(key: Secret, index: int, last: bool, envelope_id: EnvelopeId, data: bytes) -> bytes:
    """The plaintext of chunk number `index`. Raises RefusedByPeer(ATTACHMENT_MISMATCH)."""
    try:
        padded = cose.decrypt0(data, key, _nonce(index, last), _context(envelope_id))
        if len(padded) > _FULL:
            raise ValueError("longer than a full chunk")
        return unpad(padded)
    except (ValueError, OpenFailed):
        raise RefusedByPeer(Reason.ATTACHMENT_MISMATCH) from None


def is_chunk(data: bytes) -> bool:
    """Whether this is a sealed chunk (COSE_Encrypt0, tag 16) rather than an envelope (tag 96)."""
    return data[:1] == bytes([0xC0 | TAG_ENCRYPT0])


def _nonce(index: int, last: bool) -> bytes:
    """11 bytes of counter, 1 of flag: never twice under one key, since a key seals one attachment once."""
    return index.to_bytes(11, "big") + (b"\1" if last else b"\0")


def _context(envelope_id: EnvelopeId) -> bytes:
    # The id in the AAD ties the bytes to the name they travel under, so that the broker cannot swap two.
    return CHUNK_CONTEXT + b"\0" + raw_id(envelope_id)
