"""The FHIR face: what BaRS systems post and read, where it goes, and errors in BaRS's own form."""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from gateway import config
from gateway.adapters import fhir_xml
from gateway.adapters.fhir_bars import JSON, XML
from gateway.errors import CODES, GatewayError, RefusedByUs, StartupError, Unavailable
from gateway.http.fhir_face import PROCESS_MESSAGE, ROUTES
from gateway.http.fhir_outcome import DUPLICATE, KINDS, NOT_OFFERED, Kind, table
from gateway.http.fhir_routing import Addressing
from gateway.http.limits import Limits
from gateway.messages import AgencyId, Emergency, LawfulBasis, MessageId, Problem, Purpose, Reason, Stage
from tests.adapters import fhir_r4
from tests.http.asking import Answer, ask
from tests.http.world import POLICE, World, receipt, serving

COUNCIL = AgencyId("council")
DOS, ODS = "https://fhir.nhs.uk/Id/dos-service-id", "https://fhir.nhs.uk/Id/ods-organization-code"
ADDRESSING = Addressing(
    use_cases={"a1t1": (Purpose.SAFEGUARDING_CHILDREN, LawfulBasis.LEGAL_OBLIGATION)},
    recipients={"2000090001": POLICE, f"{ODS}|X9G77": COUNCIL, "2000090014": POLICE},
)
EXAMPLES = resources.files("gateway.adapters") / "examples" / "fhir-bars"
REQUEST = json.loads((EXAMPLES / "ed-to-childrens-social-care.json").read_bytes())
RESPONSE = json.loads((EXAMPLES / "childrens-social-care-response.json").read_bytes())
CORRELATION = "0f8fad5b-d9cb-469f-a165-70867728950e"
ID = "7d4c1f10-6f0a-4a55-8d8c-2b8a0f3e5c01"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving(fhir=ADDRESSING) as world:
        yield world


def target(value: str, system: str = DOS) -> dict[str, str]:
    return {
        "NHSD-Target-Identifier": base64.b64encode(
            json.dumps({"system": system, "value": value}).encode()
        ).decode()
    }


def ids() -> dict[str, str]:
    return {"X-Request-Id": str(uuid.uuid4()), "X-Correlation-Id": CORRELATION}


async def process(
    world: World, body: Any = None, headers: Mapping[str, str] | None = None, **more: Any
) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(REQUEST if body is None else body).encode()
    sent = {"Content-Type": JSON, **ids(), **(headers or {})}
    arguments = {"token": "school-token", "data": data} | more
    return await ask(
        world, "POST", PROCESS_MESSAGE, headers={n: v for n, v in sent.items() if v}, **arguments
    )


async def get(world: World, path: str, headers: Mapping[str, str] | None = None, **more: Any) -> Answer:
    arguments = {"token": "school-token"} | more
    return await ask(world, "GET", f"/FHIR/R4/{path}", headers={**ids(), **(headers or {})}, **arguments)


def outcome(answer: Answer) -> tuple[int, str, str]:
    """Status, BaRS code and issue code of an OperationOutcome, which must be whole."""
    assert answer.headers["Content-Type"] == f"{JSON}; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    document = answer.json
    assert document["resourceType"] == "OperationOutcome"
    assert fhir_r4.resource_faults(document) == []
    issue = document["issue"][0]
    (coding,) = issue["details"]["coding"]
    assert coding["system"] == "https://fhir.nhs.uk/Codesystem/http-error-codes"
    return answer.status, coding["code"], issue["code"]


def said(answer: Answer) -> list[str]:
    return [issue["diagnostics"] for issue in answer.json["issue"]]


