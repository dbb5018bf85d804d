"""HMPPS's own records: every duty to refer that was submitted is read, and a filled-in CAS3 application."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters import dtr_fields as dtr
from gateway.adapters.cas3 import ADAPTER as CAS3
from gateway.adapters.cas3 import FIELDS, SECTIONS
from gateway.adapters.duty_to_refer import ADAPTER as DTR
from tests.adapters.forms_kit import read, refusals, unsaid, write

DUTY = "housing/duty-to-refer/wiremock/fixtures"
CAS3_FIXTURES = "housing/cas3-referral"


def load(shared_data: Path, name: str) -> Any:
    return json.loads((shared_data / name).read_bytes())


def records(shared_data: Path) -> list[dict[str, Any]]:
    """Each with the name of the body that made it: HMPPS's own record has none."""
    found: dict[str, Any] = load(shared_data, f"{DUTY}/dutyToRefer.json")
    return list(found.values())


def test_every_record_that_was_submitted_is_read_and_comes_back(shared_data: Path) -> None:
    types = []
    for record in records(shared_data):
        if record["submission"] is None:
            assert set(refusals(DTR, record)) == {"/submission"}
            continue
        document = read(DTR, record)
        types.append(document["type"])
        back = json.loads(write(DTR, document))
        assert back["status"] == record["status"]
        dropped = {"createdBy", "createdAt", "submissionDate"} if document["type"] == "decision" else set()
        for name, value in record["submission"].items():
            if name not in dropped:
                assert back["submission"][name] == value, name
        if document["type"] == "referral":
            assert {"scheme": "crn", "value": record["crn"]} in document["person"]["identifier"]
            assert back["crn"] == record["crn"]
            assert back["caseId"] == record["caseId"]
    assert set(types) == {"referral", "decision"}
    assert len(types) >= 5


def test_the_authorities_of_hmpps_are_in_the_list(shared_data: Path) -> None:
    listed: list[dict[str, Any]] = load(
        shared_data, f"{CAS3_FIXTURES}/server/testutils/stubs/local-authorities.json"
    )
    known = [one for one in listed if one["identifier"] in dtr.AUTHORITIES]
    assert len(known) / len(listed) > 0.9  # the rest were abolished before the list begins


@pytest.fixture
def application(shared_data: Path) -> dict[str, Any]:
    data = load(shared_data, f"{CAS3_FIXTURES}/cypress_shared/fixtures/applicationData.json")
    person = load(shared_data, f"{CAS3_FIXTURES}/cypress_shared/fixtures/person-dev.json")
    return {"person": person, "data": data}


def test_the_answers_alone_do_not_say_who_it_is(application: dict[str, Any]) -> None:
    assert set(refusals(CAS3, application["data"])) == {"/data"}


def test_a_whole_application_is_read_and_every_answer_is_kept(application: dict[str, Any]) -> None:
    document = read(CAS3, application)
    assert {"scheme": "crn", "value": "X371199"} in document["person"]["identifier"]
    assert document["additional"]["housing"]["preferredAuthority"] == "Barking and Dagenham"
    asked = {page for pages in SECTIONS.values() for page in pages}
    answers = {name: answer for name, answer in application["data"].items() if name in asked}
    said = json.dumps(document, ensure_ascii=False)
    assert unsaid(without_date_parts(answers), said) == []


def test_every_page_of_the_form_is_mapped(shared_data: Path) -> None:
    schema = load(shared_data, f"{CAS3_FIXTURES}/server/form-pages/apply/schema.json")
    asked = {page for pages in SECTIONS.values() for page in pages}
    asked |= {field.native.split(".")[1] for field in FIELDS if field.native.startswith("data.")}
    assert set(schema["properties"]) - asked == {"consent", "check-your-answers"}


def without_date_parts(value: Any) -> Any:
    if isinstance(value, dict):
        parts = ("-year", "-month", "-day", "-time")
        return {name: without_date_parts(inner) for name, inner in value.items() if not name.endswith(parts)}
    if isinstance(value, list):
        return [without_date_parts(inner) for inner in value]
    return value
