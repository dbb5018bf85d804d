"""HL7 v2: the encoding, the official files, and what comes back of what is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import schemas
from gateway.adapters import er7, table
from gateway.adapters.base import AdapterError, Native
from gateway.adapters.hl7v2 import ADAPTER, MEDIA_TYPE
from gateway.messages import Canonical
from tests.adapters.test_tables import HEADER, NAMED

CANARY = "Zephyrine-Quillfeather"
WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=20).map(str.strip)
REFERRAL = NAMED["referral/hospital_adult_referral.json"]
START = "MSH|^~\\&|PAS|NORTHTOWN|||20261123093000+0000||REF^I12|1|P|2.4\r"
PERSON = "PID|1||9434765919^^^NHS~H123||Ashworth^Callum||20110504|M\r"


def read(text: str) -> Canonical:
    return ADAPTER.to_canonical(Native(MEDIA_TYPE, text.encode()))


def refusal(text: str | bytes) -> AdapterError:
    body = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(AdapterError) as caught:
        ADAPTER.to_canonical(Native(MEDIA_TYPE, body))
    assert CANARY not in repr(caught.value.problems)
    assert caught.value.__context__ is None
    return caught.value


def test_every_official_referral_is_valid_and_everything_else_is_refused_by_its_event(
    shared_data: Path,
) -> None:
    changes = {}
    for path in sorted((shared_data / "health" / "hl7v2").glob("*.hl7")):
        if not path.name.startswith("REF"):
            assert refusal(path.read_bytes()).problems[0].pointer == "/MSH-9"
            continue
        message = ADAPTER.to_canonical(Native(MEDIA_TYPE, path.read_bytes()))
        assert schemas.validate("referral", 1, message.document) == []
        assert message.document["concern"]["code"][1]["code"] == "K63.3"
        assert message.document["referrer"]["organisation"]["name"] == "GHH MEDICAL CENTER"
        changes[path.name[:7]] = message.document["change"]
    assert changes == {"REF-I12": "new", "REF-I14": "withdraw"}


def test_a_written_referral_comes_back() -> None:
    back = ADAPTER.to_canonical(ADAPTER.from_canonical(HEADER, REFERRAL, MEDIA_TYPE)).document
    assert schemas.validate("referral", 1, back) == []
    for path in (
        "reference",
        "urgency",
        "person.name[0].familyName",
        "person.address[0].postcode",
        "referrer.name.prefix",
    ):
        assert table.get(back, path) == table.get(REFERRAL.document, path)
    assert back["person"]["identifier"][0]["scheme"] == "nhs-number"
    assert back["concern"]["narrative"].startswith(REFERRAL.document["concern"]["narrative"])


def test_a_decision_comes_back_and_a_question_has_no_form() -> None:
    declined = NAMED["decision/declined.json"]
    native = ADAPTER.from_canonical(HEADER, declined, MEDIA_TYPE)
    back = ADAPTER.to_canonical(native).document
    for name in ("outcome", "reasonCode", "reasonText", "reference"):
        assert back.get(name) == declined.document.get(name)
    with pytest.raises(AdapterError):
        ADAPTER.from_canonical(HEADER, NAMED["decision/more_information_needed.json"], MEDIA_TYPE)


@pytest.mark.parametrize(("event", "change"), [("I12", "new"), ("I13", "update"), ("I14", "withdraw")])
def test_the_event_says_what_changed_and_is_written_again(event: str, change: str) -> None:
    message = read(START.replace("I12", event) + PERSON + "NTE|1||Worried\r")
    assert message.document["change"] == change
    assert f"REF^{event}".encode() in ADAPTER.from_canonical(HEADER, message, MEDIA_TYPE).body


def test_segments_may_end_in_any_way_and_carry_the_frame_of_mllp() -> None:
    text = START + PERSON + "NTE|1||Worried\r"
    wanted = read(text)
    for other in (text.replace("\r", "\n"), text.replace("\r", "\r\n"), f"\x0b{text}\x1c\r", f"\ufeff{text}"):
        assert read(other) == wanted


@given(st.lists(st.lists(WORDS, min_size=1, max_size=4), min_size=1, max_size=4))
def test_what_is_encoded_is_decoded(fields: list[list[str]]) -> None:
    body = er7.write([("MSH", {3: "x"}), ("ZZZ", dict(enumerate(fields, start=1)))])
    (segment,) = er7.read(body).get("ZZZ", [{}])
    for at, components in enumerate(fields, start=1):
        for position, text in enumerate(components, start=1):
            assert (table.get(segment, f"{at}[0].{position}") or "") == ("" if text == '""' else text)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", ""),
        (CANARY, ""),
        ("MSH", ""),
        ("MSH|||||", ""),
        ("PID|1\r", ""),
        (START + f"{CANARY}|1\r", ""),
        (START.replace("REF^I12", f"REF^{CANARY}") + PERSON, "/MSH-9"),
        (START.replace("2.4", "2.4||||||8859/1") + PERSON, "/MSH-18"),
        (START, "/PID"),
        (START + PERSON, "/NTE"),
        (START.replace("REF^I12", "RRI^I12") + f"RF1|{CANARY}\r", "/RF1-1"),
    ],
)
def test_what_is_no_referral_is_refused_by_its_place(text: str, where: str) -> None:
    assert refusal(text).problems[0].pointer == where


def test_another_encoding_and_too_much_of_everything_are_refused() -> None:
    assert refusal(b"\xff\xfe" + START.encode("utf-16-le")).malformed
    assert refusal(START + "NTE|\r" * 3000).malformed
    assert refusal(START + "NTE|" + "^" * 200_000 + "\r").malformed


@given(st.binary(max_size=60))
def test_noise_is_refused_and_nothing_else_happens(noise: bytes) -> None:
    try:
        ADAPTER.to_canonical(Native(MEDIA_TYPE, START.encode() + PERSON.encode() + noise))
    except AdapterError as error:
        assert error.problems
