"""What holds for every adapter that maps by tables: nothing is lost silently, what has a field comes back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from lxml import etree

from gateway import schemas
from gateway.adapters import Registry, er7, fhir_xml, pole, table
from gateway.adapters.base import Adapter, AdapterError, Native
from gateway.messages import AgencyId, Canonical, CaseId, EnvelopeId, Header, MessageId
from gateway.schemas import files
from tests.schemas.generated import EXAMPLES

ROOT = Path(__file__).parents[2]
REGISTRY = Registry.load()
WRITERS = ["govuk-forms", "xgov-forms", "moj-forms", "early-help", "pole", "prevent-form", "hl7v2", "adw"]
READERS = [name for name in WRITERS if name not in {"prevent-form", "hl7v2", "adw"}]
NAMED = {
    name: Canonical(name.partition("/")[0], 1, document)
    for name, document in EXAMPLES.items()
    if name.partition("/")[0] in {"referral", "decision"}
}
MESSAGES = list(NAMED.values())
CANARY = "Zephyrine-Quillfeather"
HEADER = Header(
    MessageId("5f3a0a4e-6a0c-4b7d-9b52-1f0b4a3c9d11"),
    EnvelopeId("0b7f5f0c-7f0e-4a3b-9a59-7d9a4f0f6a11"),
    "referral",
    1,
    AgencyId("school"),
    AgencyId("police"),
    CaseId("9b1d6c1e-2f5a-4f0e-8a3b-2d7e5c4b6a90"),
    None,
    1_795_430_000_000,
    1_795_530_000_000,
    "prevent",
    "public-task",
)


def adapter(name: str) -> Adapter:
    return REGISTRY.by_name(name)


def written(name: str, message: Canonical) -> Native:
    return adapter(name).from_canonical(HEADER, message, adapter(name).media_types[0])


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts(inner)
    else:
        yield str(value)


def squeezed(text: str) -> str:
    return " ".join(text.split())


def without_ethnicity(document: Mapping[str, Any]) -> dict[str, Any]:
    """A code of a published list stands for its name."""
    person = {name: value for name, value in document.get("person", {}).items() if name != "ethnicity"}
    return dict(document) | {"person": person}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("message", MESSAGES, ids=list(NAMED))
def test_every_word_that_a_person_wrote_is_in_what_is_written(name: str, message: Canonical) -> None:
    if name in {"hl7v2", "adw"} and message.document.get("outcome") == "more-information-needed":
        with pytest.raises(AdapterError):
            written(name, message)
        return
    body = written(name, message).body
    parsed: Any = body.decode()
    if body[:1] == b"{":
        parsed = json.loads(body)
    elif body[:3] == b"MSH":
        parsed = er7.read(body)
    elif body[:1] == b"<":
        parsed = fhir_xml.read(body)
    text = squeezed("\n".join(texts(parsed)))
    missing = [
        one
        for one in texts(without_ethnicity(message.document))
        if (" " in one or (one.isdecimal() and len(one) > 4)) and squeezed(one) not in text
    ]
    assert missing == []


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("message", MESSAGES, ids=list(NAMED))
def test_what_is_written_is_read_back_valid(name: str, message: Canonical) -> None:
    back = adapter(name).to_canonical(written(name, message))
    assert (back.type, schemas.validate(back.type, 1, back.document)) == (message.type, [])
    for path in (
        "concern.narrative",
        "urgency",
        "person.dateOfBirth.date",
        "consent.status",
        "outcome",
        "reasonCode",
    ):
        if name != "xgov-forms" or path != "urgency":
            assert table.get(back.document, path) == table.get(message.document, path)


@given(st.sampled_from(["referral", "decision"]), st.data())
def test_a_table_reads_what_it_wrote(type_: str, data: st.DataObject) -> None:
    rows = {"referral": pole.REFERRAL, "decision": pole.DECISION}[type_]
    message = data.draw(st.sampled_from([one for one in MESSAGES if one.type == type_]))
    keep = data.draw(st.sets(st.sampled_from(sorted(message.document))))
    document = {name: value for name, value in message.document.items() if name in keep}
    once = rows.read(rows.write(document))
    assert rows.read(rows.write(once)) == once
    assert list(texts(once)) or not rows.write(document)


@pytest.mark.parametrize("name", READERS)
@given(st.data())
def test_what_is_not_the_format_is_refused_without_a_value(name: str, data: st.DataObject) -> None:
    body = written(name, MESSAGES[0]).body
    document = json.loads(body)
    how = data.draw(st.sampled_from(["cut", "kind", "drop", "noise"]))
    if how == "cut":
        body = body[: data.draw(st.integers(0, len(body) - 2))]
    elif how == "noise":
        body = data.draw(st.binary(max_size=40))
    else:
        field = data.draw(st.sampled_from(sorted(document)))
        if how == "drop":
            del document[field]
        else:
            document[field] = data.draw(
                st.sampled_from([CANARY, [CANARY], {CANARY: CANARY}, 7, None, True, [[], [CANARY]]])
            )
        body = json.dumps(document).encode()
    try:
        message = adapter(name).to_canonical(Native(adapter(name).media_types[0], body))
    except AdapterError as error:
        assert error.problems
        assert CANARY not in repr(error.problems)
        assert error.__context__ is None
    else:
        problems = schemas.validate(message.type, message.version, message.document)
        assert CANARY not in repr(problems)


def test_a_form_without_a_map_is_read_as_a_narrative() -> None:
    form = {
        "form_name": "Ask for a skip",
        "submission_reference": "GOV-1",
        "submitted_at": "2026-11-23T09:30:00.000Z",
        "answers": [
            {"question_id": "1", "question_text": "Where?", "answer_text": ["Yard", "Lane"]},
            {"question_id": "2", "question_text": "Nothing?", "answer_text": ""},
            {"question_id": "3", "question_text": "When?", "answer_text": "Now", "selections": ["Now"]},
        ],
    }
    message = adapter("govuk-forms").to_canonical(Native("application/json", json.dumps(form).encode()))
    assert message.document["concern"]["narrative"] == "Where?: Yard\nLane\nWhen?: Now"
    assert (message.document["reference"], message.document["writtenAt"]) == (
        "GOV-1",
        "2026-11-23T09:30:00.000Z",
    )
    assert schemas.validate("referral", 1, message.document) == []


def test_a_text_form_lets_no_value_pose_as_a_heading() -> None:
    document = dict(MESSAGES[0].document) | {"note": "fine\nPERSON MAKING THE REFERRAL\n  Name: nobody"}
    text = written("prevent-form", Canonical("referral", 1, document)).body.decode()
    assert text.count("\nPERSON MAKING THE REFERRAL\n") == 1


def test_the_schema_of_pole_documents_is_the_one_published_and_all_that_is_written_satisfies_it() -> None:
    published = json.loads((ROOT / "docs" / "adapters" / "pole.schema.json").read_text("utf-8"))
    assert published == pole.schema(), "run: make docs"
    Draft202012Validator.check_schema(published)
    for message in MESSAGES:
        Draft202012Validator(published).validate(json.loads(written("pole", message).body))


def test_every_council_example_is_read_or_refused_for_its_reason(shared_data: Path) -> None:
    folder = shared_data / "local-authority"
    census: dict[str, object] = {}
    for path in sorted((folder / "cin-census").rglob("*.xml")):
        try:
            message = adapter("cin-xml").to_canonical(Native("application/xml", path.read_bytes()))
        except AdapterError as error:
            census[path.name] = error.problems[0].rule
            continue
        census[path.name] = schemas.validate(message.type, 1, message.document)
        again = adapter("cin-xml").from_canonical(HEADER, message, "application/xml").body
        for year in (2022, 2023, 2024):
            xsd = folder / "cin-census" / "liia" / f"CIN_schema_{year}.xsd"
            etree.XMLSchema(etree.parse(xsd)).assertValid(etree.fromstring(again))
    several = census.pop("CIN_Census_2024.xml")
    assert several == "one Child: a message is about one person"
    assert len(census) >= 7
    assert set(map(repr, census.values())) == {"[]"}

    forms: dict[str, str] = {}
    sources = [("moj-forms", "moj-forms"), ("xgov-forms", "xgov-forms"), ("govuk-forms", "govuk-forms")]
    for name, where in [*sources, ("xgov-forms", "../police")]:
        for path in sorted((folder / where).rglob("*.json")):
            try:
                message = adapter(name).to_canonical(Native("application/json", path.read_bytes()))
            except AdapterError as error:
                forms[path.name] = error.problems[0].rule
            else:
                assert schemas.validate(message.type, 1, message.document) == []
                forms[path.name] = "read"
    assert {name for name, what in forms.items() if what == "read"} == {
        "valid_submission.json",
        "valid_submission_with_file.json",
    }, "the others are definitions of forms and schemas, not submissions"
    assert "a list of questions: the webhook's JSON" in forms["report-a-terrorist.json"]


@pytest.mark.parametrize("message", MESSAGES, ids=list(NAMED))
def test_what_is_written_for_a_form_platform_satisfies_its_published_schema(
    message: Canonical, shared_data: Path
) -> None:
    folder = shared_data / "local-authority"
    for name, file in (
        ("govuk-forms", "govuk-forms/json_submission_schema_v1.json"),
        ("moj-forms", "moj-forms/schemas/submission_payload.json"),
    ):
        schema = json.loads((folder / file).read_bytes())
        Draft202012Validator(schema).validate(json.loads(written(name, message).body))


def test_a_council_adds_a_map_of_its_own_form_as_the_guide_says() -> None:
    guide = (ROOT / "docs" / "adapters.md").read_text("utf-8")
    (example,) = re.findall(r"```python\n(from gateway.adapters import forms\n.*?)```", guide, re.DOTALL)
    place: dict[str, Any] = {}
    exec(example, place)
    form = {
        "form_name": "Worried about a neighbour",
        "answers": [
            {"question_id": "7", "question_text": "Who?", "answer_text": "Jo Bloggs"},
            {"question_id": "9", "question_text": "How soon?", "answer_text": "This week"},
            {"question_id": "11", "question_text": "Why?", "answer_text": "Not seen for days"},
        ],
    }
    own = place["ADAPTER"]
    message = own.to_canonical(Native(own.media_types[0], json.dumps(form).encode()))
    assert schemas.validate("referral", 1, message.document) == []
    assert message.document["person"]["name"] == [{"text": "Jo Bloggs"}]
    assert message.document["urgency"] == "urgent"
    assert message.document["concern"]["narrative"] == "Why?: Not seen for days"
    assert Registry([own]).choose("application/vnd.northtown-council+json", None) is own


def test_stray_text_in_a_census_file_is_passed_over_and_said() -> None:
    body = (ROOT / "gateway" / "adapters" / "examples" / "cin-xml" / "neglect.xml").read_bytes()
    stray = body.replace(b"<PersonBirthDate>", b"PersonBirthDate<PersonBirthDate>", 1)
    message = adapter("cin-xml").to_canonical(Native("application/xml", stray))
    assert "text between elements at Message.Children.Child.ChildIdentifiers" in message.document["note"]
    newer = body.replace(b"GenderCurrent", b"Sex")
    assert (
        adapter("cin-xml").to_canonical(Native("application/xml", newer)).document["person"]["sexCode"] == "1"
    )
    assert files.is_known("referral", 1)
