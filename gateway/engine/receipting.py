"""Receipts on their way back: made with the change they state, sent in batches, recorded at the sender.

A receipt is a row before it travels. A batch is sealed when it is sent and not stored: if the process
dies in between, the rows are sealed again, and the sender's node keeps one copy of each statement.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import groupby

from gateway.crypto import content, proof
from gateway.engine.notes import keep_sending, seal_note
from gateway.engine.parts import Parts
from gateway.engine.tasks import Bell, Tasks
from gateway.errors import ReceiptInvalid, RefusedByPeer
from gateway.messages import AgencyId, Header, Reason, Receipt
from gateway.protocol.delivery import IllegalTransition, advance_outbound
from gateway.store import outbox, receipts
from gateway.store.base import Session
from gateway.store.receipts import Owed
from gateway.transport.base import Lane, TransportError

TYPE = "receipts"
BATCH = 64
"""Receipts in one envelope."""
ROUND = 512
"""Receipts read from the store at once."""


class ReceiptSender:
    """Sends owed receipts to the senders' nodes until the transport has them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._bell = Bell()

    def start(self, tasks: Tasks) -> None:
        """Start the one task that sends."""
        tasks.spawn(self._run, "receipt-sender")

    def wake(self) -> None:
        """Something is owed."""
        self._bell.ring()

    async def _run(self) -> None:
        await keep_sending(self._bell, self._round)

    async def _round(self) -> tuple[int, bool]:
        """Send what is owed now; how many were sent, and whether any could not be."""
        owed = await self._owed()
        batches = []
        pair = lambda one: (one.issuer, one.recipient)  # noqa: E731 - sort and group by the same key
        for _, group in groupby(sorted(owed, key=pair), key=pair):
            members = list(group)
            batches += [members[i : i + BATCH] for i in range(0, len(members), BATCH)]
        results = await asyncio.gather(*(self._send(batch) for batch in batches))
        done = [one.id for batch, ok in zip(batches, results, strict=True) if ok for one in batch]
        if done:
            await self._parts.store.write(lambda s: receipts.settle(s, done))
        return len(done), not all(results)

    async def _owed(self) -> list[Owed]:
        """What is owed and ours to send."""
        parts = self._parts
        now, me = parts.now(), parts.claims.name()
        found = await parts.store.read(lambda s: receipts.owed(s, limit=ROUND, now=now, claimant=me))
        if not found or not parts.claims.needed:
            return found
        claim, ids = parts.claims.make(now), [one.id for one in found]
        taken = await parts.store.write(lambda s: receipts.claim(s, ids, now, claim))
        return [one for one in found if one.id in taken]

    async def _send(self, batch: Sequence[Owed]) -> bool:
        parts, issuer, recipient = self._parts, batch[0].issuer, batch[0].recipient
        payload = content.encode_receipts([one.cose for one in batch])
        sealed = seal_note(parts, TYPE, issuer, recipient, payload)
        if sealed is None:
            return False
        try:
            await parts.transport.publish(sealed)
        except TransportError:
            parts.metrics.publish_failed("receipts")
            return False
        parts.metrics.published(Lane.RECEIPTS)
        parts.log.info("receipts-sent", agency=issuer, recipient=recipient, count=len(batch))
        return True


class Recorder:
    """Takes batches of receipts that arrive for envelopes this node sent."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def take(self, header: Header, payload: bytes) -> None:
        """Verify and record a batch. Raises RefusedByPeer when the batch itself cannot be read.

        A single receipt that does not verify or matches nothing this node sent is counted and left out:
        it proves nothing, and must not hold up the others.
        """
        verified: list[tuple[Receipt, bytes]] = []
        try:
            batch = content.decode_receipts(payload)
        except ValueError:
            raise RefusedByPeer(Reason.INVALID) from None
        for cose in batch:
            try:
                verified.append((proof.verify_receipt(cose, self._parts.find_verify_key), cose))
            except ReceiptInvalid:
                self._refuse("invalid")
        outcomes = await self._parts.store.write(
            lambda s: [apply_receipt(s, header.recipient, receipt, cose) for receipt, cose in verified]
        )
        for (receipt, _), outcome in zip(verified, outcomes, strict=True):
            if outcome is not None:
                self._refuse(outcome)
                continue
            self._parts.metrics.recorded(receipt.stage)
            self._parts.log.info(
                "receipt-recorded",
                message_id=receipt.message_id,
                recipient=receipt.recipient,
                stage=receipt.stage,
                reason=receipt.reason,
            )

    def _refuse(self, why: str) -> None:
        self._parts.metrics.receipt_refused(why)
        self._parts.log.warning("receipt-refused", code=why)


def apply_receipt(session: Session, agency: AgencyId, receipt: Receipt, cose: bytes) -> str | None:
    """Record one receipt; None, or why it is not taken."""
    found = outbox.find(session, receipt.envelope_id)
    if found is None:
        return "unmatched"
    row, sender = found
    if (sender, row.message_id, row.recipient, row.digest) != (
        agency,
        receipt.message_id,
        receipt.recipient,
        receipt.envelope_digest,
    ) or receipt.sender != agency:
        return "unmatched"
    if receipt.issuer != row.recipient:
        return "unmatched"  # our own statements do not come back to us over the road
    try:
        stage = advance_outbound(row.stage, receipt.stage, presumed=row.presumed)
    except IllegalTransition:
        return "contradictory"
    receipts.keep(session, receipt, cose)
    if stage is not row.stage:
        outbox.set_stage(session, row.envelope_id, stage, presumed=False)
    return None
