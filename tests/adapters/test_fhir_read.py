"""Reading BaRS messages: our own examples, what is refused, and the rules for what a message leaves out."""

from __future__ import annotations

import copy
import json
from importlib import resources
from typing import Any

import pytest

from gateway import schemas
from gateway.adapters import fhir_xml
from gateway.adapters.base import Adapter, AdapterError, Native
from gateway.adapters.fhir_bars import ADAPTER, JSON, XML
from tests.adapters import fhir_r4

HL7 = "http://terminology.hl7.org/CodeSystem"
BARS = "https://fhir.nhs.uk/CodeSystem"
EXAMPLES = resources.files("gateway.adapters") / "examples" / "fhir-bars"
CHILD = json.loads((EXAMPLES / "ed-to-childrens-social-care.json").read_bytes())


def read(document: Any) -> dict[str, Any]:
    canonical = ADAPTER.to_canonical(Native(JSON, json.dumps(document).encode()))
    assert schemas.validate(canonical.type, canonical.version, canonical.document) == []
    return dict(canonical.document)


def changed(kind: str, **fields: Any) -> dict[str, Any]:
    """The child's referral with fields of its first resource of this type replaced, or removed by None."""
    document = copy.deepcopy(CHILD)
    for entry in document["entry"]:
        if entry["resource"]["resourceType"] == kind:
            entry["resource"].update(fields)
            for name in [name for name, value in fields.items() if value is None]:
                del entry["resource"][name]
            return document
    raise LookupError(kind)


def concepts(system: str, code: str, **more: str) -> list[dict[str, Any]]:
    return [{"coding": [{"system": system, "code": code}], **more}]


def without(kind: str) -> dict[str, Any]:
    kept = [entry for entry in CHILD["entry"] if entry["resource"]["resourceType"] != kind]
    return CHILD | {"entry": kept}


def test_it_is_an_adapter() -> None:
    assert isinstance(ADAPTER, Adapter)
    assert ADAPTER.name == "fhir-bars"
    assert ADAPTER.media_types == ("application/fhir+json", "application/fhir+xml")


def test_the_child_seen_in_the_emergency_department() -> None:
    found = read(CHILD)
    assert found["reference"] == "ED-2026-118043"
    assert found["writtenAt"] == "2026-02-10T21:35:00+00:00"
    assert found["person"]["identifier"][0] == {"scheme": "nhs-number", "value": "9990001235"}
    assert found["person"]["name"][0]["familyName"] == ["Fernsby"]
    assert found["person"]["dateOfBirth"] == {"date": "2017-05-23"}
    assert found["concern"]["category"] == ["child-safeguarding", "physical-abuse"]
    assert found["concern"]["safeguardingCode"] == ["836881000000105", "700255001"]
    assert found["concern"]["narrative"].startswith("Injuries not explained")
    assert found["consent"] == {"status": "implied", "date": "2026-02-10"}
    assert (found["urgency"], found["immediateDanger"]) == ("urgent", "not-known")
    assert [person["relationship"] for person in found["involved"]["people"]] == [["MTH"], ["SIB"]]
    assert found["involved"]["organisations"][0]["role"] == "General practice"
    assert found["referrer"]["name"]["familyName"] == ["Adeyemi-Clarke"]
    assert found["referrer"]["organisation"]["identifier"] == [{"scheme": "ods-code", "value": "X9N01A"}]
    assert found["request"]["service"]["name"] == "Northtown Council Children's Social Care"
    assert found["additional"]["health"]["clinicalSummary"].startswith("Two rib fractures")


def test_the_prevent_referral_in_xml() -> None:
    body = (EXAMPLES / "mental-health-to-police-prevent.xml").read_bytes()
    canonical = ADAPTER.to_canonical(Native(XML, body))
    found = canonical.document
    assert schemas.validate(canonical.type, 1, found) == []
    assert found["concern"]["category"] == ["radicalisation"]
    assert found["concern"]["safeguardingCode"] == ["766969008"]
    assert found["consent"]["status"] == "given"
    assert found["urgency"] == "routine"
    assert found["note"].startswith("Discussed with")
    assert found["referrer"]["role"] == ["Community psychiatric nurse"]
    assert found["person"]["contact"] == [{"name": "Mobile", "telephone": ["07700 900461"]}]


