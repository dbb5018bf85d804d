"""Break-glass: a quorum opens a message its recipient's system has not collected (docs/break-glass.md).

First the record, then the plaintext: one transaction holds the audit entries and the signed notice owed to
the sender. The opening changes nothing else: the message still waits for the system it is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from gateway.crypto import proof
from gateway.crypto.approval import Request
from gateway.crypto.break_glass import check_quorum
from gateway.crypto.key_document import AgencyKeys
from gateway.directory.model import Directory
from gateway.messages import AgencyId, Emergency, MessageId, Quorum, Stage
from gateway.protocol.break_glass import BreakGlass
from gateway.protocol.policy import Denied, Question
from gateway.protocol.receipts import receipt_for
from gateway.store import audit, inbox, receipts
from gateway.store.base import Session
from gateway.store.inbox import Held


class CannotOpen(Exception):
    """There is nothing to open, or it may not be. The text says why and names no value of a message."""


@dataclass(frozen=True, slots=True)
class Openable:
    """A message that a quorum may open."""

    held: Held
    body: bytes = field(repr=False)
    """Sealed."""
    agreement: str
    rule: BreakGlass


@dataclass(frozen=True, slots=True)
class Opening:
    """An opening that is on record."""

    held: Held
    body: bytes = field(repr=False)
    """Sealed."""
    request: Request
    reason: Emergency
    roles: tuple[str, ...]
    at: int
    """Milliseconds since the epoch: the time in the notice."""


def find(
    session: Session, directory: Directory, agency: AgencyId, message_id: MessageId, now: int
) -> Openable:
    """A message of this agency and who may open it. Raises CannotOpen."""
    found = inbox.not_final(session, agency, message_id)
    if found is None:
        raise CannotOpen(
            f"{agency} has no such message waiting: collected, expired, recalled, refused or never received"
        )
    held, body = found
    header = held.header
    if header.expires <= now:
        raise CannotOpen("the message has expired: the sender is being told, and must send it again")
    if directory.expires <= now:
        raise CannotOpen("the directory has expired: install a current one")
    answer = directory.ask(
        Question(header.sender, agency, header.type, header.version, header.purpose, header.lawful_basis),
        now,
    )
    if isinstance(answer, Denied):
        raise CannotOpen("no agreement in force covers the message: only its own system can collect it")
    if answer.break_glass is None:
        raise CannotOpen(
            f"the agreement {answer.agreement} has no break-glass: only the agency's own system can open it"
        )
    return Openable(held, body, answer.agreement, answer.break_glass)


def ask(session: Session, request: Request, reason: Emergency, message_id: MessageId) -> None:
    """Enter in the audit log that an opening is asked for."""
    audit.record(
        session,
        "break-glass-asked",
        agency=request.agency,
        message_id=message_id,
        request=request.request_id,
        reason=reason,
    )


def refuse(session: Session, request: Request, message_id: MessageId) -> None:
    """Enter in the audit log that asking for an opening, or the opening itself, was refused."""
    audit.record(
        session,
        "break-glass-refused",
        agency=request.agency,
        message_id=message_id,
        request=request.request_id,
    )


def record(
    session: Session,
    directory: Directory,
    keys: AgencyKeys,
    message_id: MessageId,
    approvals: Sequence[bytes],
    now: int,
) -> Opening:
    """Put an opening on record, with the notice to the sender. Raises CannotOpen, ApprovalInvalid.

    Only when this is committed may the message be opened. Each time is an opening of its own.
    """
    agency = keys.agency
    found = find(session, directory, agency, message_id, now)
    request, reason, roles = check_quorum(approvals, found.rule, agency, message_id, now)
    header = found.held.header
    notice = replace(
        receipt_for(header, found.held.digest, Stage.OPENED, now),
        reason=reason,
        quorum=Quorum(found.agreement, tuple(approvals)),
    )
    cose = proof.sign_receipt(notice, keys.signing)
    audit.note_directory(session, directory.document.model_dump_json())  # the node may not have seen it
    about = {"agency": agency, "message_id": header.message_id, "request": request.request_id}
    for role in sorted(roles):
        audit.record(session, "approval-given", role=role, **about)
    audit.record(
        session,
        "break-glass-opened",
        envelope_id=header.envelope_id,
        sender=header.sender,
        agreement=found.agreement,
        reason=reason,
        threshold=found.rule.threshold,
        **about,
    )
    if not receipts.keep(session, notice, cose, agreement=found.agreement):
        raise CannotOpen("it was opened at this very moment: try again")
    receipts.owe(session, notice, cose)
    return Opening(found.held, found.body, request, reason, tuple(sorted(roles)), now)
