"""What can be refused before anything is sealed: adapter, schema, policy, and a key to seal to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from gateway import schemas
from gateway.adapters import json_native
from gateway.adapters.base import Adapter, AdapterError, Native
from gateway.crypto.keys import SealingKey
from gateway.engine.parts import Parts
from gateway.engine.sharing import Shared, cut
from gateway.errors import RefusedByUs, Unavailable
from gateway.http.ports import Submission
from gateway.messages import AgencyId, Canonical, EnvelopeId, Original, Problem, Sensitive, new_id
from gateway.protocol.policy import TOO_WEAK, Allowed, Denied, Question
from gateway.protocol.suites import at_least


@dataclass(frozen=True, slots=True)
class Checked:
    """A submission that passed every rule: what is to be sealed, for whom."""

    type: str
    version: int
    warnings: tuple[Problem, ...]
    declared: tuple[bytes, ...]
    """SHA-256 of the attachments the document itself names."""
    recipients: tuple[Recipient, ...]


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who gets an envelope, and what goes into it."""

    agency: AgencyId
    envelope_id: EnvelopeId
    key: SealingKey
    shared: Shared
    agreement: str
    """That lets it."""


def check(parts: Parts, submission: Submission, now: int) -> Checked:
    """Adapter, schema and policy: everything that can be refused before an attachment is read.

    Raises RefusedByUs, Unavailable.
    """
    parts.need_clock()
    started = time.perf_counter()
    adapter = parts.registry.choose(submission.body.media_type, submission.adapter)
    canonical = _read(adapter, submission.body)
    adapted = time.perf_counter()
    _validate(canonical)
    validated = time.perf_counter()
    allowed = _ask_policy(parts, submission, canonical, now)
    parts.metrics.step("adapt", adapted - started)
    parts.metrics.step("validate", validated - adapted)
    parts.metrics.step("policy", time.perf_counter() - validated)
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
    return Checked(
        type=canonical.type,
        version=canonical.version,
        warnings=warnings,
        declared=tuple(
            bytes.fromhex(item["sha256"])
            for item in canonical.document.get("attachments", ())
            if "sha256" in item
        ),
        recipients=tuple(
            Recipient(agency, EnvelopeId(new_id()), key, cut(canonical, whole, groups, views), agreement)
            for agency, key, groups, agreement in allowed
        ),
    )


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


def _ask_policy(
    parts: Parts, submission: Submission, message: Canonical, now: int
) -> list[tuple[AgencyId, SealingKey, tuple[str, ...] | None, str]]:
    """Each recipient with its key, the field groups it is shown, and the agreement.

    Raises RefusedByUs, Unavailable.
    """
    directory = parts.directory
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
        key = _sealing_key(parts, i, recipient, answer, now)
        recipients.append((recipient, key, answer.shares, answer.agreement))
    return recipients


def _sealing_key(parts: Parts, i: int, recipient: AgencyId, answer: Allowed, now: int) -> SealingKey:
    """The key to seal to, of a suite that agreement and settings allow. Raises RefusedByUs."""
    directory, agreed = parts.directory, at_least(answer.weakest_suite)
    ours = [suite for suite in agreed if suite in parts.rules.sealing_suites]
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


def check_declared(declared: Sequence[bytes], present: Sequence[bytes]) -> None:
    """Every attachment the document names by its SHA-256 must have come with it. Raises RefusedByUs."""
    for i, sha256 in enumerate(declared):
        if sha256 not in present:
            problem = Problem(
                f"/attachments/{i}/sha256", "an attachment of this SHA-256 comes with the message"
            )
            raise RefusedByUs("attachment-mismatch", problems=[problem])
