"""What we write is FHIR R4, says everything the canonical document says, and reads back."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gateway import schemas
from gateway.adapters import fhir_xml
from gateway.adapters.base import AdapterError, Native
from gateway.adapters.fhir_bars import ADAPTER, JSON, XML
from gateway.adapters.words import stripped
from gateway.messages import AgencyId, Canonical, CaseId, EnvelopeId, Header, MessageId
from gateway.schemas import files
from tests.adapters import fhir_r4
from tests.schemas.generated import EXAMPLES, bent_examples, drawn

MESSAGE_ID = "5a2f5b7e-7d5c-4f43-9b0b-8a3c0e0c9a11"
ANSWERED = "1b671a64-40d5-491e-99b0-da01ff1f3341"
CREATED = 1_770_758_520_123


def header(message_type: str, *, message_id: str = MESSAGE_ID, in_reply_to: str | None = ANSWERED) -> Header:
    return Header(
        message_id=MessageId(message_id),
        envelope_id=EnvelopeId("0c5c77c5-3c2c-4b52-bc5f-0f0f6f0e2a10"),
        type=message_type,
        version=1,
        sender=AgencyId("northtown-hospital"),
        recipient=AgencyId("northtown-council"),
        case=CaseId("7d4c1f10-6f0a-4a55-8d8c-2b8a0f3e5c01"),
        in_reply_to=MessageId(in_reply_to) if in_reply_to else None,
        created=CREATED,
        expires=CREATED + 5 * 86_400_000,
        purpose="safeguarding-children",
        lawful_basis="public-task",
    )


def write(document: dict[str, Any], media_type: str = JSON, **kwargs: Any) -> Native:
    canonical = Canonical(document["type"], 1, document)
    return ADAPTER.from_canonical(header(document["type"], **kwargs), canonical, media_type)


def bundle(document: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(write(document, **kwargs).body)
    return found


def resources(written: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [e["resource"] for e in written["entry"] if e["resource"]["resourceType"] == kind]


def leaves(value: Any, pointer: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{pointer}/{name}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{pointer}/{index}")
    else:
        yield pointer, value


# What reading adds to a document that did not say it: each is a fact of the message itself.
ADDED = (
    "/change", "/writtenAt", "/previousReference", "/otherReferences", "/concern/safeguardingCode",
    "/person/isDeceased",
    "/decidedAt", "/referralReference", "/reasonText",
)  # fmt: skip


def assert_kept(document: dict[str, Any], back: dict[str, Any]) -> None:
    said, read = dict(leaves(document)), dict(leaves(back))
    assert {pointer for pointer, value in said.items() if read.get(pointer) != value} == set()
    added = {pointer: read[pointer] for pointer in read.keys() - said.keys() if not pointer.startswith(ADDED)}
    # What FHIR cannot hold in its place may also stand there in words; the sender stands for nobody.
    assert all(name.endswith(("/display", "/name/text", "/organisation/name")) for name in added)
    assert set(added.values()) <= {"northtown-hospital", *(stripped(str(value)) for value in said.values())}


@pytest.mark.parametrize("media_type", [JSON, XML])
@pytest.mark.parametrize("name", sorted(name for name in EXAMPLES if not name.startswith("file/")))
def test_our_examples_are_written_as_r4_and_keep_every_field(name: str, media_type: str) -> None:
    document = EXAMPLES[name]
    native = write(document, media_type)
    assert native.media_type == media_type
    assert fhir_r4.faults(bundle(document)) == []
    back = ADAPTER.to_canonical(native)
    assert (back.type, back.version) == (document["type"], 1)
    assert schemas.validate(back.type, 1, back.document) == []
    assert_kept(document, dict(back.document))


def _documents(message_type: str) -> st.SearchStrategy[dict[str, Any]]:
    schema = files.schema(message_type, 1)
    return drawn(schema, schema)


DOCUMENTS = st.one_of(bent_examples(), _documents("referral"), _documents("decision"))


def _plain(document: Any) -> bool:
    """No character that FHIR cannot hold: those are replaced, and tested elsewhere."""
    return not any(
        isinstance(value, str)
        and any((ord(c) < 32 and c not in "\t\n\r") or c in "\ufffe\uffff" for c in value)
        for _, value in leaves(document)
    )


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
)
@given(document=DOCUMENTS)
def test_any_valid_document_is_written_as_r4_and_keeps_every_field(document: Any) -> None:
    assume(isinstance(document, dict) and (document.get("type") in ("referral", "decision")))
    assume(schemas.validate(document["type"], 1, document) == [])
    assert fhir_r4.faults(bundle(document)) == []
    for media_type in (JSON, XML):
        back = ADAPTER.to_canonical(write(document, media_type)).document
        if _plain(document):
            assert_kept(document, dict(back))


def test_characters_that_fhir_forbids_are_replaced() -> None:
    document = EXAMPLES["decision/accepted.json"] | {"note": "bell \x07 and nul \x00, kept: \t\r\n"}
    back = ADAPTER.to_canonical(write(document, XML)).document
    assert back["note"] == "bell \ufffd and nul \ufffd, kept: \t\r\n"


def test_the_message_is_addressed_and_timed_by_the_signed_header() -> None:
    written = bundle(EXAMPLES["referral/hospital_child_safeguarding_referral.json"])
    found = resources(written, "MessageHeader")[0]
    assert written["id"] == MESSAGE_ID
    assert written["timestamp"] == "2026-02-10T21:22:00.123Z"
    assert found["eventCoding"]["code"] == "servicerequest-request"
    assert found["reason"]["coding"][0]["code"] == "new"
    assert found["destination"][0]["endpoint"] == "urn:referral-gateway:agency:northtown-council"
    assert found["source"]["endpoint"] == "urn:referral-gateway:agency:northtown-hospital"
    request = resources(written, "ServiceRequest")[0]
    assert (request["status"], request["intent"]) == ("active", "plan")
    assert request["requisition"]["value"] == "7d4c1f10-6f0a-4a55-8d8c-2b8a0f3e5c01"
    assert request["category"][0]["coding"][0]["code"] == "referral"


def test_writing_is_deterministic_and_identifiers_follow_the_message_id() -> None:
    document = EXAMPLES["referral/school_prevent_referral.json"]
    other = "d9428888-122b-4c2d-9c1e-6c3f5a1b2c3d"
    assert write(document) == write(document)
    urls = {entry["fullUrl"] for entry in bundle(document)["entry"]}
    assert urls.isdisjoint(entry["fullUrl"] for entry in bundle(document, message_id=other)["entry"])
    assert all(uuid.UUID(url).version == 5 for url in urls)


REFERRAL = {
    "type": "referral",
    "version": 1,
    "person": {"name": [{"text": "Somebody"}]},
    "concern": {"category": ["radicalisation"], "narrative": "Words."},
    "consent": {"status": "not-recorded"},
    "urgency": "routine",
    "immediateDanger": "not-known",
    "referrer": {"role": ["Teacher"]},
}


def test_a_category_without_a_code_is_flagged_with_the_code_it_stands_for() -> None:
    (flag,) = resources(bundle(REFERRAL), "Flag")
    assert flag["category"][0]["coding"][0]["code"] == "SG"
    assert flag["code"]["coding"][0]["code"] == "766969008"
    given = REFERRAL | {"concern": {"category": ["radicalisation"], "safeguardingCode": ["U"]}}
    (flag,) = resources(bundle(given), "Flag")
    assert flag["code"]["coding"][0]["code"] == "U"


def test_danger_is_flagged_with_what_was_done() -> None:
    danger = {
        "immediateDanger": "yes",
        "immediateDangerDetail": "Police called.",
        "riskToProfessionals": "Dogs.",
    }
    flags = resources(bundle(REFERRAL | danger), "Flag")
    words = {flag["code"].get("text"): flag["category"][0]["coding"][0]["code"] for flag in flags}
    assert words == {None: "SG", "Police called.": "API", "Dogs.": "SS"}


@pytest.mark.parametrize(
    ("consent", "status", "policy"),
    [
        ({"status": "given"}, "active", "OPTIN"),
        ({"status": "implied"}, "active", "IMPLIED"),
        ({"status": "not-sought", "overrideReason": "legal-duty"}, "inactive", "NOCONSENT"),
        ({"status": "refused-overridden", "overrideReason": "risk-of-harm-to-others"}, "rejected", "OPTOUT"),
        ({"status": "lacks-capacity", "overrideReason": "best-interests"}, "inactive", "NOCONSENT"),
    ],
)
def test_consent_is_never_written_as_more_than_it_is(
    consent: dict[str, str], status: str, policy: str
) -> None:
    document = REFERRAL | {"consent": consent}
    (found,) = resources(bundle(document), "Consent")
    assert (found["status"], found["policyRule"]["coding"][0]["code"]) == (status, policy)
    assert ADAPTER.to_canonical(write(document)).document["consent"] == consent


def test_consent_that_was_not_recorded_is_not_written() -> None:
    assert resources(bundle(REFERRAL), "Consent") == []


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [("new", "active", "new"), ("update", "active", "update"), ("withdraw", "revoked", "update")],
)
def test_a_change_is_about_the_same_service_request(change: str, status: str, reason: str) -> None:
    document = REFERRAL | {"change": change, "previousReference": ANSWERED}
    written = bundle(document)
    (request,) = resources(written, "ServiceRequest")
    (found,) = resources(written, "MessageHeader")
    assert (request["status"], found["reason"]["coding"][0]["code"]) == (status, reason)
    assert (found["focus"][0]["reference"] == f"urn:uuid:{ANSWERED}") == (change != "new")
    assert ADAPTER.to_canonical(write(document)).document["previousReference"] == ANSWERED


@pytest.mark.parametrize(
    ("outcome", "extra", "status"),
    [
        ("accepted", {}, "active"),
        ("declined", {"reasonCode": "no-capacity"}, "revoked"),
        ("more-information-needed", {"questions": ["Which school?", "Who else knows?"]}, "on-hold"),
    ],
)
def test_a_decision_is_told_by_the_status_of_the_request(
    outcome: str, extra: dict[str, Any], status: str
) -> None:
    document = {
        "type": "decision",
        "version": 1,
        "outcome": outcome,
        "decidedBy": {"role": ["Duty"]},
        **extra,
    }
    written = bundle(document)
    (request,) = resources(written, "ServiceRequest")
    (found,) = resources(written, "MessageHeader")
    assert request["status"] == status
    assert found["response"] == {"identifier": ANSWERED, "code": "ok"}
    if outcome == "declined":
        assert request["reasonCode"][0]["coding"][1]["code"] == "RRNA"


def test_a_decision_that_answers_nothing_cannot_be_written() -> None:
    document = {"type": "decision", "version": 1, "outcome": "accepted", "decidedBy": {"role": ["Duty"]}}
    with pytest.raises(AdapterError) as refused:
        write(document, in_reply_to=None)
    assert refused.value.problems[0].pointer == "/referralReference"
    assert not refused.value.malformed
    named = bundle(document | {"referralReference": ANSWERED}, in_reply_to=None)
    assert resources(named, "MessageHeader")[0]["response"]["identifier"] == ANSWERED


@pytest.mark.parametrize(("message_type", "version"), [("handoff", 1), ("referral", 2)])
def test_other_types_have_no_form_in_bars(message_type: str, version: int) -> None:
    with pytest.raises(AdapterError):
        ADAPTER.from_canonical(header(message_type), Canonical(message_type, version, {}), JSON)


def test_xml_and_json_say_the_same() -> None:
    document = EXAMPLES["referral/hospital_adult_referral.json"]
    from_xml = ADAPTER.to_canonical(write(document, XML))
    assert from_xml.document == ADAPTER.to_canonical(write(document, JSON)).document
    assert fhir_xml.read(write(document, XML).body)["id"] == MESSAGE_ID
