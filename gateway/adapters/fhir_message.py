"""The frame of a BaRS message: which event it is, who sent it, which request it is about. Leniently read.

What may live here: the checks without which no mapping makes sense, each raising AdapterError with a pointer
into the FHIR JSON shape. Everything else that is odd in a message is the mapping's to pass over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.adapters import fhir_terms as terms
from gateway.adapters.base import AdapterError
from gateway.adapters.fhir_bundle import NOTHING, Bundle, Resource, code_of, many, one, text
from gateway.messages import Problem

REQUEST = "servicerequest-request"
RESPONSE = "servicerequest-response"
NOT_SUPPORTED = "event not supported"


@dataclass(frozen=True, slots=True)
class Message:
    """One BaRS message, found its way around."""

    document: Resource = field(repr=False)
    bundle: Bundle = field(repr=False)
    event: str
    """REQUEST or RESPONSE."""
    reason: str
    """`new`, `update` or `delete`."""
    header_at: str
    """Pointer to the MessageHeader."""
    header: Resource = field(repr=False)
    request: Resource = field(repr=False)
    """The ServiceRequest."""
    request_id: str | None = field(repr=False)
    """The UUID or id by which later messages name the ServiceRequest."""
    patient: Resource = field(repr=False)
    """The Patient; empty in a response that carries none."""


def refuse(pointer: str, rule: str) -> AdapterError:
    """The error for one thing wrong, to be raised."""
    return AdapterError([Problem(pointer, rule)])


def open_message(document: Mapping[str, Any]) -> Message:
    """The parts of the message in `document`. Raises AdapterError without those that every mapping needs."""
    if text(document, "resourceType") != "Bundle":
        raise refuse("/resourceType", "always Bundle")
    if text(document, "type") != "message":
        raise refuse("/type", "always message")
    bundle = Bundle.of(document)
    header_at, header = _only(bundle, "MessageHeader")
    event = text(header, "eventCoding", "code")
    if event not in (REQUEST, RESPONSE):
        raise refuse(f"{header_at}/eventCoding/code", f"{NOT_SUPPORTED}: only {REQUEST} and {RESPONSE}")
    reason = code_of(header, "reason", terms.MESSAGE_REASONS) or "new"
    if reason not in ("new", "update", "delete"):
        raise refuse(f"{header_at}/reason/coding/0/code", "one of: new, update, delete")
    request_at, request = _focus(bundle, header, header_at)
    patient = bundle.resolve(request, "subject") or next(iter(bundle.of_type("Patient")), NOTHING)
    if text(patient, "resourceType") != "Patient" and event == REQUEST:
        raise refuse(f"{request_at}/subject/reference", "a Patient in this bundle")
    request_id = _id_of(document, request_at, request)
    return Message(document, bundle, event, reason, header_at, header, request, request_id, patient)


def _only(bundle: Bundle, kind: str) -> tuple[str, Resource]:
    for index, resource in enumerate(bundle.resources):
        if text(resource, "resourceType") == kind:
            return f"/entry/{index}/resource", resource
    raise refuse("/entry", f"an entry with a {kind}")


def _focus(bundle: Bundle, header: Resource, header_at: str) -> tuple[str, Resource]:
    """The ServiceRequest in focus; where that is something else (some responses: Encounter), the first."""
    for reference in many(header.get("focus")):
        found = bundle.get(text(reference, "reference")) if isinstance(reference, Mapping) else NOTHING
        if text(found, "resourceType") == "ServiceRequest":
            return f"/entry/{_index(bundle, found)}/resource", found
    requests = bundle.of_type("ServiceRequest")
    if not requests:
        raise refuse(f"{header_at}/focus", "a ServiceRequest in this bundle")
    return f"/entry/{_index(bundle, requests[0])}/resource", requests[0]


def _index(bundle: Bundle, wanted: Resource) -> int:
    return next(index for index, resource in enumerate(bundle.resources) if resource is wanted)


def _id_of(document: Resource, request_at: str, request: Resource) -> str | None:
    entry = many(document.get("entry"))[int(request_at.split("/")[2])]
    full_url = text(entry, "fullUrl") or ""
    return full_url.removeprefix("urn:uuid:") if full_url.startswith("urn:uuid:") else text(request, "id")


def withdrawn(message: Message) -> bool:
    """Whether the message takes its request back."""
    return message.reason == "delete" or text(message.request, "status") in ("revoked", "entered-in-error")


def sender(message: Message) -> Resource:
    """The sending Organization; empty when it is not in the bundle."""
    return message.bundle.resolve(message.header, "sender")


def source_name(message: Message) -> str | None:
    """The name of the sending system."""
    return text(one(message.header, "source"), "name")
