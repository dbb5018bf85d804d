"""What a sender is told of its message: the ladder of each recipient, with the signed receipts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from gateway.crypto import proof
from gateway.http.ports import Ladder, MessageStatus, SignedReceipt
from gateway.messages import AgencyId, MessageId, Problem, Receipt, Stage
from gateway.store import outbox, receipts
from gateway.store.base import Session
from gateway.store.outbox import OutboundEnvelope, OutboundMessage
from gateway.store.receipts import StoredReceipt


def read_status(session: Session, agency: AgencyId, message_id: MessageId) -> MessageStatus | None:
    """A message of this agency as it stands now; None when there is no such message."""
    message = outbox.message(session, agency, message_id)
    if message is None:
        return None
    ladders = tuple(
        _ladder(row, receipts.of_envelope(session, row.envelope_id))
        for row in outbox.envelopes(session, message_id)
    )
    return status_of(message, ladders)


def as_accepted(status: MessageStatus, warnings: str) -> MessageStatus:
    """The answer as it was given first: `accepted`, with its receipt, and the warnings as they were kept."""
    ladders = tuple(
        replace(
            ladder,
            stage=Stage.ACCEPTED,
            receipts=tuple(receipt for receipt in ladder.receipts if receipt.stage is Stage.ACCEPTED),
        )
        for ladder in status.ladders
    )
    kept = tuple(Problem(pointer, rule) for pointer, rule in json.loads(warnings))
    return replace(status, warnings=kept, ladders=ladders, repeated=True)


def _ladder(row: OutboundEnvelope, found: Sequence[StoredReceipt]) -> Ladder:
    accepted = (one for one in found if one.stage is Stage.ACCEPTED)
    return Ladder(
        row.recipient,
        row.envelope_id,
        row.stage,
        tuple(SignedReceipt(one.stage, one.issuer, one.at, one.reason, one.cose) for one in found),
        next((proof.read_receipt(one.cose).view for one in accepted), None),
    )


def signed(receipt: Receipt, cose: bytes) -> SignedReceipt:
    """A receipt that was just made."""
    return SignedReceipt(receipt.stage, receipt.issuer, receipt.at, receipt.reason, cose)


def status_of(
    message: OutboundMessage, ladders: tuple[Ladder, ...], warnings: tuple[Problem, ...] = ()
) -> MessageStatus:
    """A message with its ladders."""
    return MessageStatus(
        message.message_id,
        message.case,
        message.type,
        message.version,
        message.agency,
        message.in_reply_to,
        message.created,
        message.expires,
        message.purpose,
        message.lawful_basis,
        message.recalled,
        warnings,
        ladders,
    )
