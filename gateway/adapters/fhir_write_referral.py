"""A canonical referral as a BaRS servicerequest-request: what becomes what is in docs/adapters/fhir-bars.md.

What may live here: the mapping of the referral. `fhir_bars` adds the fields that FHIR has no place for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.adapters import fhir_consent
from gateway.adapters import fhir_terms as terms
from gateway.adapters.fhir_message import REQUEST
from gateway.adapters.fhir_read_concern import CLINICAL_NARRATIVE, WISHES
from gateway.adapters.fhir_read_parts import present
from gateway.adapters.fhir_read_referral import GENERAL_PRACTICE
from gateway.adapters.fhir_write_parts import (
    Draft,
    add_professional,
    addresses,
    coding,
    concept,
    concept_of,
    flag,
    gender,
    human_name,
    identifiers,
    message_header,
    observation,
    on_calendar,
    organisation,
    partial_date,
    telecoms,
)
from gateway.messages import UUID4

_ROLE_CODES = {role: code for code, role in terms.CONTACT_ROLES.items()}

Ref = Mapping[str, str]
Referral = Mapping[str, Any]


def referral(draft: Draft, document: Referral) -> dict[str, Any]:
    """Enter the referral's resources and return its MessageHeader."""
    change = document.get("change", "new")
    previous = document.get("previousReference", "")
    # An update or withdrawal is about the same ServiceRequest, so it is written under the same identifier.
    keeps = change != "new" and UUID4.fullmatch(previous)
    request_urn = f"urn:uuid:{previous}" if keeps else draft.promise("ServiceRequest")
    header = message_header(
        draft,
        REQUEST,
        "new" if change == "new" else "update",
        "servicerequest-request-cancelled"
        if change == "withdraw"
        else f"servicerequest-request-{_category(document)}",
        focus=[{"reference": request_urn}],
    )
    recipient = header["destination"][0]["receiver"]
    patient = draft.add(_patient(draft, document))
    encounter = draft.add(_encounter(draft, document, patient))
    plan = _care_plan(draft, document["concern"], patient, encounter)
    requester = add_professional(draft, document["referrer"])
    for professional in document.get("involved", {}).get("professionals", []):
        add_professional(draft, professional)
    request = document.get("request", {})
    performer = _performer(draft, request, recipient)
    draft.add(
        _service_request(draft, document, plan, patient, encounter, requester, performer),
        urn=request_urn,
    )
    if consent := fhir_consent.write(document["consent"], patient):
        draft.add(consent)
    _add_flags(draft, document, patient)
    _add_observations(draft, document, patient)
    return header


def _category(document: Referral) -> str:
    return "validation" if document.get("request", {}).get("action") == "validate" else "referral"


def _service_request(
    draft: Draft,
    document: Referral,
    plan: Ref | None,
    patient: Ref,
    encounter: Ref,
    requester: Ref,
    performer: Ref,
) -> dict[str, Any]:
    request = document.get("request", {})
    category = _category(document)
    codes = [concept_of(code) for code in request.get("code", [])]
    categories = [
        coding(terms.CONCERN_CATEGORY, code, terms.in_words(code)) for code in document["concern"]["category"]
    ]
    withdrawn = document.get("change") == "withdraw"
    fields = present(
        meta={"profile": [f"{terms.NHS}/StructureDefinition/BARSServiceRequest-request-{category}"]},
        basedOn=[plan] if plan else [],
        requisition={"system": terms.CASE, "value": draft.header.case},
        status="revoked" if withdrawn else "active",
        intent="plan",
        # BaRS: one category, with a coding for the kind of message and one for the use case.
        category=[
            {
                "coding": [
                    coding(terms.MESSAGE_CATEGORIES, category),
                    *(found for code in codes for found in code.get("coding", [])),
                ]
            }
        ],
        priority=terms.PRIORITY_OF_URGENCY[document["urgency"]],
        subject=patient,
        encounter=encounter,
        occurrencePeriod=present(
            start=on_calendar(request.get("start")), end=on_calendar(request.get("end"))
        ),
        authoredOn=on_calendar(document.get("writtenAt")) or draft.when,
        requester=requester,
        performer=[performer],
        reasonCode=[{"coding": categories}],
        note=[{"text": document["note"]}] if "note" in document else [],
        patientInstruction=request.get("practical"),
    )
    return {"resourceType": "ServiceRequest"} | fields


def _performer(draft: Draft, request: Mapping[str, Any], recipient: Ref) -> Ref:
    """The service asked for, provided by the recipient unless the referral names another; or they."""
    service = request.get("service")
    if service is None:
        return recipient
    provider = draft.add(organisation(service["organisation"])) if "organisation" in service else recipient
    return draft.add(
        {"resourceType": "HealthcareService"}
        | present(
            identifier=identifiers(service.get("identifier", [])),
            providedBy=provider,
            type=[{"text": kind} for kind in service.get("type", [])],
            name=service.get("name"),
            telecom=telecoms([service.get("contact", {})]),
        )
    )


def _patient(draft: Draft, document: Referral) -> dict[str, Any]:
    person, involved = document["person"], document.get("involved", {})
    practices = [o for o in involved.get("organisations", []) if o.get("role") == GENERAL_PRACTICE]
    died = partial_date(person.get("deceasedDate"))
    fields = present(
        extension=_extensions(person),
        identifier=identifiers(person.get("identifier", [])),
        name=[human_name(name) for name in person["name"]],
        telecom=telecoms(person.get("contact", [])),
        gender=gender(person.get("genderCode")),
        birthDate=partial_date(person.get("dateOfBirth")),
        deceasedBoolean=None if died else person.get("isDeceased"),
        deceasedDateTime=died,
        address=addresses(person.get("address", [])),
        contact=[_contact(found) for found in involved.get("people", [])],
        communication=[{"language": _language(found)} for found in person.get("language", [])],
        generalPractitioner=[draft.add(organisation(practice)) for practice in practices],
    )
    profile = {"profile": [f"{terms.UKCORE}/StructureDefinition/UKCore-Patient"]}
    return {"resourceType": "Patient", "meta": profile} | fields