def header_of(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["entry"][0]["resource"]
    return found


def changed(document: dict[str, Any], **change: Any) -> dict[str, Any]:
    """A copy with another MessageHeader."""
    copy: dict[str, Any] = json.loads(json.dumps(document))
    header_of(copy).update(change)
    return copy


# Taken


async def test_a_request_is_answered_200_with_a_message_once_it_is_durable(world: World) -> None:
    headers = ids()
    answer = await process(world, headers=headers)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == f"{JSON}; charset=utf-8"
    assert {name: answer.headers[name] for name in headers} == headers
    assert fhir_r4.faults(answer.json) == []
    response = header_of(answer.json)["response"]
    assert (response["identifier"], response["code"]) == (REQUEST["id"], "ok")
    referral, warnings = (entry["resource"] for entry in answer.json["entry"][1:])
    assert referral["id"] in world.node.statuses
    assert (referral["status"], referral["requisition"]["value"]) == ("active", CORRELATION)
    assert warnings["issue"][0]["diagnostics"] == "/subject/identifier/0/value: nhs-number check digit"
    (submission,) = world.node.submissions
    assert submission.idempotency_key == headers["X-Request-Id"]
    assert submission.recipients == (POLICE,)
    assert (submission.case, submission.in_reply_to) == (CORRELATION, None)
    assert (submission.adapter, submission.body.body) == ("fhir-bars", json.dumps(REQUEST).encode())


@pytest.mark.parametrize("content_type", [XML, "application/xml; charset=utf-8", "text/xml"])
async def test_xml_in_gives_xml_out(world: World, content_type: str) -> None:
    answer = await process(world, fhir_xml.write(REQUEST), {"Content-Type": content_type})
    assert answer.status == 200
    assert answer.headers["Content-Type"] == f"{XML}; charset=utf-8"
    assert fhir_xml.read(answer.body)["type"] == "message"


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (f"{XML}; version=1.0.0", XML),
        (f"{XML};q=0.1, {JSON}", JSON),
        ("application/json", JSON),
        ("application/*", JSON),
        ("text/html, */*", JSON),
    ],
)
async def test_the_answer_comes_as_asked(world: World, accept: str, media_type: str) -> None:
    answer = await process(world, headers={"Accept": accept})
    assert answer.headers["Content-Type"].startswith(media_type)


async def test_a_repeated_request_is_a_duplicate(world: World) -> None:
    world.node.repeated = True
    answer = await process(world)
    assert outcome(answer) == (409, "REC_CONFLICT", "duplicate")


async def test_another_request_under_the_same_id_is_no_duplicate(world: World) -> None:
    world.node.fail = RefusedByUs("idempotency-key-reused")
    answer = await process(world)
    assert outcome(answer) == (409, "REC_CONFLICT", "conflict")
    assert "X-Request-Id" in said(answer)[0]


async def test_ids_are_the_same_in_either_letter_case(world: World) -> None:
    headers = ids()
    shouted = {name: value.upper() for name, value in headers.items()}
    assert (await process(world, headers=shouted)).headers["X-Request-Id"] == shouted["X-Request-Id"]
    (submission,) = world.node.submissions
    assert submission.idempotency_key == headers["X-Request-Id"]
    assert submission.case == CORRELATION


async def test_a_correlation_id_that_is_not_random_stands_for_one_case(world: World) -> None:
    other = {"X-Correlation-Id": str(uuid.uuid1())}
    await process(world, headers=other)
    await process(world, headers=other)
    await process(world, headers={"X-Correlation-Id": str(uuid.uuid1())})
    cases = [str(submission.case) for submission in world.node.submissions]
    assert cases[0] == cases[1] != cases[2]
    assert uuid.UUID(cases[0]).version == 4


async def test_a_response_names_what_it_answers(world: World) -> None:
    asked = world.node.arrive()
    document = changed(RESPONSE, response={"identifier": asked.upper(), "code": "ok"})
    answer = await process(world, document, token="police-token")
    assert answer.status == 200
    assert [entry["resource"]["resourceType"] for entry in answer.json["entry"]] == [
        "MessageHeader",
        "OperationOutcome",
    ]
    assert world.node.submissions[0].in_reply_to == asked


async def test_a_response_to_an_id_that_only_its_receiver_knows_names_no_message(world: World) -> None:
    world.node.arrive()
    assert (await process(world, RESPONSE, token="police-token")).status == 200
    assert world.node.submissions[0].in_reply_to is None


# Where to, and why


async def test_the_target_header_is_asked_first(world: World) -> None:
    assert (await process(world, headers=target("X9G77", ODS))).status == 200
    assert world.node.submissions[0].recipients == (COUNCIL,)


async def test_agencies_may_be_named_as_they_are(world: World) -> None:
    assert (await process(world, headers=target("housing", "urn:referral-gateway:agency"))).status == 200
    assert world.node.submissions[0].recipients == ("housing",)


async def test_without_a_header_the_receiving_organisation_is_found_in_the_bundle(world: World) -> None:
    receiver = {
        "resource": {"resourceType": "Organization", "identifier": [{"system": ODS, "value": "X9G77"}]}
    }
    destination = [{"endpoint": "http://elsewhere.example", "receiver": {"reference": "urn:uuid:here"}}]
    document = changed(REQUEST, destination=destination)
    document["entry"].append({"fullUrl": "urn:uuid:here", **receiver})
    assert (await process(world, document)).status == 200
    assert world.node.submissions[0].recipients == (COUNCIL,)


