"""ADW notices: every official example, and accept, reject and withdraw as ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import schemas
from gateway.adapters import fhir_xml, table
from gateway.adapters.adw import ADAPTER, JSON, XML
from gateway.adapters.base import AdapterError, Native
from gateway.messages import Canonical
from tests.adapters.test_tables import HEADER, NAMED

CANARY = "Zephyrine-Quillfeather"
REFERRAL = NAMED["referral/hospital_adult_referral.json"]


def official(shared_data: Path) -> dict[str, Canonical]:
    folder = shared_data / "health" / "adw-hospital-to-social-services"
    return {
        path.parent.name.removeprefix("Profile.ADW-"): ADAPTER.to_canonical(Native(XML, path.read_bytes()))
        for path in sorted(folder.rglob("*.xml"))
    }


def test_every_official_notice_and_answer_is_read(shared_data: Path) -> None:
    found = official(shared_data)
    for message in found.values():
        assert schemas.validate(message.type, 1, message.document) == []
    notices = {name: one.document["change"] for name, one in found.items() if one.type == "referral"}
    assert notices == {
        "AdmissionNotice": "new",
        "AssessmentNotice": "new",
        "DischargeNotice": "update",
        "WithdrawalNotice": "withdraw",
    }
    answers = {name: one.document["outcome"] for name, one in found.items() if one.type == "decision"}
    assert len(answers) == 6
    assert all(("Accept" in name) == (outcome == "accepted") for name, outcome in answers.items())
    assert (
        len(
            {
                table.get(found[name].document, "reference")
                for name in ("AssessmentNotice", "WithdrawalNotice")
            }
        )
        == 1
    )


def test_our_decision_on_an_official_notice_is_its_answer(shared_data: Path) -> None:
    for name, message in official(shared_data).items():
        if message.type == "decision":
            native = ADAPTER.from_canonical(HEADER, message, XML)
            assert ADAPTER.to_canonical(native).document == message.document, name
            event = fhir_xml.read(native.body)["entry"][0]["resource"]["event"]["code"]
            assert (
                event
                in (shared_data / "health" / "adw-hospital-to-social-services")
                .joinpath(f"Profile.ADW-{name}")
                .glob("*.xml")
                .__next__()
                .read_text()
            )


@pytest.mark.parametrize("media_type", [XML, JSON])
@pytest.mark.parametrize("change", ["new", "update", "withdraw"])
def test_a_written_notice_comes_back(media_type: str, change: str) -> None:
    document = dict(REFERRAL.document) | {"change": change}
    back = ADAPTER.to_canonical(
        ADAPTER.from_canonical(HEADER, Canonical("referral", 1, document), media_type)
    ).document
    assert schemas.validate("referral", 1, back) == []
    assert back["change"] == change
    for path in (
        "person.name[0].familyName",
        "person.identifier[0].value",
        "referrer.name",
        "referrer.contact.telephone",
    ):
        assert table.get(back, path) == table.get(document, path)
    assert back["concern"]["narrative"].startswith(document["concern"]["narrative"])


@given(st.data())
def test_what_is_no_notice_is_refused_without_a_value(data: st.DataObject) -> None:
    body = ADAPTER.from_canonical(HEADER, REFERRAL, XML).body
    what = data.draw(st.sampled_from(["event", "type", "patient", "header", "cut", "noise"]))
    body = {
        "event": body.replace(b"975701000000106", CANARY.encode()),
        "type": body.replace(b'"message"', f'"{CANARY}"'.encode()),
        "patient": body.replace(b"Patient>", b"Plumber>"),
        "header": body.replace(b"MessageHeader>", b"Plumber>"),
        "cut": body[: data.draw(st.integers(0, len(body) - 10))],
        "noise": data.draw(st.binary(max_size=40)),
    }[what]
    with pytest.raises(AdapterError) as caught:
        ADAPTER.to_canonical(Native(XML, body))
    assert CANARY not in repr(caught.value.problems)
    assert caught.value.__context__ is None
