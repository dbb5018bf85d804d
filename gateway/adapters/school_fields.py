"""The fields of a school's referral and of the answer to it: one list for `school-csv` and `ctf-concern`.

What may live here: the names, their canonical fields and the codes they take. Schools' safeguarding systems
publish no export format, so the names are ours: docs/adapters/school-csv.md.
"""

from __future__ import annotations

from typing import Any, Final

from gateway.adapters import codes
from gateway.adapters.form_fields import (
    DATE,
    EMAIL,
    MOMENT,
    NAME,
    NOTHING,
    NUMBER,
    TEXT,
    YES_NO,
    Codec,
    Field,
    one_of,
)

CATEGORIES: Final = (
    *("radicalisation", "physical-abuse", "emotional-abuse", "sexual-abuse", "neglect", "self-neglect"),
    *("domestic-abuse", "child-sexual-exploitation", "child-criminal-exploitation", "modern-slavery"),
    *("financial-abuse", "organisational-abuse", "discriminatory-abuse", "honour-based-abuse"),
    *("forced-marriage", "female-genital-mutilation", "bullying", "online-harm", "missing", "unborn-child"),
    *("child-safeguarding", "adult-safeguarding", "self-harm", "suicide-risk", "mental-health"),
    *("physical-health", "substance-misuse", "learning-disability", "homelessness"),
    *("threatened-with-homelessness", "housing", "early-help", "family-support", "parental-conflict"),
    *("young-carer", "school-attendance", "school-exclusion", "anti-social-behaviour", "violence", "poverty"),
    *("social-isolation", "social-care", "other"),
)
"""concern.category of the referral schema; any other text is kept as `concern.code`."""

_category = one_of(*CATEGORIES)
CATEGORY: Final = Codec(
    "categories of concern (docs/messages.md), or words",
    lambda text: _category.decode(text) or NOTHING,
    _category.encode,
)
OTHER_CATEGORY: Final = Codec(
    "",
    lambda text: NOTHING if _category.decode(text) else {"display": text},
    lambda value: value["display"] if value.keys() == {"display"} else None,
)


def _ethnicity(text: str) -> Any:
    known = codes.ethnicity_coded("dfe", text)
    return known if "display" in known else {"display": text}


def _ethnicity_native(value: Any) -> str | None:
    dfe = codes.ethnicity_coded("dfe", "-")["system"]
    if value.get("system") == dfe and "code" in value:
        return str(value["code"])
    return value["display"] if value.keys() == {"display"} else None


DFE_ETHNICITY: Final = Codec("a DfE ethnicity code, or words", _ethnicity, _ethnicity_native)
DFE_ETHNICITY_CODE: Final = Codec(
    "",
    lambda text: codes.ethnicity("dfe", text) or NOTHING,
    lambda value: codes.ethnicity_code("dfe", value),
)
DFE_SEX: Final = Codec(
    "one of: M, F, U", lambda text: codes.sex("dfe", text), lambda value: codes.sex_code("dfe", value)
)


_SAFE: Final = "no: calling or writing there could put somebody at risk"


def _contact(number: int) -> list[Field]:
    native, path = f"contact{number}", f"involved.people[{number - 1}]"
    return [
        Field(f"{native}_name", f"{path}.name[0]", NAME, note="a parent, carer or other person"),
        Field(f"{native}_relationship", f"{path}.relationshipText", TEXT, note="to the pupil, in words"),
        Field(f"{native}_telephone", f"{path}.contact[0].telephone", TEXT, many="; "),
        Field(f"{native}_email", f"{path}.contact[0].email", EMAIL, many="; "),
        Field(f"{native}_safe_to_use", f"{path}.contact[0].safeToUse", YES_NO, note=_SAFE),
        Field(f"{native}_lives_with_pupil", f"{path}.livesWithPerson", YES_NO),
        Field(f"{native}_parental_responsibility", f"{path}.parentalResponsibility", YES_NO),
        Field(f"{native}_aware", f"{path}.aware", YES_NO, note="of the referral"),
    ]


_NAME, _ADDRESS, _CONTACT = "person.name[0]", "person.address[0]", "person.contact[0]"
_EDUCATION, _SOCIAL_CARE = "additional.education", "additional.socialCare"
_SCHOOL = "referrer.organisation"
_PLAN = one_of("current", "previous", "never", "not-known")

