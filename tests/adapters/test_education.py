"""Schools: the common transfer file with a concern, and one row of CSV."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from lxml import etree

from gateway.adapters import Registry, codes, csv_text, school_csv, school_fields, words
from gateway.adapters.base import Adapter, AdapterError
from gateway.adapters.ctf_concern import ADAPTER as CTF
from gateway.adapters.school_csv import ADAPTER as CSV
from gateway.schemas import files
from tests.adapters.forms_kit import (
    CANARY,
    MESSAGES,
    damaged,
    examples,
    is_valid,
    keeps_everything,
    read,
    refusals,
    write,
)
from tests.schemas.generated import ABOUT_PEOPLE, EXAMPLES

REFERRAL = json.loads(examples("ctf-concern")["school-to-prevent.json"])
DECISION = json.loads(examples("ctf-concern")["prevent-accepts.json"])
ROW = csv_text.read(examples("school-csv")["school-to-early-help.csv"])
BOTH: list[Adapter] = [CTF, CSV]


def with_ctf(old: str, new: str) -> dict[str, Any]:
    assert old in REFERRAL["ctf"]
    return {**REFERRAL, "ctf": REFERRAL["ctf"].replace(old, new)}


def with_concern(**fields: Any) -> dict[str, Any]:
    return {**REFERRAL, "concern": {**REFERRAL["concern"], **fields}}


def row(**cells: str | None) -> bytes:
    kept = {name: cell for name, cell in {**ROW, **cells}.items() if cell is not None}
    out = io.StringIO(newline="")
    csv.writer(out).writerows([kept.keys(), kept.values()])
    return out.getvalue().encode()


def test_the_file_says_who_the_pupil_is_and_the_concern_what_is_the_matter() -> None:
    document = read(CTF, REFERRAL)
    person = document["person"]
    assert person["identifier"] == [
        {"scheme": "upn", "value": "B801200005001"},
        {"scheme": "uln", "value": "1000000027"},
    ]
    assert person["name"][0] == {
        "familyName": ["Ashworth"],
        "givenName": ["Callum", "James", "Lee"],
        "preferredName": "Cal",
    }
    assert (person["sexCode"], person["ethnicityCode"], person["ethnicity"]["code"]) == ("1", "13", "WBRI")
    assert person["address"][0]["line1"] == "27 Kiln Lane"
    assert document["involved"]["people"][0]["parentalResponsibility"] is True
    education = document["additional"]["education"]
    assert (education["sendSupport"], education["sendNeed"]) == ("ehc-plan", ["ASC", "SEMH"])
    assert document["concern"]["category"] == ["radicalisation", "online-harm"]


@pytest.mark.parametrize("stated", ["B801200005001", " b8012 00005001 ", "T801200005009", "B80120000500A"])
def test_the_parts_are_joined_by_the_upn_the_temporary_or_the_former_upn(stated: str) -> None:
    body = with_ctf("<BasicDetails>", "<BasicDetails><FormerUPN>T801200005009</FormerUPN>")
    if stated.endswith("A"):  # a temporary number is the pupil's own until there is a permanent one
        body["ctf"] = body["ctf"].replace("<UPN>B801200005001", f"<UPN>{stated}")
    body["concern"] = {**body["concern"], "upn": stated}
    assert read(CTF, body)["concern"]["narrative"]


@pytest.mark.parametrize("stated", ["H801200001001", "", None, 7, CANARY])
def test_a_concern_about_another_pupil_is_refused(stated: Any) -> None:
    assert set(refusals(CTF, with_concern(upn=stated))) == {"/concern/upn"}


def test_a_file_without_a_upn_joins_nothing() -> None:
    body = with_ctf("<UPN>B801200005001</UPN>", "")
    assert set(refusals(CTF, body)) == {"/concern/upn"}


def test_a_file_of_two_pupils_or_of_something_else_is_refused() -> None:
    pupil = REFERRAL["ctf"][REFERRAL["ctf"].index("<Pupil>") : REFERRAL["ctf"].index("</CTFpupilData>")]
    assert set(refusals(CTF, with_ctf("</CTFpupilData>", f"{pupil}</CTFpupilData>"))) == {
        "/ctf/CTfile/CTFpupilData/Pupil"
    }
    assert set(refusals(CTF, {**REFERRAL, "ctf": "<Message/>"})) == {"/ctf"}
    assert set(refusals(CTF, {**REFERRAL, "ctf": f"<CTfile>{CANARY}"})) == {"/ctf"}
    deep = "<a>" * 100 + "</a>" * 100
    assert set(refusals(CTF, with_ctf("</CTFpupilData>", f"</CTFpupilData>{deep}"))) == {"/ctf"}


def test_files_from_before_ctf_24_and_with_address_lines_are_read() -> None:
    body = with_ctf("<Sex>M</Sex>", "<Gender>M</Gender>")
    body["ctf"] = re.sub(
        "<BS7666Address>.*</BS7666Address>",
        "<AddressLines><AddressLine1>27 Kiln Lane</AddressLine1><AddressLine4>Northtown</AddressLine4>"
        "<AddressLine5>Weirshire</AddressLine5></AddressLines>",
        body["ctf"],
    )
    person = read(CTF, body)["person"]
    assert person["genderCode"] == "1"
    assert person["address"] == [
        {"line1": "27 Kiln Lane", "city": "Northtown", "county": "Weirshire", "postcode": "NT3 6QD"}
    ]


def test_what_a_file_says_unreadably_stands_in_the_note() -> None:
    assert "14 Sept" in read(CTF, with_ctf("2011-09-14", "14 Sept"))["note"]
    assert "a@b@c" in read(CTF, with_ctf("helen.ashworth@example.org", "a@b@c"))["note"]


def test_a_contact_without_a_name_says_so() -> None:
    body = with_ctf("<Surname>Ashworth</Surname><Forename>Helen</Forename>", "")
    assert read(CTF, body)["involved"]["people"][0]["name"] == [{"text": "Name not recorded", "use": "temp"}]


def test_the_file_we_write_is_a_partial_common_transfer_file_in_the_order_of_its_elements() -> None:
    document = read(CTF, REFERRAL)
    root = etree.fromstring(json.loads(write(CTF, document))["ctf"])
    assert root.findtext("Header/DocumentQualifier") == "partial"
    assert root.findtext("Header/SourceSchool/Estab") == "4012"
    order = [child.tag for child in root.find("CTFpupilData/Pupil")]  # type: ignore[union-attr]
    expected = ["UPN", "UniqueLearnerNumber", "Surname", "Forename", "DOB", "Sex", "BasicDetails"]
    assert order == [*expected, "LookedAfter", "SENhistory", "Address", "Phones", "Contacts"]


def test_a_telephone_that_is_not_safe_stays_out_of_the_file() -> None:
    document = read(CTF, REFERRAL)
    document["involved"]["people"][0]["contact"][0]["safeToUse"] = False
    written = json.loads(write(CTF, document))
    assert "07700 900142" not in written["ctf"]
    assert "Safe to use: No" in written["concern"]["other_information"]


def test_a_referral_without_a_upn_is_not_written_as_a_file() -> None:
    with pytest.raises(AdapterError) as refused:
        write(CTF, EXAMPLES["referral/hospital_adult_referral.json"])
    assert refused.value.problems[0].pointer == "/person/identifier"


def test_a_row_is_read_with_the_names_dates_and_codes_that_people_write() -> None:
    document = read(CSV, examples("school-csv")["school-to-early-help.csv"])
    assert document["person"]["dateOfBirth"] == {"date": "2017-03-05"}
    assert document["concern"]["category"] == ["family-support", "young-carer"]
    assert document["concern"]["code"] == [{"display": "Parent unwell"}]
    assert document["involved"]["people"][0]["contact"][0]["safeToUse"] is False
    assert document["note"] == "House colour: Green"
    assert "\n" in document["concern"]["narrative"]


def test_a_request_that_names_the_adapter_may_say_text_csv() -> None:
    assert Registry.load().choose("text/csv; charset=utf-8", "school-csv") is CSV


def test_a_row_that_excel_saved_with_a_byte_order_mark_is_the_same() -> None:
    assert read(CSV, b"\xef\xbb\xbf" + row()) == read(CSV, row())


@pytest.mark.parametrize("name", ["concern", "urgency", "school_name", "outcome"])
def test_what_is_needed_is_asked_for_by_its_column(name: str) -> None:
    blank = {"referrer_name": None, "referrer_role": None, "school_laestab": None}
    body = row(**{name: None}, **(blank if name == "school_name" else {}))
    expected = {} if name == "outcome" else {f"/{name}": "required"}
    assert refusals(CSV, body) == expected


def test_values_that_cannot_be_are_refused_by_column_and_rule() -> None:
    body = row(date_of_birth="31/02/2017", urgency=CANARY, pupil_aware="perhaps", written_at="yesterday")
    found = refusals(CSV, body)
    assert set(found) == {"/date_of_birth", "/urgency", "/pupil_aware", "/written_at"}
    assert found["/urgency"] == "one of: routine, urgent, emergency"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"upn\r\n",
        b"\xff\xfe",
        b'upn,concern\r\n"Zebedee-Canary,x\r\n',
        b'upn\r\nx"Zebedee-Canary"\r\n',
        b"upn,upn\r\n1,2\r\n",
        b"upn\r\n1\r\n2\r\n",
        b"upn\r\n1,2\r\n",
        b"," * 4_000_000,
        b"\r\n" * 2_000_000,
    ],
)
def test_what_is_no_header_with_one_row_is_refused(body: bytes) -> None:
    assert set(refusals(CSV, body)) == {""}


@pytest.mark.parametrize(
    "cell", ["=1+1", "+44 7700 900201", "-2", "@SUM(A1)", "'=1", "''+1", "\uff1d1", "|x"]
)
def test_a_cell_never_starts_a_formula_and_reads_back(cell: str) -> None:
    written = csv_text.write(["a"], {"a": cell}, {})
    assert next(csv.reader(io.StringIO(written.decode().split("\r\n")[1])))[0].startswith("'")
    assert csv_text.read(written) == {"a": cell}


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.text(st.characters(codec="utf-8"), max_size=20)))
def test_any_cells_read_back_as_they_were(cells: dict[str, str]) -> None:
    back = csv_text.read(csv_text.write(["z", "a", "b", "c"], {**cells, "z": "1"}, {}))
    assert back == {"z": "1"} | {name: cell for name, cell in cells.items() if words.stripped(cell)}


def test_the_codes_are_those_of_the_schema() -> None:
    referral = files.schema("referral", 1)["$defs"]
    assert list(school_fields.CATEGORIES) == referral["concern"]["properties"]["category"]["items"]["enum"]
    rules = {field.path: field.codec.rule for field in [*school_csv.REFERRAL, *school_csv.DECISION]}
    for path, holder in (
        ("concern.preventType", referral["concern"]),
        ("concern.levelOfNeed", referral["concern"]),
        ("consent.status", referral["consent"]),
        ("consent.givenBy", referral["consent"]),
        ("consent.overrideReason", referral["consent"]),
        ("referrer.sourceCode", referral["referrer"]),
        ("request.action", referral["request"]),
        ("outcome", files.schema("decision", 1)),
        ("reasonCode", files.schema("decision", 1)),
    ):
        enum = holder["properties"][path.rpartition(".")[2]]["enum"]
        assert rules[path] == f"one of: {', '.join(enum)}", path


def test_the_dfe_ethnicity_list_is_the_one_of_the_census() -> None:
    assert {"WBRI", "REFU", "NOBT"} <= set(codes.data("ethnicity")["lists"]["dfe"]["codes"])
    unlisted = read(CSV, row(ethnicity="Geordie"))["person"]
    assert unlisted["ethnicity"] == {"display": "Geordie"}
    assert "ethnicityCode" not in unlisted


@pytest.mark.parametrize("adapter", BOTH, ids=lambda one: one.name)
def test_our_examples_come_back_as_they_went(adapter: Adapter) -> None:
    for name, body in examples(adapter.name).items():
        document = read(adapter, body)
        back = read(adapter, write(adapter, document))
        if adapter is CTF and "person" in back:
            back.pop("note")  # the UPRN, which AddressLines have no place for
            document["person"]["address"][0].pop("UPRN")
        assert back == document, name


NO_FORM = {"/person/identifier", "/person/name/0"}
"""Somebody without a UPN or without the parts of a name, in a common transfer file."""


def no_form(adapter: Adapter) -> set[str]:
    return NO_FORM if adapter is CTF else set()


@pytest.mark.parametrize("adapter", BOTH, ids=lambda one: one.name)
@pytest.mark.parametrize("name", ABOUT_PEOPLE)
def test_nothing_of_a_message_is_lost_in_writing(adapter: Adapter, name: str) -> None:
    keeps_everything(adapter, EXAMPLES[name], no_form(adapter))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.filter_too_much])
@given(document=MESSAGES, adapter=st.sampled_from(BOTH))
def test_nothing_of_any_message_is_lost_in_writing(document: Any, adapter: Adapter) -> None:
    assume(is_valid(document))
    keeps_everything(adapter, document, no_form(adapter))


@settings(deadline=None, max_examples=80)
@given(damaged([REFERRAL, DECISION]))
def test_damaged_bodies_are_read_or_refused(body: Any) -> None:
    refusals(CTF, json.dumps(body).encode())


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_damaged_files_are_read_or_refused(data: st.DataObject) -> None:
    text = bytearray(REFERRAL["ctf"].encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        part = data.draw(st.sampled_from([b"", b"<a/>", b"</a>", b"<Pupil>", b"x", b"&lt;", b"<Phones/>"]))
        text[at : at + data.draw(st.integers(0, 40))] = part
    refusals(CTF, {**REFERRAL, "ctf": text.decode(errors="replace")})
