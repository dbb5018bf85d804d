"""The sending half of the road: adapter, validate, policy, seal, outbox; and what became of it.

`submit` returns only when the sealed message and its `accepted` receipt are on disk.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from gateway.crypto import content, envelope, proof
from gateway.engine.attachments import AttachmentSealer, SealedUpload
from gateway.engine.checking import Checked, check, check_declared
from gateway.engine.fingerprint import Fingerprint, key_mac, message_id
from gateway.engine.ladders import as_accepted, read_status, signed, status_of
from gateway.engine.outbound import Backlog, Publisher
from gateway.engine.parts import Parts
from gateway.engine.recall import Recall
from gateway.errors import GatewayError, RefusedByUs, Unavailable
from gateway.http.ports import Ladder, MessageStatus, Submission, Upload
from gateway.messages import (
    AgencyId,
    CaseId,
    Content,
    Header,
    MessageId,
    Problem,
    Receipt,
    Stage,
    new_id,
)
from gateway.protocol.policy import CODES as POLICY_CODES
from gateway.store import audit, idempotency, outbox, receipts
from gateway.store.base import Session
from gateway.store.claims import Claim
from gateway.store.idempotency import KeyTaken, Remembered
from gateway.store.outbox import OutboundEnvelope, OutboundMessage, Unsent


@dataclass(frozen=True, slots=True)
class _Sealed:
    """One recipient's envelope with its `accepted` receipt, ready to be stored."""

    row: OutboundEnvelope
    body: bytes
    receipt: Receipt
    cose: bytes
    chunked: bool
    """Attachments go with it."""
    agreement: str


class Recovered(Exception):
    """The request was accepted before a restore; a peer has told us of its message."""

    def __init__(self, message_id: MessageId) -> None:
        super().__init__()
        self.message_id = message_id


@dataclass(slots=True)
class Draft:
    """A submission that passed every rule, its attachments sealed as they come; nothing is accepted yet."""

    submission: Submission
    message_id: MessageId
    created: int
    mac: bytes
    fingerprint: Fingerprint
    sealer: AttachmentSealer
    attachments: list[SealedUpload]
    checked: Checked

    def add(self, upload: Upload, sealed: SealedUpload) -> None:
        """Take an attachment that the sealer read to its end."""
        self.attachments.append(sealed)
        self.fingerprint.add_attachment(upload.name, upload.media_type, sealed.sha256)


