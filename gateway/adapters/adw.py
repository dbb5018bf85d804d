"""ADW: what hospitals and councils' social services send each other about a patient's care and discharge.

SCCI2075 (Assessment, Discharge and Withdrawal notices) as FHIR message Bundles, with the accepting and rejecting
answers. The published examples mix DSTU2 and STU3, so elements are looked for under both names. Codes:
`data/adw.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from gateway.adapters import codes, fhir_xml, strict_json, table
from gateway.adapters.base import AdapterError, Native
from gateway.adapters.fhir_bundle import Bundle, objects, one, text, wording
from gateway.adapters.mapping import Page
from gateway.adapters.table import DAY, MOMENT, READ, Each, Field, Kind, Table
from gateway.messages import Canonical, Header, Problem

XML: Final = "application/vnd.referral-gateway.adw+xml"
JSON: Final = "application/vnd.referral-gateway.adw+json"
SNOMED: Final = "http://snomed.info/sct"
REJECT_REASON: Final = "https://fhir.nhs.uk/ADW-NoticeRejectReason-1"
_CODES: Final = codes.data("adw")
_NOTICES: Final[Mapping[str, Mapping[str, str]]] = _CODES["notices"]
_ANSWERS: Final[Mapping[str, Mapping[str, str]]] = _CODES["answers"]
_GENDER: Final = Kind(
    lambda value: codes.sex("fhir", str(value)),
    lambda value: codes.sex_code("fhir", value),
    "FHIR administrative gender",
)

_NAME: Final = (
    Each("family", "familyName", (Field("", ""),)),
    Each("given", "givenName", (Field("", ""),)),
    Field("prefix[0]", "prefix"),
    Field("text", "text"),
    Field("use", "use"),
)
_ADDRESS: Final = (
    Field("line[0]", "line1"),
    Field("line[1]", "line2"),
    Field("line[2]", "line3"),
    Field("city", "city"),
    Field("district", "county"),
    Field("postalCode", "postcode"),
    Field("country", "country"),
)
REFERRAL: Final = Table(
    (
        Field("header.timestamp", "writtenAt", MOMENT),
        Field("request.identifier[0].value", "reference"),
        Field(
            "request.reason.text",
            "concern.narrative",
            note="with `description` on a line of its own",
            on=READ,
        ),
        Field("request.description", "concern.narrative"),
        Field(
            "patient.identifier[system=https://fhir.nhs.uk/Id/nhs-number].value",
            "person.identifier[scheme=nhs-number].value",
        ),
        Field(
            "patient.identifier[system=https://fhir.nhs.uk/Id/local-patient-identifier].value",
            "person.identifier[scheme=hospital-number].value",
        ),
        Each("patient.name", "person.name", _NAME),
        Field("patient.gender", "person.genderCode", _GENDER),
        Field("patient.birthDate", "person.dateOfBirth.date", DAY),
        Each("patient.address", "person.address", _ADDRESS),
        Field("patient.telecom[system=phone].value", "person.contact[0].telephone[0]"),
        Field("patient.telecom[system=email].value", "person.contact[0].email[0]"),
        Each(
            "patient.contact",
            "involved.people",
            (
                Field(
                    "name",
                    "name[0]",
                    Kind(lambda v: Table(_NAME).read(v) or None, lambda v: Table(_NAME).write(v)),
                ),
                Field("relationship[0].coding[0].display", "relationshipText"),
                Field("telecom[system=phone].value", "contact[0].telephone[0]"),
                Field("telecom[system=email].value", "contact[0].email[0]"),
            ),
        ),
        Field("encounter.identifier[0].value", "additional.health.encounterReference"),
        Field("encounter.period.start", "additional.health.admittedAt", MOMENT),
        Field("encounter.period.end", "additional.health.dischargeAt", MOMENT),
    ),
    dropped={
        "header.event": "which notice: `change` and `request`; see above",
        "header.reason": "why it was withdrawn: `concern.narrative`",
        "header.author, its practitionerRole and organisation": "`referrer`",
        "header.receiver": "`request.service.name`",
        "patient.careProvider, encounter.participant": "`involved.professionals`",
        "condition, questionnaireResponse": "`additional.health.clinicalSummary`, a line each",
        "encounter.period": "a date without a time: a line of `additional.health.clinicalSummary`",
        "documents (Bundle, Binary, DocumentReference)": "in the original only",
    },
)


class Adw:
    """The `adw` adapter."""

    name = "adw"
    media_types = (XML, JSON)
    page = Page(
        "Hospital to social services: ADW notices",
        "The notices of SCCI2075 as FHIR message Bundles, XML and JSON (name it: `adapter=adw`, since their media type is "
        "FHIR's). Its accept, reject and withdraw are ours:\n\n"
        "| notice | becomes |\n|---|---|\n"
        "| assessment notice | `referral`, change `new`, request `assess` |\n"
        "| admission notice | `referral`, change `new`, request `information-only` |\n"
        "| discharge notice | `referral`, change `update`, request `support` |\n"
        "| withdrawal notice | `referral`, change `withdraw` |\n"
        "| accept and reject responses, of each | `decision` `accepted`, `declined` |\n\n"
        "A decision is written as the answer to an assessment notice, or to the notice that its note names "
        "(`ADW: discharge`, `ADW: withdrawal`). It carries who decided, the reason, the referral's own identifier and the "
        "message it answers; it repeats nothing of the patient, whom a decision does not name.",
        [("Notice", REFERRAL.page_rows())],
        [*table.REFERRAL_DEFAULTS, ("concern.category", "`social-care`: what these notices are about")],
    )

    def to_canonical(self, native: Native) -> Canonical:
        """See Adapter."""
        document = (
            fhir_xml.read(native.body)
            if native.media_type.endswith("xml")
            else strict_json.loads(native.body)
        )
        if not isinstance(document, dict) or (document.get("resourceType"), document.get("type")) != (
            "Bundle",
            "message",
        ):
            raise AdapterError([Problem("/type", "a Bundle of type message")])
        bundle = Bundle.of(document)
        header = next(iter(bundle.of_type("MessageHeader")), None)
        if header is None:
            raise AdapterError([Problem("/entry", "an entry with a MessageHeader")])
        event = text(header, "event", "code") or ""
        if event in _ANSWERS:
            return _decision(bundle, header, _ANSWERS[event])
        if event not in _NOTICES:
            raise AdapterError([Problem("/entry/0/resource/event/code", "an ADW notice or its answer")])
        return _referral(bundle, header, _NOTICES[event])

    def from_canonical(self, header: Header, message: Canonical, media_type: str) -> Native:
        """See Adapter."""
        write = {table.REFERRAL: _write_referral, table.DECISION: _write_decision}.get(message.type)
        if write is None:
            raise AdapterError([Problem("/type", "a referral or a decision")])
        bundle = {
            "resourceType": "Bundle",
            "id": header.message_id,
            "type": "message",
            "entry": [
                {"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource}
                for resource in write(header, message.document)
            ],
        }
        if media_type.endswith("xml"):
            return Native(media_type, fhir_xml.write(bundle))
        return Native(media_type, json.dumps(bundle, ensure_ascii=False, indent=1).encode())


def _referral(bundle: Bundle, header: Mapping[str, Any], notice: Mapping[str, str]) -> Canonical:
    request = _linked(bundle, header, "data", "focus") or next(iter(bundle.of_type("ReferralRequest")), {})
    encounter = bundle.resolve(request, "encounter") or next(iter(bundle.of_type("Encounter")), {})
    linked = (bundle.resolve(request, "patient"), bundle.resolve(request, "subject"))
    patients = [*linked, *bundle.of_type("Patient")]
    patient = next((found for found in patients if text(found, "resourceType") == "Patient"), None)
    if patient is None:
        raise AdapterError([Problem("/entry", "an entry with a Patient")])
    document = REFERRAL.read(
        {"header": header, "request": request, "patient": patient, "encounter": encounter}
    )
    said = [text(request, "reason", "text"), text(request, "description"), wording(header, "reason")]
    table.put(document, "concern.narrative", "\n".join(filter(None, said)) or notice["says"])
    table.put(document, "concern.category", ["social-care"])
    document["change"] = notice["change"]
    table.put(document, "request.action", notice["action"])
    if document["change"] != "new" and "reference" in document:
        document["previousReference"] = document["reference"]
    if receiver := _named(bundle, _linked(bundle, header, "receiver")):
        table.put(document, "request.service.name", receiver)
    if referrer := _professional(bundle, _linked(bundle, header, "author")):
        document["referrer"] = referrer
    involved = [bundle.get(text(link, "reference")) for link in objects(patient, "careProvider")]
    involved += [bundle.resolve(link, "individual") for link in objects(encounter, "participant")]
    if professionals := [found for person in involved if (found := _professional(bundle, person))]:
        table.put(document, "involved.professionals", professionals)
    if lines := _clinical(bundle, encounter):
        table.put(document, "additional.health.clinicalSummary", "\n".join(lines))
    for person in table.get(document, "involved.people") or ():
        if "name" not in person:
            person["role"] = "other"
    return table.referral(document)


def _linked(bundle: Bundle, holder: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    return next((found for name in names if (found := bundle.resolve(holder, name))), {})


def _clinical(bundle: Bundle, encounter: Mapping[str, Any]) -> list[str]:
    lines = [f"Condition: {said}" for one_ in bundle.of_type("Condition") if (said := wording(one_, "code"))]
    for name, label in (("start", "Admitted"), ("end", "Expected discharge")):
        if (when := text(encounter, "period", name)) and MOMENT.read(when) is None:
            lines.append(f"{label}: {when}")
    for response in bundle.of_type("QuestionnaireResponse"):
        for question in [*objects(one(response, "group"), "question"), *objects(response, "item")]:
            answers = [
                value
                for answer in objects(question, "answer")
                for name in answer
                if name.startswith("value")
                and (value := text(answer, name) or wording(answer, name) or text(answer, name, "display"))
            ]
            if answers:
                lines.append(
                    f"{text(question, 'text') or text(question, 'linkId') or 'Question'}: {', '.join(answers)}"
                )
    return lines


def _named(bundle: Bundle, resource: Mapping[str, Any]) -> str | None:
    """What a person would call a practitioner's organisation, or the organisation itself."""
    if text(resource, "resourceType") == "Organization":
        return text(resource, "name")
    return text(_organisation(bundle, resource), "name")


