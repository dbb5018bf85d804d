"""The adapter for CAS3: HMPPS's referral to temporary accommodation for people leaving prison or bail.

What may live here: reading the application. It is only read: a probation practitioner fills in a CAS3
application page by page and checks each answer, and no other system can stand in for that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NoReturn

from gateway.adapters import form_fields, paths, strict_json, words
from gateway.adapters.base import AdapterError, Native
from gateway.adapters.form_fields import DATE, EMAIL, MOMENT, NAME, TEXT, Codec, Field, coded
from gateway.adapters.mapping import DROPPED, Page, Row
from gateway.messages import Canonical, Header, Problem

MEDIA_TYPE: Final = "application/vnd.referral-gateway.cas3+json"

ELIGIBILITY: Final = "CAS3 eligibility reason"
_MAX_TEXT: Final = 20_000
_DATE_PART = re.compile(r".+-(?:year|month|day|time)")
_DUTY = "data.accommodation-referral-details.dtr-details"
_CONTACTS = "data.contact-details"
_REFERRER = "referrer.contact"
_display = Codec("", lambda text: {"display": text}, lambda value: value.get("display"))
_reason = Codec(
    "",
    lambda code: {"system": ELIGIBILITY, "code": code, "display": words.label_of(code)},
    lambda value: value.get("code"),
)

FIELDS: Final = [
    Field("id", "reference", TEXT),
    Field("submittedAt", "writtenAt", MOMENT, note="of the API's application"),
    Field("person.crn", "person.identifier[scheme=crn].value", TEXT),
    Field("person.nomsNumber", "person.identifier[scheme=other&system=Prison number].value", TEXT),
    Field("person.pncNumber", "person.identifier[scheme=pnc-id].value", TEXT),
    Field("person.name", "person.name[0]", NAME, note="needed"),
    Field("person.dateOfBirth", "person.dateOfBirth.date", DATE),
    Field("person.sex", "person.sexCode", coded({"Male": "1", "Female": "2"})),
    Field("person.genderIdentity", "person.genderText", TEXT),
    Field("person.ethnicity", "person.ethnicity", _display, note="in words"),
    Field("person.nationality", "person.nationality", TEXT, many=";"),
    Field("person.religionOrBelief", "person.religion", TEXT),
    Field("person.prisonName", "involved.organisations[role=Prison].name", TEXT),
    Field(
        "person.status",
        "additional.housing.accommodationStatus",
        Codec(
            "",
            lambda text: "prison-detention" if text == "InCustody" else form_fields.NOTHING,
            lambda _: None,
        ),
        note="InCustody: prison-detention",
    ),
    Field(f"{_CONTACTS}.pop-phone-number.phone", "person.contact[0].telephone", TEXT, many=";"),
    Field(f"{_CONTACTS}.practitioner-name.name", "referrer.name", NAME, note="before probation-practitioner"),
    Field(f"{_CONTACTS}.practitioner-email.email", f"{_REFERRER}.email", EMAIL, many=";"),
    Field(f"{_CONTACTS}.practitioner-phone.phone", f"{_REFERRER}.telephone", TEXT, many=";"),
    Field(f"{_CONTACTS}.practitioner-pdu.name", "referrer.organisation.name", TEXT),
    Field(f"{_CONTACTS}.probation-practitioner.name", "referrer.name", NAME),
    Field(f"{_CONTACTS}.probation-practitioner.email", f"{_REFERRER}.email", EMAIL, many=";"),
    Field(f"{_CONTACTS}.probation-practitioner.phone", f"{_REFERRER}.telephone", TEXT, many=";"),
    Field(f"{_CONTACTS}.probation-practitioner.pdu.name", "referrer.organisation.name", TEXT),
    Field(f"{_CONTACTS}.backup-contact.name", "involved.professionals[0].name", NAME),
    Field(f"{_CONTACTS}.backup-contact.email", "involved.professionals[0].contact.email", EMAIL, many=";"),
    Field(f"{_CONTACTS}.backup-contact.phone", "involved.professionals[0].contact.telephone", TEXT, many=";"),
    Field("data.eligibility.eligibility-reason.reason", "concern.code[0]", _reason),
    Field("data.eligibility.release-date.releaseDate", "additional.housing.releaseOrDischarge", DATE),
    Field(
        "data.eligibility.accommodation-required-from-date.accommodationRequiredFromDate",
        "concern.lifeEvent[type=accommodation-required-from].date.date",
        DATE,
    ),
    Field("data.placement-considerations.rosh-level.riskToStaff", "riskToProfessionals", TEXT),
    Field(
        "data.safeguarding-and-support.support-in-the-community.support",
        "additional.housing.supportNeeds",
        TEXT,
    ),
    Field(
        "data.safeguarding-and-support.local-connections.localConnections",
        "additional.housing.localConnection",
        TEXT,
    ),
    Field(
        f"{_DUTY}.reference",
        "otherReferences[scheme=other&system=Duty to refer reference number].value",
        TEXT,
        note="of the duty to refer sent before",
    ),
    Field(f"{_DUTY}.localAuthorityAreaName", "additional.housing.preferredAuthority", TEXT),
]

SECTIONS: Final = {
    "concern.narrative": (
        *("offence-and-behaviour-summary", "placement-considerations", "safeguarding-and-support"),
        *("approvals-for-specific-risks", "behaviour-in-cas"),
    ),
    "concern.complexNeeds": ("disability-cultural-and-specific-needs", "food-allergies"),
    "note": (
        *("sentence-information", "licence-conditions", "prison-information", "placement-location"),
        *("move-on-plan", "accommodation-referral-details", "eligibility"),
    ),
}
"""Pages of the form whose answers are read as words, each with its question, and where to."""


class Cas3:
    """Implements gateway.adapters.base.Adapter. It only reads."""

    name = "cas3"
    media_types = (MEDIA_TYPE,)
    page = Page(
        title="CAS3 accommodation referral",
        introduction="""