async def test_an_unknown_target_is_not_made_up_for_by_the_bundle(world: World) -> None:
    answer = await process(world, headers=target("canary"))
    assert outcome(answer) == (404, "REC_NOT_FOUND", "not-found")
    assert said(answer)[0].startswith("/header/NHSD-Target-Identifier: ")
    assert b"canary" not in answer.body
    assert world.node.submissions == []


async def test_a_bundle_for_nobody_or_for_two_is_refused(world: World) -> None:
    nobody = await process(world, changed(REQUEST, destination=[{"endpoint": f"{DOS}|1"}]))
    assert outcome(nobody) == (404, "REC_NOT_FOUND", "not-found")
    both = await process(world, changed(REQUEST, destination=header_of(REQUEST)["destination"] * 2))
    assert outcome(both) == (400, "REC_BAD_REQUEST", "invalid")
    assert both.json["issue"][0]["expression"] == ["Bundle.entry[0].resource.destination"]


@pytest.mark.parametrize(
    "value",
    ["canary", "####", base64.b64encode(b'{"value": "canary"}').decode(), base64.b64encode(b"[1]").decode()],
)
async def test_a_target_that_is_no_identifier_is_refused(world: World, value: str) -> None:
    answer = await process(world, headers={"NHSD-Target-Identifier": value})
    assert outcome(answer) == (400, "SEND_BAD_REQUEST", "invalid")
    assert b"canary" not in answer.body


async def test_purpose_and_lawful_basis_follow_the_use_case(world: World) -> None:
    plain: dict[str, Any] = json.loads(json.dumps(REQUEST))
    special: dict[str, Any] = json.loads(json.dumps(REQUEST))
    for document, code in ((plain, "a9t9"), (special, "a1t1")):
        (request,) = (
            entry["resource"]
            for entry in document["entry"]
            if entry["resource"]["resourceType"] == "ServiceRequest"
        )
        system = "https://fhir.nhs.uk/CodeSystem/usecases-categories-bars"
        request["category"] = [{"coding": [{"system": system, "code": code}]}]
        assert (await process(world, document)).status == 200
    why = [(one.purpose, one.lawful_basis) for one in world.node.submissions]
    assert why == [("health-care", "public-task"), ("safeguarding-children", "legal-obligation")]


# Refused


@pytest.mark.parametrize("name", ["X-Request-Id", "X-Correlation-Id"])
@pytest.mark.parametrize("value", ["", "canary", "0f8fad5bd9cb469fa16570867728950e"])
async def test_both_ids_are_needed(world: World, name: str, value: str) -> None:
    answer = await process(world, headers={name: value})
    assert outcome(answer) == (400, "SEND_BAD_REQUEST", "invalid")
    assert said(answer) == [f"/header/{name}: a UUID"]
    assert name not in answer.headers


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (400, "REC_BAD_REQUEST", "invalid")),
        (b'{"canary"', (400, "REC_BAD_REQUEST", "invalid")),
        (b"[]", (400, "REC_BAD_REQUEST", "invalid")),
        ({"resourceType": "Patient", "canary": "canary"}, (400, "REC_BAD_REQUEST", "invalid")),
        (
            changed(REQUEST, eventCoding={"code": "booking-request", "display": "canary"}),
            (400, "REC_BAD_REQUEST", "not-supported"),
        ),
    ],
)
async def test_what_is_no_message_is_refused(world: World, body: Any, expected: tuple[int, str, str]) -> None:
    answer = await process(world, body)
    assert outcome(answer) == expected
    assert b"canary" not in answer.body
    assert world.node.submissions == []


async def test_formats_that_are_not_fhir_are_refused_before_anything_is_taken(world: World) -> None:
    for headers in ({"Accept": "text/html"}, {"Content-Type": "text/plain"}):
        assert outcome(await process(world, headers=headers)) == (406, "SEND_NOT_ACCEPTABLE", "processing")
    assert world.node.submissions == []


async def test_an_error_comes_as_xml_to_those_who_ask_for_it(world: World) -> None:
    answer = await process(world, b"<x/>", {"Content-Type": XML})
    assert answer.status == 400
    assert fhir_xml.read(answer.body)["resourceType"] == "OperationOutcome"


