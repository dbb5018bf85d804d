"""What an envelope carries: the content of a typed message, or a batch of receipts. CBOR, versioned."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from gateway.crypto import cbor
from gateway.crypto.cbor import CborError
from gateway.crypto.labels import CONTENT_VERSION, MAX_RECEIPT
from gateway.messages import Attachment, Content, EnvelopeId, Original, Problem, Sensitive

MAX_ITEMS = 1000
"""Warnings, receipts or attachments in one envelope; chunks have their own limit."""
MAX_CHUNKS = 10_000


def encode_content(content: Content) -> bytes:
    """docs/envelope.md section 6."""
    original = content.original
    return cbor.encode(
        [
            CONTENT_VERSION,
            content.document.reveal(),
            [[warning.pointer, warning.rule] for warning in content.warnings],
            [original.adapter, original.media_type, original.body.reveal()] if original else None,
            [
                [one.name, one.media_type, one.size, one.sha256, one.key, b"".join(map(_raw, one.chunks))]
                for one in content.attachments
            ],
        ]
    )


def decode_content(data: bytes) -> Content:
    """Raises CborError (a ValueError)."""
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
    """A batch of signed receipts."""
    return cbor.encode(list(receipts))


def decode_receipts(data: bytes) -> list[bytes]:
    """Raises CborError (a ValueError)."""
    receipts = _items(cbor.decode(data))
    if not all(isinstance(one, bytes) and len(one) <= MAX_RECEIPT for one in receipts):
        raise CborError("not a batch of receipts")
    return receipts


def _original(value: Any) -> Original:
    if not cbor.is_list(value, 3) or not isinstance(value[2], bytes):
        raise CborError("not an original")
    adapter, media_type = _texts(value[:2], 2)
    return Original(adapter, media_type, Sensitive(value[2]))


def _attachment(value: Any) -> Attachment:
    if not cbor.is_list(value, 6):
        raise CborError("not an attachment")
    name, media_type, size, sha256, key, chunks = value
    if not (
        isinstance(name, str)
        and isinstance(media_type, str)
        and type(size) is int
        and size >= 0
        and isinstance(sha256, bytes)
        and len(sha256) == 32
        and isinstance(key, bytes)
        and len(key) == 32
        and isinstance(chunks, bytes)
        and chunks
        and len(chunks) % 16 == 0
        and len(chunks) // 16 <= MAX_CHUNKS
    ):
        raise CborError("not an attachment")
    ids = tuple(EnvelopeId(str(uuid.UUID(bytes=chunks[i : i + 16]))) for i in range(0, len(chunks), 16))
    return Attachment(name, media_type, size, sha256, key, ids)


def _items(value: Any) -> list[Any]:
    if not isinstance(value, list) or len(value) > MAX_ITEMS:
        raise CborError("not a list of bounded length")
    return list(value)


def _texts(value: Any, count: int) -> tuple[str, ...]:
    if not cbor.is_list(value, count) or not all(isinstance(text, str) for text in value):
        raise CborError("not texts")
    return tuple(value)


def _raw(identifier: str) -> bytes:
    return uuid.UUID(identifier).bytes
