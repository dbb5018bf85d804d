"""The code lists: what is read from one list can be written to another, and nothing is guessed."""

from __future__ import annotations

import pytest

from gateway.adapters import codes
from gateway.schemas import files

CANONICAL = files.schema("referral", 1)["$defs"]["person"]["properties"]["ethnicityCode"]["enum"]
SEXES = files.common()["$defs"]["sexCode"]["enum"]
ETHNICITIES = codes.data("ethnicity")["lists"]
SEX_LISTS = codes.data("sex")["lists"]
ARAB, ROMA, GYPSY_OR_TRAVELLER = "18", "16", "15"


@pytest.mark.parametrize("name", ETHNICITIES)
def test_every_ethnicity_code_reads_as_one_of_the_canonical_list_or_as_none(name: str) -> None:
    for code in ETHNICITIES[name]["codes"]:
        assert codes.ethnicity(name, code) in {*CANONICAL, None}
    assert set(ETHNICITIES[name]["write"]) <= set(CANONICAL)
    assert set(ETHNICITIES[name]["write"].values()) <= set(ETHNICITIES[name]["codes"])


@pytest.mark.parametrize("name", ETHNICITIES)
def test_what_is_written_reads_back_save_the_groups_the_list_does_not_have(name: str) -> None:
    for canonical in CANONICAL:
        written = codes.ethnicity_code(name, canonical)
        if written and canonical not in {ARAB, ROMA, GYPSY_OR_TRAVELLER}:
            assert codes.ethnicity(name, written) == canonical


def test_the_three_lists_agree() -> None:
    rows = [
        ("WBRI", "A", "W1"), ("WIRI", "B", "W2"), ("WOTH", "C", "W9"), ("MWBC", "D", "M1"),
        ("MWBA", "E", "M2"), ("MWAS", "F", "M3"), ("MOTH", "G", "M9"), ("AIND", "H", "A1"),
        ("APKN", "J", "A2"), ("ABAN", "K", "A3"), ("AOTH", "L", "A9"), ("BCRB", "M", "B1"),
        ("BAFR", "N", "B2"), ("BOTH", "P", "B9"), ("CHNE", "R", "O1"), ("OOTH", "S", "O9"),
    ]  # fmt: skip
    for dfe, nhs, police in rows:
        found = {
            codes.ethnicity("dfe", dfe),
            codes.ethnicity("nhs", nhs),
            codes.ethnicity("police", police),
        }
        assert len(found) == 1
        canonical = found.pop()
        assert canonical is not None
        written = (codes.ethnicity_code(name, canonical) for name in ("dfe", "nhs", "police"))
        assert tuple(written) == (dfe, nhs, police)


@pytest.mark.parametrize(
    ("name", "code"),
    [("dfe", "REFU"), ("dfe", "NOBT"), ("dfe", "WROM"), ("nhs", "Z"), ("nhs", "99"), ("police", "NS")],
)
def test_what_says_less_than_one_group_is_none_and_kept_as_coded(name: str, code: str) -> None:
    assert codes.ethnicity(name, code) is None
    kept = codes.ethnicity_coded(name, code)
    assert kept["code"] == code
    assert kept["display"]


def test_codes_are_read_whatever_their_case_prefix_and_space() -> None:
    assert codes.ethnicity("police", " esdd_a4 ") == codes.ethnicity("police", "O1") == "2"
    assert codes.ethnicity("dfe", "wbri") == "13"
    assert codes.sex("fhir", "Female") == "2"
    assert codes.ethnicity("dfe", "ZZZZ") is None
    assert codes.ethnicity_coded("dfe", "ZZZZ") == {"system": "DfE ethnicity", "code": "ZZZZ"}


@pytest.mark.parametrize("name", SEX_LISTS)
def test_sex_codes_go_both_ways(name: str) -> None:
    for code in SEX_LISTS[name]["codes"]:
        canonical = codes.sex(name, code)
        assert canonical is not None
        assert canonical in SEXES
        assert codes.sex_code(name, canonical) == code
    assert codes.sex(name, "Q") is None


def test_the_dfe_has_no_code_for_indeterminate() -> None:
    assert codes.sex_code("dfe", "9") is None
