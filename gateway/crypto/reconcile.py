"""What two nodes write to each other after one was restored (docs/envelope.md 6.6): CBOR, strictly read."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from gateway.crypto import cbor
from gateway.crypto.cbor import CborError
from gateway.crypto.fields import raw_id, read_agency, read_bytes, read_id, read_number, read_text
from gateway.crypto.labels import MAX_RECEIPT
from gateway.messages import CaseId, EnvelopeId, Header, MessageId

PAGE = 100
"""Envelopes in one answer."""
MAX_STAGES = 8
"""Receipts of one envelope by one issuer: fewer stages than that exist."""


class Part(IntEnum):
    """What is asked for."""

    SENT_TO_YOU = 0
    GOT_FROM_YOU = 1


@dataclass(frozen=True, slots=True)
class Question:
    """What do you know of our exchange since then? `after` is the last envelope of the page before."""

    since: int
    part: Part
    after: EnvelopeId | None


@dataclass(frozen=True, slots=True)
class Known:
    """One envelope and the asker's own receipts (SENT_TO_YOU), or the answerer's (GOT_FROM_YOU)."""

    envelope_id: EnvelopeId
    receipts: tuple[bytes, ...] = field(repr=False)
    header: Header | None = None
    """With GOT_FROM_YOU: what the asker signed."""
    digest: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """One page; `last` when nothing follows in this part."""

    question: Question
    last: bool
    known: tuple[Known, ...]


def encode_question(question: Question) -> bytes:
    """A question as CBOR."""
    return cbor.encode(_question(question))


def decode_question(data: bytes) -> Question:
    """The question. Raises CborError (a ValueError)."""
    return _read_question(cbor.decode(data))


def encode_answer(answer: Answer) -> bytes:
    """An answer as CBOR."""
    return cbor.encode([_question(answer.question), int(answer.last), [_known(one) for one in answer.known]])


def decode_answer(data: bytes) -> Answer:
    """The answer, its receipts not verified yet. Raises CborError (a ValueError)."""
    value = cbor.decode(data)
    if not cbor.is_list(value, 3) or not isinstance(value[2], list) or len(value[2]) > PAGE:
        raise CborError("not an answer")
    last = read_number(value[1])
    if last > 1:
        raise CborError("not an answer")
    return Answer(_read_question(value[0]), bool(last), tuple(_read_known(one) for one in value[2]))


def _question(question: Question) -> list[Any]:
    return [question.since, int(question.part), raw_id(question.after) if question.after else b""]


def _read_question(value: Any) -> Question:
    if not cbor.is_list(value, 3):
        raise CborError("not a question")
    since, part, after = value
    try:
        chosen = Part(read_number(part))
    except ValueError:
        raise CborError("not a question") from None
    return Question(read_number(since), chosen, EnvelopeId(read_id(after)) if after != b"" else None)


def _known(one: Known) -> list[Any]:
    header = one.header
    described = None
    if header is not None:
        described = [
            raw_id(header.message_id),
            header.type,
            header.version,
            header.sender,
            header.recipient,
            raw_id(header.case),
            raw_id(header.in_reply_to) if header.in_reply_to else None,
            header.created,
            header.expires,
            header.purpose,
            header.lawful_basis,
            one.digest,
        ]
    return [raw_id(one.envelope_id), list(one.receipts), described]


def _read_known(value: Any) -> Known:
    if not cbor.is_list(value, 3):
        raise CborError("not a known envelope")
    envelope_id = EnvelopeId(read_id(value[0]))
    receipts = _read_receipts(value[1])
    if value[2] is None:
        return Known(envelope_id, receipts)
    if not cbor.is_list(value[2], 12):
        raise CborError("not a header")
    message_id, kind, version, sender, recipient, case, reply, created, expires, purpose, basis, digest = (
        value[2]
    )
    header = Header(
        MessageId(read_id(message_id)),
        envelope_id,
        read_text(kind),
        read_number(version),
        read_agency(sender),
        read_agency(recipient),
        CaseId(read_id(case)),
        MessageId(read_id(reply)) if reply is not None else None,
        read_number(created),
        read_number(expires),
        read_text(purpose),
        read_text(basis),
    )
    return Known(envelope_id, receipts, header, read_bytes(digest, 32))


def _read_receipts(value: Any) -> tuple[bytes, ...]:
    if not isinstance(value, list) or len(value) > MAX_STAGES:
        raise CborError("not receipts")
    if not all(isinstance(one, bytes) and len(one) <= MAX_RECEIPT for one in value):
        raise CborError("not receipts")
    return tuple(value)