PUPIL: Final = [
    Field("upn", "person.identifier[scheme=upn].value", TEXT, note="unique pupil number, temporary ones too"),
    Field("former_upn", "person.identifier[scheme=former-upn].value", TEXT),
    Field("uln", "person.identifier[scheme=uln].value", TEXT, note="unique learner number"),
    Field("nhs_number", "person.identifier[scheme=nhs-number].value", TEXT),
    Field("name", f"{_NAME}.text", TEXT, note="or a description, where the parts are not known"),
    Field("surname", f"{_NAME}.familyName[0]", TEXT, note="this, the forename or the name is needed"),
    Field("forename", f"{_NAME}.givenName[0]", TEXT),
    Field("middle_names", f"{_NAME}.givenName[1:]", TEXT, many=" ", joined=True),
    Field("preferred_forename", f"{_NAME}.preferredName", TEXT),
    Field("former_surname", "person.name[use=old].familyName[0]", TEXT),
    Field("date_of_birth", "person.dateOfBirth.date", DATE),
    Field("sex", "person.sexCode", DFE_SEX),
    Field("gender", "person.genderText", TEXT, note="as the pupil describes it"),
    Field("ethnicity", "person.ethnicity", DFE_ETHNICITY),
    Field("ethnicity", "person.ethnicityCode", DFE_ETHNICITY_CODE),
    Field("first_language", "person.language[0].name", TEXT),
    Field("address_line1", f"{_ADDRESS}.line1", TEXT),
    Field("address_line2", f"{_ADDRESS}.line2", TEXT),
    Field("address_line3", f"{_ADDRESS}.line3", TEXT),
    Field("town", f"{_ADDRESS}.city", TEXT),
    Field("county", f"{_ADDRESS}.county", TEXT),
    Field("postcode", f"{_ADDRESS}.postcode", TEXT),
    Field("telephone", f"{_CONTACT}.telephone", TEXT, many="; "),
    Field("email", f"{_CONTACT}.email", EMAIL, many="; "),
    Field("contact_safe_to_use", f"{_CONTACT}.safeToUse", YES_NO, note=_SAFE),
    Field("year_group", f"{_EDUCATION}.yearGroup", TEXT, note="R, 1 to 14"),
    *(field for number in (1, 2, 3) for field in _contact(number)),
]
"""Who the pupil is. `ctf-concern` takes these from the common transfer file instead."""

CONCERN: Final = [
    Field("reference", "reference", TEXT, note="the school's own"),
    Field("written_at", "writtenAt", MOMENT),
    Field("change", "change", one_of("new", "update", "withdraw")),
    Field("previous_reference", "previousReference", TEXT, note="of the referral updated or withdrawn"),
    Field("concern_categories", "concern.category", CATEGORY, many="; "),
    Field("concern_categories", "concern.code", OTHER_CATEGORY, many="; "),
    Field(
        "prevent_type",
        "concern.preventType",
        one_of(
            *("islamist", "extreme-right-wing", "left-wing", "incel", "extreme-violence-fascination"),
            *("other-ideology", "mixed-ideology", "no-ideology", "not-known"),
        ),
    ),
    Field("concern", "concern.narrative", TEXT, note="needed: what was seen, said and done"),
    Field("already_tried", "concern.alreadyTried", TEXT),
    Field(
        "level_of_need", "concern.levelOfNeed", one_of("universal", "early-help", "targeted", "specialist")
    ),
    Field("began", "concern.began.date", DATE),
    Field("incident_at", "concern.incidentAt", MOMENT),
    Field("identified_by", "concern.identifiedBy", TEXT),
    Field("protective_factors", "concern.protectiveFactors", TEXT),
    Field("pupils_views", "concern.personsViews", TEXT),
    Field("family_views", "concern.familyViews", TEXT),
    Field("complex_needs", "concern.complexNeeds", TEXT),
    Field(
        "consent",
        "consent.status",
        one_of("given", "implied", "not-sought", "refused-overridden", "lacks-capacity", "not-recorded"),
    ),
    Field(
        "consent_given_by",
        "consent.givenBy",
        one_of("person", "parent-or-carer", "attorney-or-deputy", "other"),
    ),
    Field("consent_given_by_name", "consent.givenByName", TEXT),
    Field("consent_date", "consent.date", DATE),
    Field(
        "consent_agreed_to",
        "consent.agreedTo",
        one_of(
            *("referral", "sharing-contact-details", "choice-of-agency", "sharing-health-information"),
            *("assessment", "support"),
        ),
        many="; ",
    ),
    Field(
        "no_consent_reason",
        "consent.overrideReason",
        one_of(
            *("risk-of-harm-to-person", "risk-of-harm-to-others", "asking-would-increase-risk"),
            *("would-prejudice-investigation", "crime-prevention", "best-interests", "legal-duty"),
            *("could-not-be-reached", "public-interest", "other"),
        ),
        note="needed where consent was not sought, was refused or could not be given",
    ),
    Field("no_consent_detail", "consent.overrideDetail", TEXT),
    Field("pupil_aware", "consent.personAware", YES_NO, note="of the referral"),
    Field("parents_aware", "consent.parentsAware", YES_NO, note="of the referral"),
    Field("do_not_inform", "consent.doNotInform", TEXT),
    Field("urgency", "urgency", one_of("routine", "urgent", "emergency"), note="needed"),
    Field("immediate_danger", "immediateDanger", one_of("yes", "no", "not-known")),
    Field("immediate_danger_detail", "immediateDangerDetail", TEXT, note="needed with yes"),
    Field("risk_to_professionals", "riskToProfessionals", TEXT),
    Field("interpreter_needed", "person.interpreterNeeded", YES_NO),
    Field("communication_needs", "person.communicationNeeds", TEXT),
    Field("attendance_percent", f"{_EDUCATION}.attendancePercent", NUMBER),
    Field(
        "sen_provision",
        f"{_EDUCATION}.sendSupport",
        one_of("none", "sen-support", "ehc-plan", "being-assessed"),
    ),
    Field(
        "sen_needs",
        f"{_EDUCATION}.sendNeed",
        one_of("SpLD", "MLD", "SLD", "PMLD", "SLCN", "ASC", "SEMH", "VI", "HI", "MSI", "PD"),
        many="; ",
    ),
    Field("home_educated", f"{_EDUCATION}.electivelyHomeEducated", YES_NO),
    Field("exclusions", f"{_EDUCATION}.exclusions", TEXT),
    Field("looked_after", f"{_SOCIAL_CARE}.lookedAfter", YES_NO),
    Field("child_protection_plan", f"{_SOCIAL_CARE}.childProtectionPlan", _PLAN),
    Field("early_help_assessment", f"{_SOCIAL_CARE}.earlyHelpAssessment", _PLAN),
    Field("requested_service", "request.service.name", TEXT),
    Field(
        "requested_action",
        "request.action",
        one_of(
            *("assess", "support", "treat", "accommodate", "investigate", "advise", "validate"),
            *("information-only", "other"),
        ),
    ),
    Field("requested_detail", "request.detail", TEXT),
    Field("referrer_name", "referrer.name", NAME),
    Field("referrer_role", "referrer.role[0]", TEXT),
    Field("referrer_relationship", "referrer.relationshipToPerson", TEXT),
    Field("referrer_telephone", "referrer.contact.telephone", TEXT, many="; "),
    Field("referrer_email", "referrer.contact.email", EMAIL, many="; "),
    Field("school_name", f"{_SCHOOL}.name", TEXT, note="this or a number of the school is needed"),
    Field("school_urn", f"{_SCHOOL}.identifier[scheme=school-urn].value", TEXT),
    Field("school_laestab", f"{_SCHOOL}.identifier[scheme=laestab].value", TEXT),
    Field("school_ukprn", f"{_SCHOOL}.identifier[scheme=ukprn].value", TEXT),
    Field(
        "source_code",
        "referrer.sourceCode",
        one_of(
            *("1A", "1B", "1C", "1D", "2A", "2B", "3A", "3B", "3C", "3D", "3E", "3F", "4", "5A", "5B", "5C"),
            *("5D", "6", "7", "8", "9", "10"),
        ),
        note="children in need census; schools are 2A",
    ),
    Field("safeguarding_lead_informed", "referrer.safeguardingLeadInformed", YES_NO),
    Field("other_information", "note", TEXT, note="written: also, in words, all that has no field above"),
]

