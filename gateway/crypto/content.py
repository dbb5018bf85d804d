"""What an envelope carries: a typed message's content, receipts, or a note (docs/envelope.md 6).

Read only after the envelope's signature has been verified, but still strictly: a sender may be wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.crypto import cbor
from gateway.crypto.cbor import CborError
from gateway.crypto.fields import raw_id, read_bytes, read_id, read_number
from gateway.crypto.labels import CONTENT_VERSION, MAX_RECEIPT
from gateway.messages import Attachment, Content, EnvelopeId, Original, Problem, Sensitive

MAX_ITEMS = 1000
"""Warnings, receipts or attachments in one envelope."""
MAX_CHUNKS = 10_000
"""Chunks of one attachment: 10 GB, far above what any node takes."""


def encode_content(content: Content) -> bytes:
    """The content of a typed message as CBOR, version first (docs/envelope.md 6.1)."""
    original = content.original
    return cbor.encode(
        [
            CONTENT_VERSION,
            content.document.reveal(),
            [[warning.pointer, warning.rule] for warning in content.warnings],
            [original.adapter, original.media_type, original.body.reveal()] if original else None,
            [
                [one.name, one.media_type, one.size, one.sha256, one.key, b"".join(map(raw_id, one.chunks))]
                for one in content.attachments
            ],
        ]
    )


def decode_content(data: bytes) -> Content:
    """The content of a typed message. Raises CborError (a ValueError)."""
    value = cbor.decode(data)
    if not cbor.is_list(value, 5) or value[0] != CONTENT_VERSION or not isinstance(value[1], bytes):
        raise CborError("not content of a known version")
    _, document, warnings, original, attachments = value
    return Content(
        Sensitive(document),
        tuple(Problem(*_texts(pair, 2)) for pair in _items(warnings)),
        _original(original) if original is not None else None,
        tuple(_attachment(one) for one in _items(attachments)),
    )


def encode_receipts(receipts: Sequence[bytes]) -> bytes:
    """A batch of signed receipts as CBOR (docs/envelope.md 6.4)."""
    return cbor.encode(list(receipts))


def decode_receipts(data: bytes) -> list[bytes]:
    """The signed receipts of a batch, none of them verified yet. Raises CborError (a ValueError)."""
    receipts = _items(cbor.decode(data))
    if not all(isinstance(one, bytes) and len(one) <= MAX_RECEIPT for one in receipts):
        raise CborError("not a batch of receipts")
    return receipts


def encode_ids(ids: Sequence[str]) -> bytes:
    """Identifiers of envelopes as CBOR: the content of a recall (docs/envelope.md 6.5)."""
    return cbor.encode([raw_id(one) for one in ids])


def decode_ids(data: bytes) -> list[str]:
    """The identifiers. Raises CborError (a ValueError)."""
    return [read_id(one) for one in _items(cbor.decode(data))]


def _original(value: Any) -> Original:
    if not cbor.is_list(value, 3) or not isinstance(value[2], bytes):
        raise CborError("not an original")
    adapter, media_type = _texts(value[:2], 2)
    return Original(adapter, media_type, Sensitive(value[2]))


def _attachment(value: Any) -> Attachment:
    if not cbor.is_list(value, 6):
        raise CborError("not an attachment")
    (name, media_type), (size, sha256, key, chunks) = _texts(value[:2], 2), value[2:]
    if not isinstance(chunks, bytes) or len(chunks) % 16 or not 1 <= len(chunks) // 16 <= MAX_CHUNKS:
        raise CborError("not a list of chunks")
    ids = (chunks[at : at + 16] for at in range(0, len(chunks), 16))
    return Attachment(
        name,
        media_type,
        read_number(size),
        read_bytes(sha256, 32),
        read_bytes(key, 32),
        tuple(EnvelopeId(read_id(one)) for one in ids),
    )


def _items(value: Any) -> list[Any]:
    if not isinstance(value, list) or len(value) > MAX_ITEMS:
        raise CborError("not a list of bounded length")
    return value


def _texts(value: Any, count: int) -> tuple[str, ...]:
    if not cbor.is_list(value, count) or not all(isinstance(text, str) for text in value):
        raise CborError("not texts")
    return tuple(value)
