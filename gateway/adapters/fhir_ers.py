"""NHS e-Referral Service resources, read only: what e-RS hands out or takes, as a referral or a decision.

e-RS FHIR STU3 (ReferralRequest, and the Parameters of its operations) and R4 (ServiceRequest), JSON. Reading is lenient:
what e-RS holds is short (an NHS number, services, a priority, a state), and everything else is its own detail.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from gateway.adapters import fhir_terms as terms
from gateway.adapters import strict_json
from gateway.adapters.base import AdapterError, Native
from gateway.adapters.fhir_bundle import NOTHING, Resource, many, objects, one, text
from gateway.adapters.fhir_ers_page import PAGE
from gateway.adapters.fhir_read_parts import coded, line, moment, present, prose
from gateway.messages import Canonical, Header, Problem

MEDIA_TYPE: Final = "application/vnd.referral-gateway.ers+json"
NO_NARRATIVE: Final = "The e-RS record gives no narrative."
NO_REASON: Final = "The e-RS record gives no reason."
_EXTENSION: Final = "extension-ers-"
_URGENCY: Final = {"ROUTINE": "routine", "URGENT": "urgent", "TWO_WEEK_WAIT": "urgent"}
_OUTCOMES: Final = {"ACCEPT_REFER_BOOK_LATER": "accepted", "RETURN_TO_REFERRER_WITH_ADVICE": "declined"}
_REASONS: Final = {"SERVICE_INAPPROPRIATE": "not-appropriate"}
_ADVICE: Final = "advice-and-guidance"
_UNKNOWN: Final = {"organisation": {"name": terms.NOT_RECORDED}}


class FhirErs:
    """Implements gateway.adapters.base.Adapter."""

    name = "fhir-ers"
    media_types = (MEDIA_TYPE,)
    page = PAGE

    def to_canonical(self, native: Native) -> Canonical:
        """Read a referral or a decision. Raises AdapterError."""
        document = strict_json.loads(native.body)
        if not isinstance(document, dict):
            raise AdapterError([Problem("", "an object")])
        found = _read(document)
        return Canonical(found["type"], 1, found)

    def from_canonical(self, header: Header, message: Canonical, media_type: str) -> Native:  # noqa: ARG002 - the interface
        """Raises AdapterError: e-RS takes operations on its own records, no messages of others."""
        raise AdapterError([Problem("/type", "this format is only read")])


def _read(document: Resource) -> dict[str, Any]:
    kind = text(document, "resourceType")
    if kind == "Bundle":
        entries = [one(entry, "resource") for entry in objects(document, "entry")]
        if len(entries) != 1 or text(entries[0], "resourceType") != "ServiceRequest":
            raise AdapterError([Problem("/entry", "exactly one, with a ServiceRequest")])
        return _record(entries[0], "/entry/0/resource")
    if kind in ("ReferralRequest", "ServiceRequest"):
        return _record(document, "")
    if kind == "Parameters":
        return _operation(document)
    rule = "one of: ReferralRequest, ServiceRequest, Parameters, Bundle"
    raise AdapterError([Problem("/resourceType", rule)])


def _record(record: Resource, where: str) -> dict[str, Any]:
    """A record as e-RS keeps it: a referral, or the decision of the provider who rejected it."""
    state = _extension(record, "ReferralState")
    parts = {text(part, "url"): part for part in objects(state, "extension")}
    reason = one(parts.get("reason", NOTHING), "valueCoding")
    comments = text(parts.get("comments", NOTHING), "valueString")
    if text(parts.get("state", NOTHING), "valueCoding", "code") == "REJECTED":
        return _decision("declined", reason, comments, record)
    shortlist = _contained(
        record, text(_extension(record, "ReferralShortlist"), "valueReference", "reference")
    )
    criteria = _contained(
        record, text(_extension(shortlist, "Shortlist-SearchCriteria"), "valueReference", "reference")
    )
    cancelled = text(record, "status") in ("cancelled", "revoked", "entered-in-error")
    priority = _extension(record, "ReferralPriority")
    requirements = [_parameter_code(found) for found in _extensions(record, "PatientAdditionalRequirement")]
    return _referral(
        subject=_person(one(record, "subject", "identifier"), f"{where}/subject/identifier/value"),
        criteria=criteria,
        shortlist=shortlist,
        priority=one(priority, "valueCodeableConcept", "coding"),
        specialty=coded(one(record, "specialty")),
        kind=coded(one(record, "code")),
        reference=line(_number(record)),
        otherReferences=[
            present(scheme="other", system=line(text(found, "system")), value=line(text(found, "value")))
            for found in objects(record, "identifier")
            if text(found, "value") and text(found, "value") != _number(record)
        ],
        writtenAt=moment(text(_extension(record, "eReferralPathwayStart"), "valueInstant"))
        or moment(text(record, "authoredOn")),
        change="withdraw" if cancelled else None,
        previousReference=line(_number(record)) if cancelled else None,
        reasonableAdjustment=[found for found in requirements if found],
        note=prose([_state(parts), _words(reason), comments, *_appointments(record), _letters(record)]),
    )


def _operation(document: Resource) -> dict[str, Any]:
    """The Parameters of an operation that says something by itself."""
    given = {text(found, "name"): found for found in objects(document, "parameter")}
    if cancelled := given.get("updatedReferralRequest"):
        index = many(document.get("parameter")).index(cancelled)
        return _record(one(cancelled, "resource"), f"/parameter/{index}/resource")
    if outcome := text(given.get("reviewOutcome", NOTHING), "valueCoding", "code"):
        if outcome not in _OUTCOMES:
            raise AdapterError([Problem("/parameter", f"reviewOutcome one of: {', '.join(_OUTCOMES)}")])
        comments = text(given.get("reviewComments", NOTHING), "valueString")
        priority = _words(one(given.get("reviewPriority", NOTHING), "valueCoding"))
        found = _decision(_OUTCOMES[outcome], NOTHING, comments, NOTHING)
        return found | present(note=f"Priority after review: {priority}" if priority else None)
    if reason := one(given.get("rejectionReason", NOTHING), "valueCoding"):
        return _decision(
            "declined", reason, text(given.get("rejectionComments", NOTHING), "valueString"), NOTHING
        )
    if "patient" not in given or "shortlist" not in given:
        rule = "an operation that names its patient or decides: a cancellation's answer, not its request"
        raise AdapterError([Problem("/parameter", rule)])
    shortlist = one(given["shortlist"], "resource")
    criteria = _contained(
        shortlist, text(_extension(shortlist, "Shortlist-SearchCriteria"), "valueReference", "reference")
    )
    clinician = one(given.get("referringClinician", NOTHING), "valueIdentifier")
    return _referral(
        subject=_person(one(given["patient"], "valueIdentifier"), "/parameter"),
        criteria=criteria,
        shortlist=shortlist,
        priority=NOTHING,
        specialty=None,
        writtenAt=moment(text(given.get("eReferralPathwayStart", NOTHING), "valueInstant")),
        advice=text(given.get("request", NOTHING), "valueString"),
        referrer=present(identifier=[_identifier(clinician)] if text(clinician, "value") else []),
    )


def _referral(
    *,
    subject: dict[str, Any],
    criteria: Resource,
    shortlist: Resource,
    priority: Resource,
    specialty: dict[str, Any] | None,
    kind: dict[str, Any] | None = None,
    advice: str | None = None,
    **fields: Any,
) -> dict[str, Any]:
    searched = {text(found, "name"): found for found in objects(criteria, "parameter")}
    stated = priority or one(searched.get("priority", NOTHING), "valueCoding")
    wanted = [
        kind,
        specialty or _parameter_code(searched.get("specialty", NOTHING)),
        _parameter_code(searched.get("clinicType", NOTHING)),
        # Two weeks is more than our `urgent` says, so the code travels too.
        _coded(stated) if text(stated, "code") == "TWO_WEEK_WAIT" else None,
    ]
    services = [_service(one(entry, "item")) for entry in objects(shortlist, "entry")]
    named = [service for service in services if service]
    request = present(
        action="advise" if advice or (kind or {}).get("code") == _ADVICE else None,
        service=named[0] if len(named) == 1 else None,
        detail=_choice(named) if len(named) > 1 else None,
        code=[found for found in wanted if found],
    )
    subject |= present(reasonableAdjustment=fields.pop("reasonableAdjustment", None))
    return present(
        type="referral",
        version=1,
        person=subject,
        concern={"category": ["other"], "narrative": prose([advice]) or NO_NARRATIVE},
        consent={"status": "not-recorded"},
        urgency=_URGENCY.get(text(stated, "code") or "", "routine"),
        immediateDanger="not-known",
        referrer=_UNKNOWN | fields.pop("referrer", {}),
        request=request,
        **fields,
    )


def _decision(outcome: str, reason: Resource, comments: str | None, record: Resource) -> dict[str, Any]:
    code = _REASONS.get(text(reason, "code") or "", "other") if outcome == "declined" else None
    words = prose([_words(reason), comments])
    return present(
        type="decision",
        version=1,
        outcome=outcome,
        reasonCode=code,
        reasonText=words or (NO_REASON if code == "other" else None),
        decidedBy=_UNKNOWN,
        referralReference=line(_number(record)),
    )


def _person(identifier: Resource, pointer: str) -> dict[str, Any]:
    if text(identifier, "value") is None:
        raise AdapterError([Problem(pointer, "an NHS number")])
    return {"identifier": [_identifier(identifier)], "name": [{"text": terms.NOT_RECORDED, "use": "temp"}]}


def _identifier(found: Resource) -> dict[str, Any]:
    system, value = text(found, "system") or "", line(text(found, "value"))
    # e-RS writes the systems of its day (fhir.nhs.net) for the same numbers.
    scheme = terms.scheme_of(system.replace("fhir.nhs.net", "fhir.nhs.uk"))
    return present(scheme=scheme or "other", system=None if scheme else line(system), value=value)


def _number(record: Resource) -> str | None:
    """The UBRN, by which people call a referral: the id in STU3, an identifier in R4."""
    for found in objects(record, "identifier"):
        if terms.bare(text(found, "system") or "").endswith("/id/ubrn"):
            return text(found, "value")
    return text(record, "id")


def _extensions(resource: Resource, name: str) -> Iterator[Resource]:
    for found in objects(resource, "extension"):
        tail = (text(found, "url") or "").rpartition("/")[2].lower()
        if tail.removeprefix(_EXTENSION).rpartition("-")[0] == name.lower():
            yield found


def _extension(resource: Resource, name: str) -> Resource:
    return next(_extensions(resource, name), NOTHING)


def _contained(resource: Resource, reference: str | None) -> Resource:
    wanted = (reference or "").removeprefix("#")
    found = (inner for inner in objects(resource, "contained") if wanted and text(inner, "id") == wanted)
    return next(found, NOTHING)


def _parameter_code(holder: Resource) -> dict[str, Any] | None:
    """The valueCoding (or valueCodeableConcept) of a parameter or extension, as a coded value."""
    return _coded(one(holder, "valueCoding") or one(holder, "valueCodeableConcept", "coding"))


def _coded(found: Resource) -> dict[str, Any] | None:
    return coded({"coding": found}) if found else None


def _service(item: Resource) -> dict[str, Any]:
    identifier = one(item, "identifier")
    known = [_identifier(identifier)] if text(identifier, "value") else []
    return present(identifier=known, name=line(text(item, "display")))


def _choice(services: list[dict[str, Any]]) -> str | None:
    """Several services to choose from, in words: the model names one."""
    shown = [
        " ".join(part for part in (service.get("name"), *_values(service)) if part) for service in services
    ]
    return prose(["Services to choose from:", *shown], "\n")


def _values(service: dict[str, Any]) -> Iterator[str]:
    for identifier in service.get("identifier", []):
        yield f"({identifier['value']})"


def _state(parts: dict[str | None, Resource]) -> str | None:
    shown = _words(one(parts.get("state", NOTHING), "valueCoding"))
    return f"State in e-RS: {shown}" if shown else None


def _words(found: Resource) -> str | None:
    return text(found, "display") or text(found, "code")


def _appointments(record: Resource) -> Iterator[str]:
    for found in objects(record, "contained"):
        start = text(found, "start")
        if text(found, "resourceType") == "Appointment" and start:
            status = text(found, "status") or "status not stated"
            yield f"Appointment ({status}): {' to '.join(part for part in (start, text(found, 'end')) if part)}"


def _letters(record: Resource) -> str | None:
    titles = [
        text(content, "attachment", "title") or text(found, "description")
        for found in objects(record, "contained")
        if text(found, "resourceType") == "DocumentReference"
        for content in objects(found, "content")[:1] or [NOTHING]
    ]
    shown = ", ".join(title for title in titles if title)
    return f"Attached in e-RS: {shown}" if shown else None


ADAPTER = FhirErs()
