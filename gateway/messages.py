"""The plain types every part shares: identifiers, headers, stages, reasons.

Standard library only. Nothing here does I/O, reads a clock or knows a format. Times are integer
milliseconds since the Unix epoch, UTC, everywhere in the product (field names: `created`, `expires`,
`at`); sizes are bytes.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NewType, NoReturn

AgencyId = NewType("AgencyId", str)
"""An agency's name in the directory, e.g. `northtown-police`: lower case, digits, hyphens."""
MessageId = NewType("MessageId", str)
"""A random UUID (version 4), the one pseudonym that follows a message across nodes and logs."""
EnvelopeId = NewType("EnvelopeId", str)
"""A random UUID (version 4) of one sealed thing; all that the broker knows it by."""
CaseId = NewType("CaseId", str)
"""A random UUID (version 4) that ties messages about one case together; never derived from a person."""

LAST_TIME = 253_402_300_799_000
"""The last second that RFC 3339 can write, in 9999."""

_FIELD = re.compile(r"[a-z][a-z0-9_-]{0,39}")

AGENCY_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def moment(at: int) -> datetime:
    """A time as a date in UTC; one that is later than any date, as peers may state it, as LAST_TIME."""
    return datetime.fromtimestamp(min(at, LAST_TIME) / 1000, UTC)


def field_name(step: object) -> str:
    """A step to a field, for a refusal: an index, or a name as fields have them; no other is repeated.

    Who sends a document chooses the names of its unknown fields: they may be long, or no names at all.
    """
    return str(step) if isinstance(step, int) or _FIELD.fullmatch(str(step)) else "(other)"


def new_id() -> str:
    """A fresh random identifier (RFC 9562 UUID version 4: carries no time and no machine)."""
    return str(uuid.uuid4())


class Stage(StrEnum):
    """What a receipt can state about an envelope. See docs/receipts.md."""

    ACCEPTED = "accepted"
    """The sender's node took it: validated, allowed, sealed, durable."""
    RECEIVED = "received"
    """The recipient's node opened, verified and validated it, and holds it durably."""
    DELIVERED = "delivered"
    """The recipient's own system acknowledged it."""
    REJECTED = "rejected"
    """The recipient's node or system refused it; the reason code says why."""
    EXPIRED = "expired"
    """Nobody collected it in time."""
    FAILED = "failed"
    """The sender's node gave up sending it; the reason code says why."""
    OPENED = "opened"
    """A quorum of named roles opened it in an emergency. No step of the ladder: it moves nothing."""


FINAL_STAGES = frozenset({Stage.DELIVERED, Stage.REJECTED, Stage.EXPIRED, Stage.FAILED})


class Sector(StrEnum):
    """The kinds of agency the directory knows."""

    HEALTH = "health"
    EDUCATION = "education"
    HOUSING = "housing"
    LOCAL_AUTHORITY = "local-authority"
    POLICE = "police"


class Purpose(StrEnum):
    """Why information is shared. A sharing agreement lists the purposes it covers."""

    SAFEGUARDING_CHILDREN = "safeguarding-children"
    SAFEGUARDING_ADULTS = "safeguarding-adults"
    PREVENT = "prevent"
    EARLY_HELP = "early-help"
    MENTAL_HEALTH = "mental-health"
    HEALTH_CARE = "health-care"
    HOMELESSNESS = "homelessness"


class LawfulBasis(StrEnum):
    """UK GDPR Article 6(1)(a), (c), (d), (e), (f); and Part 3 of the Data Protection Act 2018."""

    CONSENT = "consent"
    LEGAL_OBLIGATION = "legal-obligation"
    VITAL_INTERESTS = "vital-interests"
    PUBLIC_TASK = "public-task"
    LEGITIMATE_INTERESTS = "legitimate-interests"
    LAW_ENFORCEMENT = "law-enforcement"


class Reason(StrEnum):
    """Why an envelope was refused, in receipts, metrics, dead letters and logs alike."""

    MALFORMED = "malformed"
    """Not an envelope this node can parse (altered, truncated, or not ours)."""
    UNKNOWN_VERSION = "unknown-version"
    UNKNOWN_KEY = "unknown-key"
    """Sealed to a key this agency does not hold."""
    NOT_OPENED = "not-opened"
    """Decryption failed: altered, truncated or sealed for somebody else."""
    BAD_SIGNATURE = "bad-signature"
    UNKNOWN_SENDER = "unknown-sender"
    READDRESSED = "readdressed"
    """The signed recipient is not the one it arrived at."""
    MISMATCHED = "mismatched"
    """The outside of the envelope contradicts the signed inside."""
    REPLAYED = "replayed"
    EXPIRED = "expired"
    CLOCK_SKEW = "clock-skew"
    """Created further in the future than clocks may differ: one of the two clocks is wrong."""
    UNKNOWN_TYPE = "unknown-type"
    """A message type or version this node does not know or its agency does not accept."""
    INVALID = "invalid"
    """The content does not satisfy its schema."""
    NO_AGREEMENT = "no-agreement"
    AGREEMENT_NOT_IN_FORCE = "agreement-not-in-force"
    MORE_THAN_AGREED = "more-than-agreed"
    """It shows more than the agreement shares with this recipient."""
    WEAKER_THAN_AGREED = "weaker-than-agreed"
    """It was sealed with a weaker suite than the agreement asks for."""
    ATTACHMENT_MISMATCH = "attachment-mismatch"
    """An attachment did not open, or its size or SHA-256 is not the one signed for."""
    FAULT = "fault"
    """The recipient's node failed on it more than once: an operator must look."""
    RECALLED = "recalled"
    """Its sender withdrew it before it was delivered."""
    UNROUTABLE = "unroutable"
    """The broker has no queue for the recipient."""
    # What a recipient's own system may answer with on /reject:
    WRONG_AGENCY = "wrong-agency"
    OUTSIDE_AREA = "outside-area"
    DUPLICATE_REFERRAL = "duplicate-referral"
    UNREADABLE = "unreadable"
    NOT_ACCEPTED = "not-accepted"