@pytest.mark.parametrize("code", sorted(CODES))
async def test_every_refusal_has_its_form(world: World, code: str) -> None:
    world.node.fail = GatewayError(code, problems=[Problem("/person/name", "required")])
    answer = await process(world)
    status, _, _ = outcome(answer)
    assert said(answer) == ["/person/name: required"]
    assert status == KINDS[code].status if code in KINDS else status in {400, 500}


async def test_a_body_that_is_too_large_is_refused() -> None:
    async with serving(Limits(message_bytes=1000), ADDRESSING) as small:
        assert outcome(await process(small)) == (422, "REC_UNPROCESSABLE_ENTITY", "too-costly")


async def test_an_agreement_that_is_missing_is_said_without_terms_of_the_other_api(world: World) -> None:
    world.node.fail = RefusedByUs("no-agreement", problems=[Problem("/to/0", "no-agreement")])
    answer = await process(world)
    assert outcome(answer) == (403, "REC_FORBIDDEN", "forbidden")
    assert said(answer) == ["the recipient: no-agreement"]


async def test_who_must_wait_is_told_how_long(world: World) -> None:
    world.node.fail = Unavailable("outbox-full", retry_after=7)
    answer = await process(world)
    assert outcome(answer) == (503, "REC_SERVICE_UNAVAILABLE", "transient")
    assert answer.headers["Retry-After"] == "7"


async def test_a_fault_of_ours_says_nothing_of_itself(world: World) -> None:
    world.node.fail = ValueError("canary")
    answer = await process(world)
    assert outcome(answer) == (500, "REC_SERVER_ERROR", "exception")
    assert b"canary" not in answer.body
    assert len(world.errors) == 1


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in ROUTES])
async def test_nothing_without_a_token(world: World, method: str, path: str) -> None:
    answer = await ask(world, method, path.replace("{id}", ID), token=None, headers=ids())
    assert outcome(answer) == (401, "SEND_UNAUTHORIZED", "security")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_a_token_that_only_receives_sends_nothing(world: World) -> None:
    assert outcome(await process(world, token="only-receives")) == (403, "SEND_FORBIDDEN", "forbidden")
    answer = await get(world, f"ServiceRequest/{ID}", token="only-receives")
    assert outcome(answer) == (403, "SEND_FORBIDDEN", "forbidden")


@pytest.mark.parametrize("path", ["Slot", "Appointment/1", "ServiceRequest?patient:identifier=canary", "x"])
async def test_what_is_not_offered_says_so(world: World, path: str) -> None:
    answer = await get(world, path)
    assert outcome(answer) == (501, "REC_NOT_IMPLEMENTED", "not-supported")
    assert b"canary" not in answer.body


async def test_a_wrong_method_is_told_the_right_one(world: World) -> None:
    answer = await get(world, "$process-message")
    assert outcome(answer) == (405, "SEND_METHOD_NOT_ALLOWED", "not-supported")
    assert answer.headers["Allow"] == "POST"


async def test_there_is_no_face_unless_the_settings_ask_for_one() -> None:
    async with serving() as world:
        assert (await process(world)).code == "not-found"


# Read


async def test_a_sender_reads_how_far_its_referral_is_and_nobody_else_does(world: World) -> None:
    taken = await process(world)
    message_id = MessageId(taken.json["entry"][1]["resource"]["id"])
    answer = await get(world, f"ServiceRequest/{message_id}")
    assert answer.json == taken.json["entry"][1]["resource"]
    assert fhir_r4.resource_faults(answer.json) == []
    status = world.node.statuses[message_id]
    ladder = replace(
        status.ladders[0],
        stage=Stage.REJECTED,
        receipts=(
            receipt(Stage.REJECTED, POLICE, Reason.WRONG_AGENCY),
            receipt(Stage.OPENED, POLICE, Emergency.RISK_TO_LIFE),  # no step, whenever it comes
        ),
    )
    world.node.statuses[message_id] = replace(status, ladders=(ladder,))
    found = await get(world, f"ServiceRequest/{message_id}", {"Accept": XML})
    rejected = fhir_xml.read(found.body)
    assert rejected["status"] == "revoked"
    assert rejected["extension"]["extension"][1] == {"url": "stage", "valueCode": "rejected"}
    assert rejected["extension"]["extension"][2] == {"url": "reason", "valueCode": "wrong-agency"}
    other = await get(world, f"ServiceRequest/{message_id}", token="police-token")
    assert outcome(other) == (404, "REC_NOT_FOUND", "not-found")
    world.node.statuses[message_id] = replace(status, type="decision")
    assert outcome(await get(world, f"ServiceRequest/{message_id}"))[0] == 404
    assert outcome(await get(world, "ServiceRequest/canary"))[0] == 404