def test_the_answer_of_childrens_social_care() -> None:
    found = read(json.loads((EXAMPLES / "childrens-social-care-response.json").read_bytes()))
    assert (found["type"], found["outcome"]) == ("decision", "accepted")
    assert found["decidedBy"]["name"]["familyName"] == ["Marchetti"]
    assert found["reference"] == "CF-50217"
    assert found["referralReference"] == CHILD["id"]
    assert found["note"].startswith("Strategy meeting")


@pytest.mark.parametrize("entry", sorted(e.name for e in EXAMPLES.iterdir()))
def test_our_examples_read_alike_as_xml_and_json(entry: str) -> None:
    body = (EXAMPLES / entry).read_bytes()
    document = fhir_xml.read(body) if entry.endswith("xml") else json.loads(body)
    from_json = ADAPTER.to_canonical(Native(JSON, json.dumps(document).encode()))
    from_xml = ADAPTER.to_canonical(Native(XML, fhir_xml.write(document)))
    assert from_json.document == from_xml.document
    if entry.endswith("json"):
        assert [f for f in fhir_r4.faults(document) if "unknown elements" not in f] == []


REMOVE_REQUEST = without("ServiceRequest")
NOT_A_PATIENT = changed("ServiceRequest", subject={"reference": "urn:uuid:nobody"})
NOT_A_PATIENT["entry"] = [e for e in NOT_A_PATIENT["entry"] if e["resource"]["resourceType"] != "Patient"]


@pytest.mark.parametrize(
    ("document", "pointer", "rule"),
    [
        ({"resourceType": "Patient"}, "/resourceType", "always Bundle"),
        (CHILD | {"type": "searchset"}, "/type", "always message"),
        (CHILD | {"entry": []}, "/entry", "an entry with a MessageHeader"),
        (
            changed("MessageHeader", eventCoding={"code": "booking-request"}),
            "/entry/0/resource/eventCoding/code",
            "event not supported: only servicerequest-request and servicerequest-response",
        ),
        (
            changed("MessageHeader", reason=concepts(f"{BARS}/message-reason-bars", "merge")[0]),
            "/entry/0/resource/reason/coding/0/code",
            "one of: new, update, delete",
        ),
        (REMOVE_REQUEST, "/entry/0/resource/focus", "a ServiceRequest in this bundle"),
        (NOT_A_PATIENT, "/entry/1/resource/subject/reference", "a Patient in this bundle"),
        ([], "", "an object"),
    ],
)
def test_refused_with_a_pointer_and_a_rule(document: Any, pointer: str, rule: str) -> None:
    with pytest.raises(AdapterError) as refused:
        read(document)
    assert not refused.value.malformed
    assert [(p.pointer, p.rule) for p in refused.value.problems] == [(pointer, rule)]


def test_json_that_is_not_json_is_malformed() -> None:
    for body in (b"{", b'{"type": "message", "type": "x"}', b'{"type": "\xe9"}', b"[" * 100_000, b""):
        with pytest.raises(AdapterError) as refused:
            ADAPTER.to_canonical(Native(JSON, body))
        assert refused.value.malformed


def test_a_failure_report_is_no_decision() -> None:
    document = json.loads((EXAMPLES / "childrens-social-care-response.json").read_bytes())
    document["entry"][0]["resource"]["response"]["code"] = "transient-error"
    with pytest.raises(AdapterError) as refused:
        read(document)
    assert refused.value.problems[0].pointer == "/entry/0/resource/response/code"


@pytest.mark.parametrize(
    ("consent", "expected"),
    [
        ({"status": "active", "policyRule": concepts(f"{HL7}/v3-ActCode", "OPTIN")[0]}, "given"),
        ({"status": "active", "policyRule": None}, "implied"),
        ({"status": "rejected"}, "refused-overridden"),
        ({"status": "active", "policyRule": None, "provision": {"type": "deny"}}, "refused-overridden"),
        ({"status": "proposed"}, "not-recorded"),
        ({"status": "entered-in-error"}, "not-recorded"),
    ],
)
def test_consent(consent: dict[str, Any], expected: str) -> None:
    assert read(changed("Consent", **consent))["consent"]["status"] == expected


def test_consent_that_is_absent_is_not_recorded() -> None:
    assert read(without("Consent"))["consent"] == {"status": "not-recorded"}


