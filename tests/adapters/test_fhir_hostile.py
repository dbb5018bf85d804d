"""Whatever is sent: the adapter reads it or raises AdapterError, and its problems never quote it."""

from __future__ import annotations

import copy
import json
from importlib import resources
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.adapters import fhir_xml
from gateway.adapters.base import AdapterError, Native
from gateway.adapters.fhir_bars import ADAPTER, JSON, XML

EXAMPLES = resources.files("gateway.adapters") / "examples" / "fhir-bars"
BUNDLES = [
    json.loads((EXAMPLES / "ed-to-childrens-social-care.json").read_bytes()),
    json.loads((EXAMPLES / "childrens-social-care-response.json").read_bytes()),
    fhir_xml.read((EXAMPLES / "mental-health-to-police-prevent.xml").read_bytes()),
]
NAMES = sorted(
    {"entry", "resource", "coding", "code", "reference", "extension", "url", "value", "system", "component"}
    | {"name", "telecom", "identifier", "valueString", "valueInteger", "valueQuantity", "fullUrl"}
)
NUMBERS = st.integers(-(10**17), 10**17) | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=20)
KEYS = st.sampled_from(NAMES) | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
CANARY = "Zebedee-Canary"


def attempt(document: Any) -> None:
    try:
        ADAPTER.to_canonical(Native(JSON, json.dumps(document).encode()))
    except AdapterError as refused:
        assert refused.problems


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([*NAMES, "resourceType", "type"]), VALUES, max_size=5))
def test_any_json_object(document: dict[str, Any]) -> None:
    attempt(document)
    attempt(document | {"resourceType": "Bundle", "type": "message"})


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) inside."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [(value, key) for key in keys] + [found for key in keys for found in places(value[key])]


@settings(deadline=None)
@given(data=st.data())
def test_any_bundle_with_parts_replaced(data: st.DataObject) -> None:
    document = copy.deepcopy(data.draw(st.sampled_from(BUNDLES)))
    for _ in range(data.draw(st.integers(1, 3))):
        spots = places(document)
        if not spots:
            break
        container, key = spots[data.draw(st.integers(0, len(spots) - 1))]
        change = data.draw(st.sampled_from(["replace", "remove", "wrap", "repeat"]))
        if change == "remove":
            del container[key]
        else:
            container[key] = {
                "replace": data.draw(VALUES),
                "wrap": [container[key]],
                "repeat": [container[key], container[key]],
            }[change]
    attempt(document)


FIELD = "urn:referral-gateway:field"
POINTERS = st.lists(
    st.sampled_from(["person", "name", "0", "1", "99", "type", "concern", "", "x" * 50, "²", "category"]),
    max_size=12,
).map(lambda parts: "".join(f"/{part}" for part in parts))


def code(pointer: str) -> dict[str, Any]:
    return {"coding": [{"system": FIELD, "code": pointer}]}


@settings(deadline=None)
@given(pointer=POINTERS, parts=st.lists(st.tuples(POINTERS, VALUES), max_size=3), value=VALUES)
def test_any_field_observation(pointer: str, parts: list[tuple[str, Any]], value: Any) -> None:
    components = [
        {"code": code(place), "valueString": inner, "valueInteger": inner} for place, inner in parts
    ]
    observation = {
        "resourceType": "Observation",
        "code": code(pointer),
        "valueInteger": value,
        "valueQuantity": {"value": value},
        "component": components,
    }
    document = BUNDLES[0] | {"entry": [*BUNDLES[0]["entry"], {"resource": observation}]}
    canonical = ADAPTER.to_canonical(Native(JSON, json.dumps(document).encode()))
    assert (canonical.type, canonical.document["type"], canonical.document["version"]) == (
        "referral",
        "referral",
        1,
    )


def test_figures_that_are_not_numbers_are_passed_over() -> None:
    figures: list[dict[str, Any]] = [
        {"valueInteger": "9" * 400},
        {"valueInteger": "9" * 5000},
        {"valueInteger": "x"},
    ]
    figures += [{"valueQuantity": {"value": text}} for text in ("nan", "inf", "-Infinity", "1e999", "x")]
    for figure in figures:
        pointer = code("/additional/education/attendancePercent")
        observation = {"resourceType": "Observation", "code": pointer, **figure}
        document = BUNDLES[0] | {"entry": [*BUNDLES[0]["entry"], {"resource": observation}]}
        canonical = ADAPTER.to_canonical(Native(XML, fhir_xml.write(document)))
        assert "education" not in canonical.document["additional"]


def test_problems_and_errors_never_quote_the_message() -> None:
    document = copy.deepcopy(BUNDLES[0])
    document["entry"][0]["resource"]["eventCoding"]["code"] = CANARY
    for body, media_type in (
        (json.dumps(document).encode(), JSON),
        (fhir_xml.write(document), XML),
        (fhir_xml.write(document) + CANARY.encode(), XML),
        (CANARY.encode() + b"\xff", XML),
    ):
        try:
            ADAPTER.to_canonical(Native(media_type, body))
        except AdapterError as refused:
            error: BaseException | None = refused
            while error is not None:
                assert CANARY not in repr(error) + str(getattr(error, "problems", ""))
                error = error.__context__
        else:
            raise AssertionError("not refused")


def test_a_flood_of_tags_is_refused_before_it_is_parsed() -> None:
    body = b'<Bundle xmlns="http://hl7.org/fhir">' + b"<a/>" * 300_000 + b"</Bundle>"
    try:
        ADAPTER.to_canonical(Native(XML, body))
    except AdapterError as refused:
        assert [problem.rule for problem in refused.problems] == ["at most 250000 tags"]
    else:
        raise AssertionError("not refused")