def _extensions(person: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if "ethnicity" in person:
        found.append(
            {"url": terms.ETHNICITY_EXTENSION, "valueCodeableConcept": concept_of(person["ethnicity"])}
        )
    if "religion" in person:
        found.append({"url": terms.RELIGION_EXTENSION, "valueCodeableConcept": {"text": person["religion"]}})
    if "interpreterNeeded" in person:
        found.append({"url": terms.INTERPRETER_EXTENSION, "valueBoolean": person["interpreterNeeded"]})
    return found


def _language(found: Mapping[str, Any]) -> dict[str, Any]:
    if "code" in found:
        return concept(f"{terms.UKCORE}/CodeSystem/UKCore-HumanLanguage", found["code"], found.get("name"))
    return {"text": found["name"]}


def _contact(person: Mapping[str, Any]) -> dict[str, Any]:
    codings = [coding(terms.ROLE_CODE, code) for code in person.get("relationship", [])]
    if person.get("role") in _ROLE_CODES:
        codings.append(coding(terms.CONTACT_ROLE, _ROLE_CODES[person["role"]]))
    relationship = present(coding=codings, text=person.get("relationshipText"))
    named = [human_name(name) for name in person.get("name", [])]
    return present(
        relationship=[relationship] if relationship else [],
        # R4 wants a name, telecom or address of each contact (pat-1).
        name=next(iter(named), {"text": terms.NOT_RECORDED}),
        telecom=telecoms(person.get("contact", [])),
        address=next(iter(addresses(person.get("address", []))), None),
        gender=gender(person.get("genderCode")),
    )


def _encounter(draft: Draft, document: Referral, patient: Ref) -> dict[str, Any]:
    """BaRS wants the case as an Encounter. What kind it is, the canonical referral does not say."""
    reference = document.get("reference")
    system = f"{terms.AGENCY}:{draft.header.sender}"
    return {"resourceType": "Encounter"} | present(
        identifier=[{"system": system, "value": reference}] if reference else [],
        status="unknown",
        **{"class": coding(terms.NULL_FLAVOR, "UNK", "unknown")},
        subject=patient,
    )


def _care_plan(
    draft: Draft, concern: Mapping[str, Any], patient: Ref, encounter: Ref
) -> dict[str, str] | None:
    """The narrative, where BaRS has it: as an outcome in words."""
    if "narrative" not in concern:
        return None
    return draft.add(
        {
            "resourceType": "CarePlan",
            "status": "active",
            "intent": "plan",
            "subject": patient,
            "encounter": encounter,
            "activity": [{"outcomeCodeableConcept": [{"text": concern["narrative"]}]}],
        }
    )


def _add_flags(draft: Draft, document: Referral, patient: Ref) -> None:
    """Safeguarding, danger, adjustments and alerts, each a Flag of its BaRS category."""
    information = ("API", "Additional Patient Information")
    flags: list[tuple[tuple[str, str], Mapping[str, Any]]] = []
    for code in _safeguarding(document["concern"]):
        display = terms.SAFEGUARDING_DISPLAY.get(code)
        flags.append((("SG", "Safeguarding Concern"), concept(terms.SAFEGUARDING, code, display)))
    answer, detail = document["immediateDanger"], document.get("immediateDangerDetail")
    if answer != "not-known" or detail:
        shown = f"Immediate danger: {answer.replace('-', ' ')}"
        flags.append((information, concept(terms.IMMEDIATE_DANGER, answer, shown, detail)))
    if "riskToProfessionals" in document:
        flags.append((("SS", "Scene Safety"), {"text": document["riskToProfessionals"]}))
    adjustments = document["person"].get("reasonableAdjustment", [])
    alerts = document.get("additional", {}).get("health", {}).get("alerts", [])
    flags += [(("RA", "Reasonable Adjustment"), concept_of(adjustment)) for adjustment in adjustments]
    flags += [(information, concept_of(alert)) for alert in alerts]
    for category, meaning in flags:
        draft.add(flag(category, meaning, patient))


def _safeguarding(concern: Mapping[str, Any]) -> list[str]:
    """The codes given; else those the categories stand for, so that a BaRS system sees a flag nonetheless."""
    stood_for = (terms.CODE_FOR_CATEGORY.get(category) for category in concern["category"])
    return list(concern.get("safeguardingCode") or dict.fromkeys(code for code in stood_for if code))


def _add_observations(draft: Draft, document: Referral, patient: Ref) -> None:
    concern, health = document["concern"], document.get("additional", {}).get("health", {})
    for code in concern.get("code", []):
        draft.add({"resourceType": "Condition", "code": concept_of(code), "subject": patient})
    for words, value in (
        (WISHES, concern.get("personsViews")),
        (CLINICAL_NARRATIVE, health.get("clinicalSummary")),
    ):
        if value:
            draft.add(observation({"text": words}, patient, valueString=value))
    composition = document.get("involved", {}).get("household", {}).get("composition", {})
    if composition.get("system") == terms.HOUSEHOLD and "code" in composition:
        draft.add(observation(concept_of(composition), patient))
