"""The DfE's own test data: pupils in a common transfer file, and a table that is no referral."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from gateway.adapters.ctf_concern import ADAPTER as CTF
from gateway.adapters.school_csv import ADAPTER as CSV
from tests.adapters.forms_kit import read, refusals, write

PUPILS = "education/dfe-giap"
APPLICATIONS = "education/dfe-ecs/sample-bulk-import-applications.csv"


def pupils(shared_data: Path) -> list[dict[str, Any]]:
    return [
        pupil
        for path in sorted((shared_data / PUPILS).glob("*.json"))
        for pupil in json.loads(path.read_bytes())["value"]
    ]


def body(pupil: dict[str, Any]) -> dict[str, Any]:
    """A common transfer file with what the DfE's index says of a pupil, and a concern."""
    root = etree.Element("CTfile")
    element = etree.SubElement(etree.SubElement(root, "CTFpupilData"), "Pupil")
    names = {"UPN": "UPN", "ULN": "UniqueLearnerNumber", "Surname": "Surname", "Forename": "Forename"}
    for name, tag in {**names, "DOB": "DOB", "Sex": "Sex"}.items():
        if pupil.get(name):
            etree.SubElement(element, tag).text = pupil[name]
    concern = {"upn": pupil["UPN"], "concern": "Often late.", "urgency": "routine", "school_name": "A School"}
    return {"ctf": etree.tostring(root, encoding="unicode"), "concern": concern}


def test_every_pupil_is_read_whatever_the_check_letter_and_comes_back(shared_data: Path) -> None:
    found = pupils(shared_data)
    assert len(found) >= 10
    for pupil in found:
        document = read(CTF, body(pupil))
        assert {"scheme": "upn", "value": pupil["UPN"]} in document["person"]["identifier"]
        assert document["person"]["dateOfBirth"] == {"date": pupil["DOB"]}
        back = etree.fromstring(json.loads(write(CTF, document))["ctf"])
        for tag in ("UPN", "Surname", "Forename", "DOB", "Sex"):
            assert back.findtext(f"CTFpupilData/Pupil/{tag}") == pupil[tag]


def test_one_pupils_concern_does_not_join_anothers_file(shared_data: Path) -> None:
    first, second = pupils(shared_data)[:2]
    mixed = {**body(first), "concern": body(second)["concern"]}
    assert set(refusals(CTF, mixed)) == {"/concern/upn"}


@pytest.mark.parametrize(
    ("rows", "pointers"), [(None, {""}), (2, {"/concern", "/urgency", "/school_name", "/surname"})]
)
def test_a_table_of_something_else_is_refused(
    shared_data: Path, rows: int | None, pointers: set[str]
) -> None:
    lines = (shared_data / APPLICATIONS).read_bytes().splitlines(keepends=True)
    assert set(refusals(CSV, b"".join(lines[:rows]))) == pointers
