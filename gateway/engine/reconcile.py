"""After a restore to an older copy: ask each peer what the two exchanged in the time that is missing.

A question names the time and the last envelope of the page before; the answer carries signed receipts. From
what a peer *sent us* we learn what we had answered (so it is not handed over again) and what we never got (so
we ask for it again); from what it *got from us*, what we had sent and how far it came. Every step is a row
and a note in one transaction, and every step may be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from gateway.crypto import content, proof
from gateway.crypto import reconcile as form
from gateway.crypto.reconcile import Answer, Known, Part, Question
from gateway.engine.notes import NoteSender
from gateway.engine.parts import Parts
from gateway.engine.receipting import ReceiptSender, apply_receipt
from gateway.errors import ReceiptInvalid, RefusedByPeer
from gateway.messages import FINAL_STAGES, AgencyId, EnvelopeId, Header, Reason, Receipt, Stage
from gateway.protocol.deadlines import DAY
from gateway.protocol.receipts import receipt_for
from gateway.store import inbox, notes, outbox, receipts, reconciliations
from gateway.store.base import Session

T = TypeVar("T")

ASK = "reconcile-ask"
ANSWER = "reconcile-answer"
RESEND = "reconcile-resend"

ASK_AGAIN = 10 * 60 * 1000
"""Milliseconds before a peer that has not answered is asked again; doubles up to a day."""


class Reconciler:
    """Both ends of a reconciliation."""

    def __init__(
        self,
        parts: Parts,
        sender: NoteSender,
        receipts_sender: ReceiptSender,
        on_message: Callable[[AgencyId], None],
    ) -> None:
        self._parts = parts
        self._sender = sender
        self._receipts = receipts_sender
        self._on_message = on_message

    async def ask_due(self) -> None:
        """Ask every peer that has not answered and whose time has come. Raises Unavailable."""
        now = self._parts.now()
        if not await self._parts.store.read(lambda s: reconciliations.due(s, now)):
            return

        def job(session: Session) -> None:
            for one in reconciliations.due(session, now):
                question = Question(one.since, Part.SENT_TO_YOU, None)
                notes.owe(session, ASK, one.agency, one.peer, form.encode_question(question))
                wait = min(DAY, ASK_AGAIN * 2 ** min(one.attempts, 16))
                reconciliations.asked(session, one, due=now + wait)

        await self._parts.store.write(job)
        self._sender.wake()

    async def take_ask(self, header: Header, payload: bytes) -> None:
        """A peer asks: answer with one page. Raises RefusedByPeer."""
        question = _read(form.decode_question, payload)
        us, peer = header.recipient, header.sender

        def job(session: Session) -> None:
            known = _page(session, us, peer, question)
            answer = Answer(question, len(known) < form.PAGE, tuple(known))
            notes.owe(session, ANSWER, us, peer, form.encode_answer(answer))

        await self._parts.store.write(job)
        self._sender.wake()

    async def take_answer(self, header: Header, payload: bytes) -> None:
        """A page of what a peer knows. Raises RefusedByPeer."""
        answer = _read(form.decode_answer, payload)
        us, peer = header.recipient, header.sender
        verified = {
            one.envelope_id: self._verified(one, us, peer, answer.question.part) for one in answer.known
        }
        now = self._parts.now()

        def job(session: Session) -> bool:
            asked = reconciliations.find(session, us, peer)
            if asked is None or asked.answered is not None or asked.since != answer.question.since:
                return False  # an answer to an older question
            missing = []
            for one in answer.known:
                if answer.question.part is Part.GOT_FROM_YOU:
                    self._learn_of_ours(session, one, us, peer, verified[one.envelope_id])
                elif _learn_of_theirs(session, one, us, peer, verified[one.envelope_id]):
                    missing.append(one.envelope_id)
            if missing:
                notes.owe(session, RESEND, us, peer, content.encode_ids(missing))
            following = _following(answer)
            if following is None:
                return reconciliations.close(session, us, peer, at=now)
            notes.owe(session, ASK, us, peer, form.encode_question(following))
            return False

        if await self._parts.store.write(job):
            self._parts.log.info("reconciled", agency=us, sender=peer)
            self._on_message(us)
        self._sender.wake()
        self._receipts.wake()

    async def take_resend(self, header: Header, payload: bytes) -> None:
        """A peer lacks envelopes we have no final receipt for: publish them again. Raises RefusedByPeer."""
        ids = _read(content.decode_ids, payload)
        us, peer, now = header.recipient, header.sender, self._parts.now()

        def job(session: Session) -> int:
            count = 0
            for envelope_id in map(EnvelopeId, ids):
                found = outbox.find(session, envelope_id)
                if found is not None and (found[0].recipient, found[1]) == (peer, us):
                    count += outbox.send_again(session, envelope_id, due=now)
            return count

        count = await self._parts.store.write(job)
        self._parts.log.info("envelopes-resent", agency=us, recipient=peer, count=count)

    def _learn_of_ours(
        self,
        session: Session,
        known: Known,
        us: AgencyId,
        peer: AgencyId,
        verified: Sequence[tuple[Receipt, bytes]],
    ) -> None:
        """An envelope the peer got from us: know of it again if it was forgotten, and how far it came."""
        header = known.header
        if header is None or (header.sender, header.recipient) != (us, peer):
            return
        if reconciliations.recover(session, header, known.digest):
            stated = replace(receipt_for(header, known.digest, Stage.ACCEPTED, header.created), issuer=us)
            receipts.keep(session, stated, proof.sign_receipt(stated, self._parts.keys[us].signing))
        for receipt, cose in verified:
            apply_receipt(session, us, receipt, cose)

    def _verified(
        self, known: Known, us: AgencyId, peer: AgencyId, part: Part
    ) -> list[tuple[Receipt, bytes]]:
        """The receipts that verify and are about this envelope between the two of us."""
        found = []
        sender, recipient = (peer, us) if part is Part.SENT_TO_YOU else (us, peer)
        for cose in known.receipts:
            try:
                receipt = proof.verify_receipt(cose, self._parts.find_verify_key)
            except ReceiptInvalid:
                continue
            if (receipt.envelope_id, receipt.sender, receipt.recipient, receipt.issuer) == (
                known.envelope_id,
                sender,
                recipient,
                recipient,
            ):
                found.append((receipt, cose))
        return found


def _read(decode: Callable[[bytes], T], payload: bytes) -> T:
    try:
        return decode(payload)
    except ValueError:
        raise RefusedByPeer(Reason.INVALID) from None


def _page(session: Session, us: AgencyId, peer: AgencyId, question: Question) -> list[Known]:
    """What we know, of one part, after the page before."""
    since, after = question.since, question.after or ""
    if question.part is Part.SENT_TO_YOU:
        found = reconciliations.sent_to(session, us, peer, since=since, after=after, limit=form.PAGE)
        return [Known(one, _stated(session, one, peer)) for one in found]
    got = reconciliations.got_from(session, us, peer, since=since, after=after, limit=form.PAGE)
    return [
        Known(header.envelope_id, _stated(session, header.envelope_id, us), header, digest)
        for header, digest in got
    ]


def _stated(session: Session, envelope_id: EnvelopeId, issuer: AgencyId) -> tuple[bytes, ...]:
    """The receipts of an envelope that this agency signed, as many as one answer may hold; openings last."""
    found = [one.cose for one in receipts.of_envelope(session, envelope_id) if one.issuer == issuer]
    return tuple(found[: form.MAX_STAGES])


def _following(answer: Answer) -> Question | None:
    """What to ask next; None when the peer has said all it knows."""
    question = answer.question
    if not answer.last and answer.known:
        return Question(question.since, question.part, answer.known[-1].envelope_id)
    if question.part is Part.SENT_TO_YOU:
        return Question(question.since, Part.GOT_FROM_YOU, None)
    return None


def _learn_of_theirs(
    session: Session, known: Known, us: AgencyId, peer: AgencyId, verified: Sequence[tuple[Receipt, bytes]]
) -> bool:
    """An envelope the peer sent us, and what we had answered; True when we need it again."""
    final = next((receipt.stage for receipt, _ in verified if receipt.stage in FINAL_STAGES), None)
    found = inbox.body_of(session, known.envelope_id)
    if found is None and final is None:
        # Perhaps `received` once, but gone: a receipt of ours in the store would keep it out.
        return True
    if found is not None and (found.held.header.sender, found.held.header.recipient) != (peer, us):
        return False
    for receipt, cose in verified:
        receipts.keep(session, receipt, cose)
    if found is None:
        return False
    if final is not None and found.held.stage in {inbox.WAITING, Stage.RECEIVED}:
        inbox.finish(session, found.held, final)
    stated = {receipt.stage for receipt, _ in verified}
    if any(one.stage not in stated for one in receipts.of_envelope(session, known.envelope_id)):
        receipts.owe_again(session, known.envelope_id, peer)
    return final is None and found.held.stage == inbox.WAITING  # its chunks may be what is missing
