"""A BaRS servicerequest-request as a canonical referral: what becomes what is in docs/adapters/fhir-bars.md.

What may live here: the mapping of the request and what surrounds it. Defaults stand where BaRS does not ask
what the referral schema needs, and each says what is not known rather than guess.
"""

from __future__ import annotations

from typing import Any

from gateway.adapters import fhir_consent, fhir_fields
from gateway.adapters import fhir_terms as terms
from gateway.adapters.fhir_bundle import (
    Resource,
    code_of,
    codings,
    objects,
    one,
    text,
    texts,
    wording,
)
from gateway.adapters.fhir_message import Message, sender, source_name, withdrawn
from gateway.adapters.fhir_read_concern import alerts, concern, danger, health, household
from gateway.adapters.fhir_read_parts import (
    addresses,
    coded,
    contacts,
    extension,
    identifiers,
    is_the_person,
    line,
    moment,
    names,
    organisation,
    partial_date,
    person_involved,
    present,
    professional,
    prose,
)

GENERAL_PRACTICE = "General practice"
_UNIDENTIFIED = {"text": terms.NOT_RECORDED, "use": "temp"}


def referral(message: Message) -> dict[str, Any]:
    """The canonical referral, version 1."""
    request = message.request
    observations = message.bundle.of_type("Observation")
    fields = {
        "type": "referral",
        "version": 1,
        "reference": line(text(message.bundle.resolve(request, "encounter"), "identifier", "value")),
        "otherReferences": _other_references(message),
        "writtenAt": moment(text(request, "authoredOn")) or moment(text(message.document, "timestamp")),
        "change": "withdraw" if withdrawn(message) else message.reason,
        "previousReference": None if message.reason == "new" else line(message.request_id),
        "person": _person(message),
        "concern": concern(message),
        "consent": fhir_consent.read(message.bundle),
        "urgency": _urgency(message),
        "immediateDanger": "not-known",
        "involved": _involved(message),
        "referrer": _referrer(message),
        "request": _request(message),
        "additional": present(health=health(message)),
        "note": prose(text(note, "text") for note in objects(request, "note")),
    }
    document = present(**fields) | danger(message)
    fhir_fields.restore(document, [found for found in observations if fhir_fields.is_field(found)])
    return document


def _other_references(message: Message) -> list[dict[str, Any]]:
    """What later messages will name this one by."""
    known = {terms.BARS_MESSAGE: text(message.document, "id"), terms.BARS_SERVICE_REQUEST: message.request_id}
    return [
        {"scheme": "other", "system": system, "value": line(value)}
        for system, value in known.items()
        if value
    ]


def _urgency(message: Message) -> str:
    """Priority; else the triage category; else `urgent` in an emergency encounter; else `routine`."""
    stated = terms.URGENCY_OF_PRIORITY.get(text(message.request, "priority") or "")
    if stated:
        return stated
    for plan in message.bundle.of_type("CarePlan"):
        for activity in objects(plan, "activity"):
            for system, code, _ in codings(activity, "outcomeCodeableConcept"):
                # One official example leaves the s off arp-priority-codes.
                if terms.bare(system).startswith(terms.ARP_PRIORITY) and code in terms.URGENCY_OF_ARP:
                    return terms.URGENCY_OF_ARP[code]
    encounter = message.bundle.resolve(message.request, "encounter")
    return "urgent" if text(encounter, "class", "code") == "EMER" else "routine"


def _person(message: Message) -> dict[str, Any]:
    patient = message.patient
    own = [found for found in objects(patient, "contact") if is_the_person(found)]
    telecoms = [telecom for holder in [patient, *own] for telecom in objects(holder, "telecom")]
    interpreter = text(extension(patient, terms.INTERPRETER_EXTENSION), "valueBoolean")
    died = text(patient, "deceasedDateTime")
    return present(
        identifier=identifiers(patient),
        name=names(patient) or [_UNIDENTIFIED],
        dateOfBirth=partial_date(text(patient, "birthDate")),
        isDeceased=True if died or text(patient, "deceasedBoolean") == "true" else None,
        deceasedDate=partial_date(died),
        genderCode=terms.GENDER_CODES.get(text(patient, "gender") or ""),
        ethnicity=coded(one(extension(patient, terms.ETHNICITY_EXTENSION), "valueCodeableConcept")),
        religion=line(wording(extension(patient, terms.RELIGION_EXTENSION), "valueCodeableConcept")),
        language=_languages(patient),
        interpreterNeeded={"true": True, "false": False}.get(interpreter or ""),
        reasonableAdjustment=alerts(message.bundle, "RA"),
        address=addresses(patient),
        contact=contacts(telecoms),
    )


