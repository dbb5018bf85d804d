"""Where a BaRS message goes: whatever stands in it, an agency or a refusal comes of it, and never a fault."""

from __future__ import annotations

import base64
import copy
import json
from importlib import resources
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.adapters.base import AdapterError
from gateway.adapters.fhir_message import open_message
from gateway.errors import RefusedByUs
from gateway.http import fhir_documents, fhir_routing
from gateway.http.fhir_routing import Addressing
from gateway.http.ports import Ladder, MessageStatus
from gateway.messages import UUID4, AgencyId, CaseId, EnvelopeId, MessageId, Stage, new_id
from tests.adapters import fhir_r4

ADDRESSING = Addressing(recipients={"2000090001": AgencyId("police"), "2000090014": AgencyId("hospital")})
FOLDER = resources.files("gateway.adapters") / "examples" / "fhir-bars"
EXAMPLES = [json.loads(path.read_bytes()) for path in FOLDER.iterdir() if path.name.endswith(".json")]
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 7, "", "canary", "a|b", "|", [], ["canary"], {}, {"reference": 1}, [[{}]], [{"system": []}]]
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["system", "value", "x"]), inner)
    ),
    max_leaves=5,
)


def status(case: str) -> MessageStatus:
    ladder = Ladder(AgencyId("police"), EnvelopeId(new_id()), Stage.ACCEPTED, ())
    return MessageStatus(
        MessageId(new_id()),
        CaseId(case),
        "referral",
        1,
        AgencyId("hospital"),
        None,
        1_790_000_000_123,
        1_790_000_900_123,
        "health-care",
        "public-task",
        None,
        (),
        (ladder,),
    )


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_message_is_routed_or_refused(data: st.DataObject) -> None:
    document = copy.deepcopy(data.draw(st.sampled_from(EXAMPLES)))
    for _ in range(data.draw(st.integers(0, 3))):
        inner = document["entry"][data.draw(st.sampled_from([0, 0, 1]))]["resource"]
        while inner and data.draw(st.booleans()):
            further = [one for one in inner.values() if isinstance(one, dict) and one]
            further += [
                one[0] for one in inner.values() if isinstance(one, list) and one and isinstance(one[0], dict)
            ]
            if not further:
                break
            inner = data.draw(st.sampled_from(further))
        if inner:
            inner[data.draw(st.sampled_from(sorted(inner)))] = copy.deepcopy(data.draw(ODD))
    try:
        message = open_message(document)
        assert fhir_routing.recipient(ADDRESSING, None, message) in {"police", "hospital"}
    except (AdapterError, RefusedByUs) as refused:
        assert refused.problems
        assert "canary" not in str(refused.problems)
        return
    ADDRESSING.why(message)
    answered = fhir_routing.answered(message)
    assert answered is None or UUID4.fullmatch(answered)
    acknowledged = fhir_documents.acknowledgement(message, status(new_id()))
    assert fhir_r4.faults(acknowledged) == []


@settings(max_examples=100, deadline=None)
@given(value=JSON_VALUES)
def test_any_target_is_an_identifier_or_refused(value: Any) -> None:
    try:
        system, found = fhir_routing.decoded(base64.b64encode(json.dumps(value).encode()).decode())
    except RefusedByUs as refused:
        assert refused.problems[0].pointer == "/header/NHSD-Target-Identifier"
    else:
        assert (value["system"], value["value"]) == (system, found)


@given(correlation=st.uuids())
def test_a_thread_is_one_case_for_ever(correlation: Any) -> None:
    case = fhir_routing.case(str(correlation))
    assert UUID4.fullmatch(case)
    assert fhir_routing.case(case) == case
    assert (case == str(correlation)) == (
        correlation.version == 4 and correlation.variant == "specified in RFC 4122"
    )