HMPPS Community Accommodation Service tier 3: temporary accommodation for people who would leave prison, an
approved premises or bail accommodation homeless. The body is an application as the CAS API gives it:
`person` and `data`, where `data` are the answers of the form
(ministryofjustice/hmpps-temporary-accommodation-ui, MIT: its `server/form-pages/apply/schema.json`). The
answers alone do not say who the person is, so a body without `person.name` is refused.

**It only reads.** The consent page must say yes or be absent: no is refused. Answers that have no field of
their own are kept in words with their questions; a text longer than 20,000 characters is cut, which shows
as an ellipsis, and the whole travels in the original. A date that is none is kept in words in `note`.
""",
        tables=[
            (
                "Read: referral",
                [
                    *form_fields.rows(FIELDS),
                    Row(
                        "data.consent.consent-given.consentGiven",
                        "consent.status, consent.agreedTo",
                        "yes: given, referral",
                    ),
                    *(
                        Row(f"data.{name}", path, "all other answers, in words")
                        for path, names in SECTIONS.items()
                        for name in names
                    ),
                    Row("person, data", "note", "in words: answers and pages that are not named here"),
                    Row("data.check-your-answers", DROPPED, "that the form was read through"),
                    Row("person.type, person.isRestricted", DROPPED, "of the API, not of the person"),
                ],
            )
        ],
        defaults=[
            ("concern.category", "`homelessness`"),
            ("request.action", "`accommodate`"),
            ("request.service.name", "`CAS3`"),
            ("referrer.role", "`Probation practitioner`"),
            ("consent.status", "`not-recorded`, without the consent page"),
            ("urgency", "`routine`: not asked"),
            ("immediateDanger", "`not-known`: not asked"),
        ],
    )

    def to_canonical(self, native: Native) -> Canonical:
        """Read an application. Raises AdapterError."""
        application = strict_json.loads(native.body)
        if not isinstance(application, dict):
            raise AdapterError([Problem("", "an object")])
        if not isinstance(application.get("data"), dict):
            raise AdapterError([Problem("/data", "an object: the answers of the form")])
        return Canonical("referral", 1, _read(application))

    def from_canonical(self, header: Header, message: Canonical, media_type: str) -> NoReturn:
        """Refuse: see the module."""
        del header, message, media_type
        raise AdapterError([Problem("/type", "this format is only read")])


def _read(application: Mapping[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = {"type": "referral", "version": 1}
    unread = form_fields.read(FIELDS, application, document)
    if not paths.get(document, "person.name"):
        raise AdapterError([Problem("/person/name", "required: the answers do not say who the person is")])
    document["consent"] = _consent(application)
    concern = document.setdefault("concern", {})
    concern["category"] = ["homelessness"]
    concern.setdefault("code", [{"system": ELIGIBILITY, "display": "Not recorded"}])
    for event in concern.get("lifeEvent", []):
        event["description"] = "Accommodation required from"
    if backup := paths.get(document, "involved.professionals[0]"):
        backup |= {"involvement": "Backup contact of the referral"}
        if not backup.keys() & {"name"}:
            backup["role"] = ["Backup contact"]
    document.setdefault("referrer", {})["role"] = ["Probation practitioner"]
    document["request"] = {"action": "accommodate", "service": {"name": "CAS3"}}
    document |= {"urgency": "routine", "immediateDanger": "not-known"}
    for path, names in SECTIONS.items():
        said = [_section(application["data"], name) for name in names]
        said += _rest(application, unread) if path == "note" else []
        text = "\n\n".join(part for part in said if part)
        paths.put(document, path, text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…")
    found: dict[str, Any] = paths.prune(document)
    return found


def _rest(application: Mapping[str, Any], unread: Iterable[form_fields.Unread]) -> list[str]:
    """In words: pages that this form does not have, what else is said of the person, what is unreadable."""
    data = application["data"]
    pages = [_section(data, name) for name in data if name not in _ANSWERED]
    person = form_fields.rest(application.get("person"), "person", _TAKEN | _DROPPED)
    return [*pages, words.text({"person": person}) if person else "", *(found.words() for found in unread)]


def _consent(application: Mapping[str, Any]) -> dict[str, Any]:
    pointer = "data.consent.consent-given.consentGiven"
    answer = paths.get(application, pointer)
    if answer in (None, ""):
        return {"status": "not-recorded"}
    if answer != "yes":
        raise AdapterError([Problem(paths.pointer(pointer), "yes: CAS3 needs the person's consent")])
    return {"status": "given", "givenBy": "person", "agreedTo": ["referral"]}


def _section(data: Mapping[str, Any], name: str) -> str:
    """A page of the form in words, without the answers that have a field of their own."""
    left = _whole_dates(form_fields.rest(data.get(name), f"data.{name}", _TAKEN))
    return words.text({name: left}) if left else ""


def _whole_dates(value: Any) -> Any:
    """Without the day, month and year that stand beside each date."""
    if isinstance(value, Mapping):
        return {name: _whole_dates(inner) for name, inner in value.items() if not _DATE_PART.fullmatch(name)}
    return value


_TAKEN: Final = {field.native for field in FIELDS}
_DROPPED: Final = {"person.type", "person.isRestricted"}
_ANSWERED: Final = {"consent", "contact-details", "check-your-answers"}.union(*SECTIONS.values())

ADAPTER = Cas3()
