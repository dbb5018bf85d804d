"""Recall: a sender withdraws a message that has not been delivered, and both ends record it.

At the sender it is a row and a note to each recipient's node; the recipient's signed receipt says what came
of it: `rejected` with the reason `recalled`, or `delivered` when the recall came too late.
"""

from __future__ import annotations

from gateway.crypto import content, proof
from gateway.engine.notes import NoteSender
from gateway.engine.parts import Parts
from gateway.engine.receipting import ReceiptSender
from gateway.errors import RefusedByPeer, RefusedByUs
from gateway.messages import FINAL_STAGES, AgencyId, EnvelopeId, Header, MessageId, Reason, Stage
from gateway.protocol.delivery import IllegalTransition, advance_inbound
from gateway.protocol.receipts import receipt_for
from gateway.store import audit, inbox, notes, outbox, receipts
from gateway.store.base import Session

TYPE = "recall"


class Recall:
    """Both ends of a recall."""

    def __init__(self, parts: Parts, sender: NoteSender, receipts_sender: ReceiptSender) -> None:
        self._parts = parts
        self._sender = sender
        self._receipts = receipts_sender

    async def ask(self, agency: AgencyId, message_id: MessageId) -> None:
        """Withdraw a message of ours; repeating it changes nothing. Raises RefusedByUs or Unavailable."""
        now = self._parts.now()

        def job(session: Session) -> bool:
            message = outbox.message(session, agency, message_id)
            if message is None:
                raise RefusedByUs("not-found")
            if message.recalled is not None:
                return False
            pending = [row for row in outbox.envelopes(session, message_id) if row.stage not in FINAL_STAGES]
            if not pending:
                raise RefusedByUs("already-final")
            outbox.mark_recalled(session, message_id, at=now)
            audit.record(session, "recall-asked", agency=agency, message_id=message_id)
            for row in pending:
                payload = content.encode_ids([row.envelope_id])
                notes.owe(session, TYPE, agency, row.recipient, payload)
            return True

        if await self._parts.store.write(job):
            self._parts.log.info("recall-asked", message_id=message_id, agency=agency)
        self._sender.wake()

    async def take(self, header: Header, payload: bytes) -> None:
        """A peer withdraws what it sent us. Raises RefusedByPeer when the note cannot be read."""
        try:
            envelope_ids = content.decode_ids(payload)
        except ValueError:
            raise RefusedByPeer(Reason.INVALID) from None
        now = self._parts.now()
        recalled = await self._parts.store.write(
            lambda s: [self._take_one(s, header, EnvelopeId(one), now) for one in envelope_ids]
        )
        for message_id in recalled:
            if message_id is not None:
                self._parts.metrics.answered(Stage.REJECTED)
                self._parts.log.info(
                    "message-recalled",
                    message_id=message_id,
                    agency=header.recipient,
                    sender=header.sender,
                )
        self._receipts.wake()

    def _take_one(
        self, session: Session, header: Header, envelope_id: EnvelopeId, now: int
    ) -> MessageId | None:
        """Withdraw one envelope of that sender; the message when it was still here to withdraw."""
        found = inbox.body_of(session, envelope_id)
        if found is None:
            notes.expect_no_more(session, envelope_id, sender=header.sender, agency=header.recipient, at=now)
            return None
        held = found.held
        if (held.header.sender, held.header.recipient) != (header.sender, header.recipient):
            return None  # nobody recalls what another sent
        try:
            if held.stage != inbox.WAITING:
                advance_inbound(Stage(held.stage), Stage.REJECTED)
        except IllegalTransition:
            receipts.owe_again(session, envelope_id, header.sender)  # too late: what happened, once more
            return None
        if held.stage == Stage.REJECTED:
            receipts.owe_again(session, envelope_id, header.sender)
            return None
        receipt = receipt_for(held.header, held.digest, Stage.REJECTED, now, Reason.RECALLED)
        cose = proof.sign_receipt(receipt, self._parts.keys[header.recipient].signing)
        inbox.finish(session, held, Stage.REJECTED)
        receipts.keep(session, receipt, cose)
        receipts.owe(session, receipt, cose)
        return held.header.message_id
