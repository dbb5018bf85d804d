"""The adapter for NHS England's Booking and Referral Standard: FHIR R4 message Bundles, JSON and XML.

What may live here: the two directions end to end, in terms of the modules that do the work. Reading is
lenient, writing strict. Mapping page: docs/adapters/fhir-bars.md.
"""

from __future__ import annotations

import json
from typing import Any

from gateway.adapters import (
    fhir_decision,
    fhir_fields,
    fhir_read_referral,
    fhir_write_referral,
    fhir_xml,
    strict_json,
)
from gateway.adapters.base import AdapterError, Native
from gateway.adapters.fhir_message import REQUEST, open_message
from gateway.adapters.fhir_page import PAGE
from gateway.adapters.fhir_write_parts import Draft, observation
from gateway.messages import Canonical, Header, Problem

JSON = "application/fhir+json"
XML = "application/fhir+xml"


class FhirBars:
    """Implements gateway.adapters.base.Adapter."""

    name = "fhir-bars"
    media_types = (JSON, XML)
    page = PAGE

    def to_canonical(self, native: Native) -> Canonical:
        """Read a servicerequest-request as a referral, a servicerequest-response as a decision."""
        found = _read(resource(native))
        return Canonical(found["type"], found["version"], found)

    def from_canonical(self, header: Header, message: Canonical, media_type: str) -> Native:
        """Write a referral or decision, version 1, as R4 allows. `message` is valid for its type."""
        bundle = _write(header, message)
        if media_type == XML:
            return Native(XML, fhir_xml.write(bundle))
        return Native(JSON, json.dumps(bundle, ensure_ascii=False, separators=(",", ":")).encode())


def resource(native: Native) -> dict[str, Any]:
    """The FHIR resource in a body, in its JSON shape. Raises AdapterError."""
    if native.media_type.endswith("xml"):  # the plain types too, for callers who name the adapter
        return fhir_xml.read(native.body)
    document = strict_json.loads(native.body)
    if not isinstance(document, dict):
        raise AdapterError([Problem("", "an object")])
    return document


def _read(document: dict[str, Any]) -> dict[str, Any]:
    message = open_message(document)
    return fhir_read_referral.referral(message) if message.event == REQUEST else fhir_decision.read(message)


def _write(header: Header, message: Canonical) -> dict[str, Any]:
    writers = {("referral", 1): fhir_write_referral.referral, ("decision", 1): fhir_decision.write}
    write = writers.get((message.type, message.version))
    if write is None:
        raise AdapterError([Problem("/type", "one of: referral 1, decision 1")])
    draft = Draft(header)
    message_header = write(draft, message.document)
    # What a reader would not find in these resources is added in a form that people and readers can follow.
    mapped = _read(draft.bundle(message_header))
    patient = draft.reference_to("Patient")
    for pointer, value in fhir_fields.unmapped(message.document, mapped):
        field = fhir_fields.observation(pointer, value)
        draft.add(observation(field.pop("code"), patient, **field))
    return draft.bundle(message_header)


ADAPTER = FhirBars()