ARP = {"system": "https://fhir.nhs.uk/CodeSystem/arp-priority-codes", "code": "C1"}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (changed("ServiceRequest", priority="stat"), "emergency"),
        (changed("ServiceRequest", priority="asap"), "urgent"),
        (changed("ServiceRequest", priority="routine"), "routine"),
        (changed("ServiceRequest", priority=None), "urgent"),  # an emergency encounter
    ],
)
def test_urgency_from_priority_then_encounter(document: dict[str, Any], expected: str) -> None:
    assert read(document)["urgency"] == expected


def test_urgency_from_the_ambulance_category_and_routine_when_nothing_says() -> None:
    document = changed("CarePlan", activity=[{"outcomeCodeableConcept": [{"coding": [ARP]}]}])
    for entry in document["entry"]:
        entry["resource"].pop("priority", None)
    assert read(document)["urgency"] == "emergency"
    plain = changed("Encounter", **{"class": {"code": "AMB"}})
    for entry in plain["entry"]:
        entry["resource"].pop("priority", None)
    assert read(plain)["urgency"] == "routine"


@pytest.mark.parametrize(
    ("reason", "status", "expected"),
    [
        ("new", "active", "new"),
        ("update", "active", "update"),
        ("update", "revoked", "withdraw"),
        ("update", "entered-in-error", "withdraw"),
        ("delete", "active", "withdraw"),
    ],
)
def test_new_update_and_withdrawal(reason: str, status: str, expected: str) -> None:
    document = changed("ServiceRequest", status=status)
    document["entry"][0]["resource"]["reason"]["coding"][0]["code"] = reason
    found = read(document)
    assert found["change"] == expected
    assert ("previousReference" in found) == (reason != "new")


def test_without_flag_the_category_is_other_and_scene_danger_is_told() -> None:
    system = "https://fhir.nhs.uk/CodeSystem/flag-categories-bars"
    scene = {
        "coding": [{"system": "https://fhir.nhs.uk/CodeSystem/scene-safety-codes-bars", "code": "U"}],
        "text": "Dog loose",
    }
    category = [{"coding": [{"system": system, "code": "SS"}]}]
    found = read(changed("Flag", category=category, code=scene))
    assert found["concern"]["category"] == ["other"]
    assert found["riskToProfessionals"] == "Dog loose"
    inactive = read(changed("Flag", status="inactive"))
    assert "safeguardingCode" not in inactive["concern"]


def test_a_withdrawal_with_nothing_but_the_request_says_that_it_says_nothing() -> None:
    kept = ("MessageHeader", "ServiceRequest", "Patient", "Organization")
    document = changed("ServiceRequest", reasonCode=None)
    document["entry"] = [e for e in document["entry"] if e["resource"]["resourceType"] in kept]
    found = read(document)
    assert found["concern"] == {"category": ["other"], "narrative": "The FHIR message gives no narrative."}
    assert found["referrer"]["organisation"]["name"] == "Northtown General Hospital"


@pytest.mark.parametrize(
    ("birth_date", "expected"),
    [
        ("1959", {"date": "1959-01-01", "accuracyIndicator": "UUA"}),
        ("1959-05", {"date": "1959-05-01", "accuracyIndicator": "UAA"}),
        ("1959-05-04", {"date": "1959-05-04"}),
        ("1959-06-31", None),
        ("04/05/1959", None),
        ("", None),
    ],
)
def test_partly_known_dates(birth_date: str, expected: dict[str, str] | None) -> None:
    assert read(changed("Patient", birthDate=birth_date))["person"].get("dateOfBirth") == expected


def test_a_person_without_a_name_is_not_refused() -> None:
    found = read(changed("Patient", name=None, identifier=None))
    assert found["person"]["name"] == [{"text": "Name not recorded", "use": "temp"}]


def test_long_texts_are_cut_and_show_it() -> None:
    found = read(changed("ServiceRequest", patientInstruction="x" * 30_000))
    assert len(found["request"]["practical"]) == 20_000
    assert found["request"]["practical"].endswith("…")


MEETING = "Strategy meeting at 11:30 today; please keep the child on the ward until then."
NO_REASON = "The FHIR message gives no reason."