def _organisation(bundle: Bundle, person: Mapping[str, Any]) -> Mapping[str, Any]:
    role = one(person, "practitionerRole")
    return bundle.resolve(role, "managingOrganization") or bundle.resolve(role, "organization")


def _professional(bundle: Bundle, person: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if text(person, "resourceType") == "Organization":
        return {"organisation": {"name": name}} if (name := text(person, "name")) else {}
    if read := Table(_NAME).read(one(person, "name")):
        found["name"] = read
    role = one(person, "practitionerRole")
    said = wording(role, "role") or wording(role, "code")
    found |= {"role": [said]} if said else {}
    name = text(_organisation(bundle, person), "name")
    found |= {"organisation": {"name": name}} if name else {}
    ways = {
        kind: [
            value
            for one_ in objects(person, "telecom")
            if text(one_, "system") == system and (value := text(one_, "value"))
        ]
        for kind, system in (("telephone", "phone"), ("email", "email"))
    }
    contact = {kind: values for kind, values in ways.items() if values}
    return found | ({"contact": contact} if contact else {})


def _decision(bundle: Bundle, header: Mapping[str, Any], answer: Mapping[str, str]) -> Canonical:
    request = _linked(bundle, header, "data", "focus")
    document: dict[str, Any] = {"outcome": answer["outcome"], "note": f"ADW: {answer['notice']}"}
    if answer["outcome"] == "declined":
        code = next((text(coding, "code") for coding in objects(one(header, "reason"), "coding")), None)
        document["reasonCode"] = _CODES["reasons"].get(code or "", "other")
        document["reasonText"] = wording(header, "reason") or "No reason was given."
    if reference := text(request, "identifier", "value"):
        document["referralReference"] = reference
    if decided := MOMENT.read(text(header, "timestamp") or ""):
        document["decidedAt"] = decided
    if who := _professional(bundle, _linked(bundle, header, "author")):
        document["decidedBy"] = who
    return table.decision(document)


def _write_referral(header: Header, document: Mapping[str, Any]) -> list[dict[str, Any]]:
    change = document.get("change", "new")
    action = table.get(document, "request.action")
    event = next(
        (code for code, one_ in _NOTICES.items() if one_["change"] == change and one_["action"] == action),
        next(code for code, one_ in _NOTICES.items() if one_["change"] == change),
    )
    native = REFERRAL.write(document)
    rest = [
        line
        for line in REFERRAL.rest(document)
        if not line.startswith(("request.action", "referrer.", "change"))
    ]
    author = _write_professional(header, document["referrer"], "1")
    rest += [line for line in REFERRAL.rest(document) if line.startswith("referrer.") and not _is_held(line)]
    narrative = table.get(native, "request.description")
    request = {
        "resourceType": "ReferralRequest",
        "id": _id(header, "2"),
        "status": "cancelled" if change == "withdraw" else "requested",
        "identifier": [{"value": document.get("reference") or header.message_id}],
        "patient": {"reference": f"urn:uuid:{_id(header, '3')}"},
        "requester": {"reference": f"urn:uuid:{author[0]['id']}"},
        "encounter": {"reference": f"urn:uuid:{_id(header, '4')}"},
        "description": "\n".join([*([narrative] if narrative else []), *rest]),
    }
    head = _head(header, event, author[0]["id"], _id(header, "2"), native.get("header", {}).get("timestamp"))
    patient = {"resourceType": "Patient", "id": _id(header, "3"), **native.get("patient", {})}
    encounter = {
        "resourceType": "Encounter",
        "id": _id(header, "4"),
        "status": "in-progress",
        **native.get("encounter", {}),
    }
    return [head, request, patient, encounter, *author]


def _is_held(line: str) -> bool:
    held = ("name.", "role[0]", "organisation.name", "contact.telephone", "contact.email")
    return line.partition(".")[2].startswith(held)


def _id(header: Header, what: str) -> str:
    """An identifier in the bundle: the envelope's, with its last digit replaced."""
    return f"{header.envelope_id[:-1]}{what}"


def _head(header: Header, event: str, author: str, data: str, timestamp: str | None) -> dict[str, Any]:
    return {
        "resourceType": "MessageHeader",
        "id": header.message_id,
        "timestamp": timestamp or table.moment_of(header.created),
        "event": {"system": SNOMED, "code": event},
        "source": {"endpoint": f"urn:referral-gateway:agency:{header.sender}"},
        "destination": [{"endpoint": f"urn:referral-gateway:agency:{header.recipient}"}],
        "author": {"reference": f"urn:uuid:{author}"},
        "data": [{"reference": f"urn:uuid:{data}"}],
    }


def _write_professional(header: Header, who: Mapping[str, Any], number: str) -> list[dict[str, Any]]:
    """The practitioner and the organisation behind."""
    person: dict[str, Any] = {"resourceType": "Practitioner", "id": _id(header, f"{number}")}
    if name := Table(_NAME).write(who.get("name", {})):
        person["name"] = name
    person["telecom"] = [
        {"system": system, "value": value}
        for kind, system in (("telephone", "phone"), ("email", "email"))
        for value in who.get("contact", {}).get(kind, ())
    ]
    role: dict[str, Any] = {"role": {"text": who["role"][0]}} if who.get("role") else {}
    made = [person]
    if place := table.get(who, "organisation.name"):
        made.append({"resourceType": "Organization", "id": _id(header, "9"), "name": place})
        role["managingOrganization"] = {"reference": f"urn:uuid:{_id(header, '9')}"}
    if role:
        person["practitionerRole"] = [role]
    return [{name: value for name, value in one_.items() if value} for one_ in made]


def _write_decision(header: Header, document: Mapping[str, Any]) -> list[dict[str, Any]]:
    note = str(document.get("note", ""))
    notice = next((kind for kind in ("discharge", "withdrawal") if f"ADW: {kind}" in note), "assessment")
    wanted = {"outcome": document["outcome"], "notice": notice}
    event = next((code for code, one_ in _ANSWERS.items() if dict(one_) == wanted), None)
    if event is None:
        raise AdapterError([Problem("/outcome", "one of: accepted, declined")])
    author = _write_professional(header, document["decidedBy"], "1")
    accepted = document["outcome"] == "accepted"
    head = _head(header, event, author[0]["id"], _id(header, "2"), document.get("decidedAt"))
    head["response"] = {"identifier": header.in_reply_to or header.message_id, "code": "ok"}
    if not accepted:
        back = {ours: theirs for theirs, ours in _CODES["reasons"].items()}
        code = back.get(document["reasonCode"], "OFT")
        said = document.get("reasonText") or document["reasonCode"].replace("-", " ")
        head["reason"] = {"coding": [{"system": REJECT_REASON, "code": code}], "text": said}
    held = ("outcome", "reasonCode", "reasonText", "decidedAt", "referralReference", "decidedBy.")
    lines = [line for line in Table(()).rest(document) if not line.startswith(held)]
    lines += [
        line for line in Table(()).rest(document) if line.startswith("decidedBy.") and not _is_held(line)
    ]
    answer = {
        "resourceType": "ReferralRequest",
        "id": _id(header, "2"),
        "status": "accepted" if accepted else "rejected",
        "identifier": [
            {"value": document.get("referralReference") or header.in_reply_to or header.message_id}
        ],
        "description": "\n".join(lines),
    }
    return [head, {name: value for name, value in answer.items() if value}, *author]


ADAPTER: Final = Adw()
