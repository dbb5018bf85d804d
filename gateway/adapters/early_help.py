"""Early-help referrals in the shape of the DfE's Family Hubs "Connect families to support" service (MIT, its
`ReferralDto`), with the children in need census codes beside, so that a case system can load them.

Property names are read in any letter case: the service writes them as C# has them, web clients in camel case.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from gateway.adapters import strict_json, table
from gateway.adapters.base import AdapterError, Native
from gateway.adapters.mapping import Page
from gateway.adapters.table import DAY, MOMENT, READ, WRITE, Field, Kind, Table, codes
from gateway.messages import Canonical, Header, Problem

MEDIA_TYPE: Final = "application/vnd.referral-gateway.early-help+json"
STATES: Final = ("New", "Opened", "Accepted", "Declined")
_SOURCES: Final = {
    code: code
    for code in (
        *("1A", "1B", "1C", "1D", "2A", "2B", "3A", "3B", "3C", "3D", "3E", "3F", "4", "5A", "5B"),
        *("5C", "5D", "6", "7", "8", "9", "10"),
    )
}


def _as_text(name: Mapping[str, Any]) -> str | None:
    """A canonical name in one line."""
    parts = [name.get("prefix"), *name.get("givenName", ()), *name.get("familyName", ())]
    return name.get("text") or " ".join(filter(None, parts)) or None


_FULL_NAME: Final = Kind(table.TEXT.read, _as_text, "in one line")

REFERRAL: Final = Table(
    (
        Field("id", "reference", table.TEXT),
        Field("created", "writtenAt", MOMENT),
        Field("reasonForSupport", "concern.narrative"),
        Field("engageWithFamily", "person.communicationNeeds", note="how best to engage with the family"),
        Field("recipientDto.name", "person.name[0].text", on=READ),
        Field("recipientDto.name", "person.name[0]", _FULL_NAME, on=WRITE),
        Field("recipientDto.dateOfBirth", "person.dateOfBirth.date", DAY, "ours: the service has none"),
        Field("recipientDto.email", "person.contact[0].email[0]"),
        Field("recipientDto.telephone", "person.contact[0].telephone[0]"),
        Field("recipientDto.textPhone", "person.contact[0].telephone[1]"),
        Field("recipientDto.addressLine1", "person.address[0].line1"),
        Field("recipientDto.addressLine2", "person.address[0].line2"),
        Field("recipientDto.townOrCity", "person.address[0].city"),
        Field("recipientDto.county", "person.address[0].county"),
        Field("recipientDto.postCode", "person.address[0].postcode"),
        Field("referralUserAccountDto.name", "referrer.name.text", on=READ),
        Field("referralUserAccountDto.name", "referrer.name", _FULL_NAME, on=WRITE),
        Field("referralUserAccountDto.emailAddress", "referrer.contact.email[0]"),
        Field("referralUserAccountDto.phoneNumber", "referrer.contact.telephone[0]"),
        Field("referrerTelephone", "referrer.contact.telephone[0]"),
        Field("referralUserAccountDto.team", "referrer.role[0]"),
        Field("referralUserAccountDto.organisationName", "referrer.organisation.name", note="ours"),
        Field("referralServiceDto.name", "request.service.name"),
        Field("referralServiceDto.description", "request.detail"),
        Field("referralServiceDto.organisationDto.name", "request.service.organisation.name"),
        Field("consentStatus", "consent.status", note="ours"),
        Field("consentReason", "consent.overrideReason", note="ours"),
        Field("consentDetail", "consent.overrideDetail", note="ours"),
        Field("urgency", "urgency", note="ours"),
        Field("immediateDanger", "immediateDanger", note="ours"),
        Field("immediateDangerDetail", "immediateDangerDetail", note="ours"),
        Field("cin.referralSource", "referrer.sourceCode", codes(_SOURCES), "ours: CIN census code"),
        Field(
            "cin.primaryNeedCode",
            "concern.primaryNeedCode",
            codes({f"N{i}": f"N{i}" for i in range(10)}),
            "ours: CIN census code",
        ),
        Field("cin.upn", "person.identifier[scheme=upn].value", note="ours"),
    ),
    {"concern.category": ["early-help"]},
    {
        "referralServiceDto.url, referralServiceDto.organisationDto.id": "about the directory of services",
        "referralUserAccountDto.userAccountRoles, lastModified, lastModifiedBy, createdBy": "about the accounts",
        "rest": "written: what else the referral says, a line each; read into the note",
    },
    {"concern.category": "that is what the service is for"},
)
DECISION: Final = Table(
    (
        Field("id", "referralReference"),
        Field(
            "status",
            "outcome",
            codes({"Accepted": "accepted", "Declined": "declined", "Opened": "more-information-needed"}),
        ),
        Field("reasonForDecliningSupport", "reasonText"),
        Field("reasonCode", "reasonCode", note="ours; `other` where it is declined without one"),
        Field("questions[0]", "questions[0]", note="ours, with the status Opened"),
        Field("lastModified", "decidedAt", MOMENT),
        Field("lastModifiedBy", "decidedBy.name.text"),
        Field("organisationName", "decidedBy.organisation.name", note="ours"),
        Field("reference", "reference", note="ours"),
        Field("rest", "note", on=READ),
    ),
)


class EarlyHelp:
    """The `early-help` adapter."""

    name = "early-help"
    media_types = (MEDIA_TYPE,)
    page = Page(
        "Early help: Family Hubs referral JSON",
        "A referral with the status `New` is a referral; with `Opened`, `Accepted` or `Declined` it is the decision on one. "
        "Names are those of the service's `ReferralDto`; what is ours is marked. `cin` carries the children in need census "
        "codes, whose referral sources name our sectors one to one.",
        [
            ("Referral: status New", REFERRAL.page_rows()),
            ("Decision: any other status", DECISION.page_rows()),
        ],
        [*table.REFERRAL_DEFAULTS[2:], *REFERRAL.page_defaults()],
    )

    def to_canonical(self, native: Native) -> Canonical:
        """See Adapter."""
        loaded = strict_json.loads(native.body)
        if not isinstance(loaded, dict):
            raise AdapterError([Problem("", "an object")])
        document = _lowered(loaded)
        status = document.get("status", "New")
        if isinstance(status, dict):
            status = status.get("name", "New")
        if status not in STATES:
            raise AdapterError([Problem("/status", f"one of: {', '.join(STATES)}")])
        if status != "New":
            return _decision(document | {"status": status})
        if not table.get(document, "reasonForSupport"):
            raise AdapterError([Problem("/reasonForSupport", "required")])
        made = REFERRAL.read(document)
        skipped = ("status", "rest", "lastModified", "createdBy", "referralUserAccountDto.userAccountRoles")
        lines = [line for line in REFERRAL.unread(document) if not line.startswith(skipped)]
        rest = table.TEXT.read(document.get("rest"))
        if note := "\n".join([*([rest] if rest else []), *lines]):
            made["note"] = note
        return table.referral(made)

    def from_canonical(self, header: Header, message: Canonical, media_type: str) -> Native:
        """See Adapter."""
        rows = {table.REFERRAL: REFERRAL, table.DECISION: DECISION}.get(message.type)
        if rows is None:
            raise AdapterError([Problem("/type", "a referral or a decision")])
        written = rows.write(message.document)
        if message.type == table.REFERRAL:
            written |= {"status": "New", "created": written.get("created") or table.moment_of(header.created)}
        if rest := rows.rest(message.document):
            written["rest"] = "\n".join(rest)
        return Native(media_type, json.dumps(written, ensure_ascii=False, indent=1).encode())


def _decision(document: Mapping[str, Any]) -> Canonical:
    made = DECISION.read(document)
    if made["outcome"] == "declined" and "reasonCode" not in made:
        made["reasonCode"] = "other"
    if made["outcome"] == "declined" and made["reasonCode"] == "other":
        made.setdefault("reasonText", "No reason was given.")
    if made["outcome"] == "more-information-needed" and "questions" not in made:
        raise AdapterError([Problem("/questions", "required: Opened by itself is no answer")])
    return table.decision(made)


def _lowered(value: Any) -> Any:
    """The same with each property's first letter in lower case."""
    if isinstance(value, dict):
        return {name[:1].lower() + name[1:]: _lowered(inner) for name, inner in value.items()}
    return [_lowered(one) for one in value] if isinstance(value, list) else value


ADAPTER: Final = EarlyHelp()
