"""The letter: everything the message says, and nothing that runs or loads."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from lxml import etree

from gateway.adapters import Registry
from gateway.adapters.base import AdapterError, Native
from gateway.adapters.letter import ADAPTER, MEDIA_TYPE
from gateway.adapters.mapping import render
from gateway.messages import Canonical
from tests.adapters.forms_kit import MESSAGES, is_valid, unsaid, write
from tests.adapters.test_every import ROOT
from tests.adapters.test_fhir_write import header
from tests.schemas.generated import ABOUT_PEOPLE, EXAMPLES

MARKUP = "<script>alert(1)</script><img src=x onerror=y>\"'&"


def letter(document: dict[str, Any]) -> str:
    return write(ADAPTER, document).decode()


def text_of(page: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", " ", page))


def printable(value: Any) -> Any:
    """The same with a mark for every control character, which no page may hold; line ends are kept."""
    if isinstance(value, dict):
        return {name: printable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [printable(item) for item in value]
    if not isinstance(value, str):
        return value
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\ufffd", re.sub(r"\r\n?", "\n", value))


@pytest.mark.parametrize("name", ABOUT_PEOPLE)
def test_every_field_of_our_examples_is_in_the_letter(name: str) -> None:
    assert unsaid(EXAMPLES[name], text_of(letter(EXAMPLES[name]))) == []


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.filter_too_much])
@given(MESSAGES)
def test_every_field_of_any_message_is_in_the_letter(document: Any) -> None:
    assume(is_valid(document))
    assert unsaid(printable(document), text_of(letter(document))) == []


def test_nothing_in_a_letter_runs_or_is_loaded() -> None:
    document = {**EXAMPLES["referral/school_prevent_referral.json"], "note": MARKUP, "reference": MARKUP}
    page = letter(document)
    root = etree.HTML(page)
    tags = {element.tag for element in root.iter() if isinstance(element.tag, str)}
    assert not tags & {"script", "img", "link", "iframe", "object", "form", "a", "base", "svg"}
    assert not [name for element in root.iter() for name in element.attrib if name in {"src", "href"}]
    assert not [name for element in root.iter() for name in element.attrib if str(name).startswith("on")]
    assert "url(" not in page
    assert "default-src 'none'" in page
    assert MARKUP in text_of(page)


def test_control_characters_do_not_reach_the_page() -> None:
    document = {**EXAMPLES["decision/accepted.json"], "note": "a\x00b\x1bc\x85d\r\ne"}
    page = letter(document)
    assert "a\ufffdb\ufffdc\ufffdd\ne" in page


def test_danger_and_urgency_stand_at_the_top() -> None:
    document = {
        **EXAMPLES["referral/school_prevent_referral.json"],
        "urgency": "emergency",
        "immediateDanger": "yes",
        "immediateDangerDetail": "He is on the roof.",
    }
    top = text_of(letter(document)).partition("About this message")[0]
    assert "Somebody is in danger now" in top
    assert "Urgency: Emergency" in top


def test_who_must_not_know_and_what_must_not_be_used_stand_at_the_top() -> None:
    page = letter(EXAMPLES["referral/hospital_adult_referral.json"])
    top = text_of(page).partition("About this message")[0]
    assert "Must not learn of this referral: His nephew" in top
    assert "not safe to use" in top
    quiet = letter(EXAMPLES["referral/school_prevent_referral.json"])
    assert "not safe to use" not in quiet


def test_a_letter_is_not_read_and_another_type_is_not_written() -> None:
    with pytest.raises(AdapterError) as refused:
        ADAPTER.to_canonical(Native(MEDIA_TYPE, b"<html>Zebedee</html>"))
    assert refused.value.problems[0].rule == "this format is only written"
    with pytest.raises(AdapterError):
        ADAPTER.from_canonical(header("other"), Canonical("other", 1, {}), MEDIA_TYPE)


def test_it_is_offered_and_its_page_is_up_to_date() -> None:
    assert ADAPTER in Registry.load().writers("text/html; charset=utf-8")
    written = (ROOT / "docs" / "adapters" / "letter.md").read_text("utf-8")
    assert written == render(ADAPTER.name, ADAPTER.media_types, ADAPTER.page), "run: make docs"