@pytest.mark.parametrize(
    ("status", "codes", "expected"),
    [
        ("active", [], ("accepted", None, None, None)),
        ("revoked", [], ("declined", "other", NO_REASON, None)),
        (
            "revoked",
            concepts(f"{BARS}/rejected-reasons-bars", "FC"),
            ("declined", "unable-to-contact", None, None),
        ),
        (
            "revoked",
            concepts(f"{BARS}/dos-rejected-reasons-bars", "42", text="Too far"),
            ("declined", "outside-area", "Too far", None),
        ),
        ("on-hold", [], ("more-information-needed", None, None, [MEETING])),
    ],
)
def test_outcomes(status: str, codes: list[Any], expected: tuple[Any, ...]) -> None:
    document = json.loads((EXAMPLES / "childrens-social-care-response.json").read_bytes())
    document["entry"][1]["resource"].update({"status": status, "reasonCode": codes})
    found = read(document)
    picked = [found.get(name) for name in ("outcome", "reasonCode", "reasonText", "questions")]
    assert picked == list(expected)


def test_the_referrers_own_staff_are_never_taken_for_the_deciders() -> None:
    document = json.loads((EXAMPLES / "childrens-social-care-response.json").read_bytes())
    hospital = document["entry"][3]["fullUrl"]
    document["entry"][1]["resource"]["performer"] = []
    document["entry"][7]["resource"]["organization"] = {"reference": hospital}
    found = read(document)
    assert found["decidedBy"]["organisation"]["name"] == "Northtown Council Children's Social Care"
    assert "name" not in found["decidedBy"]


def test_the_requester_may_be_a_practitioner_an_organisation_or_missing() -> None:
    by = {e["resource"]["resourceType"]: e["fullUrl"] for e in CHILD["entry"]}
    alone = without("PractitionerRole")
    request = next(e["resource"] for e in alone["entry"] if e["resource"]["resourceType"] == "ServiceRequest")
    index = next(i for i, e in enumerate(alone["entry"]) if e["resource"] is request)

    def asked_by(reference: str) -> dict[str, Any]:
        entries = list(alone["entry"])
        entries[index] = entries[index] | {"resource": request | {"requester": {"reference": reference}}}
        return dict(read(alone | {"entry": entries})["referrer"])

    practitioner = asked_by(by["Practitioner"])
    assert practitioner["name"]["familyName"] == ["Adeyemi-Clarke"]
    assert practitioner["organisation"]["name"] == "Northtown General Hospital"  # the sender
    assert asked_by(by["Organization"])["organisation"]["name"] == "Tannery Row Surgery"
    assert asked_by("urn:uuid:nobody")["organisation"]["name"] == "Northtown General Hospital"


def test_a_message_that_names_no_sender_is_from_its_source() -> None:
    document = changed("ServiceRequest", requester=None)
    header = document["entry"][0]["resource"]
    del header["sender"]
    assert read(document)["referrer"] == {
        "organisation": {"name": "Northtown General Hospital Emergency Department"}
    }
    del header["source"]
    assert read(document)["referrer"] == {"organisation": {"name": "Name not recorded"}}


def test_people_and_findings_that_say_nothing_are_passed_over() -> None:
    kin = concepts(f"{HL7}/v2-0131", "N")
    extra = [
        {"resourceType": "RelatedPerson", "relationship": kin, "name": [{"family": "Frend"}]},
        {"resourceType": "RelatedPerson", "gender": "male"},
        {"resourceType": "PractitionerRole"},
        {"resourceType": "Observation", "code": {"text": "Empty"}},
        {"resourceType": "Observation", "code": concepts("urn:x", "7")[0]},
        {"resourceType": "Condition"},
    ]  # fmt: skip
    found = read(CHILD | {"entry": [*CHILD["entry"], *({"resource": resource} for resource in extra)]})
    people = found["involved"]["people"]
    assert people[2:] == [{"name": [{"familyName": ["Frend"]}], "role": "next-of-kin"}]
    assert found["concern"]["code"] == [{"system": "urn:x", "code": "7"}]
    assert "professionals" not in found["involved"]


def test_one_consent_of_ours_without_reason_is_read_as_it_stands() -> None:
    ours = concepts("urn:referral-gateway:consent-status", "given")
    assert read(changed("Consent", category=ours))["consent"] == {"status": "given", "date": "2026-02-10"}
