"""e-RS records and operations: what becomes a referral or a decision, what is refused, and nothing else."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import schemas
from gateway.adapters.base import AdapterError, Native
from gateway.adapters.fhir_ers import ADAPTER, MEDIA_TYPE
from gateway.messages import Canonical
from tests.adapters.test_fhir_write import header

FOLDER = resources.files("gateway.adapters") / "examples" / "fhir-ers"
EXAMPLES = {
    name: json.loads((FOLDER / f"{name}.json").read_bytes())
    for name in ("referral-request", "triage-returned", "advice-request")
}
REFERRAL = EXAMPLES["referral-request"]


def read(document: Any) -> dict[str, Any]:
    """The canonical document, which must be valid."""
    message = ADAPTER.to_canonical(Native(MEDIA_TYPE, json.dumps(document).encode()))
    assert schemas.validate(message.type, message.version, message.document) == []
    return dict(message.document)


def refused(body: bytes) -> AdapterError:
    with pytest.raises(AdapterError) as error:
        ADAPTER.to_canonical(Native(MEDIA_TYPE, body))
    return error.value


def in_state(state: str, **more: Any) -> dict[str, Any]:
    """The record in another state, with a reason and comments."""
    changed: dict[str, Any] = copy.deepcopy(REFERRAL) | more
    changed["extension"][-1]["extension"] = [
        {"url": "state", "valueCoding": {"code": state}},
        {"url": "reason", "valueCoding": {"code": "SERVICE_INAPPROPRIATE", "display": "Wrong service"}},
        {"url": "comments", "valueString": "Try the falls team."},
    ]
    return changed


def test_a_record_says_who_what_how_soon_and_where_it_stands() -> None:
    found = read(REFERRAL)
    assert found["reference"] == "000049900117"
    assert found["writtenAt"] == "2026-02-17T08:40:00.000Z"
    assert found["person"]["identifier"] == [{"scheme": "nhs-number", "value": "9990002347"}]
    assert found["person"]["reasonableAdjustment"][0]["display"] == "Transport"
    assert found["urgency"] == "urgent"
    assert [code["code"] for code in found["request"]["code"]] == [
        "MENTAL_HEALTH",
        "MEMORY_CLINIC",
        "TWO_WEEK_WAIT",
    ]
    assert found["request"]["service"] == {
        "identifier": [
            {"scheme": "other", "system": "http://fhir.nhs.net/Id/ers-service", "value": "990071"}
        ],
        "name": "Northtown Memory Service",
    }
    assert found["note"].split("\n\n") == [
        "State in e-RS: Booked",
        "Appointment (booked): 2026-03-02T10:00:00.000Z to 2026-03-02T10:45:00.000Z",
        "Attached in e-RS: referral-letter.pdf",
    ]
    assert not {"change", "previousReference"} & found.keys()


def test_a_cancelled_record_takes_the_referral_back() -> None:
    cancelled = in_state("CANCELLED_REFERRAL", status="cancelled")
    answer = {
        "resourceType": "Parameters",
        "parameter": [{"name": "updatedReferralRequest", "resource": cancelled}],
    }
    found = read(answer)
    assert (found["change"], found["previousReference"]) == ("withdraw", "000049900117")
    assert "Wrong service" in found["note"]
    assert "Try the falls team." in found["note"]


def test_a_rejected_record_is_a_decision_that_names_its_referral() -> None:
    found = read(in_state("REJECTED"))
    assert (found["type"], found["outcome"], found["reasonCode"]) == (
        "decision",
        "declined",
        "not-appropriate",
    )
    assert found["reasonText"] == "Wrong service\n\nTry the falls team."
    assert found["referralReference"] == "000049900117"


def test_a_request_for_advice_is_a_referral_that_asks_for_it() -> None:
    found = read(EXAMPLES["advice-request"])
    assert found["request"]["action"] == "advise"
    assert found["concern"]["narrative"].startswith("Aged 81")
    assert found["urgency"] == "urgent"
    assert found["request"]["detail"] == (
        "Services to choose from:\nNorthtown Falls Clinic (990081)\n(990082)"
    )
    assert found["referrer"]["identifier"][0]["value"] == "999000000123"


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ("RETURN_TO_REFERRER_WITH_ADVICE", ("declined", "other")),
        ("ACCEPT_REFER_BOOK_LATER", ("accepted", None)),
    ],
)
def test_a_triage_is_a_decision(outcome: str, expected: tuple[str, str | None]) -> None:
    document = copy.deepcopy(EXAMPLES["triage-returned"])
    document["parameter"][0]["valueCoding"]["code"] = outcome
    document["parameter"].append({"name": "reviewPriority", "valueCoding": {"code": "URGENT"}})
    found = read(document)
    assert (found["outcome"], found.get("reasonCode")) == expected
    assert found["reasonText"].startswith("Please ask the community falls team")
    assert found["note"] == "Priority after review: URGENT"


def test_nothing_is_written_in_this_form() -> None:
    with pytest.raises(AdapterError):
        ADAPTER.from_canonical(header("referral"), Canonical("referral", 1, read(REFERRAL)), MEDIA_TYPE)


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ([], ""),
        ({}, "/resourceType"),
        ({"resourceType": "canary"}, "/resourceType"),
        ({"resourceType": "Bundle", "entry": [{"resource": REFERRAL}]}, "/entry"),
        ({"resourceType": "Bundle", "entry": [{}, {}]}, "/entry"),
        (REFERRAL | {"subject": {"display": "canary"}}, "/subject/identifier/value"),
        (
            {
                "resourceType": "Parameters",
                "parameter": [{"name": "cancellationComments", "valueString": "canary"}],
            },
            "/parameter",
        ),
        (
            {
                "resourceType": "Parameters",
                "parameter": [{"name": "reviewOutcome", "valueCoding": {"code": "canary"}}],
            },
            "/parameter",
        ),
    ],
)
def test_what_names_no_patient_and_decides_nothing_is_refused(document: Any, pointer: str) -> None:
    error = refused(json.dumps(document).encode())
    assert [problem.pointer for problem in error.problems] == [pointer]
    assert not error.malformed
    assert "canary" not in str(error.problems)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"a":1,"a":2}', json.dumps(REFERRAL).encode()[:-9]])
def test_bytes_that_are_no_json_are_malformed(body: bytes) -> None:
    assert refused(body).malformed


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, key))


ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1.5, "", " ", "canary", [], ["canary"], {}, {"coding": "canary"}, [[{}]], "x" * 400]
)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_field_may_be_of_any_kind_or_missing(data: st.DataObject) -> None:
    document = copy.deepcopy(EXAMPLES[data.draw(st.sampled_from(sorted(EXAMPLES)))])
    for _ in range(data.draw(st.integers(1, 3))):
        found = list(places(document))
        if not found:
            break
        *path, last = data.draw(st.sampled_from(found))
        inner = document
        for key in path:
            inner = inner[key]
        if data.draw(st.booleans()):
            inner[last] = copy.deepcopy(data.draw(ODD))
        else:
            del inner[last]
    try:
        read(document)
    except AdapterError as error:
        assert "canary" not in str(error.problems)


def test_the_official_examples_are_read_or_refused_as_the_page_says(shared_data: Path) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    for path in sorted((shared_data / "health" / "ers").rglob("*.json")):
        operation = path.parts[path.parts.index("ers") + 2]
        try:
            counts[operation, read(json.loads(path.read_bytes()))["type"]] += 1
        except AdapterError:
            counts[operation, "refused"] += 1
    assert counts == {
        ("acceptReferral", "referral"): 1,
        ("cancelReferral", "referral"): 8,
        ("cancelReferral", "refused"): 8,
        ("convertAdviceAndGuidanceToReferral", "referral"): 2,
        ("convertAdviceAndGuidanceToReferral", "refused"): 2,
        ("createAdviceAndGuidance", "referral"): 2,
        ("createAdviceAndGuidance", "refused"): 2,
        ("createReferral", "referral"): 7,
        ("createReferralAndSendForTriage", "referral"): 4,
        ("getService", "refused"): 2,
        ("recordTriageOutcome", "decision"): 3,
        ("recordTriageOutcome", "referral"): 3,
        ("rejectReferral", "decision"): 4,
        ("retrieveReferralRequest", "referral"): 8,
        ("retrieveWorklist", "refused"): 18,
        ("searchForServices", "refused"): 3,
        ("searchServiceRequest", "referral"): 2,
        ("searchServiceRequest", "refused"): 2,
    }
