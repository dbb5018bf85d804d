"""The directory document: parsed strictly, turned into plain values. No I/O.

Version 1 is one JSON document. How it is signed and distributed is not this file's business: whoever
hands the bytes over (`file.py` today) vouches for them.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from gateway.crypto.audit_key import AuditVerifyKey
from gateway.crypto.keys import SealingKey, VerifyKey
from gateway.crypto.labels import SIGNING_SUITES, SUITE_ML_DSA_65, SUITES
from gateway.crypto.note import NoteKeys
from gateway.directory.break_glass import BreakGlassEntry
from gateway.messages import AGENCY_ID, AgencyId, LawfulBasis, Problem, Purpose, Sector, field_name
from gateway.protocol import views
from gateway.protocol.break_glass import BreakGlass
from gateway.protocol.policy import Agency, Agreement, Allowed, Denied, Question, decide
from gateway.protocol.suites import STRONGEST_FIRST

Id = Annotated[str, StringConstraints(pattern=f"^{AGENCY_ID.pattern}$")]
LARGEST: Final = 16 * 1024 * 1024
"""Bytes of a directory."""
_MOST_PROBLEMS = 1000
"""Listed of one document: each takes much more memory than what it is about."""
Short = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class DirectoryInvalid(Exception):
    """The document cannot be used. `problems` name field and rule."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("the directory document is not valid")
        self.problems = tuple(problems)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class KeyEntry(_Part):
    """A public key of an agency."""

    use: Literal["sign", "seal", "audit"]
    suite: Literal["Ed25519", "ESP256", "HPKE-9-KE", "HPKE-7-KE", "ML-DSA-65"]
    public: Annotated[str, StringConstraints(max_length=4096)]
    """Base64url without padding."""
    starts: datetime
    ends: datetime | None = None
    revoked: datetime | None = None
    """When it was declared stolen: nobody seals to it, and no signature of it counts, of whatever date."""

    @field_validator("public")
    @classmethod
    def _decodes(cls, value: str) -> str:
        try:
            base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
        except binascii.Error:
            raise ValueError("not base64url") from None
        return value

    @property
    def public_bytes(self) -> bytes:
        """The raw public key."""
        return base64.urlsafe_b64decode(self.public + "=" * (-len(self.public) % 4))

    @property
    def kid(self) -> bytes:
        """The key's id; none for an audit key. Raises ValueError when it does not fit its suite."""
        if self.suite == SUITE_ML_DSA_65:
            return b""
        if self.suite in SIGNING_SUITES:
            return VerifyKey.from_public(self.public_bytes).kid
        return SealingKey.from_public(self.suite, self.public_bytes).kid


class AcceptsEntry(_Part):
    """A message type an agency accepts."""

    type: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
    versions: Annotated[tuple[int, ...], Field(min_length=1, max_length=20)]


class AgencyEntry(_Part):
    """An agency. `gateway init` writes one for the new node."""

    id: Id
    name: Short
    sector: Sector
    keys: Annotated[tuple[KeyEntry, ...], Field(max_length=1000)]
    """Of signing keys all that ever were, so that old receipts verify: one more with each rotation."""
    accepts: Annotated[tuple[AcceptsEntry, ...], Field(max_length=50)] = ()


class AgreementEntry(_Part):
    """A sharing agreement, one direction."""

    id: Id
    senders: Annotated[tuple[Id, ...], Field(min_length=1)]
    recipients: Annotated[tuple[Id, ...], Field(min_length=1)]
    types: Annotated[tuple[str, ...], Field(min_length=1)]
    purposes: Annotated[tuple[Purpose, ...], Field(min_length=1)]
    lawful_bases: Annotated[tuple[LawfulBasis, ...], Field(min_length=1)]
    starts: datetime
    ends: datetime
    shares: tuple[str, ...] | None = None
    """Field groups of a referral that the recipients are shown; without it, everything."""
    break_glass: Annotated[BreakGlassEntry | None, Field(exclude_if=lambda value: value is None)] = None
    """Not written while there is none: nodes of earlier versions refuse fields they do not know."""
    weakest_suite: Literal["HPKE-9-KE", "HPKE-7-KE"] | None = None
    """The weakest suite that a message under it may be sealed with; without it, any."""

    @model_validator(mode="after")
    def _has_groups(self) -> Self:
        if self.shares is None:
            return self
        if set(self.types) != {views.TYPE}:
            raise PydanticCustomError("shares", "only a referral has field groups")
        if not views.GROUPS.keys() >= set(self.shares):
            raise PydanticCustomError("shares", "not a field group")
        return self


