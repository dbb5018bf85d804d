"""A strict check of the FHIR R4 (4.0.1) resources and data types that we write; no more of R4 than that.

The tables were written from https://hl7.org/fhir/R4/ and hold, for each type, its elements in the order of
definition: `!` required, `*` a list. Elements of R4 that we never write are missing, so writing one fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

_TYPES = {
    "Bundle": "id:id meta:Meta type!:code timestamp:instant total:integer entry*:Bundle.entry",
    "Bundle.entry": "fullUrl:uri resource:Resource search:Bundle.entry.search",
    "Bundle.entry.search": "mode:code",
    "MessageHeader": "meta:Meta eventCoding!:Coding destination*:MessageHeader.destination "
    "sender:Reference "
    "source!:MessageHeader.source reason:CodeableConcept response:MessageHeader.response focus*:Reference "
    "definition:uri",
    "MessageHeader.destination": "endpoint!:uri receiver:Reference",
    "MessageHeader.source": "name:string software:string version:string contact:ContactPoint endpoint!:uri",
    "MessageHeader.response": "identifier!:id code!:code details:Reference",
    "ServiceRequest": "id:id meta:Meta extension*:Extension basedOn*:Reference requisition:Identifier "
    "status!:code intent!:code "
    "category*:CodeableConcept priority:code subject!:Reference encounter:Reference occurrencePeriod:Period "
    "authoredOn:dateTime requester:Reference performer*:Reference reasonCode*:CodeableConcept "
    "supportingInfo*:Reference note*:Annotation patientInstruction:string",
    "Patient": "meta:Meta extension*:Extension identifier*:Identifier name*:HumanName telecom*:ContactPoint "
    "gender:code birthDate:date deceasedBoolean:boolean deceasedDateTime:dateTime address*:Address "
    "contact*:Patient.contact communication*:Patient.communication generalPractitioner*:Reference",
    "Patient.contact": "relationship*:CodeableConcept name:HumanName telecom*:ContactPoint address:Address "
    "gender:code",
    "Patient.communication": "language!:CodeableConcept preferred:boolean",
    "Organization": "meta:Meta identifier*:Identifier type*:CodeableConcept name:string "
    "telecom*:ContactPoint address*:Address",
    "Practitioner": "meta:Meta identifier*:Identifier name*:HumanName telecom*:ContactPoint",
    "PractitionerRole": "meta:Meta practitioner:Reference organization:Reference code*:CodeableConcept",
    "HealthcareService": "identifier*:Identifier providedBy:Reference type*:CodeableConcept name:string "
    "telecom*:ContactPoint",
    "Encounter": "meta:Meta identifier*:Identifier status!:code class!:Coding subject:Reference "
    "period:Period",
    "Appointment": "status!:code start:instant end:instant participant!*:Appointment.participant",
    "Appointment.participant": "actor:Reference status!:code",
    "CarePlan": "meta:Meta status!:code intent!:code subject!:Reference encounter:Reference "
    "supportingInfo*:Reference activity*:CarePlan.activity",
    "CarePlan.activity": "outcomeCodeableConcept*:CodeableConcept",
    "Consent": "meta:Meta status!:code scope!:CodeableConcept category!*:CodeableConcept patient:Reference "
    "dateTime:dateTime policyRule!:CodeableConcept",
    "Flag": "meta:Meta status!:code category*:CodeableConcept code!:CodeableConcept subject!:Reference "
    "period:Period",
    "Condition": "code:CodeableConcept subject!:Reference",
    "Observation": "meta:Meta status!:code code!:CodeableConcept subject:Reference encounter:Reference "
    "effectiveDateTime:dateTime valueQuantity:Quantity valueCodeableConcept:CodeableConcept "
    "valueString:string valueBoolean:boolean valueInteger:integer component*:Observation.component",
    "Observation.component": "code!:CodeableConcept valueQuantity:Quantity valueString:string "
    "valueBoolean:boolean valueInteger:integer",
    "Meta": "lastUpdated:instant profile*:uri",
    "Extension": "url!:uri extension*:Extension valueBoolean:boolean valueCode:code valueString:string "
    "valueCodeableConcept:CodeableConcept",
    "Coding": "system:uri version:string code:code display:string",
    "CodeableConcept": "coding*:Coding text:string",
    "Identifier": "extension*:Extension use:code system:uri value:string",
    "HumanName": "use:code text:string family:string given*:string prefix*:string",
    "Address": "use:code type:code text:string line*:string city:string district:string postalCode:string "
    "country:string period:Period",
    "ContactPoint": "system:code value:string use:code rank:integer",
    "Period": "start:dateTime end:dateTime",
    "Reference": "reference:string type:uri identifier:Identifier display:string",
    "Annotation": "text!:string",
    "Quantity": "value:decimal",
    "OperationOutcome": "id:id meta:Meta issue!*:OperationOutcome.issue",
    "OperationOutcome.issue": "severity!:code code!:code details:CodeableConcept diagnostics:string "
    "location*:string expression*:string",
    "CapabilityStatement": "id:id version:string name:string title:string status!:code date!:dateTime "
    "description:string kind!:code software:Capability.software "
    "implementation:Capability.implementation fhirVersion!:code format!*:code rest*:Capability.rest "
    "messaging*:Capability.messaging",
    "Capability.software": "name!:string version:string",
    "Capability.implementation": "description!:string",
    "Capability.rest": "mode!:code security:Capability.security resource*:Capability.resource "
    "operation*:Capability.operation",
    "Capability.security": "description:string",
    "Capability.resource": "type!:code documentation:string interaction*:Capability.interaction "
    "versioning:code searchParam*:Capability.searchParam",
    "Capability.interaction": "code!:code",
    "Capability.searchParam": "name!:string type!:code",
    "Capability.operation": "name!:string definition!:uri",
    "Capability.messaging": "supportedMessage*:Capability.supportedMessage",
    "Capability.supportedMessage": "mode!:code definition!:uri",
    "MessageDefinition": "id:id url:uri name:string status!:code date!:dateTime description:string "
    "useContext*:UsageContext eventCoding!:Coding focus*:MessageDefinition.focus",
    "UsageContext": "code!:Coding valueCodeableConcept!:CodeableConcept",
    "MessageDefinition.focus": "code!:code min!:integer max:string",
}
_DATE = r"\d{4}(-\d\d(-\d\d)?)?"
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"
_TEXTS = {
    "id": r"[A-Za-z0-9\-.]{1,64}",
    "uri": r"\S+",
    "code": r"\S+(\s\S+)*",
    "string": r"[ \r\n\t\S]+",
    "date": _DATE,
    "dateTime": f"{_DATE}|{_TIME}",
    "instant": _TIME,
}
_BINDINGS = {  # required bindings of the codes we write
    "ContactPoint.system": {"phone", "email"},
    "ContactPoint.use": {"home", "work", "temp", "old", "mobile"},
    "HumanName.use": {"usual", "official", "temp", "nickname", "anonymous", "old", "maiden"},
    "Address.use": {"home", "work", "temp", "old", "billing"},
    "Patient.gender": {"male", "female", "other", "unknown"},
    "Patient.contact.gender": {"male", "female", "other", "unknown"},
    "ServiceRequest.status": {"active", "on-hold", "revoked"},
    "ServiceRequest.intent": {"plan"},
    "ServiceRequest.priority": {"routine", "urgent", "asap", "stat"},
    "Consent.status": {"active", "rejected", "inactive"},
    "Encounter.status": {"planned", "in-progress", "finished", "unknown"},
    "Appointment.status": {"noshow"},
    "MessageHeader.response.code": {"ok"},
}


def faults(bundle: Mapping[str, Any]) -> list[str]:
    """Where `bundle` is not what R4 allows, in words; empty when it is."""
    return [*_check(bundle, "Bundle", "Bundle"), *_references(bundle), *_invariants(bundle)]


def resource_faults(resource: Mapping[str, Any]) -> list[str]:
    """The same for one resource that need not be a message."""
    return list(_check(resource, "Resource", str(resource.get("resourceType"))))


def _check(value: Any, kind: str, where: str) -> Iterator[str]:
    if kind in ("Resource", "Bundle"):
        kind = value["resourceType"]
        value = {name: inner for name, inner in value.items() if name != "resourceType"}
    if kind not in _TYPES:
        if not _is_primitive(value, kind):
            yield f"{where}: not a {kind}"
    elif not isinstance(value, Mapping) or not value:
        yield f"{where}: not an object with content"
    else:
        yield from _check_object(value, kind, where)


def _check_object(value: Mapping[str, Any], kind: str, where: str) -> Iterator[str]:
    elements = {}
    for spec in _TYPES[kind].split():
        name, _, element = spec.partition(":")
        elements[name.rstrip("!*")] = (name, element)
    known = [name for name in elements if name in value]
    if list(value) != known:
        yield f"{where}: {list(value)} is not in order, or has unknown elements"
    yield from (f"{where}: no {n}" for n, (spec, _) in elements.items() if "!" in spec and n not in value)
    choices = [name for name in value if re.fullmatch(r"value[A-Z].*|deceased.*", name)]
    if len(choices) > 1:
        yield f"{where}: more than one of {choices}"
    for name in known:
        spec, element = elements[name]
        yield from _check_element(value[name], spec, element, kind, f"{where}.{name}")


def _check_element(value: Any, spec: str, element: str, kind: str, where: str) -> Iterator[str]:
    if ("*" in spec) != isinstance(value, list) or value == []:
        yield f"{where}: a list where R4 has none, or none where it has one"
        return
    allowed = _BINDINGS.get(f"{kind}.{where.rpartition('.')[2]}")
    for item in value if isinstance(value, list) else [value]:
        yield from _check(item, element, where)
        if allowed and item not in allowed:
            yield f"{where}: outside its required binding"


def _is_primitive(value: Any, kind: str) -> bool:
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31
    if kind == "decimal":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind not in _TEXTS or not isinstance(value, str) or not re.fullmatch(_TEXTS[kind], value, re.ASCII):
        return False
    if re.search("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", value):
        return False
    return not (kind in ("date", "dateTime", "instant") and len(value) >= 10) or _exists(value)


def _exists(value: str) -> bool:
    try:
        datetime.fromisoformat(value[:10])
    except ValueError:
        return False
    return True


def _references(bundle: Mapping[str, Any]) -> Iterator[str]:
    """Every reference leads to an entry, and no two entries have the same address."""
    urls = [entry["fullUrl"] for entry in bundle["entry"]]
    if len(urls) != len(set(urls)):
        yield "two entries with one fullUrl"
    yield from (f"{found} leads nowhere" for found in _find(bundle, "reference") if found not in urls)


def _find(value: Any, name: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get(name), str):
            yield value[name]
        for inner in value.values():
            yield from _find(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _find(inner, name)


def _invariants(bundle: Mapping[str, Any]) -> Iterator[str]:
    resources = [entry["resource"] for entry in bundle["entry"]]
    if resources[0]["resourceType"] != "MessageHeader":
        yield "bdl-12: the first entry is not a MessageHeader"
    for resource in resources:
        kind = resource["resourceType"]
        if kind == "Organization":
            if not {"identifier", "name"} & resource.keys():
                yield "org-1: neither identifier nor name"
            if "home" in [
                part.get("use") for name in ("address", "telecom") for part in resource.get(name, [])
            ]:
                yield "org-2, org-3: a home address or telecom"
        if kind == "Patient":
            for contact in resource.get("contact", []):
                if not {"name", "telecom", "address", "organization"} & contact.keys():
                    yield "pat-1: a contact without details"
        if kind == "Observation" and "component" in resource and any(n.startswith("value") for n in resource):
            yield "obs: both value and component, which we never mean"
