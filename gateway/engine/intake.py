"""The sending half of the road: adapter, validate, policy, seal, outbox; and what became of it.

`submit` returns only when the sealed message and its `accepted` receipt are on disk.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from gateway import schemas
from gateway.adapters import json_native
from gateway.adapters.base import Adapter, AdapterError, Native
from gateway.crypto import content, envelope, proof
from gateway.crypto.keys import SealingKey
from gateway.engine.attachments import AttachmentSealer, SealedUpload
from gateway.engine.fingerprint import Fingerprint, key_mac, message_id
from gateway.engine.outbound import Backlog, Publisher
from gateway.engine.parts import Parts
from gateway.engine.recall import Recall
from gateway.engine.sharing import Shared, cut
from gateway.errors import GatewayError, RefusedByUs, Unavailable
from gateway.http.ports import Ladder, MessageStatus, SignedReceipt, Submission, Upload
from gateway.messages import (
    AgencyId,
    Canonical,
    CaseId,
    Content,
    EnvelopeId,
    Header,
    MessageId,
    Original,
    Problem,
    Receipt,
    Sensitive,
    Stage,
    new_id,
)
from gateway.protocol.policy import CODES as POLICY_CODES
from gateway.protocol.policy import TOO_WEAK, Allowed, Denied, Question
from gateway.protocol.suites import at_least
from gateway.store import audit, idempotency, outbox, receipts
from gateway.store.base import Session
from gateway.store.claims import Claim
from gateway.store.idempotency import KeyTaken, Remembered
from gateway.store.outbox import OutboundEnvelope, OutboundMessage, Unsent
from gateway.store.receipts import StoredReceipt


@dataclass(frozen=True, slots=True)
class _Checked:
    """A submission that passed every rule: what is to be sealed, for whom."""

    type: str
    version: int
    warnings: tuple[Problem, ...]
    declared: tuple[bytes, ...]
    """SHA-256 of the attachments the document itself names."""
    recipients: tuple[_Recipient, ...]


@dataclass(frozen=True, slots=True)
class _Recipient:
    """Who gets an envelope, and what goes into it."""

    agency: AgencyId
    envelope_id: EnvelopeId
    key: SealingKey
    shared: Shared
    agreement: str
    """That lets it."""


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
    checked: _Checked

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
            checked = self._check(submission, now)
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
        _check_declared(checked.declared, [one.sha256 for one in draft.attachments])
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
                (_signed(one.receipt, one.cose),),
                one.receipt.view,
            )
            for one in sealed
        )
        return _status(message, ladders, checked.warnings)

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

    def _check(self, submission: Submission, now: int) -> _Checked:
        """Adapter, schema and policy: everything that can be refused before an attachment is read."""
        self._parts.need_clock()
        started = time.perf_counter()
        adapter = self._parts.registry.choose(submission.body.media_type, submission.adapter)
        canonical = _read(adapter, submission.body)
        adapted = time.perf_counter()
        _validate(canonical)
        validated = time.perf_counter()
        allowed = self._ask_policy(submission, canonical, now)
        self._parts.metrics.step("adapt", adapted - started)
        self._parts.metrics.step("validate", validated - adapted)
        self._parts.metrics.step("policy", time.perf_counter() - validated)
        body = submission.body
        original = None
        if adapter.name == json_native.ADAPTER.name:
            document = body.body  # canonical as it came: it travels as its sender wrote it
        else:
            document = json_native.dumps(canonical.document)
            original = Original(adapter.name, body.media_type, Sensitive(body.body))
        warnings = tuple(schemas.warnings(canonical.type, canonical.version, canonical.document))
        whole = Shared(Sensitive(document), warnings, original, None)
        views: dict[tuple[str, ...], Shared] = {}
        return _Checked(
            type=canonical.type,
            version=canonical.version,
            warnings=warnings,
            declared=tuple(
                bytes.fromhex(item["sha256"])
                for item in canonical.document.get("attachments", ())
                if "sha256" in item
            ),
            recipients=tuple(
                _Recipient(agency, EnvelopeId(new_id()), key, cut(canonical, whole, groups, views), agreement)
                for agency, key, groups, agreement in allowed
            ),
        )

    def _ask_policy(
        self, submission: Submission, message: Canonical, now: int
    ) -> list[tuple[AgencyId, SealingKey, tuple[str, ...] | None, str]]:
        """Each recipient with its key, the field groups it is shown, and the agreement.

        Raises RefusedByUs, Unavailable.
        """
        directory = self._parts.directory
        if directory.expires <= now:
            raise Unavailable("directory-expired", retry_after=60)
        recipients = []
        for i, recipient in enumerate(submission.recipients):
            question = Question(
                submission.sender,
                recipient,
                message.type,
                message.version,
                submission.purpose,
                submission.lawful_basis,
            )
            answer = directory.ask(question, now)
            if isinstance(answer, Denied):
                raise RefusedByUs(answer.code, problems=[Problem(f"/to/{i}", answer.code)])
            key = self._sealing_key(i, recipient, answer, now)
            recipients.append((recipient, key, answer.shares, answer.agreement))
        return recipients

    def _sealing_key(self, i: int, recipient: AgencyId, answer: Allowed, now: int) -> SealingKey:
        """The key to seal to, of a suite that agreement and settings allow. Raises RefusedByUs."""
        directory, agreed = self._parts.directory, at_least(answer.weakest_suite)
        ours = [suite for suite in agreed if suite in self._parts.rules.sealing_suites]
        key = directory.sealing_key(recipient, now, ours)
        if key is not None:
            return key
        if directory.sealing_key(recipient, now) is None:
            problem = Problem(f"/to/{i}", "an encryption key in force in the directory")
            raise RefusedByUs("unknown-recipient", problems=[problem])
        if directory.sealing_key(recipient, now, agreed) is None:
            rule = f"an encryption key of suite {' or '.join(agreed)}, as the agreement asks"
        else:
            rule = "an encryption key of a suite in node.sealing_suites of the sender's node"
        raise RefusedByUs(TOO_WEAK.code, problems=[Problem(f"/to/{i}", rule)])

    def _seal(
        self, message: OutboundMessage, checked: _Checked, attachments: Sequence[SealedUpload]
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
        """The answer as it was given then: `accepted`, with its receipt, and the warnings."""
        status = await self.status(agency, remembered.message_id)
        ladders = tuple(
            Ladder(
                ladder.recipient,
                ladder.envelope_id,
                Stage.ACCEPTED,
                tuple(receipt for receipt in ladder.receipts if receipt.stage is Stage.ACCEPTED),
                ladder.view,
            )
            for ladder in status.ladders
        )
        warnings = tuple(Problem(pointer, rule) for pointer, rule in json.loads(remembered.warnings))
        return MessageStatus(
            status.message_id,
            status.case,
            status.type,
            status.version,
            status.sender,
            status.in_reply_to,
            status.created,
            status.expires,
            status.purpose,
            status.lawful_basis,
            status.recalled,
            warnings,
            ladders,
            repeated=True,
        )

    async def status(self, agency: AgencyId, message_id: MessageId) -> MessageStatus:
        """See Sending.status."""
        message, ladders = await self._parts.store.read(lambda s: _read_ladders(s, agency, message_id))
        if message is None:
            raise RefusedByUs("not-found")
        return _status(message, ladders, ())

    async def recall(self, agency: AgencyId, message_id: MessageId) -> MessageStatus:
        """See Sending.recall."""
        await self._recall.ask(agency, message_id)
        return await self.status(agency, message_id)


def _read(adapter: Adapter, body: Native) -> Canonical:
    try:
        return adapter.to_canonical(body)
    except AdapterError as error:
        code = "malformed-body" if error.malformed else "unmappable-content"
        raise RefusedByUs(code, problems=error.problems) from None


def _validate(canonical: Canonical) -> None:
    if not schemas.is_known(canonical.type, canonical.version):
        raise RefusedByUs("unknown-type", problems=[Problem("/type", "a known type and version")])
    problems = schemas.validate(canonical.type, canonical.version, canonical.document)
    if problems:
        raise RefusedByUs("invalid-content", problems=problems)


def _check_declared(declared: Sequence[bytes], present: Sequence[bytes]) -> None:
    """Every attachment the document names by its SHA-256 must have come with it."""
    for i, sha256 in enumerate(declared):
        if sha256 not in present:
            problem = Problem(
                f"/attachments/{i}/sha256", "an attachment of this SHA-256 comes with the message"
            )
            raise RefusedByUs("attachment-mismatch", problems=[problem])


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


def _read_ladders(
    session: Session, agency: AgencyId, message_id: MessageId
) -> tuple[OutboundMessage | None, tuple[Ladder, ...]]:
    message = outbox.message(session, agency, message_id)
    if message is None:
        return None, ()
    return message, tuple(
        _ladder(row, receipts.of_envelope(session, row.envelope_id))
        for row in outbox.envelopes(session, message_id)
    )


def _ladder(row: OutboundEnvelope, found: Sequence[StoredReceipt]) -> Ladder:
    accepted = (one for one in found if one.stage is Stage.ACCEPTED)
    return Ladder(
        row.recipient,
        row.envelope_id,
        row.stage,
        tuple(SignedReceipt(one.stage, one.issuer, one.at, one.reason, one.cose) for one in found),
        next((proof.read_receipt(one.cose).view for one in accepted), None),
    )


def _signed(receipt: Receipt, cose: bytes) -> SignedReceipt:
    return SignedReceipt(receipt.stage, receipt.issuer, receipt.at, receipt.reason, cose)


def _status(
    message: OutboundMessage, ladders: tuple[Ladder, ...], warnings: tuple[Problem, ...]
) -> MessageStatus:
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