class DirectoryDocument(_Part):
    """The whole document."""

    format: Literal["referral-gateway-directory"] = "referral-gateway-directory"
    version: Literal[1] = 1
    expires: datetime
    # The first that does not fit ends the reading: a list of all would be larger than the document by far.
    agencies: Annotated[tuple[AgencyEntry, ...], FailFast()] = ()
    agreements: Annotated[tuple[AgreementEntry, ...], FailFast()] = ()


@dataclass(frozen=True, slots=True)
class _TimedVerifyKey:
    key: VerifyKey
    starts: int
    ends: int


def to_ms(moment: datetime) -> int:
    """Milliseconds since the epoch; what names no zone is UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(aware.timestamp() * 1000)


NEVER = 2**62


class Directory:
    """The directory as the road asks it. Immutable; a refresh makes a new one."""

    def __init__(self, document: DirectoryDocument, until: int | None = None) -> None:
        """`until`: milliseconds; when what vouches for the document expires, if that is sooner."""
        self.document = document
        self.expires = to_ms(document.expires) if until is None else min(until, to_ms(document.expires))
        self.agencies: Mapping[AgencyId, Agency] = {
            AgencyId(entry.id): Agency(
                AgencyId(entry.id),
                entry.name,
                entry.sector,
                {accepts.type: frozenset(accepts.versions) for accepts in entry.accepts},
            )
            for entry in document.agencies
        }
        self._agreements = tuple(_agreement(entry) for entry in document.agreements)
        self._verify: dict[tuple[AgencyId, bytes], _TimedVerifyKey] = {}
        self._revoked: dict[tuple[AgencyId, bytes], VerifyKey] = {}
        self._seal: dict[AgencyId, list[tuple[int, int, SealingKey]]] = {}
        self._audit: dict[AgencyId, list[AuditVerifyKey]] = {}
        problems = self._load_keys(document)
        if len(self.agencies) != len(document.agencies):
            problems.append(Problem("/agencies", "each agency is listed once"))
        if problems:
            raise DirectoryInvalid(problems)

    def _load_keys(self, document: DirectoryDocument) -> list[Problem]:
        problems = []
        for i, entry in enumerate(document.agencies):
            uses: dict[bytes, str] = {}
            revoked: set[bytes] = set()
            for j, key in enumerate(entry.keys):
                try:
                    kid = self._load_key(AgencyId(entry.id), key)
                    fits = kid is not None and (kid == b"" or uses.setdefault(kid, key.use) == key.use)
                except ValueError:
                    fits = False
                if not fits:
                    problems.append(
                        Problem(f"/agencies/{i}/keys/{j}", "a public key that fits its use and suite")
                    )
                elif kid and key.revoked:
                    revoked.add(kid)
            self._forget(AgencyId(entry.id), revoked)
        return problems

    def _forget(self, agency: AgencyId, revoked: Collection[bytes]) -> None:
        """Drop what is listed beside its own revocation: whoever wrote one line too many meant to revoke."""
        for kid in revoked:
            self._verify.pop((agency, kid), None)
        if revoked and agency in self._seal:
            self._seal[agency] = [one for one in self._seal[agency] if one[2].kid not in revoked]

    def _load_key(self, agency: AgencyId, key: KeyEntry) -> bytes | None:
        """Take in a key; its id (empty: an audit key), or None when it does not fit. Raises ValueError."""
        starts, ends = to_ms(key.starts), to_ms(key.ends) if key.ends else NEVER
        if key.use == "sign" and key.suite in SIGNING_SUITES:
            verify = VerifyKey.from_public(key.public_bytes, ends)
            if key.revoked:
                self._revoked[agency, verify.kid] = verify
            else:
                self._verify[agency, verify.kid] = _TimedVerifyKey(verify, starts, ends)
            return verify.kid if verify.suite == key.suite else None
        if key.use == "audit" and key.suite == SUITE_ML_DSA_65:
            self._audit.setdefault(agency, []).append(AuditVerifyKey.from_public(key.public_bytes))
            return b""
        if key.use == "seal" and key.suite in SUITES:
            sealing = SealingKey.from_public(key.suite, key.public_bytes)
            if not key.revoked:
                self._seal.setdefault(agency, []).append((starts, ends, sealing))
            return sealing.kid
        return None

    def ask(self, question: Question, now: int) -> Allowed | Denied:
        """The policy's answer under this directory."""
        return decide(question, self.agencies, self._agreements, now)

    def break_glass(
        self, agreement: str, sender: AgencyId, recipient: AgencyId, at: int
    ) -> BreakGlass | None:
        """Who may open a message of this agreement between these two in an emergency, at that time."""
        for one in self._agreements:
            fits = one.id == agreement and sender in one.senders and recipient in one.recipients
            if fits and one.starts <= at < one.ends and one.break_glass is not None:
                return one.break_glass
        return None

    def verify_key(self, agency: AgencyId, kid: bytes, at: int | None = None) -> VerifyKey | None:
        """The agency's signing key with this id, if it is one of its keys (and in force at `at`)."""
        found = self._verify.get((agency, kid))
        if found is None or (at is not None and not found.starts <= at < found.ends):
            return None
        return found.key

    def revoked(self, agency: AgencyId) -> frozenset[bytes]:
        """Ids of the agency's keys that are revoked."""
        entries = [one for one in self.document.agencies if one.id == agency]
        return frozenset(key.kid for one in entries for key in one.keys if key.revoked)

    def revoked_key(self, agency: AgencyId, kid: bytes) -> VerifyKey | None:
        """The same for a signing key that is revoked: alone it proves nothing any more."""
        return self._revoked.get((agency, kid))

    def note_keys(self, agency: AgencyId) -> list[NoteKeys]:
        """The pairs of keys an agency's audit checkpoints may be signed with, of any time."""
        return self._pairs(agency, [one.key for (owner, _), one in self._verify.items() if owner == agency])

    def revoked_note_keys(self, agency: AgencyId) -> list[NoteKeys]:
        """The pairs whose signing key is revoked: alone they prove nothing any more."""
        return self._pairs(agency, [key for (owner, _), key in self._revoked.items() if owner == agency])

    def _pairs(self, agency: AgencyId, signing: Sequence[VerifyKey]) -> list[NoteKeys]:
        audits: list[AuditVerifyKey | None] = [*self._audit.get(agency, ())]
        return [NoteKeys(key, audit) for key in signing for audit in audits or [None]]

    def sealing_key(
        self, agency: AgencyId, now: int, suites: Collection[str] = STRONGEST_FIRST
    ) -> SealingKey | None:
        """The key in force that an envelope to this agency is sealed to, of these suites.

        Of its keys the one of the strongest suite, of those the newest.
        """
        usable = [
            (-STRONGEST_FIRST.index(key.suite), starts, key)
            for starts, ends, key in self._seal.get(agency, ())
            if starts <= now < ends and key.suite in suites
        ]
        return max(usable, key=lambda one: one[:2])[2] if usable else None


