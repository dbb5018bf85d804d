"""Envelopes: signed inside, encrypted outside, for one recipient. docs/envelope.md specifies every byte.

Reading authenticates first: nothing of the inside is believed, and no sender is told anything, before
decryption and signature have succeeded. Whether the times, the type and the agreement are acceptable is
for `gateway.protocol` to say.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.crypto import cbor, cose
from gateway.crypto.cbor import CborError
from gateway.crypto.keys import OpenFailed, OpeningKey, SealingKey, SigningKey, VerifyKey
from gateway.crypto.labels import ENVELOPE_CONTEXT, ENVELOPE_VERSION, MAX_ENVELOPE, ROUTING
from gateway.crypto.padding import padded_length
from gateway.errors import RefusedByPeer
from gateway.messages import AGENCY_ID, AgencyId, CaseId, EnvelopeId, Header, MessageId, Reason, Sensitive

FindVerifyKey = Callable[[AgencyId, bytes], VerifyKey | None]
"""A signing key of an agency by its key id, from the directory."""

_FIELDS = 12


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


def seal(header: Header, content: bytes, *, signer: SigningKey, to: SealingKey) -> bytes:
    """Sign `content` under `header`, pad, and encrypt it to one recipient (docs/envelope.md 2 to 5)."""
    signed = cose.sign1(cbor.encode([_pack(header), content]), signer, ENVELOPE_CONTEXT)
    routing = [ENVELOPE_VERSION, _raw(header.envelope_id), header.recipient, header.expires]
    return cose.encrypt(_pad(signed), to, ROUTING, routing)


def peek(data: bytes) -> Outer:
    """Read the outside, without any key. Raises RefusedByPeer(MALFORMED or UNKNOWN_VERSION)."""
    return _outer(_parse(data))


def open_envelope(
    data: bytes,
    *,
    recipient: AgencyId,
    keys: Mapping[bytes, OpeningKey],
    find_verify_key: FindVerifyKey,
) -> Opened:
    """Decrypt and authenticate an envelope that arrived for `recipient`.

    Raises RefusedByPeer; its header is set only when the signature was verified, so that only a sender
    who is known is told.
    """
    parsed = _parse(data)
    outer = _outer(parsed)
    key = keys.get(parsed.kid)
    if key is None or key.suite != parsed.suite:
        raise RefusedByPeer(Reason.UNKNOWN_KEY)
    try:
        signed = cose.parse_sign1(_unpad(parsed.open(key)))
        packed, content = _pair(cbor.decode(signed.payload))
        header = _unpack(packed)
    except OpenFailed:
        raise RefusedByPeer(Reason.NOT_OPENED) from None
    except CborError:
        raise RefusedByPeer(Reason.MALFORMED) from None
    verify_key = find_verify_key(header.sender, signed.kid)
    if verify_key is None:
        raise RefusedByPeer(Reason.UNKNOWN_SENDER)
    if not signed.verify(verify_key, ENVELOPE_CONTEXT):
        raise RefusedByPeer(Reason.BAD_SIGNATURE)
    # From here on the sender is known.
    if header.recipient != recipient:
        raise RefusedByPeer(Reason.READDRESSED, header)
    if (outer.envelope_id, outer.recipient, outer.expires) != (header.envelope_id, recipient, header.expires):
        raise RefusedByPeer(Reason.MISMATCHED, header)
    return Opened(header, Sensitive(content), hashlib.sha256(data).digest(), signed.kid)


def _parse(data: bytes) -> cose.Encrypted:
    if len(data) > MAX_ENVELOPE:
        raise RefusedByPeer(Reason.MALFORMED)
    try:
        return cose.parse_encrypt(data, ROUTING)
    except CborError:
        raise RefusedByPeer(Reason.MALFORMED) from None


def _outer(parsed: cose.Encrypted) -> Outer:
    routing = parsed.extra
    # The version stands first and is read first: what follows it belongs to that version.
    if not routing or type(routing[0]) is not int:
        raise RefusedByPeer(Reason.MALFORMED)
    if routing[0] != ENVELOPE_VERSION:
        raise RefusedByPeer(Reason.UNKNOWN_VERSION)
    try:
        _, envelope_id, recipient, expires = routing
        return Outer(EnvelopeId(_uuid(envelope_id)), _agency(recipient), _whole(expires), parsed.kid, parsed.suite)
    except (CborError, ValueError):
        raise RefusedByPeer(Reason.MALFORMED) from None


def _pad(signed: bytes) -> bytes:
    """[signed, zeros] as long as Padmé says: the lengths inside leave no doubt where padding begins."""
    bare = len(cbor.encode([signed, b""]))
    wanted = padded_length(bare) - bare
    for shorter in (0, 1, 2, 3, 4):  # the length prefix of the zeros itself grows by up to 4 bytes
        padded = cbor.encode([signed, bytes(max(0, wanted - shorter))])
        if len(padded) <= padded_length(bare):
            break
    return padded


def _unpad(plaintext: bytes) -> bytes:
    signed, padding = _pair(cbor.decode(plaintext))
    if padding.strip(b"\0"):
        raise CborError("padding is zeros")
    return signed


def _pair(value: Any) -> tuple[Any, Any]:
    if not cbor.is_list(value, 2) or not isinstance(value[1], bytes):
        raise CborError("not a pair")
    return value[0], value[1]


def _pack(header: Header) -> list[Any]:
    """The signed header (docs/envelope.md section 4), in the order of Header's fields."""
    return [
        _raw(header.message_id),
        _raw(header.envelope_id),
        header.type,
        header.version,
        header.sender,
        header.recipient,
        _raw(header.case),
        _raw(header.in_reply_to) if header.in_reply_to else None,
        header.created,
        header.expires,
        header.purpose,
        header.lawful_basis,
    ]


def _unpack(value: Any) -> Header:
    if not cbor.is_list(value, _FIELDS):
        raise CborError("not a header")
    message_id, envelope_id, type_, version, sender, recipient, case, reply, created, expires, purpose, basis = value
    return Header(
        MessageId(_uuid(message_id)),
        EnvelopeId(_uuid(envelope_id)),
        _text(type_),
        _whole(version),
        _agency(sender),
        _agency(recipient),
        CaseId(_uuid(case)),
        MessageId(_uuid(reply)) if reply is not None else None,
        _whole(created),
        _whole(expires),
        _text(purpose),
        _text(basis),
    )


def _raw(identifier: str) -> bytes:
    return uuid.UUID(identifier).bytes


def _uuid(value: Any) -> str:
    if not isinstance(value, bytes) or len(value) != 16:
        raise CborError("not an identifier")
    text = str(uuid.UUID(bytes=value))
    if text[14] != "4" or text[19] not in "89ab":
        raise CborError("not a random identifier")
    return text


def _agency(value: Any) -> AgencyId:
    if not isinstance(value, str) or not AGENCY_ID.fullmatch(value):
        raise CborError("not an agency")
    return AgencyId(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 64:
        raise CborError("not a short text")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**53:
        raise CborError("not a whole number")
    return value
