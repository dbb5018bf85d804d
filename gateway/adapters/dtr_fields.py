"""The fields of a duty to refer (Housing Act 1996 section 213B) and of the council's outcome.

What may live here: names, canonical fields and codes. `crn`, `caseId`, `status` and most of `submission` are
those of HMPPS Single Accommodation Service, the one public model. It leaves out who the person is and what
they agreed to, so `person`, `agreements`, `circumstances`, `referringBody` and `decidedBy` are ours.
"""

from __future__ import annotations

import re
from typing import Any, Final

from gateway.adapters.codes import data
from gateway.adapters.form_fields import (
    DATE,
    EMAIL,
    MOMENT,
    NAME,
    TEXT,
    WHOLE,
    YES_NO,
    Field,
    coded,
    one_of,
)

_codes = data("duty_to_refer")
OUTCOME_REASONS: Final[dict[str, dict[str, str]]] = _codes["outcomeReason"]
WITHDRAWAL_REASONS: Final[dict[str, str]] = _codes["withdrawalReason"]
AUTHORITIES: Final[dict[str, str]] = data("gss_authorities")["codes"]
"""Names of local authorities by GSS code."""

WITHDRAWAL: Final = "Duty to refer withdrawal reason"
AGREEMENTS: Final = {
    "referral": "referral",
    "contactDetails": "sharing-contact-details",
    "localAuthority": "choice-of-agency",
}
"""The three agreements, to consent.agreedTo."""

_ADDRESS, _CONTACT, _HOUSING = "person.address[0]", "person.contact[0]", "additional.housing"
_AUTHORITY: Final = "submission.localAuthority"
_ASKED: Final = "request.service.organisation"
_REASON: Final = f"request.code[system={WITHDRAWAL}]"


def _identifier(scheme: str, system: str = "") -> str:
    which = f"scheme={scheme}&system={system}" if system else f"scheme={scheme}"
    return f"person.identifier[{which}].value"


REFERRAL: Final = [
    Field("crn", _identifier("crn"), TEXT, note="case reference number of probation"),
    Field("caseId", "otherReferences[scheme=other&system=HMPPS case].value", TEXT),
    Field("change", "change", one_of("new", "update"), note="ours; a withdrawal is a status"),
    Field("urgency", "urgency", one_of("routine", "urgent", "emergency"), note="ours"),
    Field("submission.id", "reference", TEXT),
    Field("submission.previousId", "previousReference", TEXT, note="ours"),
    Field(f"{_AUTHORITY}.localAuthorityAreaName", f"{_HOUSING}.preferredAuthority", TEXT),
    Field(
        f"{_AUTHORITY}.localAuthorityAreaName",
        f"{_ASKED}.name",
        TEXT,
        note="blank: the name that goes with the GSS code",
    ),
    Field(f"{_AUTHORITY}.gssCode", f"{_ASKED}.identifier[scheme=gss-code].value", TEXT, note="ours"),
    Field(
        f"{_AUTHORITY}.localAuthorityAreaId",
        f"{_ASKED}.identifier[scheme=other&system=HMPPS local authority area].value",
        TEXT,
    ),
    Field(
        "submission.referenceNumber",
        "otherReferences[scheme=other&system=Duty to refer reference number].value",
        TEXT,
    ),
    Field(
        "submission.submissionDate",
        "concern.lifeEvent[type=duty-to-refer-submitted].date.date",
        DATE,
        note="written from writtenAt where there is no such event",
    ),
    Field("submission.createdBy", "referrer.name", NAME),
    Field("submission.createdAt", "writtenAt", MOMENT),
    Field("submission.submissionNote", "concern.narrative", TEXT),
    Field("submission.withdrawalReason", f"{_REASON}.code", TEXT, note="with status WITHDRAWN"),
    Field("submission.withdrawalReasonOther", f"{_REASON}.display", TEXT),
    Field("person.name", "person.name[0].text", TEXT, note="where the parts are not known"),
    Field("person.title", "person.name[0].prefix", TEXT),
    Field("person.forename", "person.name[0].givenName[0]", TEXT),
    Field("person.middleNames", "person.name[0].givenName[1:]", TEXT, many=" ", joined=True),
    Field("person.surname", "person.name[0].familyName[0]", TEXT),
    Field("person.preferredName", "person.name[0].preferredName", TEXT),
    Field("person.dateOfBirth", "person.dateOfBirth.date", DATE),
    Field("person.gender", "person.genderText", TEXT),
    Field("person.nationality", "person.nationality", TEXT, many="; "),
    Field("person.language", "person.language[0].name", TEXT),
    Field("person.interpreterNeeded", "person.interpreterNeeded", YES_NO),
    Field("person.nationalInsuranceNumber", _identifier("nino"), TEXT),
    Field("person.nhsNumber", _identifier("nhs-number"), TEXT),
    Field("person.pncReference", _identifier("pnc-id"), TEXT),
    Field("person.prisonNumber", _identifier("other", "Prison number"), TEXT),
    Field("person.telephone", f"{_CONTACT}.telephone", TEXT, many="; "),
    Field("person.email", f"{_CONTACT}.email", EMAIL, many="; "),
    Field("person.contactSafeToUse", f"{_CONTACT}.safeToUse", YES_NO, note="no: it could put them at risk"),
    Field("person.contactNote", f"{_CONTACT}.note", TEXT),
    Field("person.noFixedAbode", "person.noFixedAbode", YES_NO),
    Field("person.addressLine1", f"{_ADDRESS}.line1", TEXT),
    Field("person.addressLine2", f"{_ADDRESS}.line2", TEXT),
    Field("person.postTown", f"{_ADDRESS}.city", TEXT),
    Field("person.county", f"{_ADDRESS}.county", TEXT),
    Field("person.postcode", f"{_ADDRESS}.postcode", TEXT),
    Field("person.uprn", f"{_ADDRESS}.UPRN", TEXT),
    Field(
        "circumstances.housingStatus",
        f"{_HOUSING}.dutyToRefer",
        coded({"HOMELESS": "homeless", "THREATENED_WITH_HOMELESSNESS": "threatened-with-homelessness"}),
        note="also the category of the concern",
    ),
    Field(
        "circumstances.accommodationStatus",
        f"{_HOUSING}.accommodationStatus",
        one_of(
            *("owner-occupier", "tenant-social", "tenant-private", "settled-mainstream-family"),
            *("supported-accommodation", "shared-lives", "approved-premises", "sheltered-housing"),
            *("mobile-accommodation", "rough-sleeping", "night-shelter", "refuge"),
            *("temp-accommodation-council", "staying-family-friends-short", "healthcare-facility"),
            *("registered-care-home", "registered-nursing-home", "prison-detention", "other-temporary"),
            "unknown",
        ),
    ),
    Field("circumstances.homelessFrom", f"{_HOUSING}.homelessFrom.date", DATE),
    Field(
        "circumstances.releaseOrDischargeDate",
        f"{_HOUSING}.releaseOrDischarge",
        DATE,
        note="from prison, hospital or the armed forces",
    ),
    Field("circumstances.reasonForLoss", f"{_HOUSING}.reasonForLoss", TEXT),
    Field("circumstances.localConnection", f"{_HOUSING}.localConnection", TEXT),
    Field("circumstances.supportNeeds", f"{_HOUSING}.supportNeeds", TEXT),
    Field("circumstances.risks", "riskToProfessionals", TEXT, note="to those who visit"),
    Field("circumstances.personsViews", "concern.personsViews", TEXT),
    Field("circumstances.adultsInHousehold", "involved.household.adults", WHOLE),
    Field("circumstances.childrenInHousehold", "involved.household.children", WHOLE),
    Field("referringBody.organisation", "referrer.organisation.name", TEXT),
    Field(
        "referringBody.type", "referrer.organisation.type", TEXT, many="; ", note="prison, hospital and so on"
    ),
    Field("referringBody.odsCode", "referrer.organisation.identifier[scheme=ods-code].value", TEXT),
    Field("referringBody.role", "referrer.role[0]", TEXT),
    Field("referringBody.telephone", "referrer.contact.telephone", TEXT, many="; "),
    Field("referringBody.email", "referrer.contact.email", EMAIL, many="; "),
    Field("agreements.date", "consent.date", DATE),
    Field("otherInformation", "note", TEXT, note="written: also, in words, all that has no field here"),
]

