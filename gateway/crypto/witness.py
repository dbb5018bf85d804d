"""What nodes tell each other of their audit logs, as CBOR (docs/audit.md 6). Content of notes, sealed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.crypto import cbor
from gateway.crypto.cbor import CborError
from gateway.crypto.fields import read_bytes, read_number

VERSION = 1
MAX_PROOF = 65
"""Hashes of a consistency proof."""
MAX_SHOWN = 64 * 1024
"""Characters of a note that is shown: it need have the signatures of one agency only."""
MAX_ORIGIN = 200
ROOT_LENGTH = 32


@dataclass(frozen=True, slots=True)
class Shown:
    """A checkpoint, with proof that it continues the one its receiver confirmed."""

    note: str = field(repr=False)
    since: int
    """Entries of the one before; 0: none was confirmed."""
    proof: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The latest checkpoint the receiver keeps."""

    origin: str
    size: int
    root: bytes


def encode_shown(shown: Shown) -> bytes:
    """As CBOR."""
    return cbor.encode([VERSION, shown.note, shown.since, list(shown.proof)])


def decode_shown(data: bytes) -> Shown:
    """The same back. Raises CborError (a ValueError)."""
    value = cbor.decode(data)
    if not cbor.is_list(value, 4) or value[0] != VERSION or not isinstance(value[3], list):
        raise CborError("not a checkpoint of a known version")
    if len(value[3]) > MAX_PROOF:
        raise CborError("not a proof of bounded length")
    proof: Sequence[bytes] = [read_bytes(one, ROOT_LENGTH) for one in value[3]]
    return Shown(_text(value[1], MAX_SHOWN), read_number(value[2]), tuple(proof))


def encode_confirmed(confirmed: Confirmed) -> bytes:
    """As CBOR."""
    return cbor.encode([VERSION, confirmed.origin, confirmed.size, confirmed.root])


def decode_confirmed(data: bytes) -> Confirmed:
    """The same back. Raises CborError (a ValueError)."""
    value = cbor.decode(data)
    if not cbor.is_list(value, 4) or value[0] != VERSION:
        raise CborError("not a confirmation of a known version")
    return Confirmed(_text(value[1], MAX_ORIGIN), read_number(value[2]), read_bytes(value[3], ROOT_LENGTH))


def _text(value: object, limit: int) -> str:
    if not isinstance(value, str) or len(value) > limit:
        raise CborError("not a text of bounded length")
    return value
