"""Responses that are more than yes or no: somebody did not attend, a validation goes on; there and back."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from gateway import schemas
from gateway.adapters.base import Native
from gateway.adapters.fhir_bars import ADAPTER, JSON, XML
from gateway.adapters.fhir_feedback import DID_NOT_ATTEND
from tests.adapters import fhir_r4
from tests.adapters.test_fhir_write import bundle, write
from tests.adapters.test_fhir_write import resources as of_type

EXAMPLES = resources.files("gateway.adapters") / "examples" / "fhir-bars"
TIMES = ("2026-02-12T10:00:00+00:00", "2026-02-12T10:20:00+00:00")
MISSED = f"The person did not attend the appointment from {TIMES[0]} to {TIMES[1]}."
FLAG = {
    "resourceType": "Flag",
    "status": "active",
    "category": [
        {"coding": [{"system": "https://fhir.nhs.uk/CodeSystem/flag-categories-bars", "code": "SG"}]}
    ],
    "code": {"coding": [{"system": "https://fhir.nhs.uk/CodeSystem/safeguarding-codes-bars", "code": "U"}]},
}


def response(*more: dict[str, Any], status: str = "revoked", category: str = "referral") -> dict[str, Any]:
    """The response among the examples, with further resources."""
    document: dict[str, Any] = json.loads((EXAMPLES / "childrens-social-care-response.json").read_bytes())
    for entry in document["entry"]:
        found = entry["resource"]
        if found["resourceType"] == "ServiceRequest":
            found["status"] = status
            system = "https://fhir.nhs.uk/CodeSystem/message-category-servicerequest"
            found["category"] = [{"coding": [{"system": system, "code": category}]}]
            found.pop("reasonCode", None)
            found.pop("note", None)
    document["entry"] += [{"resource": one} for one in more]
    return document


def read(document: dict[str, Any]) -> dict[str, Any]:
    found = dict(ADAPTER.to_canonical(Native(JSON, json.dumps(document).encode())).document)
    assert schemas.validate("decision", 1, found) == []
    return found


@pytest.mark.parametrize(
    ("times", "said"),
    [
        ({"start": TIMES[0], "end": TIMES[1]}, MISSED),
        ({"start": TIMES[0]}, DID_NOT_ATTEND),
        ({}, DID_NOT_ATTEND),
    ],
)
def test_that_somebody_did_not_attend_is_said(times: dict[str, str], said: str) -> None:
    found = read(response({"resourceType": "Appointment", "status": "noshow", **times}, FLAG))
    assert (found["outcome"], found["reasonCode"], found["reasonText"]) == ("declined", "other", said)
    assert "Safeguarding flag: U" in found["note"]


def test_a_referral_that_goes_on_says_it_too_and_a_kept_appointment_does_not() -> None:
    missed = read(response({"resourceType": "Appointment", "status": "noshow"}, status="active"))
    assert (missed["outcome"], missed["reasonText"]) == ("accepted", DID_NOT_ATTEND)
    kept = read(response({"resourceType": "Appointment", "status": "fulfilled"}, status="active"))
    assert "reasonText" not in kept


@pytest.mark.parametrize("media_type", [JSON, XML])
def test_a_missed_appointment_is_written_and_read_back(media_type: str) -> None:
    document = read(
        response({"resourceType": "Appointment", "status": "noshow", "start": TIMES[0], "end": TIMES[1]})
    )
    document["reasonText"] = f"{MISSED}\n\nWe rang twice."
    written = bundle(document)
    assert fhir_r4.faults(written) == []
    (appointment,) = of_type(written, "Appointment")
    assert (appointment["status"], appointment["start"], appointment["end"]) == ("noshow", *TIMES)
    back = ADAPTER.to_canonical(write(document, media_type)).document
    assert back["reasonText"] == document["reasonText"]


@pytest.mark.parametrize("said", [DID_NOT_ATTEND, MISSED.replace("-12T", "-30T"), f"Not so: {MISSED}", "x"])
def test_an_appointment_that_r4_could_not_hold_stays_words(said: str) -> None:
    document = read(response()) | {"reasonText": said}
    written = bundle(document)
    assert of_type(written, "Appointment") == []
    assert fhir_r4.faults(written) == []
    assert ADAPTER.to_canonical(write(document)).document["reasonText"] == said


@pytest.mark.parametrize(
    ("state", "said", "definition"),
    [
        ("in-progress", "Validation in progress.", "validation-interim"),
        ("finished", "Validation finished.", "validation-full"),
    ],
)
def test_a_validation_is_answered_in_its_own_form(state: str, said: str, definition: str) -> None:
    own = {"resourceType": "Encounter", "status": state, "identifier": [{"value": "CAS-1"}]}
    source = response(status="active", category="validation")
    source["entry"] = [one for one in source["entry"] if one["resource"]["resourceType"] != "Encounter"] + [
        {"resource": own}
    ]
    found = read(source)
    assert (found["outcome"], found["reference"]) == ("accepted", "CAS-1")
    assert found["note"].startswith(said)
    written = bundle(found)
    assert fhir_r4.faults(written) == []
    header = written["entry"][0]["resource"]
    assert header["definition"].endswith(f"servicerequest-response-{definition}")
    (encounter,) = of_type(written, "Encounter")
    assert encounter["status"] == state
    assert ADAPTER.to_canonical(write(found)).document["note"] == found["note"]


def test_the_official_feedback_and_validations_say_what_they_are_for(shared_data: Path) -> None:
    found = {}
    for path in (shared_data / "health" / "bars-ig-examples").glob("*RESP0*.xml"):
        if b"servicerequest-response" in path.read_bytes():
            found[path.name.split(" ")[0]] = ADAPTER.to_canonical(Native(XML, path.read_bytes())).document
    missed = found["REFRESP01"]
    assert missed["reasonText"].startswith("The person did not attend the appointment from 2021-10-12T12:30")
    assert "Safeguarding flag: Unspecified Safeguarding Concern Identified" in missed["note"]
    assert found["VALRESP01A"]["note"] == "Validation in progress."
    assert found["VALRESP01B"]["note"].startswith("Validation finished.")