SYSTEM_REASONS = frozenset(
    {
        Reason.WRONG_AGENCY,
        Reason.OUTSIDE_AREA,
        Reason.DUPLICATE_REFERRAL,
        Reason.UNREADABLE,
        Reason.NOT_ACCEPTED,
    }
)
"""The reason codes a local system may give when it rejects a message."""


class Emergency(StrEnum):
    """Why a quorum may open a message before the recipient's system collects it (docs/break-glass.md)."""

    RISK_TO_LIFE = "risk-to-life"
    """Somebody may die."""
    SERIOUS_HARM = "serious-harm"
    """Somebody may come to serious harm."""
    SYSTEM_UNAVAILABLE = "system-unavailable"
    """The agency's own system does not work, and the message cannot wait for it."""
    STAFF_UNAVAILABLE = "staff-unavailable"
    """Nobody who may use the agency's own system can be reached, and the message cannot wait."""


def read_reason(stage: Stage, text: str) -> Reason | Emergency:
    """The reason a receipt of this stage gives. Raises ValueError."""
    return Emergency(text) if stage is Stage.OPENED else Reason(text)


class Sensitive:
    """Bytes that may hold personal data: cannot be printed, logged, formatted or pickled by accident.

    `reveal()` is the only way in, so a reviewer can search for it.
    """

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def reveal(self) -> bytes:
        """The bytes themselves. Call it only where plaintext is meant to be."""
        return self._data

    def __len__(self) -> int:
        return len(self._data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sensitive) and self._data == other._data

    __hash__ = None  # type: ignore[assignment]  # content is never a key

    def __repr__(self) -> str:
        return "<sensitive>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "<sensitive>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("sensitive content is never pickled")


@dataclass(frozen=True, slots=True)
class Header:
    """The signed header of an envelope (docs/envelope.md section 4). Holds no personal data."""

    message_id: MessageId
    envelope_id: EnvelopeId
    type: str
    version: int
    sender: AgencyId
    recipient: AgencyId
    case: CaseId
    in_reply_to: MessageId | None
    created: int
    expires: int
    purpose: str
    lawful_basis: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a document: where (JSON pointer, RFC 6901) and which rule; never the value."""

    pointer: str
    rule: str


@dataclass(frozen=True, slots=True)
class Original:
    """What the sender's system wrote, byte for byte, when it was not the canonical form."""

    adapter: str
    media_type: str
    body: Sensitive


@dataclass(frozen=True, slots=True)
class Attachment:
    """One attachment as the sealed content lists it. `name` may be personal data: never log it."""

    name: str = field(repr=False)
    media_type: str
    size: int
    sha256: bytes
    key: bytes = field(repr=False)
    chunks: tuple[EnvelopeId, ...]
    """The identifier of each sealed chunk, in order; every chunk but the last is of full size."""


@dataclass(frozen=True, slots=True)
class Content:
    """What an envelope of a typed message carries: the canonical document and all that goes with it."""

    document: Sensitive
    """Canonical JSON, UTF-8."""
    warnings: tuple[Problem, ...] = ()
    """What was noticed but does not stop a referral, e.g. a failed check digit."""
    original: Original | None = None
    attachments: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True)
class Canonical:
    """A message in canonical form, as adapters exchange it with the road."""

    type: str
    version: int
    document: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Quorum:
    """What an emergency opening rests on, for anybody with the directory to check (crypto/break_glass.py)."""

    agreement: str
    """The sharing agreement whose roles approved."""
    approvals: tuple[bytes, ...]
    """As signed."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A signed statement about one envelope (docs/receipts.md). Holds no personal data."""

    stage: Stage
    message_id: MessageId
    envelope_id: EnvelopeId
    envelope_digest: bytes
    """SHA-256 of the sealed envelope's bytes."""
    sender: AgencyId
    recipient: AgencyId
    issuer: AgencyId
    """The agency that signs: the sender for `accepted` and `failed`, the recipient for `received`,
    `delivered`, `rejected` and `opened`, either for `expired`."""
    at: int
    reason: Reason | Emergency | None = None
    view: tuple[str, ...] | None = None
    """With `accepted`: the field groups that the recipient was sent; None: everything."""
    quorum: Quorum | None = None
    """With `opened`: who approved it."""