class Intake:
    """Implements gateway.http.ports.Sending."""

    def __init__(self, parts: Parts, backlog: Backlog, publisher: Publisher, recall: Recall) -> None:
        self._parts = parts
        self._recall = recall
        self._backlog = backlog
        self._publisher = publisher

    async def submit(self, submission: Submission, uploads: AsyncIterator[Upload]) -> MessageStatus:
        """See Sending.submit."""
        secret = self._parts.keys[submission.sender].idempotency_secret
        mac = key_mac(secret, submission.idempotency_key)
        fingerprint = Fingerprint(secret, submission)
        try:
            return await self._accept(submission, uploads, mac, fingerprint)
        except Recovered as repeated:
            return await self._recovered(submission.sender, repeated)
        except (KeyTaken, RefusedByUs) as error:
            refusal = error if isinstance(error, RefusedByUs) else RefusedByUs("idempotency-key-reused")
            # The same request may have been accepted before (a retry), even if it would be refused today.
            remembered = await self._remembered(submission.sender, mac)
            if remembered is not None:
                async for upload in uploads:  # what _accept has not read yet
                    await _hash(upload, fingerprint)
                if remembered.fingerprint == fingerprint.value():
                    return await self._first_answer(submission.sender, remembered)
                refusal = RefusedByUs("idempotency-key-reused")
            self._refused(submission.sender, refusal)
            raise refusal from None
        except Unavailable as error:
            self._refused(submission.sender, error)
            raise

    async def begin(self, submission: Submission) -> Draft:
        """A submission whose attachments come later. Raises RefusedByUs, Unavailable or Recovered."""
        secret = self._parts.keys[submission.sender].idempotency_secret
        mac = key_mac(secret, submission.idempotency_key)
        try:
            return await self._begin(submission, mac, Fingerprint(secret, submission))
        except (RefusedByUs, Unavailable) as error:
            self._refused(submission.sender, error)
            raise

    async def finish(self, draft: Draft) -> MessageStatus:
        """Accept what `begin` began, or give the first answer again. Raises RefusedByUs or Unavailable.

        What was refused, or accepted before, leaves nothing behind; after Unavailable it may be tried again.
        """
        sender = draft.submission.sender
        try:
            return await self._commit(draft)
        except RefusedByUs as error:
            await draft.sealer.discard()
            self._refused(sender, error)
            raise
        except KeyTaken:
            await draft.sealer.discard()
            remembered = await self._remembered(sender, draft.mac)
            if remembered is not None and remembered.fingerprint == draft.fingerprint.value():
                return await self._first_answer(sender, remembered)
            refusal = RefusedByUs("idempotency-key-reused")
            self._refused(sender, refusal)
            raise refusal from None

    async def _denied(self, submission: Submission, error: RefusedByUs) -> None:
        """An entry in the audit log when it was the policy that said no. Raises Unavailable."""
        if error.code not in POLICY_CODES:
            return
        asked = [
            recipient
            for i, recipient in enumerate(submission.recipients)
            if any(problem.pointer == f"/to/{i}" for problem in error.problems)
        ]
        known = next((one for one in asked if one in self._parts.directory.agencies), None)
        await self._parts.store.write(
            lambda s: audit.record(
                s, "policy-denied", sender=submission.sender, recipient=known, code=error.code
            )
        )

    def _refused(self, agency: AgencyId, error: GatewayError) -> None:
        self._parts.metrics.refused(error.code)
        self._parts.log.info("message-refused", agency=agency, code=error.code)

    async def _remembered(self, agency: AgencyId, mac: bytes) -> Remembered | None:
        return await self._parts.store.read(lambda s: idempotency.recall(s, agency, mac))

    async def _recovered(self, agency: AgencyId, repeated: Recovered) -> MessageStatus:
        return await self._first_answer(agency, Remembered(b"", repeated.message_id, "[]"))

    async def _accept(
        self, submission: Submission, uploads: AsyncIterator[Upload], mac: bytes, fingerprint: Fingerprint
    ) -> MessageStatus:
        draft = await self._begin(submission, mac, fingerprint)
        try:
            async for upload in uploads:
                draft.add(upload, await draft.sealer.seal(upload, len(draft.attachments)))
            return await self._commit(draft)
        except BaseException:
            await draft.sealer.discard()
            raise

    async def _begin(self, submission: Submission, mac: bytes, fingerprint: Fingerprint) -> Draft:
        """Everything before the first attachment is read."""
        now = self._parts.now()
        try:
            checked = check(self._parts, submission, now)
        except RefusedByUs as error:
            await self._denied(submission, error)
            raise
        chosen = await self._choose_id(submission)
        self._backlog.admit(len(checked.recipients), 0)
        envelope_ids = [one.envelope_id for one in checked.recipients if one.shared.attachments]
        sealer = AttachmentSealer(self._parts, self._backlog, envelope_ids)
        return Draft(submission, chosen, now, mac, fingerprint, sealer, [], checked)

    async def _commit(self, draft: Draft) -> MessageStatus:
        """Seal and store. Raises KeyTaken, RefusedByUs or Unavailable."""
        parts, submission, checked, now = self._parts, draft.submission, draft.checked, draft.created
        check_declared(checked.declared, [one.sha256 for one in draft.attachments])
        message = OutboundMessage(
            message_id=draft.message_id,
            agency=submission.sender,
            case=submission.case or CaseId(new_id()),
            type=checked.type,
            version=checked.version,
            in_reply_to=submission.in_reply_to,
            created=now,
            expires=now + (submission.expires_in * 1000 if submission.expires_in else parts.rules.expires_in),
            purpose=submission.purpose,
            lawful_basis=submission.lawful_basis,
        )
        started = time.perf_counter()
        sealed = self._seal(message, checked, draft.attachments)
        parts.metrics.step("seal", time.perf_counter() - started)
        entry = Remembered(draft.fingerprint.value(), message.message_id, _dump(checked.warnings))
        claim = parts.claims.make(parts.now())
        await parts.store.write(lambda s: _store(s, message, sealed, draft.mac, entry, claim))
        for one in sealed:
            self._backlog.add(1, one.row.size)
            self._publisher.offer(
                Unsent(
                    one.row.envelope_id,
                    one.row.recipient,
                    one.row.expires,
                    attempts=0,
                    chunked=one.chunked,
                    size=one.row.size,
                    body=one.body,
                    claimant=claim.claimant,
                )
            )
        parts.metrics.accepted(message.agency, message.type, len(sealed))
        parts.log.info(
            "message-accepted", message_id=message.message_id, agency=message.agency, type=message.type
        )
        ladders = tuple(
            Ladder(
                one.row.recipient,
                one.row.envelope_id,
                Stage.ACCEPTED,
                (signed(one.receipt, one.cose),),
                one.receipt.view,
            )
            for one in sealed
        )
        return status_of(message, ladders, checked.warnings)

    async def _choose_id(self, submission: Submission) -> MessageId:
        """The key's own message id; another when that belongs to a message whose key has been forgotten.

        Raises Recovered when its recipients told us, after a restore, that they have that message.
        """
        derived = submission.message_id or message_id(
            self._parts.keys[submission.sender].idempotency_secret, submission.idempotency_key
        )
        known = await self._parts.store.read(lambda s: outbox.message(s, submission.sender, derived))
        if known is None:
            return derived
        if known.recovered:
            raise Recovered(derived)
        return MessageId(new_id())

    def _seal(
        self, message: OutboundMessage, checked: Checked, attachments: Sequence[SealedUpload]
    ) -> list[_Sealed]:
        signer = self._parts.keys[message.agency].signing
        sealed = []
        for position, one in enumerate(checked.recipients):
            recipient, envelope_id, shared = one.agency, one.envelope_id, one.shared
            header = Header(
                message.message_id,
                envelope_id,
                message.type,
                message.version,
                message.agency,
                recipient,
                message.case,
                message.in_reply_to,
                message.created,
                message.expires,
                message.purpose,
                message.lawful_basis,
            )
            own = tuple(upload.copies[envelope_id] for upload in attachments if shared.attachments)
            payload = content.encode_content(Content(shared.document, shared.warnings, shared.original, own))
            body = envelope.seal(header, payload, signer=signer, to=one.key)
            digest = hashlib.sha256(body).digest()
            receipt = Receipt(
                Stage.ACCEPTED,
                message.message_id,
                envelope_id,
                digest,
                message.agency,
                recipient,
                issuer=message.agency,
                at=message.created,
                view=shared.groups,
            )
            row = OutboundEnvelope(
                envelope_id,
                message.message_id,
                position,
                recipient,
                Stage.ACCEPTED,
                presumed=False,
                digest=digest,
                size=len(body) + sum(attachment.size for attachment in own),
                expires=message.expires,
                sent=False,
                attempts=0,
            )
            sealed.append(
                _Sealed(row, body, receipt, proof.sign_receipt(receipt, signer), bool(own), one.agreement)
            )
        return sealed

    async def _first_answer(self, agency: AgencyId, remembered: Remembered) -> MessageStatus:
        return as_accepted(await self.status(agency, remembered.message_id), remembered.warnings)

    async def status(self, agency: AgencyId, message_id: MessageId) -> MessageStatus:
        """See Sending.status."""
        found = await self._parts.store.read(lambda s: read_status(s, agency, message_id))
        if found is None:
            raise RefusedByUs("not-found")
        return found

    async def recall(self, agency: AgencyId, message_id: MessageId) -> MessageStatus:
        """See Sending.recall."""
        await self._recall.ask(agency, message_id)
        return await self.status(agency, message_id)


async def _hash(upload: Upload, fingerprint: Fingerprint) -> None:
    digest = hashlib.sha256()
    async for piece in upload.chunks:
        digest.update(piece)
    fingerprint.add_attachment(upload.name, upload.media_type, digest.digest())


def _dump(warnings: Sequence[Problem]) -> str:
    return json.dumps([[warning.pointer, warning.rule] for warning in warnings])


def _store(
    session: Session,
    message: OutboundMessage,
    sealed: Sequence[_Sealed],
    mac: bytes,
    entry: Remembered,
    claim: Claim,
) -> None:
    """Everything the 202 promises, in one transaction. Raises KeyTaken."""
    idempotency.remember(session, message.agency, mac, entry, created=message.created)
    outbox.add_message(session, message)
    for one in sealed:
        outbox.add_envelope(session, one.row, one.body, due=message.created, claim=claim)
        receipts.keep(session, one.receipt, one.cose, agreement=one.agreement)