async def test_the_capability_statement_names_what_is_served(world: World) -> None:
    answer = await get(world, "metadata")
    assert fhir_r4.resource_faults(answer.json) == []
    (rest,) = answer.json["rest"]
    paths = {f"/FHIR/R4/{one['type']}" for one in rest["resource"]}
    paths |= {f"/FHIR/R4/${one['name']}" for one in rest["operation"]}
    served = {path.removesuffix("/{id}") for _, path, _ in ROUTES}
    assert paths == {path.replace("metadata", "CapabilityStatement") for path in served}


async def test_definitions_are_found_for_services_that_are_known(world: World) -> None:
    found = await get(world, f"MessageDefinition?context={DOS}%7C2000090001")
    assert fhir_r4.resource_faults(found.json) == []
    assert found.json["total"] == len(found.json["entry"]) == 6
    known = (await get(world, "metadata")).json["messaging"][0]["supportedMessage"]
    urls = [entry["resource"]["url"] for entry in found.json["entry"]]
    assert urls == [one["definition"] for one in known]
    assert (await get(world, "MessageDefinition?context=2000090001")).json["total"] == 6
    assert (await get(world, "MessageDefinition?context=canary")).json == {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": 0,
    }
    assert outcome(await get(world, "MessageDefinition")) == (400, "SEND_BAD_REQUEST", "required")


# Settings


def test_the_settings_are_the_tables() -> None:
    page = (Path(__file__).parents[2] / "docs" / "fhir.md").read_text("utf-8")
    example = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)[0]
    section = config.parse(f'[node]\nagencies = ["a"]\ndirectory = "d"\n{example}', Path("gateway.toml")).fhir
    assert section is not None
    addressing = section.addressing()
    assert addressing.use_cases == {"a1t1": (Purpose.SAFEGUARDING_CHILDREN, LawfulBasis.LEGAL_OBLIGATION)}
    assert addressing.agency(DOS, "2000090001") == addressing.agency(ODS, "X9G77") == "northtown-council"
    assert addressing.agency(DOS, "X9G77") is None
    assert addressing.agency("urn:referral-gateway:agency", "Not An Agency") is None


@pytest.mark.parametrize(
    "line",
    ['purpose = "curiosity"', "[fhir.use_cases.a1t1]", '[fhir.recipients]\n1 = "Not An Agency"', "x = 1"],
)
def test_settings_that_mean_nothing_stop_the_node(line: str) -> None:
    with pytest.raises(StartupError, match="fhir"):
        config.parse(f'[node]\nagencies = ["a"]\ndirectory = "d"\n[fhir]\n{line}\n', Path("gateway.toml"))


# NHS England's own


def test_errors_are_paired_as_in_the_official_examples(shared_data: Path) -> None:
    official = {
        (int(path.name[:3]), issue["details"]["coding"][0]["code"], issue["code"])
        for path in (shared_data / "health" / "bars-api-1.4.0" / "OperationOutcome").rglob("*.json")
        for issue in json.loads(path.read_bytes())["issue"]
    }
    ours = {(kind.status, kind.code, kind.issue) for kind in (*KINDS.values(), DUPLICATE, NOT_OFFERED)}
    broken_rule: Kind = KINDS["invalid-content"]  # BaRS has no example of one
    assert ours - official == {(broken_rule.status, broken_rule.code, broken_rule.issue)}


async def test_the_official_messages_are_taken(world: World, shared_data: Path) -> None:
    seen = 0
    for path in sorted((shared_data / "health" / "bars-ig-examples").glob("*.xml")):
        if path.name.startswith(("REFREQ", "VALREQ", "SERVREQ", "REFRESP", "VALRESP")):
            headers = {"Content-Type": XML, "Accept": JSON, **target("2000090001")}
            answer = await process(world, path.read_bytes(), headers)
            if b"<event" not in path.read_bytes():
                continue
            assert answer.status == 200, (path.name, answer.body)
            assert fhir_r4.faults(answer.json) == [], path.name
            seen += 1
    assert seen >= 20


def test_the_page_lists_every_error() -> None:
    page = (Path(__file__).parents[2] / "docs" / "fhir.md").read_text("utf-8")
    assert page.rstrip().endswith(table()), "run: make docs"
