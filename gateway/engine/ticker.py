"""What happens because time passes: expiry at both ends, refreshes, gauges, tidying up.

Everything here reads rows that are due and can be repeated at will; a missed tick is made up by the next.
"""

from __future__ import annotations

import asyncio

from gateway.crypto import proof
from gateway.engine.announcer import Announcer
from gateway.engine.audit import Auditor
from gateway.engine.inbound import Arrivals
from gateway.engine.keylives import KeyLives
from gateway.engine.outbound import Backlog
from gateway.engine.parts import Parts
from gateway.engine.receipting import ReceiptSender
from gateway.engine.reconcile import Reconciler
from gateway.engine.tasks import Tasks
from gateway.engine.watch import DirectoryWatch
from gateway.engine.witness import Witness
from gateway.errors import Unavailable
from gateway.messages import AgencyId, Reason, Receipt, Stage
from gateway.protocol import delivery
from gateway.protocol.deadlines import DAY, RECEIPT_LIFETIME
from gateway.protocol.receipts import receipt_for
from gateway.store import dead_letters, idempotency, inbox, mesh, notes, outbox, receipts, reconciliations
from gateway.store.base import Session
from gateway.store.inbox import Held
from gateway.store.outbox import OutboundEnvelope

ROUND = 200
"""Rows concluded in one transaction."""
DEAD_LETTERS = 90 * DAY
"""Milliseconds a refused envelope waits for an operator."""
ORPHANS = DAY
"""Milliseconds after which chunks of an upload that never became a message are dropped."""
MESH_SENT = 90 * DAY
"""Milliseconds a MESH mailbox can ask what became of a message."""


class Ticker:
    """The node's clockwork."""

    def __init__(
        self,
        parts: Parts,
        backlog: Backlog,
        sender: ReceiptSender,
        arrivals: Arrivals,
        reconciler: Reconciler,
        auditor: Auditor,
        witness: Witness,
        watch: DirectoryWatch,
    ) -> None:
        self._parts = parts
        self._announcer = Announcer(parts)
        self._auditor = auditor
        self._lives = KeyLives(parts)
        self._watch = watch
        self._witness = witness
        self._arrivals = arrivals
        self._reconciler = reconciler
        self._connected: bool | None = None
        self._backlog = backlog
        self._sender = sender

    def start(self, tasks: Tasks) -> None:
        """Start ticking."""
        tasks.spawn(self._tick_forever, "ticker")
        tasks.spawn(self._refresh_forever, "directory-refresh")

    async def _refresh_forever(self) -> None:
        await self._refresh_keys()
        while True:
            await asyncio.sleep(self._parts.rules.directory_refresh)
            await self._watch.look()
            await self._refresh_keys()

    async def _refresh_keys(self) -> None:
        await self._watch.look_at_keys()
        try:
            await self._auditor.look_at_tokens()
            await self._lives.look()
        except Unavailable:
            self._parts.log.warning("store-unavailable")  # the next tick, and the next look, enter it

    async def _tick_forever(self) -> None:
        while True:
            try:
                await self.tick()
            except Unavailable:
                self._parts.log.warning("store-unavailable")
            await asyncio.sleep(self._parts.rules.tick)

    async def tick(self) -> None:
        """Do everything that is due now. Raises Unavailable."""
        now = self._parts.now()
        if self._parts.clock_believed():
            await self._expire_inbound(now)
            await self._conclude_outbound(now)
            await self._parts.store.write(lambda s: self._tidy(s, now))
        else:
            self._parts.log.warning("clock-jumped")
        await self._arrivals.replay()
        await self._reconciler.ask_due()
        await self._announcer.tick()
        await self._auditor.tick(now)
        await self._witness.tick(now)
        await self._backlog.recount()
        await self._gauges(now)

    async def _expire_inbound(self, now: int) -> None:
        """Messages nobody collected in time: `expired`, and the sender is told."""
        parts = self._parts

        def job(session: Session) -> list[Held]:
            due = inbox.expired(session, now, limit=ROUND)
            for held in due:
                receipt = receipt_for(held.header, held.digest, Stage.EXPIRED, now, Reason.EXPIRED)
                cose = proof.sign_receipt(receipt, parts.keys[held.header.recipient].signing)
                inbox.finish(session, held, Stage.EXPIRED)
                receipts.keep(session, receipt, cose)
                receipts.owe(session, receipt, cose)
            return due

        while expired := await parts.store.write(job):
            for held in expired:
                parts.metrics.answered(Stage.EXPIRED)
                parts.log.info(
                    "message-expired", message_id=held.header.message_id, agency=held.header.recipient
                )
            self._sender.wake()

    async def _conclude_outbound(self, now: int) -> None:
        """Envelopes whose recipient never had the last word in time: we conclude, and say so."""
        parts = self._parts

        def job(session: Session) -> list[Receipt]:
            return [
                self._conclude(session, row, agency, now)
                for row, agency in outbox.overdue(session, before=now - parts.rules.settle, limit=ROUND)
            ]

        while concluded := await parts.store.write(job):
            for receipt in concluded:
                parts.metrics.recorded(receipt.stage)
                event = "message-expired" if receipt.stage is Stage.EXPIRED else "message-failed"
                parts.log.warning(event, message_id=receipt.message_id, recipient=receipt.recipient)

    def _conclude(self, session: Session, row: OutboundEnvelope, agency: AgencyId, now: int) -> Receipt:
        stage = delivery.overdue(sent=row.sent)
        reason = Reason.EXPIRED if stage is Stage.EXPIRED else Reason.UNROUTABLE
        receipt = Receipt(
            stage, row.message_id, row.envelope_id, row.digest, agency, row.recipient, agency, now, reason
        )
        outbox.set_stage(session, row.envelope_id, stage, presumed=True)
        receipts.keep(session, receipt, proof.sign_receipt(receipt, self._parts.keys[agency].signing))
        return receipt

    def _tidy(self, session: Session, now: int) -> None:
        idempotency.forget(session, before=now - self._parts.rules.idempotency)
        inbox.drop_expired_chunks(session, now)
        outbox.drop_orphan_chunks(session, before=now - ORPHANS)
        notes.forget_recalls(session, before=now - RECEIPT_LIFETIME)
        dead_letters.drop_old(session, before=now - DEAD_LETTERS)
        mesh.tidy(session, now=now, before=now - MESH_SENT)

    async def _gauges(self, now: int) -> None:
        parts = self._parts
        oldest, waiting, owed, dead, unheard = await parts.store.read(
            lambda s: (
                outbox.oldest_due(s),
                inbox.backlog(s),
                receipts.count_owed(s),
                dead_letters.count(s),
                reconciliations.pending(s),
            )
        )
        parts.metrics.outbox(
            self._backlog.envelopes, self._backlog.size, (now - oldest) / 1000 if oldest is not None else 0.0
        )
        counts = {agency: (count, (now - since) / 1000) for agency, count, since in waiting}
        for agency in parts.keys:
            count, age = counts.get(agency, (0, 0.0))
            parts.metrics.inbox(agency, count, age)
        parts.metrics.owed(owed)
        parts.metrics.dead_letters(dead)
        parts.metrics.unheard(unheard)
        parts.metrics.directory_expires((parts.directory.expires - now) / 1000)
        connected = parts.transport.connected
        parts.metrics.transport_up(connected)
        if connected is not self._connected:
            self._connected = connected
            parts.log.info("transport-connected") if connected else parts.log.warning("transport-lost")