def _agreement(entry: AgreementEntry) -> Agreement:
    return Agreement(
        id=entry.id,
        senders=frozenset(map(AgencyId, entry.senders)),
        recipients=frozenset(map(AgencyId, entry.recipients)),
        types=frozenset(entry.types),
        purposes=frozenset(entry.purposes),
        lawful_bases=frozenset(entry.lawful_bases),
        starts=to_ms(entry.starts),
        ends=to_ms(entry.ends),
        shares=None if entry.shares is None else views.in_order(entry.shares),
        break_glass=entry.break_glass.rule() if entry.break_glass is not None else None,
        weakest_suite=entry.weakest_suite,
    )


def parse(data: bytes, until: int | None = None) -> Directory:
    """Read a directory document; for `until` see Directory. Raises DirectoryInvalid."""
    if len(data) > LARGEST:
        raise DirectoryInvalid([Problem("", "larger than any directory")])
    try:
        return Directory(DirectoryDocument.model_validate_json(data), until)
    except ValidationError as error:
        raise DirectoryInvalid(problems_of(error)) from None


def make_agreement(**fields: object) -> AgreementEntry:
    """A sharing agreement from its fields. Raises DirectoryInvalid."""
    try:
        return AgreementEntry.model_validate(fields)
    except ValidationError as error:
        raise DirectoryInvalid(problems_of(error)) from None


def parse_agreement(data: bytes) -> AgreementEntry:
    """A sharing agreement from its JSON. Raises DirectoryInvalid."""
    try:
        return AgreementEntry.model_validate_json(data)
    except ValidationError as error:
        raise DirectoryInvalid(problems_of(error)) from None


def make_agency(**fields: object) -> AgencyEntry:
    """An agency's entry from its fields. Raises DirectoryInvalid."""
    try:
        return AgencyEntry.model_validate(fields)
    except ValidationError as error:
        raise DirectoryInvalid(problems_of(error)) from None


def problems_of(error: ValidationError) -> list[Problem]:
    """Field and rule of each error, without the input (pydantic keeps it in `errors()` otherwise)."""
    if error.error_count() > _MOST_PROBLEMS:
        return [Problem("", "too many problems")]
    details = error.errors(include_input=False, include_context=False, include_url=False)
    return [Problem("/" + "/".join(map(field_name, item["loc"])), item["type"]) for item in details]
