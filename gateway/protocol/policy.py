"""May this agency send this to that agency? Deny by default; both ends ask the same question.

The directory is a value here: agencies with what they accept, and sharing agreements. Where it comes
from (a file, later a signed repository) is not this file's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.messages import AgencyId, LawfulBasis, Purpose, Reason, Sector
from gateway.protocol.break_glass import BreakGlass

PURPOSES = frozenset(purpose.value for purpose in Purpose)
LAWFUL_BASES = frozenset(basis.value for basis in LawfulBasis)


@dataclass(frozen=True, slots=True)
class Agency:
    """An agency as the directory lists it (its keys are held beside, in `directory`)."""

    id: AgencyId
    name: str
    sector: Sector
    accepts: Mapping[str, frozenset[int]]
    """Message type -> versions."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """A sharing agreement: who may send what to whom, why, on which basis, and when.

    One direction only: an answer needs an agreement that lets it travel back.
    """

    id: str
    senders: frozenset[AgencyId]
    recipients: frozenset[AgencyId]
    types: frozenset[str]
    purposes: frozenset[Purpose]
    lawful_bases: frozenset[LawfulBasis]
    starts: int
    ends: int
    """Milliseconds; in force while starts <= now < ends."""
    shares: tuple[str, ...] | None = None
    """The field groups of a referral that a recipient is shown (views.py); None: everything."""
    break_glass: BreakGlass | None = None
    """Who may open a message of this agreement in an emergency; None: nobody."""
    weakest_suite: str | None = None
    """The weakest suite a message may be sealed with (suites.py); None: any."""

    def covers(self, question: Question) -> bool:
        """Everything but the dates fits."""
        return (
            question.sender in self.senders
            and question.recipient in self.recipients
            and question.type in self.types
            and question.purpose in self.purposes
            and question.lawful_basis in self.lawful_bases
        )


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the policy."""

    sender: AgencyId
    recipient: AgencyId
    type: str
    version: int
    purpose: str
    lawful_basis: str


@dataclass(frozen=True, slots=True)
class Allowed:
    """Yes, because of this agreement."""

    agreement: str
    shares: tuple[str, ...] | None = None
    """See Agreement.shares."""
    break_glass: BreakGlass | None = None
    """See Agreement.break_glass."""
    weakest_suite: str | None = None
    """See Agreement.weakest_suite."""


@dataclass(frozen=True, slots=True)
class Denied:
    """No. `code` is a problem code (errors.CODES), `reason` what a receipt says."""

    code: str
    reason: Reason


UNKNOWN_SENDER = Denied("no-agreement", Reason.UNKNOWN_SENDER)
UNKNOWN_RECIPIENT = Denied("unknown-recipient", Reason.NO_AGREEMENT)
UNKNOWN_PURPOSE = Denied("unknown-purpose", Reason.NO_AGREEMENT)
UNKNOWN_BASIS = Denied("unknown-lawful-basis", Reason.NO_AGREEMENT)
TYPE_NOT_ACCEPTED = Denied("type-not-accepted", Reason.UNKNOWN_TYPE)
NO_AGREEMENT = Denied("no-agreement", Reason.NO_AGREEMENT)
NOT_IN_FORCE = Denied("agreement-not-in-force", Reason.AGREEMENT_NOT_IN_FORCE)
TOO_WEAK = Denied("no-suitable-key", Reason.WEAKER_THAN_AGREED)
"""Said once there is an agreement: by the sender of the recipient's keys, by the recipient of an envelope."""
CODES = frozenset(
    denied.code
    for denied in (
        UNKNOWN_SENDER,
        UNKNOWN_RECIPIENT,
        UNKNOWN_PURPOSE,
        UNKNOWN_BASIS,
        TYPE_NOT_ACCEPTED,
        NO_AGREEMENT,
        NOT_IN_FORCE,
        TOO_WEAK,
    )
)
"""Every problem code the policy says no with."""


def decide(
    question: Question,
    agencies: Mapping[AgencyId, Agency],
    agreements: tuple[Agreement, ...],
    now: int,
) -> Allowed | Denied:
    """The policy. The first agreement that covers the question and is in force allows it."""
    if question.sender not in agencies:
        return UNKNOWN_SENDER
    recipient = agencies.get(question.recipient)
    if recipient is None:
        return UNKNOWN_RECIPIENT
    if question.purpose not in PURPOSES:
        return UNKNOWN_PURPOSE
    if question.lawful_basis not in LAWFUL_BASES:
        return UNKNOWN_BASIS
    if question.version not in recipient.accepts.get(question.type, frozenset()):
        return TYPE_NOT_ACCEPTED
    lapsed = False
    for agreement in agreements:
        if agreement.covers(question):
            if agreement.starts <= now < agreement.ends:
                return Allowed(agreement.id, agreement.shares, agreement.break_glass, agreement.weakest_suite)
            lapsed = True
    return NOT_IN_FORCE if lapsed else NO_AGREEMENT