DECISION: Final = [
    Field("outcome", "outcome", one_of("accepted", "declined", "more-information-needed"), note="needed"),
    Field(
        "reason_code",
        "reasonCode",
        one_of(
            *("threshold-not-met", "no-concern-found", "not-eligible", "not-appropriate", "outside-area"),
            *("no-local-connection", "already-known", "duplicate", "no-consent", "person-declined"),
            *("unable-to-contact", "no-capacity", "not-in-time", "better-served-elsewhere", "other"),
        ),
        note="needed when declined",
    ),
    Field("reason", "reasonText", TEXT),
    Field("questions", "questions", TEXT, many="|", note="needed when more information is"),
    Field("answer_by", "answerBy", MOMENT),
    Field("decided_by_name", "decidedBy.name", NAME),
    Field("decided_by_role", "decidedBy.role[0]", TEXT),
    Field("decided_by_organisation", "decidedBy.organisation.name", TEXT),
    Field("decided_by_telephone", "decidedBy.contact.telephone", TEXT, many="; "),
    Field("decided_by_email", "decidedBy.contact.email", EMAIL, many="; "),
    Field("decided_at", "decidedAt", MOMENT),
    Field("reference", "reference", TEXT, note="the recipient's"),
    Field("referral_reference", "referralReference", TEXT, note="the school's"),
    Field("next_step", "nextStep.description", TEXT),
    Field("next_step_by", "nextStep.by", MOMENT),
    Field("person_informed", "personInformed", YES_NO),
    Field("other_information", "note", TEXT, note="written: also, in words, all that has no field above"),
]

DEFAULTS: Final = (
    ("concern.category", "`other`, when the categories are left blank or are words of your own"),
    ("consent.status", "`not-recorded`, which gives a warning"),
    ("immediateDanger", "`not-known`"),
    ("involved.people[].name", "`Name not recorded`, use `temp`, for a contact without a name"),
)
