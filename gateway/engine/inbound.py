"""The receiving half of the road: transport, open, policy, validate, inbox, receipt.

The transport is answered only after the commit. While the store or the directory cannot serve, a delivery
is held, unanswered, and tried again: it is never given up and never acknowledged early.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from gateway import schemas
from gateway.adapters import strict_json
from gateway.adapters.base import AdapterError
from gateway.crypto import chunks, content, proof
from gateway.crypto.envelope import Opened
from gateway.engine import sharing
from gateway.engine.attachments import open_attachment
from gateway.engine.parts import Parts
from gateway.engine.receipting import ReceiptSender
from gateway.engine.unsealing import Unsealer
from gateway.engine.watch import DirectoryWatch
from gateway.errors import RefusedByPeer, Unavailable
from gateway.messages import AgencyId, Content, EnvelopeId, Header, Reason, Stage
from gateway.protocol import retry
from gateway.protocol.deadlines import judge
from gateway.protocol.policy import TOO_WEAK, Denied, Question
from gateway.protocol.receipts import receipt_for
from gateway.protocol.suites import at_least
from gateway.store import audit, dead_letters, inbox, key_usage, notes, receipts
from gateway.store.base import Session
from gateway.store.dead_letters import Refused
from gateway.transport.base import Delivery, Lane, Sealed

NoteHandler = Callable[[Header, bytes], Awaitable[None]]
"""Takes a note of one type, with its verified header. Raises RefusedByPeer when it cannot be read."""

REPLAYS = 20
"""Dead letters read at once."""
MAX_FAULTS = 3
"""Times a delivery may fail in a way nobody foresaw before it is set aside."""


class Arrivals:
    """Handles everything the transport delivers to the agencies of this node."""

    def __init__(
        self,
        parts: Parts,
        sender: ReceiptSender,
        notes: Mapping[str, NoteHandler],
        on_message: Callable[[AgencyId], None],
        watch: DirectoryWatch,
    ) -> None:
        self._parts = parts
        self._unsealer = Unsealer(parts, watch)
        self._sender = sender
        self._notes = notes
        self._on_message = on_message

    async def start(self) -> None:
        """Subscribe to both lanes of every agency."""
        for agency in self._parts.keys:
            for lane in Lane:
                await self._parts.transport.consume(
                    agency, lane, self._handle, prefetch=self._parts.rules.prefetch
                )

    async def _handle(self, delivery: Delivery) -> None:
        attempts = faults = 0
        while True:
            try:
                reason = await self._take(delivery.sealed, redelivered=delivery.redelivered)
                break
            except Unavailable:
                attempts += 1
                await asyncio.sleep(retry.delay(attempts, random.random()) / 1000)  # noqa: S311 - jitter
            except Exception as error:  # noqa: BLE001 - one message must not stop the others
                attempts, faults = attempts + 1, faults + 1
                self._parts.log.error("internal-error", part="arrivals", exc=error)
                if faults == MAX_FAULTS:
                    reason = Reason.FAULT
                    with contextlib.suppress(Unavailable):  # the transport's own dead letters have it too
                        await self._refuse(delivery.sealed, reason)
                    break
        if reason is None:
            await delivery.ack()
            return
        self._parts.metrics.dead_lettered(reason)
        await delivery.dead_letter()

    async def replay(self) -> None:
        """Take dead letters again for which an operator asked. Raises Unavailable."""
        while found := await self._parts.store.read(lambda s: dead_letters.to_replay(s, limit=REPLAYS)):
            for number, one in found:
                sealed = Sealed(one.envelope_id, one.agency, Lane(one.lane), one.expires, one.body)
                self._parts.log.info("dead-letter-replayed", envelope_id=one.envelope_id, agency=one.agency)
                try:
                    await self._take(sealed, redelivered=True)
                except Unavailable:
                    raise
                except Exception as error:  # noqa: BLE001 - a fault may still be there
                    self._parts.log.error("internal-error", part="replay", exc=error)
                    await self._refuse(sealed, Reason.FAULT)
                # What is refused again has a new row by now.
                await self._parts.store.write(partial(dead_letters.drop, id_=number))

    async def _take(self, sealed: Sealed, *, redelivered: bool) -> Reason | None:
        """Make one delivery durable; None, or why it belongs to the dead letters. Raises Unavailable."""
        try:
            if sealed.lane is Lane.MESSAGES and chunks.is_chunk(sealed.body):
                await self._take_chunk(sealed)
                return None
            opened = await self._unsealer.open(sealed)
            if sealed.lane is Lane.RECEIPTS:
                await self._take_note(opened)
                return None
            return await self._take_message(sealed, opened, redelivered=redelivered)
        except RefusedByPeer as refusal:
            if refusal.header is None or sealed.lane is Lane.RECEIPTS:
                await self._refuse(sealed, refusal.reason)
                return refusal.reason
            digest = hashlib.sha256(sealed.body).digest()
            return await self._refuse_known(
                sealed, refusal.header, digest, refusal.reason, redelivered=redelivered
            )

    async def _take_note(self, opened: Opened) -> None:
        parts, header, now = self._parts, opened.header, self._parts.now()
        handler = self._notes.get(header.type)
        if handler is None:
            raise RefusedByPeer(Reason.UNKNOWN_TYPE)
        await asyncio.gather(  # together, so that they share a commit
            handler(header, opened.content.reveal()),
            parts.store.write(lambda s: key_usage.note(s, header.recipient, opened.kid, header.sender, now)),
        )

    async def _take_message(self, sealed: Sealed, opened: Opened, *, redelivered: bool) -> Reason | None:
        parts, header, now = self._parts, opened.header, self._parts.now()
        try:
            carried, agreement = self._check(opened, now)
        except RefusedByPeer as refusal:
            return await self._refuse_known(
                sealed, header, opened.digest, refusal.reason, redelivered=redelivered
            )
        chunk_ids = [chunk for attachment in carried.attachments for chunk in attachment.chunks]
        try:
            new = await self._hold(sealed, opened, chunk_ids, agreement, now)
        except RefusedByPeer as refusal:
            await self._tell(sealed, header, opened.digest, refusal.reason)
            # Nothing is wrong with one that its sender no longer wants delivered.
            return None if refusal.reason is Reason.RECALLED else refusal.reason
        if not new:
            return await self._repeated(sealed, header, opened.digest, redelivered=redelivered)
        if not chunk_ids:
            self._received(header)
        elif not await parts.store.read(lambda s: inbox.chunks_missing(s, header.envelope_id)):
            await self._complete(header.recipient, header.envelope_id)
        return None

    async def _hold(
        self, sealed: Sealed, opened: Opened, chunk_ids: Sequence[EnvelopeId], agreement: str, now: int
    ) -> bool:
        """Make it durable, with the receipt that says so; False when it was held or answered before.

        Raises RefusedByPeer: RECALLED when its sender withdrew it while it was on the road, UNKNOWN_KEY when
        its key is being destroyed: what is held must open until it is handed over.
        """
        header = opened.header
        receipt = receipt_for(header, opened.digest, Stage.RECEIVED, now)
        cose = proof.sign_receipt(receipt, self._parts.keys[header.recipient].signing)
        stage = inbox.WAITING if chunk_ids else Stage.RECEIVED

        def job(session: Session) -> bool:
            if _said(session, header.envelope_id, header.recipient):
                return False  # what was refused once is not let in later
            if notes.is_recalled(session, header.envelope_id, sender=header.sender):
                raise RefusedByPeer(Reason.RECALLED)
            if key_usage.is_closed(session, header.recipient, opened.kid):
                raise RefusedByPeer(Reason.UNKNOWN_KEY)
            new = inbox.add(
                session, header, received=now, stage=stage, digest=opened.digest, body=sealed.body
            )
            if new and chunk_ids:
                inbox.expect_chunks(session, header.envelope_id, header.recipient, chunk_ids)
                audit.record(  # its `received` comes later, if ever
                    session,
                    "policy-allowed",
                    message_id=header.message_id,
                    envelope_id=header.envelope_id,
                    sender=header.sender,
                    recipient=header.recipient,
                    agreement=agreement,
                )
            elif new:
                receipts.keep(session, receipt, cose, agreement=agreement)
                receipts.owe(session, receipt, cose)
            if new:
                key_usage.note(session, header.recipient, opened.kid, header.sender, now)
            return new

        return await self._parts.store.write(job)

    def _check(self, opened: Opened, now: int) -> tuple[Content, str]:
        """Times, policy and schema, in that order; with the agreement that lets it. Raises RefusedByPeer."""
        parts, header = self._parts, opened.header
        parts.need_clock()
        if (reason := judge(header, now)) is not None:
            raise RefusedByPeer(reason)
        if parts.directory.expires <= now:
            raise Unavailable("directory-expired")
        started = time.perf_counter()
        answer = parts.directory.ask(
            Question(
                header.sender,
                header.recipient,
                header.type,
                header.version,
                header.purpose,
                header.lawful_basis,
            ),
            now,
        )
        if isinstance(answer, Denied):
            raise RefusedByPeer(answer.reason)
        if opened.suite not in at_least(answer.weakest_suite):
            raise RefusedByPeer(TOO_WEAK.reason)
        if not schemas.is_known(header.type, header.version):
            raise RefusedByPeer(Reason.UNKNOWN_TYPE)
        try:
            carried = content.decode_content(opened.content.reveal())
            document = strict_json.loads(carried.document.reveal())
        except (ValueError, AdapterError):
            raise RefusedByPeer(Reason.INVALID) from None
        if (
            not isinstance(document, dict)
            or (document.get("type"), document.get("version")) != (header.type, header.version)
            or schemas.validate(header.type, header.version, document)
        ):
            raise RefusedByPeer(Reason.INVALID)
        if answer.shares is not None and not sharing.is_within(carried, document, answer.shares):
            raise RefusedByPeer(Reason.MORE_THAN_AGREED)
        parts.metrics.step("check", time.perf_counter() - started)
        return carried, answer.agreement

    async def _take_chunk(self, sealed: Sealed) -> None:
        whole = await self._parts.store.write(
            lambda s: inbox.add_chunk(
                s, sealed.envelope_id, agency=sealed.recipient, expires=sealed.expires, body=sealed.body
            )
        )
        if whole is not None:
            await self._complete(sealed.recipient, whole)

    async def _complete(self, agency: AgencyId, envelope_id: EnvelopeId) -> None:
        """All chunks are here: open every attachment once, and only then state `received`."""
        parts = self._parts
        found = await parts.store.read(lambda s: inbox.body_of(s, envelope_id))
        if found is None or found.body is None or found.held.stage != inbox.WAITING:
            return
        header = found.held.header
        opened = await self._unsealer.open(
            Sealed(envelope_id, agency, Lane.MESSAGES, header.expires, found.body),
        )
        stage, reason = Stage.RECEIVED, None
        try:
            for attachment in content.decode_content(opened.content.reveal()).attachments:
                async for _ in open_attachment(parts, agency, attachment):
                    pass
        except RefusedByPeer as refusal:
            stage, reason = Stage.REJECTED, refusal.reason
        now = parts.now()
        receipt = receipt_for(header, opened.digest, stage, now, reason)
        cose = proof.sign_receipt(receipt, parts.keys[agency].signing)

        def job(session: Session) -> bool:
            changed = inbox.complete(session, envelope_id, received=now)
            if changed:
                receipts.keep(session, receipt, cose)
                receipts.owe(session, receipt, cose)
                if stage is Stage.REJECTED:
                    inbox.finish(session, found.held, stage)
            return changed

        if not await parts.store.write(job):
            return
        if reason is None:
            self._received(header)
        else:
            self._refused(envelope_id, reason, header)
            self._sender.wake()

    def _received(self, header: Header) -> None:
        self._parts.metrics.received(header.recipient)
        self._parts.log.info(
            "envelope-received", message_id=header.message_id, agency=header.recipient, sender=header.sender
        )
        self._sender.wake()
        self._on_message(header.recipient)

    async def _repeated(
        self, sealed: Sealed, header: Header, digest: bytes, *, redelivered: bool
    ) -> Reason | None:
        """Held or answered already. An honest repeat and a replay look alike: hand nothing over twice,
        and answer with the receipts already given, in case they were what got lost.

        What the transport itself repeats is acknowledged; any other repeat goes to the dead letters.
        """
        parts = self._parts
        found = await parts.store.read(lambda s: inbox.body_of(s, header.envelope_id))
        if found is not None and found.held.stage == inbox.WAITING:
            if not await parts.store.read(lambda s: inbox.chunks_missing(s, header.envelope_id)):
                await self._complete(header.recipient, header.envelope_id)
            return None
        if not await parts.store.read(lambda s: _said(s, header.envelope_id, sealed.recipient)):
            # Another envelope for a message we hold: not a repeat but a second copy under a new name.
            await self._tell(sealed, header, digest, Reason.REPLAYED)
            return Reason.REPLAYED
        await parts.store.write(lambda s: receipts.owe_again(s, header.envelope_id, header.sender))
        self._sender.wake()
        if redelivered:
            parts.metrics.duplicate()
            parts.log.info("envelope-duplicate", envelope_id=header.envelope_id)
            return None
        await self._refuse(sealed, Reason.REPLAYED)
        return Reason.REPLAYED

    async def _refuse_known(
        self, sealed: Sealed, header: Header, digest: bytes, reason: Reason, *, redelivered: bool
    ) -> Reason | None:
        """Refuse an authentic envelope, unless it was taken or answered before."""
        held, answers = await self._parts.store.read(
            lambda s: (
                inbox.body_of(s, header.envelope_id),
                _said(s, header.envelope_id, sealed.recipient),
            )
        )
        if held is not None or answers:
            return await self._repeated(sealed, header, digest, redelivered=redelivered)
        await self._tell(sealed, header, digest, reason)
        return reason

    async def _tell(self, sealed: Sealed, header: Header, digest: bytes, reason: Reason) -> None:
        """Record a refusal together with the receipt that tells the sender, signed by whoever got it."""
        parts, now = self._parts, self._parts.now()
        stage = Stage.EXPIRED if reason is Reason.EXPIRED else Stage.REJECTED
        receipt = receipt_for(replace(header, recipient=sealed.recipient), digest, stage, now, reason)
        cose = proof.sign_receipt(receipt, parts.keys[sealed.recipient].signing)

        def job(session: Session) -> None:
            receipts.keep(session, receipt, cose)
            receipts.owe(session, receipt, cose)
            dead_letters.add(session, _set_aside(sealed, reason, now))

        await parts.store.write(job)
        self._refused(sealed.envelope_id, reason, header)
        self._sender.wake()

    async def _refuse(self, sealed: Sealed, reason: Reason) -> None:
        """Refuse what nobody can be told about: record it where an operator sees it."""
        refused = _set_aside(sealed, reason, self._parts.now())
        await self._parts.store.write(lambda s: dead_letters.add(s, refused))
        self._refused(sealed.envelope_id, reason, None)

    def _refused(self, envelope_id: EnvelopeId, reason: Reason, header: Header | None) -> None:
        self._parts.metrics.envelope_refused(reason)
        self._parts.log.warning(
            "envelope-refused",
            envelope_id=envelope_id,
            message_id=header.message_id if header else None,
            sender=header.sender if header else None,
            reason=reason,
        )


def _said(session: Session, envelope_id: EnvelopeId, agency: AgencyId) -> bool:
    """Whether this agency has stated anything about an envelope. A neighbour here that sent it always has."""
    return any(one.issuer == agency for one in receipts.of_envelope(session, envelope_id))


def _set_aside(sealed: Sealed, reason: Reason, now: int) -> Refused:
    return Refused(
        sealed.envelope_id, sealed.recipient, sealed.lane.value, reason, now, sealed.expires, sealed.body
    )