def _languages(patient: Resource) -> list[dict[str, Any]]:
    found = []
    for spoken in objects(patient, "communication"):
        value = coded(one(spoken, "language")) or {}
        code = value.get("code")
        tag = code if code and terms.LANGUAGE_TAG.fullmatch(code) else None
        if language := present(code=tag, name=value.get("display") or (None if tag else code)):
            found.append(language)
    return found


def _involved(message: Message) -> dict[str, Any]:
    bundle, patient = message.bundle, message.patient
    contacts_of_patient = [found for found in objects(patient, "contact") if not is_the_person(found)]
    people = [person_involved(found) for found in [*contacts_of_patient, *bundle.of_type("RelatedPerson")]]
    referrer = _requester(message)
    professionals = [
        professional(bundle, role) for role in bundle.of_type("PractitionerRole") if role is not referrer
    ]
    practices = [
        organisation(bundle.get(text(gp, "reference"))) for gp in objects(patient, "generalPractitioner")
    ]
    return present(
        people=[person for person in people if person],
        household=household(bundle),
        professionals=[found for found in professionals if found],
        organisations=[practice | {"role": GENERAL_PRACTICE} for practice in practices if practice],
    )


def _requester(message: Message) -> Resource:
    """The PractitionerRole of whoever asks; without one, their Practitioner or Organization; or nothing."""
    asked_by = message.bundle.resolve(message.request, "requester")
    if text(asked_by, "resourceType") != "Practitioner":
        return asked_by
    for role in message.bundle.of_type("PractitionerRole"):
        if message.bundle.resolve(role, "practitioner") is asked_by:
            return role
    return asked_by


def _referrer(message: Message) -> dict[str, Any]:
    """The requester, at the sending organisation where the request names no other."""
    asked_by = _requester(message)
    if text(asked_by, "resourceType") == "Organization":
        found = present(organisation=organisation(asked_by))
    else:
        found = professional(message.bundle, asked_by) or {}
    if not found.get("organisation") and (sending := organisation(sender(message))):
        found = found | {"organisation": sending}
    if not {"name", "organisation", "role"} & found.keys():
        name = line(source_name(message)) or terms.NOT_RECORDED
        found = found | {"organisation": {"name": name}}
    return found


def _request(message: Message) -> dict[str, Any]:
    request, bundle = message.request, message.bundle
    category = code_of(request, "category", terms.MESSAGE_CATEGORIES)
    codes = [
        present(system=line(system), code=line(code), display=line(display))
        for system, code, display in codings(request, "category")
        if terms.bare(system) != terms.bare(terms.MESSAGE_CATEGORIES)
    ]
    tasks = [found for task in bundle.of_type("Task") if (found := coded(one(task, "code")))]
    where = [_place(bundle.get(text(found, "reference"))) for found in objects(request, "locationReference")]
    return present(
        action="validate" if category == "validation" else None,
        service=_service(message),
        detail=prose(text(task, "description") for task in bundle.of_type("Task")),
        code=codes + tasks,
        start=moment(text(request, "occurrencePeriod", "start"))
        or moment(text(request, "occurrenceDateTime")),
        end=moment(text(request, "occurrencePeriod", "end")),
        practical=prose([*texts(request, "patientInstruction"), *where]),
    )


def _service(message: Message) -> dict[str, Any] | None:
    """The service asked: a HealthcareService, else the receiving organisation by its own name."""
    for reference in objects(message.request, "performer"):
        found = message.bundle.get(text(reference, "reference"))
        service = organisation(found)
        if service and text(found, "resourceType") == "HealthcareService":
            provider = organisation(message.bundle.resolve(found, "providedBy"))
            telecom = contacts(objects(found, "telecom"))
            kinds = {name: service[name] for name in ("identifier", "name", "type") if name in service}
            return kinds | present(organisation=provider, contact=next(iter(telecom), None))
        if service:
            return {name: service[name] for name in ("identifier", "name", "type") if name in service}
    return None


def _place(location: Resource) -> str | None:
    """An incident location in one line."""
    address = one(location, "address")
    parts = [
        text(location, "name"),
        *texts(address, "line"),
        text(address, "city"),
        text(address, "postalCode"),
    ]
    where = ", ".join(dict.fromkeys(part for part in parts if part))
    kind = wording(location, "type") or "Location"
    return f"{kind}: {where}" if where else None
