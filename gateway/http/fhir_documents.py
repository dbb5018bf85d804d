"""The resources that the FHIR face answers with. Pure; elements in the order of R4, as XML needs it.

Bodies are sealed once they are accepted, so nothing here holds more than ids, agencies, times and stages.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from gateway import __version__
from gateway.adapters import fhir_terms as terms
from gateway.adapters.fhir_bundle import text
from gateway.adapters.fhir_message import REQUEST, RESPONSE, Message
from gateway.adapters.fhir_read_parts import present
from gateway.adapters.fhir_write_parts import coding, concept, instant
from gateway.http.ports import Ladder, MessageStatus
from gateway.messages import Stage

_SELF = "urn:referral-gateway"
_DATE = "2026-11-23"
"""When this description of the face last changed."""
_DEFINITIONS = f"{terms.NHS}/MessageDefinition/bars-message-"
_LOST = frozenset({Stage.REJECTED, Stage.EXPIRED, Stage.FAILED})
_OFFERED = (
    ("servicerequest-request-referral", REQUEST),
    ("servicerequest-request-validation", REQUEST),
    ("servicerequest-request-cancelled", REQUEST),
    ("servicerequest-response-referral", RESPONSE),
    ("servicerequest-response-validation-interim", RESPONSE),
    ("servicerequest-response-validation-full", RESPONSE),
)
_READ = "How far a message of one's own has come, by its id; no person data."


def acknowledgement(message: Message, status: MessageStatus) -> dict[str, Any]:
    """The Bundle that answers `$process-message`: durable, and under which id it can be asked for."""
    namespace = uuid.UUID(status.message_id)
    when = instant(status.created)
    focus = uuid.uuid5(namespace, "ServiceRequest").urn if message.event == REQUEST else None
    warned = uuid.uuid5(namespace, "OperationOutcome").urn if status.warnings else None
    resources: dict[str, Mapping[str, Any]] = {
        uuid.uuid5(namespace, "MessageHeader").urn: {"resourceType": "MessageHeader"}
        | present(
            eventCoding=coding(terms.EVENTS, message.event),
            source={"name": "Referral Gateway", "software": "Referral Gateway", "endpoint": _SELF},
            reason=concept(terms.MESSAGE_REASONS, message.reason),
            response=present(
                identifier=_answered_id(message),
                code="ok",
                details={"reference": warned} if warned else None,
            ),
            focus=[{"reference": focus}] if focus else [],
        )
    }
    if focus:
        resources[focus] = service_request(status)
    if warned:
        resources[warned] = _warnings(status)
    return {
        "resourceType": "Bundle",
        "id": str(uuid.uuid5(namespace, "Bundle")),
        "meta": {"lastUpdated": when, "profile": [f"{terms.NHS}/StructureDefinition/BARSBundleMessage"]},
        "type": "message",
        "timestamp": when,
        "entry": [{"fullUrl": urn, "resource": resource} for urn, resource in resources.items()],
    }


def _answered_id(message: Message) -> str:
    """The Bundle's id, by which BaRS names a message; else its header's."""
    for resource in (message.document, message.header):
        if terms.FHIR_ID.fullmatch(found := text(resource, "id") or ""):
            return found
    return "unknown"


def service_request(status: MessageStatus) -> dict[str, Any]:
    """A referral that was sent, as its node knows it: `active` unless every recipient is lost to it."""
    lost = all(ladder.stage in _LOST for ladder in status.ladders)
    case = {"system": terms.CASE, "value": status.case}
    return {
        "resourceType": "ServiceRequest",
        "id": status.message_id,
        "meta": {"lastUpdated": instant(max(_times(status)))},
        "extension": [_stage(ladder) for ladder in status.ladders],
        "requisition": case,
        "status": "revoked" if lost else "active",
        "intent": "plan",
        "subject": {"type": "Patient", "identifier": case},
        "authoredOn": instant(status.created),
        "requester": _agency(status.sender),
        "performer": [_agency(ladder.recipient) for ladder in status.ladders],
    }


def _times(status: MessageStatus) -> list[int]:
    return [status.created, *(one.at for ladder in status.ladders for one in ladder.steps)]


def _stage(ladder: Ladder) -> dict[str, Any]:
    """Who it is for, how far it is, and why it was refused if it was."""
    reason = ladder.steps[-1].reason if ladder.steps else None
    parts: list[dict[str, Any]] = [
        {"url": "recipient", "valueString": ladder.recipient},
        {"url": "stage", "valueCode": ladder.stage.value},
    ]
    if reason is not None:
        parts.append({"url": "reason", "valueCode": reason.value})
    return {"url": terms.STAGE, "extension": parts}


def _agency(agency: str) -> dict[str, Any]:
    return {"type": "Organization", "identifier": {"system": terms.AGENCY, "value": agency}}


def _warnings(status: MessageStatus) -> dict[str, Any]:
    issues = [
        {"severity": "warning", "code": "value", "diagnostics": f"{one.pointer}: {one.rule}"}
        for one in status.warnings
    ]
    return {"resourceType": "OperationOutcome", "issue": issues}


def capability_statement() -> dict[str, Any]:
    """What this face offers, and nothing that it does not."""
    return {
        "resourceType": "CapabilityStatement",
        "id": "referral-gateway",
        "version": __version__,
        "name": "ReferralGateway",
        "title": "Referral Gateway: the FHIR face",
        "status": "active",
        "date": _DATE,
        "description": "BaRS messages about referrals, from this node's own systems to other agencies.",
        "kind": "instance",
        "software": {"name": "Referral Gateway", "version": __version__},
        "implementation": {"description": "A node of the Referral Gateway"},
        "fhirVersion": "4.0.1",
        "format": ["json", "xml"],
        "rest": [
            {
                "mode": "server",
                "security": {"description": "A bearer token that the node's operator made."},
                "resource": [
                    _resource("CapabilityStatement", "read"),
                    _resource("MessageDefinition", "search-type", search="context"),
                    _resource("ServiceRequest", "read", about=_READ),
                ],
                "operation": [
                    {
                        "name": "process-message",
                        "definition": "http://hl7.org/fhir/OperationDefinition/MessageHeader-process-message",
                    }
                ],
            }
        ],
        "messaging": [
            {
                "supportedMessage": [
                    {"mode": "receiver", "definition": f"{_DEFINITIONS}{name}"} for name, _ in _OFFERED
                ]
            }
        ],
    }


def _resource(kind: str, interaction: str, *, about: str = "", search: str = "") -> dict[str, Any]:
    return {"type": kind} | present(
        documentation=about,
        interaction=[{"code": interaction}],
        versioning="no-version",
        searchParam=[{"name": search, "type": "token"}] if search else [],
    )


def message_definitions(service: tuple[str, str] | None) -> dict[str, Any]:
    """A searchset of what may be sent to a service (system, value); empty when it is nobody's."""
    found = [_definition(name, event, service) for name, event in _OFFERED] if service else []
    entries = [
        {"fullUrl": resource["url"], "resource": resource, "search": {"mode": "match"}} for resource in found
    ]
    return {"resourceType": "Bundle", "type": "searchset", "total": len(found)} | present(entry=entries)


def _definition(name: str, event: str, service: tuple[str, str]) -> dict[str, Any]:
    needed = {"MessageHeader": "1", "ServiceRequest": "1", "Patient": "1" if event == REQUEST else "0"}
    workflow = coding("http://terminology.hl7.org/CodeSystem/usage-context-type", "workflow")
    return {
        "resourceType": "MessageDefinition",
        "id": name,
        "url": f"{_DEFINITIONS}{name}",
        "name": f"BARS Message Definition {name}",
        "status": "active",
        "date": _DATE,
        "description": "What the gateway needs; whatever else the Bundle holds travels with it.",
        "useContext": [
            {
                "code": workflow,
                "valueCodeableConcept": {"coding": [coding(service[0], service[1])]},
            }
        ],
        "eventCoding": coding(terms.EVENTS, event),
        "focus": [{"code": kind, "min": int(least), "max": "1"} for kind, least in needed.items()],
    }
