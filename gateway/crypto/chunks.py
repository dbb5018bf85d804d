"""Attachments, sealed in chunks: 100 MB flows without 100 MB of memory.

Each attachment has a random key of its own, listed in the sealed envelope. Chunks follow the STREAM
construction (Hoang, Reyhanitabar, Rogaway, Vizár, "Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance", CRYPTO 2015): a counter and a last-chunk flag make the nonce, so chunks cannot be
dropped, repeated, reordered or cut off at the end unnoticed.
"""

from __future__ import annotations

import os
import uuid

from gateway.crypto import cose
from gateway.crypto.cbor import CborError
from gateway.crypto.keys import OpenFailed
from gateway.crypto.labels import CHUNK_CONTEXT, TAG_ENCRYPT0
from gateway.crypto.padding import padded_length
from gateway.errors import RefusedByPeer
from gateway.messages import EnvelopeId, Reason

CHUNK_SIZE = 1024 * 1024
"""Bytes of plaintext in every chunk but the last."""
_END = b"\x80"
"""Ends the plaintext of a chunk; zeros follow (ISO/IEC 7816-4 padding: unambiguous, also for no zeros)."""


def new_key() -> bytes:
    """A key for one attachment to one recipient, used for nothing else."""
    return os.urandom(32)


def seal_chunk(key: bytes, index: int, last: bool, chunk_id: EnvelopeId, plaintext: bytes) -> bytes:
    """Seal one chunk, padded (docs/envelope.md section 7)."""
    if len(plaintext) > CHUNK_SIZE:
        raise ValueError("a chunk is at most CHUNK_SIZE bytes")
    body = plaintext + _END
    body += bytes(min(padded_length(len(body)), CHUNK_SIZE + 1) - len(body))
    return cose.encrypt0(body, key, _nonce(index, last), _context(chunk_id))


def open_chunk(key: bytes, index: int, last: bool, chunk_id: EnvelopeId, data: bytes) -> bytes:
    """The plaintext of chunk number `index`. Raises RefusedByPeer(ATTACHMENT_MISMATCH)."""
    try:
        body = cose.decrypt0(data, key, _nonce(index, last), _context(chunk_id)).rstrip(b"\0")
    except (CborError, OpenFailed):
        raise RefusedByPeer(Reason.ATTACHMENT_MISMATCH) from None
    if not body.endswith(_END):
        raise RefusedByPeer(Reason.ATTACHMENT_MISMATCH)
    return body[:-1]


def is_chunk(data: bytes) -> bool:
    """Whether this is a sealed chunk rather than an envelope: by its CBOR tag."""
    return data[:1] == bytes([0xC0 | TAG_ENCRYPT0])


def _nonce(index: int, last: bool) -> bytes:
    """11 bytes of counter, 1 of flag: never twice under one key, since a key seals one attachment once."""
    return index.to_bytes(11, "big") + (b"\1" if last else b"\0")


def _context(chunk_id: EnvelopeId) -> bytes:
    return CHUNK_CONTEXT + b"\0" + uuid.UUID(chunk_id).bytes
