"""The kinds of field that signed statements and routing facts are made of: plain values to CBOR and back.

Every reader raises CborError, which names no value.
"""

from __future__ import annotations

import uuid
from typing import Any

from gateway.crypto.cbor import CborError
from gateway.messages import AGENCY_ID, AgencyId

MAX_TEXT = 64
"""Characters of a name such as a message type."""
MAX_NUMBER = 1 << 53
"""Whole numbers stay below: exact in every language's JSON too. As milliseconds, the year 287396."""


def raw_id(identifier: str) -> bytes:
    """The 16 bytes of an identifier."""
    return uuid.UUID(identifier).bytes


def read_id(value: Any) -> str:
    """A random identifier (RFC 9562 UUID version 4) from its 16 bytes."""
    if not isinstance(value, bytes) or len(value) != 16:
        raise CborError("not an identifier")
    # Version and variant are bits 48-51 and 64-65: anything else might carry a time or a machine.
    if value[6] >> 4 != 4 or value[8] >> 6 != 2:
        raise CborError("not a random identifier")
    return str(uuid.UUID(bytes=value))


def read_agency(value: Any) -> AgencyId:
    """An agency's identifier."""
    if not isinstance(value, str) or not AGENCY_ID.fullmatch(value):
        raise CborError("not an agency")
    return AgencyId(value)


def read_text(value: Any) -> str:
    """A short text."""
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise CborError("not a short text")
    return value


def read_number(value: Any) -> int:
    """A whole number, not negative."""
    if not isinstance(value, int) or not 0 <= value < MAX_NUMBER:
        raise CborError("not a whole number")
    return value


def read_bytes(value: Any, length: int) -> bytes:
    """Bytes of exactly this length."""
    if not isinstance(value, bytes) or len(value) != length:
        raise CborError("not bytes of this length")
    return value
