"""NHS England's own BaRS examples: every request and response goes in and comes out canonical and valid."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import schemas
from gateway.adapters import fhir_xml
from gateway.adapters.base import AdapterError, Native
from gateway.adapters.fhir_bars import ADAPTER, JSON, XML
from gateway.messages import Canonical
from tests.adapters import fhir_r4
from tests.adapters.test_fhir_write import assert_kept, bundle, write


def examples(shared_data: Path) -> Iterator[tuple[str, Native]]:
    health = shared_data / "health"
    for path in sorted((health / "bars-ig-examples").glob("*.xml")):
        yield path.name, Native(XML, path.read_bytes())
    for path in sorted((health / "bars-api-1.4.0").rglob("*.json")):
        yield path.name, Native(JSON, path.read_bytes())


def mapped(shared_data: Path) -> Iterator[tuple[str, Native, Canonical]]:
    for name, native in examples(shared_data):
        if (
            b"servicerequest-re" in native.body
            and b"$process-message" not in native.body
            and is_message(native)
        ):
            yield name, native, ADAPTER.to_canonical(native)


def is_message(native: Native) -> bool:
    document = fhir_xml.read(native.body) if native.media_type == XML else json.loads(native.body)
    return bool(document.get("resourceType") == "Bundle" and document.get("type") == "message")


def test_every_request_becomes_a_valid_referral_and_every_response_a_valid_decision(
    shared_data: Path,
) -> None:
    types: dict[str, str] = {}
    for name, _, canonical in mapped(shared_data):
        assert schemas.validate(canonical.type, canonical.version, canonical.document) == [], name
        types[name] = canonical.type
    assert len(types) >= 24
    requests = [
        name for name in types if name.startswith(("REFREQ", "VALREQ", "SERVREQ", "ValidationRequest"))
    ]
    answers = [name for name in types if name.startswith(("REFRESP", "VALRESP0", "ValidationResponse"))]
    acknowledgment = (
        "VALRESP01 - Validation Response HTTP Response Acknowledgment - CAS to 999 Planned (0 of 2).xml"
    )
    assert {types[name] for name in requests} == {"referral"}
    assert {types[name] for name in answers if name != acknowledgment} == {"decision"}
    assert types[acknowledgment] == "referral"  # it repeats the request, with event servicerequest-request
    assert len(requests) + len(answers) == len(types)


def test_what_the_examples_say_is_found(shared_data: Path) -> None:
    found = {name.split(" ")[0]: canonical.document for name, _, canonical in mapped(shared_data)}
    first = found["REFREQ01"]
    assert first["concern"]["category"] == ["child-safeguarding"]
    assert first["person"]["identifier"] == [{"scheme": "nhs-number", "value": "3478526985"}]
    assert first["consent"] == {"status": "implied", "date": "2021-11-26"}
    assert first["reference"] == "sender1234"
    assert first["request"]["code"][0]["display"] == "111 to ED"
    assert first["person"]["contact"][0] == {"name": "Mobile", "telephone": ["07736312544"]}
    assert found["REFREQ04"]["urgency"] == "urgent"  # Cat3
    assert found["REFREQ04"]["riskToProfessionals"] == "The Scene is unsafe: Intoxicated patient"
    assert "Incident Location: " in found["REFREQ04"]["request"]["practical"]
    assert found["REFREQ10"]["urgency"] == "routine"  # Cat4
    assert found["VALREQ01"]["request"]["action"] == "validate"
    assert found["REFREQ8B"]["change"] == "update"
    assert found["SERVREQ01"]["change"] == "withdraw"
    assert found["SERVREQ02"]["change"] == "withdraw"
    assert found["SERVREQ02"]["previousReference"] == "236bb75d-90ef-461f-b71e-fde7f899802c"
    assert found["REFRESP01"]["outcome"] == "declined"
    assert found["VALRESP03"]["outcome"] == "accepted"
    assert "Cat2 Emergency" in found["VALRESP03"]["note"]


def test_everything_else_is_refused_with_a_problem(shared_data: Path) -> None:
    known = {name for name, _, _ in mapped(shared_data)}
    for name, native in examples(shared_data):
        if name not in known:
            try:
                ADAPTER.to_canonical(native)
            except AdapterError as refused:
                assert refused.problems, name
            else:
                raise AssertionError(name)


def test_bookings_are_refused_by_their_event(shared_data: Path) -> None:
    for name, native in examples(shared_data):
        if "BOOKREQ0" in name or name.startswith("Booking ("):
            try:
                ADAPTER.to_canonical(native)
            except AdapterError as refused:
                assert refused.problems[0].pointer == "/entry/0/resource/eventCoding/code", name
                assert refused.problems[0].rule.startswith("event not supported"), name
            else:
                raise AssertionError(name)


def test_they_read_alike_as_xml_and_json(shared_data: Path) -> None:
    for name, native, canonical in mapped(shared_data):
        if native.media_type == XML:
            other = Native(JSON, json.dumps(fhir_xml.read(native.body)).encode())
        else:
            other = Native(XML, fhir_xml.write(json.loads(native.body)))
        assert ADAPTER.to_canonical(other).document == canonical.document, name


def test_they_can_be_written_again_as_r4_that_keeps_every_field(shared_data: Path) -> None:
    for name, _, canonical in mapped(shared_data):
        document = dict(canonical.document)
        assert fhir_r4.faults(bundle(document)) == [], name
        assert_kept(document, dict(ADAPTER.to_canonical(write(document, XML)).document))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(data=st.data())
def test_damaged_examples_are_read_or_refused(shared_data: Path, data: st.DataObject) -> None:
    natives = [native for _, native, _ in mapped_once(shared_data)]
    native = data.draw(st.sampled_from(natives))
    body = bytearray(native.body)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        length = data.draw(st.integers(0, 60))
        body[at : at + length] = data.draw(
            st.sampled_from([b"", b"<a/>", b'"', b"{}", b"[1]", b"null", b"\xff", b"-1"])
        )
    try:
        ADAPTER.to_canonical(Native(native.media_type, bytes(body)))
    except AdapterError as refused:
        assert refused.problems


_CACHE: list[tuple[str, Native, Canonical]] = []


def mapped_once(shared_data: Path) -> list[tuple[str, Native, Canonical]]:
    if not _CACHE:
        _CACHE.extend(mapped(shared_data))
    return _CACHE
