"""Where a BaRS message goes, and why it may: the settings' tables over its headers and its Bundle. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gateway.adapters import fhir_terms as terms
from gateway.adapters import strict_json
from gateway.adapters.base import AdapterError
from gateway.adapters.fhir_bundle import code_of, objects, one, text
from gateway.adapters.fhir_message import RESPONSE, Message
from gateway.errors import RefusedByUs
from gateway.messages import AGENCY_ID, UUID4, AgencyId, CaseId, LawfulBasis, MessageId, Problem, Purpose

TARGET = "NHSD-Target-Identifier"
_CORRELATION = b"referral-gateway/1 BaRS correlation id\0"


@dataclass(frozen=True, slots=True)
class Addressing:
    """What the settings say of the FHIR face: docs/fhir.md."""

    purpose: Purpose = Purpose.HEALTH_CARE
    lawful_basis: LawfulBasis = LawfulBasis.PUBLIC_TASK
    use_cases: Mapping[str, tuple[Purpose, LawfulBasis]] = field(default_factory=dict)
    """By code of usecases-categories-bars, where the defaults do not fit."""
    recipients: Mapping[str, AgencyId] = field(default_factory=dict)
    """By the value of an identifier (DoS service id, ODS code), or by `system|value`."""

    def agency(self, system: str, value: str) -> AgencyId | None:
        """Whom an identifier stands for. Our own system names agencies as they are."""
        if system == terms.AGENCY:
            return AgencyId(value) if AGENCY_ID.fullmatch(value) else None
        return self.recipients.get(f"{system}|{value}") or self.recipients.get(value)

    def why(self, message: Message) -> tuple[Purpose, LawfulBasis]:
        """Purpose and lawful basis, by the use case that the message names."""
        use_case = code_of(message.request, "category", terms.USE_CASES) or ""
        return self.use_cases.get(use_case, (self.purpose, self.lawful_basis))


def recipient(addressing: Addressing, target: str | None, message: Message) -> AgencyId:
    """Whom the message is for: the target of the header; without a header, the Bundle's receiver.

    A header that names somebody unknown is refused and not made up for: the Bundle may name another.
    Raises RefusedByUs (bad-request, unmappable-content, unknown-recipient).
    """
    pointer = f"{message.header_at}/destination"
    if len(objects(message.header, "destination")) > 1:
        raise RefusedByUs("unmappable-content", problems=[Problem(pointer, "one destination")])
    if target is not None:
        pointer, named = f"/header/{TARGET}", iter([decoded(target)])
    else:
        named = _receiver(message)
    for system, value in named:
        if found := addressing.agency(system, value):
            return found
    rule = "an identifier that the node's settings list under [fhir.recipients]"
    raise RefusedByUs("unknown-recipient", problems=[Problem(pointer, rule)])


def decoded(target: str) -> tuple[str, str]:
    """System and value of an NHSD-Target-Identifier. Raises RefusedByUs."""
    try:
        found = strict_json.loads(base64.b64decode(target, validate=True))
    except (AdapterError, binascii.Error, ValueError):
        found = None
    if isinstance(found, dict):
        system, value = found.get("system"), found.get("value")
        if isinstance(system, str) and isinstance(value, str) and value:
            return system, value
    rule = "base64 of a JSON object with system and value"
    raise RefusedByUs("bad-request", problems=[Problem(f"/header/{TARGET}", rule)])


def _receiver(message: Message) -> Iterator[tuple[str, str]]:
    """Every identifier of the receiver: its endpoint `system|value`, its resource's, its own."""
    endpoint = text(message.header, "destination", "endpoint") or ""
    system, bar, value = endpoint.rpartition("|")
    if bar:
        yield system, value
    resource = message.bundle.resolve(message.header, "destination", "receiver")
    receiver = one(message.header, "destination", "receiver")
    for identifier in [*objects(resource, "identifier"), *objects(receiver, "identifier")]:
        if value := text(identifier, "value") or "":
            yield text(identifier, "system") or "", value


def case(correlation_id: str) -> CaseId:
    """The case that a correlation id is the thread of: itself, where it is random (UUID version 4).

    Another kind of UUID may hold a time and a machine, so one that looks random is derived from it, the same
    at every node.
    """
    if UUID4.fullmatch(correlation_id):
        return CaseId(correlation_id)
    digest = hashlib.sha256(_CORRELATION + correlation_id.encode()).digest()
    return CaseId(str(uuid.UUID(bytes=digest[:16], version=4)))


def answered(message: Message) -> MessageId | None:
    """What a response says it answers: a message of ours, or the Bundle that its sender knows."""
    named = (text(message.header, "response", "identifier") or "").lower()
    return MessageId(named) if message.event == RESPONSE and UUID4.fullmatch(named) else None
