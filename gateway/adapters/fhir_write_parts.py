"""Writing the parts of a FHIR R4 message: strictly, elements in R4's order, lists where R4 has lists.

What may live here: pure functions from canonical parts to FHIR data types and small resources, and the
`Draft` that collects resources into one Bundle. What a data type cannot hold is left out:
fhir_fields carries it.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from gateway.adapters import fhir_terms as terms
from gateway.adapters.fhir_read_parts import present
from gateway.messages import Header, moment

_URI = re.compile(r"\S+")
_CODE = re.compile(r"\S+(?:\s\S+)*")
_FHIR_GENDERS = {code: gender for gender, code in terms.GENDER_CODES.items()}
_TELECOM_USES = ("home", "work", "temp", "old", "mobile")
# FHIR strings and XML alike hold no control characters but tab, line feed and carriage return.
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Draft:
    """One Bundle being put together. Identifiers depend on the message id and the order of `add` only."""

    def __init__(self, header: Header) -> None:
        self._namespace = uuid.UUID(header.message_id)
        self._entries: list[dict[str, Any]] = []
        self.header = header
        self.when = instant(header.created)

    def promise(self, name: str) -> str:
        """The URN that `add` will give the resource of this name."""
        return uuid.uuid5(self._namespace, name).urn

    def add(self, resource: Mapping[str, Any], *, urn: str | None = None) -> dict[str, str]:
        """Enter a resource and return a Reference to it."""
        urn = urn or self.promise(str(len(self._entries)))
        self._entries.append({"fullUrl": urn, "resource": resource})
        return {"reference": urn}

    def reference_to(self, kind: str) -> dict[str, str]:
        """A Reference to the first resource of this type."""
        found = next(entry for entry in self._entries if entry["resource"]["resourceType"] == kind)
        return {"reference": found["fullUrl"]}

    def bundle(self, message_header: Mapping[str, Any]) -> dict[str, Any]:
        """The whole message: the header first, as FHIR requires, and no character that FHIR forbids."""
        first = {"fullUrl": self.promise("MessageHeader"), "resource": message_header}
        document = {
            "resourceType": "Bundle",
            "id": self.header.message_id,
            "meta": {
                "lastUpdated": self.when,
                "profile": [f"{terms.NHS}/StructureDefinition/BARSBundleMessage"],
            },
            "type": "message",
            "timestamp": self.when,
            "entry": [first, *self._entries],
        }
        return {name: _clean(value) for name, value in document.items()}


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _UNWRITABLE.sub("\ufffd", value)
    if isinstance(value, Mapping):
        return {name: _clean(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_clean(inner) for inner in value]
    return value


def instant(milliseconds: int) -> str:
    """A FHIR instant, UTC."""
    return f"{moment(milliseconds):%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"


def coding(system: str, code: str, display: str | None = None) -> dict[str, Any]:
    """A Coding."""
    return present(system=system, code=code, display=display)


def concept(system: str, code: str, display: str | None = None, text: str | None = None) -> dict[str, Any]:
    """A CodeableConcept of one coding."""
    return present(coding=[coding(system, code, display)], text=text)


def concept_of(coded: Mapping[str, Any]) -> dict[str, Any]:
    """A canonical coded value as a CodeableConcept; as words alone where FHIR cannot hold its code."""
    system, code, display = coded.get("system"), coded.get("code"), coded.get("display")
    if code and _CODE.fullmatch(code) and (system is None or _URI.fullmatch(system)):
        return {"coding": [present(system=system, code=code, display=display)]}
    return {"text": display or code}


def identifiers(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Canonical identifiers as FHIR Identifiers."""
    written = []
    for identifier in found:
        scheme, system = identifier["scheme"], identifier.get("system")
        if scheme != "other":
            system = terms.system_of(scheme)
        elif system is not None and not _URI.fullmatch(system):
            system = None
        written.append(present(system=system, value=identifier["value"]))
    return written


def human_name(name: Mapping[str, Any]) -> dict[str, Any]:
    """A HumanName. R4 holds one family name, so several parts are joined."""
    return present(
        use=name.get("use"),
        text=name.get("text"),
        family=" ".join(name.get("familyName", [])),
        given=list(name.get("givenName", [])),
        prefix=[name["prefix"]] if "prefix" in name else [],
    ) or {"text": name.get("preferredName")}


