"""A police POLE document (person, object, location, event) in JSON:API, by our own schema `data/pole.schema.json`.

The field names follow what is public of the national data standards (NPCC Minimum POLE Data Standards Dictionary
1.1, 2023); nothing is copied from them. One `event` of category `referral` or `decision`, one subject, and the
people, locations and organisations related to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from gateway.adapters import codes, strict_json, table
from gateway.adapters.base import AdapterError, Native
from gateway.adapters.mapping import Page
from gateway.adapters.table import DAY, FLAG, MOMENT, READ, Each, Field, Kind, Table
from gateway.messages import Canonical, Header, Problem

MEDIA_TYPE: Final = "application/vnd.referral-gateway.pole+json"
VERSION: Final = "1.0"
_GENDER: Final = table.codes({"male": "1", "female": "2", "indeterminate": "9", "unknown": "X"})
_ETHNICITY: Final = Kind(
    lambda value: codes.ethnicity("police", str(value)),
    lambda value: codes.ethnicity_code("police", value),
    "self-defined ethnicity, 16+1",
)
_ETHNICITY_CODED: Final = Kind(
    lambda value: codes.ethnicity_coded("police", str(value)) if value else None,
    lambda value: value.get("code") if codes.ethnicity("police", value.get("code", "")) else None,
    "kept as it was written",
)
_NAME: Final = (
    Each("givenName", "givenName", (Field("", ""),)),
    Each("surname", "familyName", (Field("", ""),)),
    Field("title", "prefix"),
    Field("fullName", "text"),
    Field("nameType", "use"),
)
_LOCATION: Final = (
    Field("addressLine1", "line1"),
    Field("addressLine2", "line2"),
    Field("addressLine3", "line3"),
    Field("postTown", "city"),
    Field("county", "county"),
    Field("postcode", "postcode"),
    Field("country", "country"),
    Field("uprn", "UPRN"),
    Field("usrn", "USRN"),
    Field("freeText", "text"),
    Field("use", "use"),
)
_CONTACT: Final = (
    Each("telephone", "telephone", (Field("", ""),)),
    Each("email", "email", (Field("", ""),)),
    Field("note", "note"),
    Field("contactName", "name"),
    Field("safeToUse", "safeToUse", FLAG),
)
_PROFESSIONAL: Final = (
    Each("collarNumber", "identifier", (Field("scheme", "scheme"), Field("number", "value"))),
    Each("name.givenName", "name.givenName", (Field("", ""),)),
    Each("name.surname", "name.familyName", (Field("", ""),)),
    Field("name.title", "name.prefix"),
    Field("name.fullName", "name.text"),
    Each("role", "role", (Field("", ""),)),
    Field("organisation", "organisation.name"),
    Each("contact.telephone", "contact.telephone", (Field("", ""),)),
    Each("contact.email", "contact.email", (Field("", ""),)),
)
REFERRAL: Final = Table(
    (
        Field("event.customerReferenceNumber", "reference"),
        Field("event.submitTime", "writtenAt", MOMENT),
        Field("event.changeType", "change"),
        Field("event.externalReferenceId", "previousReference"),
        Field("event.forceIdentifier", "additional.police.force"),
        Field("event.incidentReference", "additional.police.incidentReference"),
        Field("event.crimeReference", "additional.police.crimeReference"),
        Field("event.preventReference", "additional.police.preventReference"),
        Field(
            "event.assessment", "additional.police.assessment", note="what the police found before handing on"
        ),
        Field("event.investigationUnderWay", "additional.police.investigationUnderWay", FLAG),
        Each("event.category", "concern.category", (Field("", ""),)),
        Each("event.safeguardingCode", "concern.safeguardingCode", (Field("", ""),)),
        Field("event.preventType", "concern.preventType"),
        Field("event.description", "concern.narrative"),
        Field("event.actionsTaken", "concern.alreadyTried"),
        Field("event.startDate", "concern.began.date", DAY),
        Field("event.occurredAt", "concern.incidentAt", MOMENT),
        Field("event.reportedBy", "concern.identifiedBy"),
        Field("event.urgency", "urgency"),
        Field("event.immediateDanger", "immediateDanger"),
        Field("event.immediateDangerDetail", "immediateDangerDetail"),
        Field("event.officerSafety", "riskToProfessionals"),
        Field("event.consent.status", "consent.status"),
        Field("event.consent.reason", "consent.overrideReason"),
        Field("event.consent.detail", "consent.overrideDetail"),
        Field("event.consent.subjectAware", "consent.personAware", FLAG),
        Field("event.consent.doNotInform", "consent.doNotInform"),
        Field("event.requestedAction", "request.action"),
        Field("event.requestDetail", "request.detail"),
        Field("event.requestedService", "request.service.name"),
        Each("person.name", "person.name", _NAME),
        Field("person.dateOfBirth", "person.dateOfBirth.date", DAY),
        Field("person.age", "person.estimatedAge", table.NUMBER),
        Field("person.gender", "person.genderCode", _GENDER),
        Field("person.sex", "person.sexCode", _GENDER),
        Field("person.ethnicitySelfDefined", "person.ethnicity", _ETHNICITY_CODED),
        Field("person.ethnicitySelfDefined", "person.ethnicityCode", _ETHNICITY),
        Each("person.nationality", "person.nationality", (Field("", ""),)),
        Field("person.occupation", "person.occupation"),
        Field("person.description", "person.appearance"),
        Field("person.interpreterRequired", "person.interpreterNeeded", FLAG),
        Each("person.language", "person.language", (Field("code", "code"), Field("name", "name"))),
        Field("person.identification.pncID", "person.identifier[scheme=pnc-id].value"),
        Field("person.identification.croNumber", "person.identifier[scheme=cro-number].value"),
        Field("person.identification.nationalInsuranceNumber", "person.identifier[scheme=nino].value"),
        Field("person.identification.nhsNumber", "person.identifier[scheme=nhs-number].value"),
        Field("person.identification.upn", "person.identifier[scheme=upn].value"),
        Field("person.noFixedAbode", "person.noFixedAbode", FLAG),
        Each("location", "person.address", _LOCATION),
        Each("communication", "person.contact", _CONTACT),
        Each(
            "associate",
            "involved.people",
            (
                Each("name", "name", _NAME),
                Each("relationship", "relationship", (Field("", ""),)),
                Field("relationshipText", "relationshipText"),
                Field("role", "role"),
                Field("dateOfBirth", "dateOfBirth.date", DAY),
                Field("gender", "genderCode", _GENDER),
                Each("communication", "contact", _CONTACT),
                Each("location", "address", _LOCATION),
                Field("livesWithSubject", "livesWithPerson", FLAG),
                Field("note", "note"),
            ),
        ),
        Each("professional", "involved.professionals", _PROFESSIONAL),
        Each("officer.number", "referrer.identifier", (Field("scheme", "scheme"), Field("number", "value"))),
        Each("officer.name.givenName", "referrer.name.givenName", (Field("", ""),)),
        Each("officer.name.surname", "referrer.name.familyName", (Field("", ""),)),
        Field("officer.name.title", "referrer.name.prefix"),
        Field("officer.name.fullName", "referrer.name.text"),
        Each("officer.role", "referrer.role", (Field("", ""),)),
        Field("officer.organisation", "referrer.organisation.name"),
        Each("officer.telephone", "referrer.contact.telephone", (Field("", ""),)),
        Each("officer.email", "referrer.contact.email", (Field("", ""),)),
        Field("officer.sourceCode", "referrer.sourceCode"),
        Field("event.supplement", "note", on=READ),
    ),
    dropped={"event.supplement": "written: what else the message says, a line each; read into the note"},
)
DECISION: Final = Table(
    (
        Field("event.outcome", "outcome"),
        Field("event.reasonCode", "reasonCode"),
        Field("event.reason", "reasonText"),
        Each("event.questions", "questions", (Field("", ""),)),
        Field("event.decidedAt", "decidedAt", MOMENT),
        Field("event.customerReferenceNumber", "reference"),
        Field("event.externalReferenceId", "referralReference"),
        Field("event.nextStep", "nextStep.description"),
        Each(
            "event.handedTo",
            "signpostedTo",
            (Field("", "name"),),
            "a service that helps better: a handoff to be made",
        ),
        Field("event.subjectInformed", "personInformed", FLAG),
        Each("officer.name.givenName", "decidedBy.name.givenName", (Field("", ""),)),
        Each("officer.name.surname", "decidedBy.name.familyName", (Field("", ""),)),
        Field("officer.name.title", "decidedBy.name.prefix"),
        Field("officer.name.fullName", "decidedBy.name.text"),
        Each("officer.role", "decidedBy.role", (Field("", ""),)),
        Field("officer.organisation", "decidedBy.organisation.name"),
        Each("officer.telephone", "decidedBy.contact.telephone", (Field("", ""),)),
        Each("officer.email", "decidedBy.contact.email", (Field("", ""),)),
        Field("event.supplement", "note", on=READ),
    ),
    dropped={"event.supplement": "written: what else the message says, a line each; read into the note"},
)
_ROLES: Final = {
    "person": "subject",
    "location": "locations",
    "communication": "communications",
    "associate": "associates",
    "professional": "professionals",
    "officer": "officer",
}
"""Type of the related object, and the relationship it stands in."""
_SINGLE: Final = frozenset({"person", "officer"})


class Pole:
    """The `pole` adapter."""

    name = "pole"
    media_types = (MEDIA_TYPE,)
    page = Page(
        "Police: POLE in JSON:API",
        "A JSON:API document (`data`, `included`, `relationships`) by the schema `gateway/adapters/data/pole.schema.json`, "
        "which is ours: no public one exists. `data` is the event, with `attributes.eventType` `referral` or `decision`; "
        "`included` holds the subject (`person`), the officer, locations, means of communication, associates and "
        "professionals. In the tables `event.x` is an attribute of the event, `person.x` one of the subject, and so on.",
        [("Referral", REFERRAL.page_rows()), ("Decision", DECISION.page_rows())],
        table.REFERRAL_DEFAULTS,
    )

    def to_canonical(self, native: Native) -> Canonical:
        """See Adapter."""
        document = strict_json.loads(native.body)
        event = document.get("data") if isinstance(document, dict) else None
        if not isinstance(event, dict) or event.get("type") != "event":
            raise AdapterError([Problem("/data/type", "always event")])
        attributes = event.get("attributes")
        if not isinstance(attributes, dict):
            raise AdapterError([Problem("/data/attributes", "required")])
        flat = {"event": attributes, **_related(event, document.get("included"))}
        if attributes.get("eventType") == "decision":
            made = DECISION.read(flat)
            return table.decision(made)
        if attributes.get("eventType") != "referral":
            raise AdapterError([Problem("/data/attributes/eventType", "one of: referral, decision")])
        made = REFERRAL.read(flat)
        for path in ("person.contact", "involved.people"):
            if table.get(made, path) == []:
                raise AdapterError([Problem("/included", "objects with attributes")])
        return table.referral(made)

    def from_canonical(self, header: Header, message: Canonical, media_type: str) -> Native:
        """See Adapter."""
        rows = {table.REFERRAL: REFERRAL, table.DECISION: DECISION}.get(message.type)
        if rows is None:
            raise AdapterError([Problem("/type", "a referral or a decision")])
        flat = rows.write(message.document)
        event = {"eventType": message.type, **flat.pop("event", {})}
        if rest := rows.rest(message.document):
            event["supplement"] = "\n".join(rest)
        included = list(_included(flat))
        relationships: dict[str, Any] = {}
        for one in included:
            link = {"type": one["type"], "id": one["id"]}
            if one["type"] in _SINGLE:
                relationships[_ROLES[one["type"]]] = {"data": link}
            else:
                relationships.setdefault(_ROLES[one["type"]], {"data": []})["data"].append(link)
        document = {
            "jsonapi": {"version": "1.1"},
            "meta": {"schema": f"referral-gateway-pole/{VERSION}"},
            "data": {
                "type": "event",
                "id": header.message_id,
                "attributes": event,
                "relationships": relationships,
            },
            "included": included,
        }
        return Native(media_type, json.dumps(document, ensure_ascii=False, indent=1).encode())


def _related(event: Mapping[str, Any], included: Any) -> dict[str, Any]:
    """Attributes of what the event is related to, by type. What nothing links to is not part of it."""
    objects = {
        (one.get("type"), one.get("id")): one.get("attributes")
        for one in (included if isinstance(included, list) else ())
        if isinstance(one, dict)
        and isinstance(one.get("id"), str)
        and isinstance(one.get("attributes"), dict)
    }
    found: dict[str, Any] = {}
    for type_, role in _ROLES.items():
        links = table.get(event, f"relationships.{role}.data")
        for link in links if isinstance(links, list) else [links]:
            attributes = objects.get((type_, link.get("id"))) if isinstance(link, dict) else None
            if attributes is None:
                continue
            if type_ in _SINGLE:
                found[type_] = attributes
            else:
                found.setdefault(type_, []).append(attributes)
    return found


def _included(flat: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for type_ in _ROLES:
        value = flat.get(type_)
        items: Sequence[Any] = value if isinstance(value, list) else [value] if value else ()
        for number, attributes in enumerate(items, start=1):
            yield {"type": type_, "id": str(number), "attributes": attributes}


def schema() -> dict[str, Any]:
    """The JSON Schema of these documents, made from the tables: docs/adapters/pole.schema.json."""
    shapes = table.shapes([*REFERRAL.rows, *DECISION.rows])
    shapes["event"]["properties"]["supplement"] = {"type": "string"}
    shapes["event"]["properties"]["eventType"] = {"enum": [table.REFERRAL, table.DECISION]}
    shapes["event"]["required"] = ["eventType"]
    objects = [
        _object(
            {
                "type": {"const": type_},
                "id": {"type": "string"},
                "attributes": shapes[type_]["items"] if "items" in shapes[type_] else shapes[type_],
            }
        )
        for type_ in _ROLES
    ]
    link = _object({"type": {"type": "string"}, "id": {"type": "string"}})
    relationships = {
        role: {
            "type": "object",
            "properties": {"data": link if type_ in _SINGLE else {"type": "array", "items": link}},
        }
        for type_, role in _ROLES.items()
    }
    event = {
        "type": {"const": "event"},
        "id": {"type": "string"},
        "attributes": shapes["event"],
        "relationships": {"type": "object", "properties": relationships, "additionalProperties": False},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:referral-gateway:pole:{VERSION}",
        "title": "Police POLE document",
        **_object(
            {
                "jsonapi": {"type": "object"},
                "meta": {"type": "object"},
                "data": _object(event),
                "included": {"type": "array", "items": {"anyOf": objects}},
            }
        ),
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


ADAPTER: Final = Pole()
