"""Slips are noticed, told without the value, and stop nothing."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from gateway import schemas
from gateway.messages import Problem
from gateway.schemas import files
from gateway.schemas.checks import SCHEMES
from gateway.schemas.rules import MAX_PROBLEMS
from tests.schemas import generated
from tests.schemas.generated import EXAMPLES


def referral() -> dict[str, Any]:
    return copy.deepcopy(EXAMPLES["referral/school_prevent_referral.json"])


def warnings(document: dict[str, Any]) -> list[Problem]:
    assert schemas.validate("referral", 1, document) == []
    return schemas.warnings("referral", 1, document)


def test_one_example_has_a_slip_in_an_nhs_number_and_the_others_have_none():
    found = {name: schemas.warnings(d["type"], 1, d) for name, d in EXAMPLES.items()}
    slip = Problem("/person/identifier/0/value", "the check digit does not fit")
    assert found.pop("referral/hospital_adult_referral.json") == [slip]
    assert not any(found.values())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_that_can_be_checked_is_one_of_the_schema(scheme: str):
    document = referral()
    document["person"]["identifier"] = [{"scheme": scheme, "value": "Zebedee!"}]
    (warning,) = warnings(document)
    assert warning.pointer == "/person/identifier/0/value"
    assert "Zebedee" not in repr(warning)


def test_identifiers_are_checked_wherever_they_stand():
    document = referral()
    organisation = {"name": "Weir Street Surgery", "identifier": [{"scheme": "ods-code", "value": "?"}]}
    document["involved"]["professionals"] = [{"organisation": organisation}]
    pointer = "/involved/professionals/0/organisation/identifier/0/value"
    assert [w.pointer for w in warnings(document)] == [pointer]


def test_schemes_that_cannot_be_checked_are_left_alone():
    document = referral()
    document["person"]["identifier"] = [
        {"scheme": "other", "value": "?"},
        {"scheme": "hospital-number", "value": "?"},
    ]
    assert warnings(document) == []


def test_addresses():
    document = referral()
    document["person"]["address"] = [{"postcode": "nowhere", "UPRN": "x", "USRN": "y"}]
    assert {w.pointer for w in warnings(document)} == {
        f"/person/address/0/{n}" for n in ("postcode", "UPRN", "USRN")
    }


@pytest.mark.parametrize(
    ("date", "noticed"),
    [
        ("2023-02-29", True),
        ("1900-02-29", True),
        ("2024-02-29", False),
        ("2000-02-29", False),
        ("2023-02-28", False),
    ],
)
def test_a_leap_day_that_never_was(date: str, noticed: bool):
    document = referral()
    document["person"]["dateOfBirth"] = {"date": date}
    document["writtenAt"] = f"{date}T09:00:00Z"
    expected = {"/person/dateOfBirth/date", "/writtenAt"} if noticed else set()
    assert {w.pointer for w in warnings(document)} == expected


def test_consent_that_is_not_recorded():
    document = referral() | {"consent": {"status": "not-recorded"}}
    assert [w.pointer for w in warnings(document)] == ["/consent/status"]


def test_no_more_are_listed_than_a_person_reads():
    document = referral()
    wrong = [{"scheme": "nhs-number", "value": "1"}]
    document["person"]["identifier"] = wrong * 30
    document["otherReferences"] = wrong * 30
    assert len(warnings(document)) == MAX_PROBLEMS


@given(document=generated.drawn(files.schema("referral", 1), files.schema("referral", 1)))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_valid_can_be_checked(document: Any):
    if isinstance(document, dict) and not schemas.validate("referral", 1, document):
        schemas.warnings("referral", 1, document)