def addresses(places: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Addresses, those left out of which FHIR could hold nothing."""
    return [found for place in places if (found := _address(place))]


def _address(found: Mapping[str, Any]) -> dict[str, Any]:
    return present(
        use=found.get("use"),
        text=found.get("text"),
        line=[found[name] for name in ("line1", "line2", "line3") if name in found],
        city=found.get("city"),
        district=found.get("county"),
        postalCode=found.get("postcode"),
        country=found.get("country"),
        period=present(start=on_calendar(found.get("start")), end=on_calendar(found.get("end"))),
    )


def telecoms(contacts: Sequence[Mapping[str, Any]], *, at_work: bool = False) -> list[dict[str, Any]]:
    """ContactPoints, telephone before e-mail. `at_work`: R4 forbids organisations the use `home` (org-3)."""
    written = []
    for contact in contacts:
        use = str(contact.get("name", "")).lower()
        known = use if use in _TELECOM_USES and not (at_work and use == "home") else None
        for kind, system in (("telephone", "phone"), ("email", "email")):
            written += [present(system=system, value=value, use=known) for value in contact.get(kind, [])]
    return written


def on_calendar(value: str | None) -> str | None:
    """A date or dateTime, unless its day does not exist: the schema lets 29 February stand in any year."""
    try:
        datetime.fromisoformat((value or "")[:10])
    except ValueError:
        return None
    return value


def partial_date(found: Mapping[str, Any] | None) -> str | None:
    """A FHIR date as exact as what is known: a year, a month or a day."""
    if not found or not on_calendar(found["date"]):
        return None
    accuracy = found.get("accuracyIndicator", "AAA")
    length = 4 if accuracy[1] == "U" else 7 if accuracy[0] == "U" else 10
    return str(found["date"])[:length]


def gender(code: str | None) -> str | None:
    """A FHIR administrative gender."""
    return _FHIR_GENDERS.get(code or "")


def organisation(found: Mapping[str, Any]) -> dict[str, Any]:
    """An Organization. R4 allows it no home address (org-2)."""
    places = [place for place in found.get("address", []) if place.get("use") != "home"]
    return {"resourceType": "Organization"} | present(
        identifier=identifiers(found.get("identifier", [])),
        type=[{"text": kind} for kind in found.get("type", [])],
        name=found.get("name"),
        telecom=telecoms(found.get("contact", []), at_work=True),
        address=addresses(places),
    )


def agency(agency_id: str) -> dict[str, Any]:
    """An agency of the gateway as an Organization."""
    return {
        "resourceType": "Organization",
        "identifier": [{"system": terms.AGENCY, "value": agency_id}],
        "name": agency_id,
    }


def add_professional(draft: Draft, found: Mapping[str, Any]) -> dict[str, str]:
    """Enter a professional as PractitionerRole, with Practitioner and Organization as far as known."""
    person = present(
        identifier=identifiers(found.get("identifier", [])),
        name=[human_name(found["name"])] if "name" in found else [],
        telecom=telecoms([found.get("contact", {})]),
    )
    practitioner = draft.add({"resourceType": "Practitioner"} | person) if person else None
    works_for = draft.add(organisation(found["organisation"])) if "organisation" in found else None
    return draft.add(
        {"resourceType": "PractitionerRole"}
        | present(
            practitioner=practitioner,
            organization=works_for,
            code=[{"text": role} for role in found.get("role", [])],
        )
    )


def flag(category: tuple[str, str], code: Mapping[str, Any], patient: Mapping[str, str]) -> dict[str, Any]:
    """An active Flag. `category` is a code of flag-categories-bars and its display."""
    return {
        "resourceType": "Flag",
        "status": "active",
        "category": [concept(terms.FLAG_CATEGORIES, *category)],
        "code": code,
        "subject": patient,
    }


def observation(code: Mapping[str, Any], patient: Mapping[str, str], **value: Any) -> dict[str, Any]:
    """A final Observation. `value` is one value[x], or component."""
    return {"resourceType": "Observation", "status": "final", "code": code, "subject": patient, **value}


def message_header(draft: Draft, event: str, reason: str, definition: str, **parts: Any) -> dict[str, Any]:
    """The MessageHeader from this header's sender to its recipient. `parts`: response (or none) and focus."""
    header = draft.header
    sender = draft.add(agency(header.sender))
    recipient = draft.add(agency(header.recipient))
    return {
        "resourceType": "MessageHeader",
        "meta": {
            "lastUpdated": draft.when,
            "profile": [f"{terms.NHS}/StructureDefinition/BARSMessageHeader-{event}"],
        },
        "eventCoding": coding(terms.EVENTS, event),
        "destination": [{"endpoint": f"{terms.AGENCY}:{header.recipient}", "receiver": recipient}],
        "sender": sender,
        "source": {
            "name": header.sender,
            "software": "Referral Gateway",
            "endpoint": f"{terms.AGENCY}:{header.sender}",
        },
        "reason": concept(terms.MESSAGE_REASONS, reason),
        **parts,
        "definition": f"{terms.NHS}/MessageDefinition/bars-message-{definition}",
    }
