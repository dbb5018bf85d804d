"""Envelopes: signed inside, encrypted outside, for one recipient. docs/envelope.md specifies every byte.

Reading authenticates first: nothing of the inside is believed, and no sender is told anything, before
decryption and signature have succeeded. Whether the times, the type and the agreement are acceptable is
for `gateway.protocol` to say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.crypto import cbor, cose
from gateway.crypto.cbor import CborError
from gateway.crypto.fields import raw_id, read_agency, read_id, read_number, read_text
from gateway.crypto.keys import Opener, OpenFailed, SealingKey, Signer, VerifyKey
from gateway.crypto.labels import ENVELOPE_CONTEXT, ENVELOPE_VERSION, MAX_ENVELOPE, ROUTING
from gateway.crypto.padding import pad, unpad
from gateway.errors import RefusedByPeer
from gateway.messages import AgencyId, CaseId, EnvelopeId, Header, MessageId, Reason, Sensitive

FindVerifyKey = Callable[[AgencyId, bytes], VerifyKey | None]
"""A signing key of an agency by its key id, from the directory."""

# The signed payload (docs/envelope.md 4.2) and its header (4.3). Labels of one byte, so that their
# deterministic order is the order in which they stand here.
_HEADER, _CONTENT = 1, 2
_MESSAGE, _ENVELOPE, _TYPE, _TYPE_VERSION, _SENDER, _RECIPIENT = 1, 2, 3, 4, 5, 6
_CASE, _REPLY, _CREATED, _EXPIRES, _PURPOSE, _BASIS = 7, 8, 9, 10, 11, 12
_LABELS = frozenset(range(_MESSAGE, _BASIS + 1))


@dataclass(frozen=True, slots=True)
class Outer:
    """What stands outside: all that the broker sees."""

    envelope_id: EnvelopeId
    recipient: AgencyId
    expires: int
    kid: bytes
    suite: str


@dataclass(frozen=True, slots=True)
class Opened:
    """An envelope that was decrypted and whose signature holds."""

    header: Header
    content: Sensitive
    digest: bytes
    """SHA-256 of the sealed envelope: what receipts are about."""
    signer_kid: bytes
    suite: str
    """What it was sealed with."""
    kid: bytes
    """The opening key it was sealed to."""


def seal(header: Header, content: bytes, *, signer: Signer, to: SealingKey) -> bytes:
    """Sign `content` under `header`, pad, and encrypt it to one recipient (docs/envelope.md 2 to 5).

    Raises ValueError when the envelope would be longer than MAX_ENVELOPE, which no node opens.
    """
    signed = cose.sign1(cbor.encode({_HEADER: _pack(header), _CONTENT: content}), signer, ENVELOPE_CONTEXT)
    routing = [ENVELOPE_VERSION, raw_id(header.envelope_id), str(header.recipient), header.expires]
    sealed = cose.encrypt(pad(signed), to, ROUTING, routing)
    if len(sealed) > MAX_ENVELOPE:
        raise ValueError("the content is too large for one envelope")
    return sealed


def peek(data: bytes) -> Outer:
    """Read the outside, without any key: nothing of it is authenticated.

    Raises RefusedByPeer(MALFORMED or UNKNOWN_VERSION).
    """
    return _outer(_parse(data))


def open_envelope(
    data: bytes,
    *,
    recipient: AgencyId,
    keys: Mapping[bytes, Opener],
    find_verify_key: FindVerifyKey,
) -> Opened:
    """Decrypt and authenticate an envelope that arrived for `recipient` (docs/envelope.md section 8).

    Raises RefusedByPeer; its header is set only when the signature was verified, so that only a sender
    who is known is told.
    """
    parsed = _parse(data)
    outer = _outer(parsed)
    key = keys.get(parsed.kid)
    if key is None or key.suite != parsed.suite:
        raise RefusedByPeer(Reason.UNKNOWN_KEY)
    try:
        signed = cose.parse_sign1(unpad(parsed.open(key)))
        header, content = _unpack(signed.payload)
    except OpenFailed:
        raise RefusedByPeer(Reason.NOT_OPENED) from None
    except ValueError:  # CborError, or no padding
        raise RefusedByPeer(Reason.MALFORMED) from None
    verify_key = find_verify_key(header.sender, signed.kid)
    if verify_key is None or verify_key.ended(header.created):
        raise RefusedByPeer(Reason.UNKNOWN_SENDER)
    if not signed.verify(verify_key, ENVELOPE_CONTEXT):
        raise RefusedByPeer(Reason.BAD_SIGNATURE)
    # From here on the sender is known.
    if header.recipient != recipient:
        raise RefusedByPeer(Reason.READDRESSED, header)
    if (outer.envelope_id, outer.recipient, outer.expires) != (header.envelope_id, recipient, header.expires):
        raise RefusedByPeer(Reason.MISMATCHED, header)
    digest = hashlib.sha256(data).digest()
    return Opened(header, Sensitive(content), digest, signed.kid, parsed.suite, parsed.kid)


def _parse(data: bytes) -> cose.Encrypted:
    if len(data) > MAX_ENVELOPE:
        raise RefusedByPeer(Reason.MALFORMED)
    try:
        return cose.parse_encrypt(data, ROUTING)
    except CborError:
        raise RefusedByPeer(_why_not_parsed(data)) from None


def _why_not_parsed(data: bytes) -> Reason:
    """A later version may look different in all but its first facts (docs/envelope.md 2.4)."""
    try:
        routing = cose.protected_value(data, ROUTING)
    except CborError:
        return Reason.MALFORMED
    return Reason.UNKNOWN_VERSION if _is_other_version(routing) else Reason.MALFORMED


def _is_other_version(routing: Any) -> bool:
    return (
        isinstance(routing, list)
        and len(routing) > 0
        and isinstance(routing[0], int)
        and routing[0] != ENVELOPE_VERSION
    )


def _outer(parsed: cose.Encrypted) -> Outer:
    routing = parsed.extra
    # The version stands first and is read first: what follows it belongs to that version.
    if _is_other_version(routing):
        raise RefusedByPeer(Reason.UNKNOWN_VERSION)
    try:
        if not cbor.is_list(routing, 4) or not isinstance(routing[0], int):
            raise CborError("not the routing facts")
        _, envelope_id, recipient, expires = routing
        return Outer(
            EnvelopeId(read_id(envelope_id)),
            read_agency(recipient),
            read_number(expires),
            parsed.kid,
            parsed.suite,
        )
    except CborError:
        raise RefusedByPeer(Reason.MALFORMED) from None


def _pack(header: Header) -> dict[int, Any]:
    packed: dict[int, Any] = {
        _MESSAGE: raw_id(header.message_id),
        _ENVELOPE: raw_id(header.envelope_id),
        _TYPE: str(header.type),
        _TYPE_VERSION: header.version,
        _SENDER: str(header.sender),
        _RECIPIENT: str(header.recipient),
        _CASE: raw_id(header.case),
        _CREATED: header.created,
        _EXPIRES: header.expires,
        _PURPOSE: str(header.purpose),
        _BASIS: str(header.lawful_basis),
    }
    if header.in_reply_to is not None:
        packed[_REPLY] = raw_id(header.in_reply_to)
    return packed


def _unpack(payload: bytes) -> tuple[Header, bytes]:
    """The header and content that were signed. Raises CborError."""
    value = cbor.decode(payload)
    if not isinstance(value, dict) or value.keys() != {_HEADER, _CONTENT}:
        raise CborError("not a signed payload")
    fields, content = value[_HEADER], value[_CONTENT]
    # Nothing unknown is let through: it would be signed, but nobody would have looked at it.
    if not isinstance(fields, dict) or fields.keys() | {_REPLY} != _LABELS or not isinstance(content, bytes):
        raise CborError("not a signed payload")
    header = Header(
        MessageId(read_id(fields[_MESSAGE])),
        EnvelopeId(read_id(fields[_ENVELOPE])),
        read_text(fields[_TYPE]),
        read_number(fields[_TYPE_VERSION]),
        read_agency(fields[_SENDER]),
        read_agency(fields[_RECIPIENT]),
        CaseId(read_id(fields[_CASE])),
        MessageId(read_id(fields[_REPLY])) if _REPLY in fields else None,
        read_number(fields[_CREATED]),
        read_number(fields[_EXPIRES]),
        read_text(fields[_PURPOSE]),
        read_text(fields[_BASIS]),
    )
    return header, content
