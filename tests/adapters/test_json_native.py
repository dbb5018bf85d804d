"""Canonical JSON in and out."""

from __future__ import annotations

import json
from importlib import resources

import pytest

from gateway.adapters.base import Adapter, AdapterError, Native
from gateway.adapters.json_native import ADAPTER, dumps
from gateway.messages import AgencyId, Canonical, CaseId, EnvelopeId, Header, MessageId, Problem, new_id

EXAMPLES = [
    file.read_bytes()
    for folder in (resources.files("gateway.schemas") / "examples").iterdir()
    for file in folder.iterdir()
]

HEADER = Header(
    message_id=MessageId(new_id()),
    envelope_id=EnvelopeId(new_id()),
    type="referral",
    version=1,
    sender=AgencyId("northtown-academy"),
    recipient=AgencyId("northtown-police"),
    case=CaseId(new_id()),
    in_reply_to=None,
    created=1_790_000_000_000,
    expires=1_790_000_600_000,
    purpose="prevent",
    lawful_basis="public-task",
)


def read(body: bytes) -> Canonical:
    return ADAPTER.to_canonical(Native("application/json", body))


def test_it_is_an_adapter():
    assert isinstance(ADAPTER, Adapter)
    assert ADAPTER.name == "json"
    assert ADAPTER.media_types == ("application/json",)


def test_there_are_examples():
    assert len(EXAMPLES) >= 8


@pytest.mark.parametrize("body", EXAMPLES)
def test_examples_come_back_as_they_went_in(body: bytes):
    message = read(body)
    native = ADAPTER.from_canonical(HEADER, message, "application/json")
    assert native.media_type == "application/json"
    assert read(native.body) == message
    assert json.loads(native.body) == json.loads(body)


def test_the_message_says_what_it_is():
    message = read(b'{"type": "referral", "version": 7, "x": [1]}')
    assert (message.type, message.version, message.document["x"]) == ("referral", 7, [1])


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"[]", ""),
        (b'"referral"', ""),
        (b"{}", "/type"),
        (b'{"type": null, "version": 1}', "/type"),
        (b'{"type": ["referral"], "version": 1}', "/type"),
        (b'{"type": "referral"}', "/version"),
        (b'{"type": "referral", "version": "1"}', "/version"),
        (b'{"type": "referral", "version": 1.0}', "/version"),
        (b'{"type": "referral", "version": true}', "/version"),
    ],
)
def test_what_does_not_say_what_it_is_cannot_be_mapped(body: bytes, pointer: str):
    with pytest.raises(AdapterError) as caught:
        read(body)
    assert not caught.value.malformed
    (problem,) = caught.value.problems
    assert problem.pointer == pointer


def test_what_is_no_json_is_malformed():
    with pytest.raises(AdapterError) as caught:
        read(b'{"type": "referral", "type": "decision", "version": 1}')
    assert caught.value.malformed
    assert caught.value.problems == (Problem("", "each name once in an object"),)


def test_the_same_document_is_the_same_bytes():
    assert (
        dumps({"b": 1, "a": {"d": "é", "c": [1.5, None]}}) == '{"a":{"c":[1.5,null],"d":"é"},"b":1}'.encode()
    )
    assert dumps({"b": 1, "a": 2}) == dumps({"a": 2, "b": 1})


def test_nothing_is_written_that_is_not_json():
    with pytest.raises(ValueError):
        dumps({"a": float("nan")})
