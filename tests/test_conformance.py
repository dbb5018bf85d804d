"""What `gateway conformance` says of a system's exports, and that it never repeats a value of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.adapters.base import Native
from gateway.adapters.leaves import leaves
from gateway.cli.common import Exit
from tests.command import app
from tests.road import referral

EXAMPLES = Path(__file__).parents[1] / "gateway" / "adapters" / "examples"
CANARY = "Zephyrine-Quillfeather"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["conformance", *map(str, arguments)])


def examined(tmp_path: Path, document: Any) -> dict[str, Any]:
    file = tmp_path / "one.json"
    file.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
    found: dict[str, Any] = json.loads(run("json", file, "--json").stdout)["files"][0]
    return found


def test_a_complete_referral_is_accepted_with_nothing_missing(tmp_path: Path) -> None:
    found = examined(tmp_path, referral())
    assert (found["accepted"], found["type"], found["missing"], found["not_carried"]) == (
        True,
        "referral",
        [],
        [],
    )


def test_what_is_missing_is_named_with_the_reason(tmp_path: Path) -> None:
    document = referral()
    del document["person"]["dateOfBirth"]
    document["consent"] = {"status": "not-recorded"}
    assert examined(tmp_path, document)["missing"] == ["person.dateOfBirth", "consent.status"]
    shown = run("json", tmp_path / "one.json").stdout
    assert "missing      person.dateOfBirth, to tell two people of one name apart" in shown


@pytest.mark.parametrize("change", [{"urgency": CANARY}, {CANARY: CANARY}, {"person": {"name": CANARY}}])
def test_what_would_be_refused_is_named_by_field_and_rule(tmp_path: Path, change: dict[str, Any]) -> None:
    found = examined(tmp_path, referral() | change)
    assert not found["accepted"]
    assert found["refused"]
    assert CANARY not in json.dumps(found["refused"]).replace(f'/{CANARY}"', "")
    result = run("json", tmp_path / "one.json")
    assert result.exit_code == Exit.REFUSED
    assert "would be refused" in result.stdout


def test_a_document_that_is_not_even_well_formed(tmp_path: Path) -> None:
    found = examined(tmp_path, b'{"a": ')
    assert (found["type"], found["accepted"]) == (None, False)


def test_what_a_mapping_does_not_read_is_named_by_its_place(tmp_path: Path) -> None:
    bundle = json.loads((EXAMPLES / "fhir-bars" / "ed-to-childrens-social-care.json").read_bytes())
    bundle["entry"][2]["resource"]["extraordinary"] = CANARY
    file = tmp_path / "bundle.json"
    file.write_text(json.dumps(bundle))
    found = json.loads(run("fhir-bars", file, "--json").stdout)["files"][0]
    assert "/entry/2/resource/extraordinary" in found["not_carried"]
    assert "/entry/2/resource/birthDate" not in found["not_carried"]
    assert 0 < len(found["not_carried"]) < found["values"]
    for arguments in ((), ("--each",), ("--json",)):
        assert CANARY not in run("fhir-bars", file, *arguments).output


def test_a_format_that_does_not_exist_is_answered_with_those_that_do(tmp_path: Path) -> None:
    result = run("carrier-pigeon", tmp_path)
    assert "fhir-bars" in str(result.exception)


@pytest.mark.parametrize(
    ("media_type", "body", "places"),
    [
        (
            "application/json",
            b'{"a": {"b/c": 1, "d": [true, null, "x"]}}',
            ["/a/b~1c", "/a/d/0", "/a/d/1", "/a/d/2"],
        ),
        ("application/xml", b"<a b='1'><c>x</c><c>y</c> <d/></a>", ["/a/@b", "/a/c[1]", "/a/c[2]"]),
        ("text/csv", b"name,age\r\nx,7\r\n", ["name", "age"]),
        (
            "application/hl7-v2",
            b"MSH|^~\\&|A|B\rPID|1||5^^^NHS\r",
            ["MSH-3.1", "MSH-4.1", "PID-1.1", "PID-3.1", "PID-3.4"],
        ),
    ],
)
def test_every_value_is_found_and_the_document_is_left_as_it_was(
    media_type: str, body: bytes, places: list[str]
) -> None:
    found = leaves(Native(media_type, body))
    assert found is not None
    all_ = list(found)
    assert [one.where for one in all_] == places
    assert len({one.without for one in all_} | {one.altered for one in all_}) == 2 * len(all_), (
        "one change each"
    )


def test_a_form_that_cannot_be_taken_apart() -> None:
    assert leaves(Native("application/pdf", b"%PDF")) is None