DECISION: Final = [
    Field(
        "status",
        "outcome",
        coded({"ACCEPTED": "accepted", "NOT_ACCEPTED": "declined"}),
        note="more-information-needed has no form here and is refused",
    ),
    Field("submission.id", "referralReference", TEXT),
    Field(f"{_AUTHORITY}.localAuthorityAreaName", "decidedBy.organisation.name", TEXT),
    Field(f"{_AUTHORITY}.gssCode", "decidedBy.organisation.identifier[scheme=gss-code].value", TEXT),
    Field(
        f"{_AUTHORITY}.localAuthorityAreaId",
        "decidedBy.organisation.identifier[scheme=other&system=HMPPS local authority area].value",
        TEXT,
    ),
    Field("submission.referenceNumber", "reference", TEXT, note="the receipt: the council's own reference"),
    Field("decidedBy.name", "decidedBy.name", NAME, note="ours, like all of decidedBy"),
    Field("decidedBy.role", "decidedBy.role[0]", TEXT),
    Field("decidedBy.telephone", "decidedBy.contact.telephone", TEXT, many="; "),
    Field("decidedBy.email", "decidedBy.contact.email", EMAIL, many="; "),
    Field("decidedAt", "decidedAt", MOMENT, note="ours"),
    Field("nextStep", "nextStep.description", TEXT, note="ours"),
    Field("nextStepBy", "nextStep.by", MOMENT, note="ours"),
    Field("personInformed", "personInformed", YES_NO, note="ours"),
]

MORE: Final = {
    "referral": [
        *("status", "agreements.referral", "agreements.contactDetails", "agreements.localAuthority")
    ],
    "decision": ["submission.outcomeReason", "submission.outcomeNote"],
}
"""Fields that are more than one canonical field or less: see duty_to_refer."""

_LEFT_OUT = ("submission", "localAuthority", "person", "circumstances")


def column(native: str) -> str:
    """The column of the CSV file for a field: `submission.referenceNumber` is `reference_number`."""
    *way, last = native.split(".")
    parts = [part for part in way if part not in _LEFT_OUT] + [last]
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", "_".join(parts)).casefold()


def columns(kind: str) -> dict[str, str]:
    """Every native field of a referral or a decision, by its column."""
    fields = REFERRAL if kind == "referral" else DECISION
    native = [*MORE[kind], *(field.native for field in fields)]
    return {column(name): name for name in dict.fromkeys(native)}


def separators() -> dict[str, str]:
    """What stands between several values in a cell, by column."""
    several: dict[str, Any] = {
        column(field.native): field.many for field in [*REFERRAL, *DECISION] if field.many
    }
    return several
