"""The inbox of each agency: what waits, opened in memory for its own system, and its answer.

Stored messages stay sealed; each is opened when it is asked for and never kept open.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence

from gateway.adapters.base import AdapterError, Native
from gateway.crypto import content, envelope, proof
from gateway.engine.attachments import open_attachment
from gateway.engine.parts import Parts
from gateway.engine.receipting import ReceiptSender
from gateway.engine.tasks import Bell, wait_for_ring
from gateway.engine.watch import DirectoryWatch
from gateway.errors import RefusedByPeer, RefusedByUs
from gateway.http.ports import Answered, AttachmentInfo, InboxEntry, OpenedMessage, SignedReceipt
from gateway.messages import SYSTEM_REASONS, AgencyId, Canonical, Content, MessageId, Problem, Reason, Stage
from gateway.protocol.delivery import IllegalTransition, advance_inbound
from gateway.protocol.receipts import receipt_for
from gateway.store import inbox, receipts
from gateway.store.base import Session
from gateway.store.inbox import Held

LOOK = 1.0
"""Seconds between looks at an inbox that other processes fill too, while a long poll waits."""
_ANYTHING = {"*/*", "application/*", "application/json"}


class Mailbox:
    """Implements gateway.http.ports.Receiving."""

    def __init__(self, parts: Parts, sender: ReceiptSender, watch: DirectoryWatch) -> None:
        self._parts = parts
        self._watch = watch
        self._sender = sender
        self._bells = {agency: Bell() for agency in parts.keys}
        self._closing = False

    def ring(self, agency: AgencyId) -> None:
        """A message came in for this agency."""
        self._bells[agency].ring()

    def listen(self, agency: AgencyId) -> asyncio.Future[None]:
        """What is completed when a message for this agency comes in."""
        return self._bells[agency].listen()

    def close(self) -> None:
        """End every long poll."""
        self._closing = True
        for bell in self._bells.values():
            bell.ring()

    async def list(self, agency: AgencyId, *, after: int, limit: int, wait: float) -> Sequence[InboxEntry]:
        """See Receiving.list."""
        ends = time.monotonic() + wait
        while True:
            heard = self._bells[agency].listen()
            found = await self._parts.store.read(lambda s: inbox.waiting(s, agency, after=after, limit=limit))
            left = ends - time.monotonic()
            if found or left <= 0 or self._closing:
                return [_entry(held) for held in found]
            # What another process of this agency took in rings no bell here.
            await wait_for_ring(heard, timeout=min(left, LOOK) if self._parts.store.shared else left)

    async def open(self, agency: AgencyId, message_id: MessageId, accept: Sequence[str]) -> OpenedMessage:
        """See Receiving.open."""
        held, carried = await self._open(agency, message_id)
        return OpenedMessage(
            entry=_entry(held),
            native=self._write(held, carried, accept),
            warnings=carried.warnings,
            attachments=tuple(
                AttachmentInfo(i, one.name, one.media_type, one.size, one.sha256)
                for i, one in enumerate(carried.attachments)
            ),
            original=(carried.original.adapter, carried.original.media_type) if carried.original else None,
        )

    async def holds(self, agency: AgencyId, message_id: MessageId) -> bool:
        """See Receiving.holds."""
        return await self._parts.store.read(lambda s: inbox.get(s, agency, message_id)) is not None

    async def original(self, agency: AgencyId, message_id: MessageId) -> Native:
        """See Receiving.original."""
        _, carried = await self._open(agency, message_id)
        if carried.original is None:
            return Native("application/json", carried.document.reveal())
        return Native(carried.original.media_type, carried.original.body.reveal())

    async def attachment(
        self, agency: AgencyId, message_id: MessageId, index: int
    ) -> tuple[AttachmentInfo, AsyncIterator[bytes]]:
        """See Receiving.attachment."""
        _, carried = await self._open(agency, message_id)
        if not 0 <= index < len(carried.attachments):
            raise RefusedByUs("not-found")
        one = carried.attachments[index]
        info = AttachmentInfo(index, one.name, one.media_type, one.size, one.sha256)
        return info, open_attachment(self._parts, agency, one)

    async def ack(self, agency: AgencyId, message_ids: Sequence[MessageId]) -> Sequence[Answered]:
        """See Receiving.ack."""
        return await self._answer(agency, message_ids, Stage.DELIVERED, None)

    async def reject(self, agency: AgencyId, message_id: MessageId, reason: Reason) -> Answered:
        """See Receiving.reject."""
        if reason not in SYSTEM_REASONS:
            raise RefusedByUs("unknown-reason", problems=[Problem("/reason", "a listed reason code")])
        (answered,) = await self._answer(agency, [message_id], Stage.REJECTED, reason)
        return answered

    async def _open(self, agency: AgencyId, message_id: MessageId) -> tuple[Held, Content]:
        found = await self._parts.store.read(lambda s: inbox.get(s, agency, message_id))
        if found is None:
            raise RefusedByUs("not-found")
        if found.body is None or found.held.stage != Stage.RECEIVED:
            raise RefusedByUs("expired" if found.held.stage == Stage.EXPIRED else "already-final")
        try:
            carried = self._unseal(agency, found.body)
        except RefusedByPeer:
            if not self._parts.store.shared:
                raise RefusedByUs("not-readable") from None
        else:
            return found.held, carried
        await self._watch.catch_up()  # another process took it in, perhaps with newer keys than we have
        try:
            return found.held, self._unseal(agency, found.body)
        except RefusedByPeer:
            raise RefusedByUs("not-readable") from None

    def _unseal(self, agency: AgencyId, body: bytes) -> Content:
        """What it carries. Raises RefusedByPeer: it opened when it came, but a key was revoked or is gone."""
        opened = envelope.open_envelope(
            body,
            recipient=agency,
            keys=self._parts.keys[agency].opening,
            find_verify_key=self._parts.find_verify_key,
        )
        return content.decode_content(opened.content.reveal())

    def _write(self, held: Held, carried: Content, accept: Sequence[str]) -> Native:
        """The content in the first format asked for that an adapter writes."""
        document = carried.document.reveal()
        for media_type in accept or ("application/json",):
            if media_type in _ANYTHING:
                return Native("application/json", document)
            message = Canonical(held.header.type, held.header.version, json.loads(document))
            for adapter in self._parts.registry.writers(media_type):
                try:
                    return adapter.from_canonical(held.header, message, media_type)
                except AdapterError:
                    continue
        raise RefusedByUs("not-acceptable")

    async def _answer(
        self, agency: AgencyId, message_ids: Sequence[MessageId], stage: Stage, reason: Reason | None
    ) -> Sequence[Answered]:
        """Make messages final, all or none, each with the receipt that says so in the same transaction."""
        self._parts.need_clock()
        now = self._parts.now()
        answers = await self._parts.store.write(
            lambda s: [self._finish(s, agency, message_id, stage, reason, now) for message_id in message_ids]
        )
        for answered, held in answers:
            if held is not None:
                self._parts.metrics.answered(stage)
                self._parts.log.info(
                    "message-delivered" if stage is Stage.DELIVERED else "message-rejected",
                    message_id=answered.message_id,
                    agency=agency,
                    sender=held.header.sender,
                    reason=reason,
                )
        self._sender.wake()
        return [answered for answered, _ in answers]

    def _finish(
        self,
        session: Session,
        agency: AgencyId,
        message_id: MessageId,
        stage: Stage,
        reason: Reason | None,
        now: int,
    ) -> tuple[Answered, Held | None]:
        """One answer; the held message too, unless it had been given before."""
        found = inbox.get(session, agency, message_id)
        if found is None:
            raise RefusedByUs("not-found")
        held = found.held
        given = [r for r in receipts.of_envelope(session, held.header.envelope_id) if r.stage is stage]
        if held.stage == stage and given and given[0].reason == reason:
            first = given[0]
            return Answered(
                message_id, SignedReceipt(first.stage, first.issuer, first.at, first.reason, first.cose)
            ), None
        try:
            advance_inbound(Stage(held.stage), stage)
        except IllegalTransition:
            raise RefusedByUs("expired" if held.stage == Stage.EXPIRED else "already-final") from None
        if held.stage == stage:
            raise RefusedByUs("already-final")  # rejected before, for another reason
        if held.header.expires <= now:
            raise RefusedByUs("expired")  # the clock said so first; the sender is being told
        receipt = receipt_for(held.header, held.digest, stage, now, reason)
        cose = proof.sign_receipt(receipt, self._parts.keys[agency].signing)
        inbox.finish(session, held, stage)
        receipts.keep(session, receipt, cose)
        receipts.owe(session, receipt, cose)
        return Answered(message_id, SignedReceipt(stage, agency, now, reason, cose)), held


def _entry(held: Held) -> InboxEntry:
    return InboxEntry(held.sequence, held.header, Stage(held.stage), held.received)
