"""What BaRS responses say beside the decision: did not attend, the state of a validation, safeguarding flags.

What may live here: both directions of these three. The canonical decision has no fields for them, so they are
fixed sentences in `reasonText` and `note`, which people understand and `write` finds again: docs/adapters/fhir-bars.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.adapters import fhir_terms as terms
from gateway.adapters.fhir_bundle import Bundle, Resource, code_of, text
from gateway.adapters.fhir_message import Message
from gateway.adapters.fhir_read_concern import alerts
from gateway.adapters.fhir_read_parts import moment
from gateway.adapters.fhir_write_parts import on_calendar

DID_NOT_ATTEND: Final = "The person did not attend."
_MISSED: Final = re.compile(r"The person did not attend the appointment from (\S{1,40}) to (\S{1,40})\.")
_INSTANT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(?:\.[0-9]+)?(?:Z|[+-][0-9:]{5})")
_VALIDATIONS: Final = {"in-progress": "Validation in progress.", "finished": "Validation finished."}
"""By Encounter.status: BaRS answers a validation request at least twice, an interim answer first."""
DEFINITIONS: Final = {"in-progress": "validation-interim", "finished": "validation-full"}
"""The end of the MessageDefinition of a response in each state."""


def missed(bundle: Bundle) -> str | None:
    """That an appointment was missed (BaRS: an Appointment with status noshow), as a sentence."""
    for found in bundle.of_type("Appointment"):
        if text(found, "status") == "noshow":
            start, end = moment(text(found, "start")), moment(text(found, "end"))
            if start and end:
                return f"The person did not attend the appointment from {start} to {end}."
            return DID_NOT_ATTEND
    return None


def appointment(reason: str | None, patient: Mapping[str, str]) -> dict[str, Any] | None:
    """The missed Appointment that `reason` begins with. R4 has none without both times (app-3)."""
    found = _MISSED.match(reason or "")
    if found is None or not all(_INSTANT.fullmatch(one) and on_calendar(one) for one in found.groups()):
        return None
    return {
        "resourceType": "Appointment",
        "status": "noshow",
        "start": found[1],
        "end": found[2],
        "participant": [{"actor": patient, "status": "accepted"}],
    }


def validation(message: Message, own: Resource) -> str | None:
    """How far the validation is, where the message answers a request for one; `own`: the answerer's Encounter."""
    kind = code_of(message.request, "category", terms.MESSAGE_CATEGORIES)
    return _VALIDATIONS.get(text(own, "status") or "") if kind == "validation" else None


def validated(note: str | None) -> str | None:
    """The Encounter.status of the validation that a decision's note begins with."""
    return next((state for state, said in _VALIDATIONS.items() if (note or "").startswith(said)), None)


def safeguarding(bundle: Bundle) -> Iterator[str]:
    """The safeguarding flags of a response, each in a line."""
    for found in alerts(bundle, "SG"):
        yield f"Safeguarding flag: {found.get('display') or found['code']}"
