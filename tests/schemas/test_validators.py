"""The compiled validator on the road and the reference: one verdict, and no value in it."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import schemas
from gateway.messages import Problem
from gateway.schemas import files
from gateway.schemas.reference import validate_reference
from gateway.schemas.rules import MAX_PROBLEMS
from tests.schemas import generated
from tests.schemas.generated import CANARY, EXAMPLES

THOROUGH = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def referral() -> dict[str, Any]:
    return copy.deepcopy(EXAMPLES["referral/school_prevent_referral.json"])


def decision(name: str) -> dict[str, Any]:
    return copy.deepcopy(EXAMPLES[f"decision/{name}.json"])


def both(document: dict[str, Any], type_: str = "referral") -> set[Problem]:
    """What both validators say, having said the same."""
    compiled = schemas.validate(type_, 1, document)
    reference = validate_reference(type_, 1, document)
    assert bool(compiled) == bool(reference)
    if max(len(compiled), len(reference)) < MAX_PROBLEMS:
        assert set(compiled) == set(reference)
    return set(compiled)


def known_type(document: dict[str, Any]) -> str:
    return "decision" if "outcome" in document else "referral"


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_valid_for_both(name: str):
    document = EXAMPLES[name]
    assert both(document, document["type"]) == set()


@given(document=generated.bent_examples())
@THOROUGH
def test_both_agree_on_bent_examples_and_repeat_nothing(document: dict[str, Any]):
    problems = both(document, known_type(document))
    assert CANARY not in repr(problems)


@pytest.mark.parametrize("type_", files.TYPES)
@given(data=st.data())
@THOROUGH
def test_both_agree_on_documents_drawn_from_the_schema_and_repeat_nothing(type_: str, data: st.DataObject):
    schema = files.schema(type_, 1)
    document = data.draw(generated.drawn(schema, schema).filter(lambda d: isinstance(d, dict)))
    problems = both(document, type_)
    assert CANARY not in repr(problems)


@pytest.mark.parametrize("field", ["person", "concern", "consent", "urgency", "immediateDanger", "referrer"])
def test_a_referral_needs(field: str):
    document = referral()
    del document[field]
    assert both(document) == {Problem(f"/{field}", "required")}


@pytest.mark.parametrize("status", ["not-sought", "refused-overridden", "lacks-capacity"])
def test_a_referral_without_agreement_needs_the_reason(status: str):
    document = referral()
    document["consent"] = {"status": status}
    assert both(document) == {Problem("/consent/overrideReason", "required")}
    document["consent"]["overrideReason"] = "other"
    assert both(document) == {Problem("/consent/overrideDetail", "required")}
    document["consent"]["overrideDetail"] = "Agreed with the named doctor."
    assert both(document) == set()


def test_immediate_danger_needs_its_detail():
    document = referral() | {"immediateDanger": "yes"}
    assert both(document) == {Problem("/immediateDangerDetail", "required")}


def test_a_declined_referral_needs_the_reason():
    document = decision("declined")
    del document["reasonCode"]
    assert both(document, "decision") == {Problem("/reasonCode", "required")}


def test_the_reason_other_needs_words():
    document = decision("declined") | {"reasonCode": "other"}
    del document["reasonText"]
    assert both(document, "decision") == {Problem("/reasonText", "required")}


def test_a_request_for_information_needs_questions():
    document = decision("more_information_needed")
    del document["questions"]
    assert both(document, "decision") == {Problem("/questions", "required")}


def test_an_unknown_field_is_told_by_its_parent_and_not_by_its_name():
    document = referral()
    document["person"][CANARY] = CANARY
    assert both(document) == {Problem("/person", "no other fields are allowed here")}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"urgency": CANARY}, Problem("/urgency", "one of: routine, urgent, emergency")),
        ({"note": ["x"]}, Problem("/note", "text")),
        ({"note": " \n\t\u00a0"}, Problem("/note", "not blank")),
        ({"note": "x" * 20_001}, Problem("/note", "at most 20000 characters")),
        ({"change": "new\n"}, Problem("/change", "one of: new, update, withdraw")),
        ({"involved": []}, Problem("/involved", "an object")),
        ({"attachments": [{"name": "x"}] * 51}, Problem("/attachments", "at most 50 items")),
        ({"version": 2}, Problem("/version", "always 1")),
        ({"version": True}, Problem("/version", "always 1")),
    ],
)  # fmt: skip
def test_problems_say_where_and_which_rule(change: dict[str, Any], problem: Problem):
    assert both(referral() | change) == {problem}


@pytest.mark.parametrize(
    "moment", ["2026-02-30T09:00:00Z", "2026-11-23", "2026-11-23T09:00:00", "2026-11-23T09:00:00Z\n"]
)
def test_a_date_and_time_is_written_in_one_way(moment: str):
    (problem,) = both(referral() | {"writtenAt": moment})
    assert problem == Problem("/writtenAt", "a date and time with its offset from UTC: YYYY-MM-DDThh:mm:ssZ")


def test_a_name_needs_one_of_its_parts():
    document = referral()
    document["person"]["name"] = [{"use": "usual"}]
    rule = "at least one of: familyName, givenName, preferredName, text"
    assert both(document) == {Problem("/person/name/0", rule)}


def test_no_more_problems_are_listed_than_a_person_reads():
    document = referral()
    document["person"]["name"] = [{"use": "nickname"}] * 20
    document["involved"]["people"] = [{}] * 50
    assert len(schemas.validate("referral", 1, document)) == MAX_PROBLEMS
    assert len(validate_reference("referral", 1, document)) == MAX_PROBLEMS


@pytest.mark.parametrize(
    "value",
    ["\ud800", {"\udfff": 1}, {1: 2}, float("nan"), b"bytes"],
    ids=["lone surrogate", "lone surrogate in a name", "a name that is no text", "not a number", "bytes"],
)
def test_what_json_cannot_carry_is_refused_by_both(value: Any):
    document = referral() | {"additional": {"education": {"attendancePercent": value, "yearGroup": value}}}
    assert schemas.validate("referral", 1, document)
    assert validate_reference("referral", 1, document)


def test_nesting_without_end_is_refused():
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"person": deep}
    assert schemas.validate("referral", 1, referral() | {"person": deep})


@pytest.mark.parametrize("item", [0, "other", {"x": 1}], ids=["wrong", "right", "objects"])
def test_a_hostile_document_costs_little(item: Any):
    document = referral()
    document["concern"]["category"] = [item] * 500_000
    started = time.process_time()
    problems = schemas.validate("referral", 1, document)
    # Listing every problem of such a body takes half a minute and more; processor time is no wall clock.
    assert time.process_time() - started < 5
    assert problems == [Problem("/concern/category", "at most 20 items")]


def test_unknown_types_and_versions():
    assert schemas.is_known("referral", 1)
    assert not schemas.is_known("referral", 2)
    assert not schemas.is_known("common", 1)
    assert not schemas.is_known("", 1)
    with pytest.raises(KeyError):
        schemas.validate("referral", 2, {})
