"""Duty to refer, as JSON and as a row of CSV, and CAS3."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gateway.adapters import csv_text
from gateway.adapters import dtr_fields as dtr
from gateway.adapters.base import Adapter, AdapterError
from gateway.adapters.cas3 import ADAPTER as CAS3
from gateway.adapters.cas3 import FIELDS as CAS3_FIELDS
from gateway.adapters.duty_to_refer import ADAPTER as DTR
from gateway.adapters.duty_to_refer import CSV_ADAPTER as CSV
from gateway.schemas import files
from tests.adapters.forms_kit import (
    CANARY,
    MAX_NOTE,
    MESSAGES,
    damaged,
    everything,
    examples,
    is_valid,
    keeps_everything,
    read,
    refusals,
    unsaid,
    write,
)
from tests.schemas.generated import ABOUT_PEOPLE, EXAMPLES

REFERRAL = json.loads(examples("duty-to-refer")["prison-to-council.json"])
OUTCOME = json.loads(examples("duty-to-refer")["council-does-not-accept.json"])
WITHDRAWAL = json.loads(examples("duty-to-refer")["prison-withdraws.json"])
APPLICATION = json.loads(examples("cas3")["prison-leaver.json"])
ROW = csv_text.read(examples("duty-to-refer-csv")["hospital-to-council.csv"])
BOTH: list[Adapter] = [DTR, CSV]
DECISION = EXAMPLES["decision/accepted.json"]


def changed(body: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    made = copy.deepcopy(body)
    *way, last = path.split(".")
    holder = made
    for name in way:
        holder = holder[name]
    holder[last] = value
    return made


def written(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(write(DTR, document))
    return found


def test_a_referral_says_who_why_and_to_which_authority() -> None:
    document = read(DTR, REFERRAL)
    assert {"scheme": "crn", "value": "X371199"} in document["person"]["identifier"]
    assert document["concern"]["category"] == ["threatened-with-homelessness"]
    housing = document["additional"]["housing"]
    assert housing["dutyToRefer"] == "threatened-with-homelessness"
    assert housing["releaseOrDischarge"] == "2026-12-14"
    assert housing["preferredAuthority"] == "Wiltshire"
    authority = document["request"]["service"]["organisation"]
    assert authority["identifier"] == [{"scheme": "gss-code", "value": "E06000054"}]
    assert document["consent"] == {
        "status": "given",
        "givenBy": "person",
        "date": "2026-11-19",
        "agreedTo": ["referral", "sharing-contact-details", "choice-of-agency"],
    }


@pytest.mark.parametrize("name", list(dtr.AGREEMENTS))
def test_an_agreement_that_was_not_given_stops_the_referral(name: str) -> None:
    body = changed(REFERRAL, f"agreements.{name}", False)
    assert set(refusals(DTR, body)) == {f"/agreements/{name}"}
    assert refusals(DTR, {**body, "status": "WITHDRAWN"}) == {}


def test_agreements_that_were_not_asked_are_not_made_up() -> None:
    body = {name: value for name, value in REFERRAL.items() if name != "agreements"}
    assert read(DTR, body)["consent"] == {"status": "not-recorded"}
    assert "agreements" not in written(read(DTR, body))


def test_a_withdrawal_names_what_it_withdraws_and_why() -> None:
    document = read(DTR, WITHDRAWAL)
    assert document["change"] == "withdraw"
    assert document["previousReference"] == WITHDRAWAL["submission"]["id"]
    assert document["request"]["code"][0]["code"] == "OTHER"
    back = written(document)
    assert back["status"] == "WITHDRAWN"
    assert back["submission"]["withdrawalReasonOther"] == "Recalled to prison"


@pytest.mark.parametrize("code", list(dtr.WITHDRAWAL_REASONS))
def test_every_withdrawal_reason_comes_back(code: str) -> None:
    body = changed(WITHDRAWAL, "submission.withdrawalReason", code)
    assert written(read(DTR, body))["submission"]["withdrawalReason"] == code


@pytest.mark.parametrize("code", list(dtr.OUTCOME_REASONS))
def test_every_outcome_comes_back_with_its_receipt(code: str) -> None:
    status = "ACCEPTED" if dtr.OUTCOME_REASONS[code]["outcome"] == "accepted" else "NOT_ACCEPTED"
    body = {**changed(OUTCOME, "submission.outcomeReason", code), "status": status}
    document = read(DTR, body)
    assert document["reference"] == "WC-HO-2026-4411"
    assert document["referralReference"] == body["submission"]["id"]
    back = written(document)
    assert (back["status"], back["submission"]["outcomeReason"]) == (status, code)
    assert back["submission"]["outcomeNote"] == body["submission"]["outcomeNote"]


@pytest.mark.parametrize("reason", files.schema("decision", 1)["properties"]["reasonCode"]["enum"])
def test_every_reason_to_decline_has_an_outcome_and_stays_readable(reason: str) -> None:
    document = {**DECISION, "outcome": "declined", "reasonCode": reason, "reasonText": "Because."}
    back = written(document)
    assert back["status"] == "NOT_ACCEPTED"
    expected = "NO_LOCAL_CONNECTION" if reason == "no-local-connection" else "REJECTED_FOR_ANOTHER_REASON"
    assert back["submission"]["outcomeReason"] == expected
    said = back["submission"]["outcomeNote"].casefold()
    assert "because." in said
    assert reason in {"other", "no-local-connection"} or reason.replace("-", " ") in said


def test_an_outcome_of_a_code_not_listed_or_none_says_so() -> None:
    assert read(DTR, changed(OUTCOME, "submission.outcomeReason", "NEW_CODE"))["reasonCode"] == "other"
    bare = changed(changed(OUTCOME, "submission.outcomeReason", None), "submission.outcomeNote", None)
    assert read(DTR, bare)["reasonText"] == "The duty to refer gives no reason."


@pytest.mark.parametrize(
    ("path", "value", "pointer"),
    [
        ("status", "LOST", "/status"),
        ("status", None, "/status"),
        ("submission", None, "/submission"),
        ("submission.createdAt", f"{CANARY}", "/submission/createdAt"),
        ("circumstances.housingStatus", CANARY, "/circumstances/housingStatus"),
        ("circumstances.releaseOrDischargeDate", "31 Dec", "/circumstances/releaseOrDischargeDate"),
        ("person.email", [CANARY], "/person/email"),
        ("person.surname", {"x": CANARY}, "/person/surname"),
    ],
)
def test_what_cannot_be_read_is_refused_by_field_and_rule(path: str, value: Any, pointer: str) -> None:
    assert pointer in refusals(DTR, changed(REFERRAL, path, value))


def test_somebody_must_refer_and_somebody_must_decide() -> None:
    body = changed(changed(REFERRAL, "referringBody", None), "submission.createdBy", None)
    assert set(refusals(DTR, body)) == {"/referringBody/organisation"}
    body = changed(changed(OUTCOME, "decidedBy", None), "submission.localAuthority", None)
    assert set(refusals(DTR, body)) == {"/submission/localAuthority/localAuthorityAreaName"}


def test_the_name_of_an_authority_is_looked_up_and_an_unknown_code_is_kept() -> None:
    named = read(CSV, examples("duty-to-refer-csv")["hospital-to-council.csv"])
    assert named["additional"]["housing"]["preferredAuthority"] == "Hackney"
    body = changed(REFERRAL, "submission.localAuthority", {"gssCode": "E06999999"})
    service = read(DTR, body)["request"]["service"]
    assert service["organisation"]["identifier"] == [{"scheme": "gss-code", "value": "E06999999"}]


def test_a_record_without_a_name_says_so() -> None:
    for person in (None, {"title": "Mr"}):
        names = read(DTR, changed(REFERRAL, "person", person))["person"]["name"]
        assert names[0]["text"] == "Name not recorded"


def test_a_matter_without_housing_and_a_question_have_no_form_here() -> None:
    for name in ("referral/school_prevent_referral.json", "decision/more_information_needed.json"):
        with pytest.raises(AdapterError):
            write(DTR, EXAMPLES[name])


def test_a_row_says_the_same_as_the_object() -> None:
    document = read(DTR, REFERRAL)
    assert read(CSV, write(CSV, document)) == document
    assert read(CSV, write(CSV, read(DTR, OUTCOME))) == read(DTR, OUTCOME)


def test_columns_have_one_name_each_and_an_unknown_one_is_kept_in_words() -> None:
    for kind in ("referral", "decision"):
        assert len(set(dtr.columns(kind).values())) == len(dtr.columns(kind))
    body = csv_text.write([*ROW, "person", "x.y[0]"], {**ROW, "person": "A", "x.y[0]": "B"}, {})
    assert read(CSV, body)["note"] == "Column person: A\nColumn x.y[0]: B"


def test_the_places_where_people_live_are_those_of_the_schema() -> None:
    housing = files.schema("referral", 1)["$defs"]["additional"]["properties"]["housing"]["properties"]
    rules = {field.path: field.codec.rule for field in dtr.REFERRAL}
    enum = housing["accommodationStatus"]["enum"]
    assert rules["additional.housing.accommodationStatus"] == f"one of: {', '.join(enum)}"


@pytest.mark.parametrize("adapter", BOTH, ids=lambda one: one.name)
def test_our_examples_keep_every_field(adapter: Adapter) -> None:
    for name, body in examples(adapter.name).items():
        document = read(adapter, body)
        back = read(adapter, write(adapter, document))
        assert unsaid(document, everything(back)) == [], name
        assert read(adapter, write(adapter, back)) == back, name


NO_FORM = {"/concern/category", "/outcome"}
"""Another matter than housing, and a question."""


@pytest.mark.parametrize("adapter", BOTH, ids=lambda one: one.name)
@pytest.mark.parametrize("name", ABOUT_PEOPLE)
def test_nothing_of_a_message_is_lost_in_writing(adapter: Adapter, name: str) -> None:
    keeps_everything(adapter, EXAMPLES[name], NO_FORM)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.filter_too_much])
@given(document=MESSAGES, adapter=st.sampled_from(BOTH))
def test_nothing_of_any_message_is_lost_in_writing(document: Any, adapter: Adapter) -> None:
    assume(is_valid(document))
    if document["type"] == "referral":
        document["concern"]["category"].append("housing")
        assume(is_valid(document))
    keeps_everything(adapter, document, NO_FORM)


@settings(deadline=None, max_examples=100)
@given(damaged([REFERRAL, OUTCOME, WITHDRAWAL]))
def test_damaged_records_are_read_or_refused(body: Any) -> None:
    refusals(DTR, body)


@settings(deadline=None, max_examples=60)
@given(damaged([ROW]))
def test_damaged_rows_are_read_or_refused(cells: Any) -> None:
    refusals(CSV, csv_text.write(list(cells) if isinstance(cells, dict) else [], cells or {}, {}))


def test_an_application_says_who_where_to_and_what_support() -> None:
    document = read(CAS3, APPLICATION)
    assert document["person"]["name"] == [{"text": "Marcus Vale"}]
    assert document["additional"]["housing"]["releaseOrDischarge"] == "2026-12-14"
    assert document["referrer"]["name"] == {"text": "Imogen Tate"}
    assert document["concern"]["code"][0]["code"] == "homelessFromCustody"
    assert document["riskToProfessionals"] == "None known"
    assert "fights when drunk" in document["concern"]["narrative"]
    assert "bond scheme" in document["note"]
    assert "-year" not in json.dumps(document)


@pytest.mark.parametrize("status", ["no", CANARY, True])
def test_an_application_without_consent_is_refused(status: Any) -> None:
    body = changed(APPLICATION, "data.consent.consent-given.consentGiven", status)
    assert set(refusals(CAS3, body)) == {"/data/consent/consent-given/consentGiven"}


def test_answers_without_a_person_are_refused() -> None:
    assert set(refusals(CAS3, APPLICATION["data"])) == {"/data"}
    assert set(refusals(CAS3, {"data": APPLICATION["data"]})) == {"/person/name"}


def test_answers_that_cannot_be_read_stand_in_the_note_and_long_ones_are_cut() -> None:
    body = changed(APPLICATION, "data.eligibility.release-date.releaseDate", "next spring")
    assert "next spring" in read(CAS3, body)["note"]
    body = changed(APPLICATION, "data.move-on-plan.move-on-plan.plan", "x" * 30_000)
    note = read(CAS3, body)["note"]
    assert (len(note), note[-1]) == (MAX_NOTE, "…")


def test_answers_we_do_not_know_are_kept_in_words() -> None:
    body = changed(APPLICATION, "person.aliases", ["Marc Valley"])
    body["data"]["health-needs"] = {"page": {"dental": "toothache"}}
    note = read(CAS3, body)["note"]
    assert "Person, Aliases: Marc Valley" in note
    assert "Health needs, Page, Dental: toothache" in note
    record = changed(REFERRAL, "circumstances.pets", "one dog")
    assert read(DTR, record)["note"] == "Circumstances, Pets: one dog"


def test_an_application_is_not_written() -> None:
    with pytest.raises(AdapterError):
        write(CAS3, EXAMPLES["referral/police_housing_referral.json"])


@settings(deadline=None, max_examples=100)
@given(damaged([APPLICATION]))
def test_damaged_applications_are_read_or_refused(body: Any) -> None:
    refusals(CAS3, body)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b'{"status": "SUBMITTED"'])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    for adapter in (DTR, CAS3):
        assert refusals(adapter, body)


def test_every_field_can_be_left_out_but_the_needed() -> None:
    for field in CAS3_FIELDS:
        name = field.native.partition(".")[0]
        body = {key: value for key, value in APPLICATION.items() if key != name}
        found = refusals(CAS3, body)
        assert set(found) <= {"/person/name", "/data"}
