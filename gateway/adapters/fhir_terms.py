"""The names FHIR BaRS goes by: code systems, identifier systems and the small code maps, both ways.

What may live here: constants and tables, read once from `data/` (each file names its source and version).
No document is touched here. Systems under `urn:referral-gateway:` are ours: docs/adapters/fhir-bars.md.
"""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any, Final

NHS: Final = "https://fhir.nhs.uk"
UKCORE: Final = "https://fhir.hl7.org.uk"
HL7: Final = "http://terminology.hl7.org/CodeSystem"

EVENTS: Final = f"{NHS}/CodeSystem/message-events-bars"
MESSAGE_REASONS: Final = f"{NHS}/CodeSystem/message-reason-bars"
USE_CASES: Final = f"{NHS}/CodeSystem/usecases-categories-bars"
MESSAGE_CATEGORIES: Final = f"{NHS}/CodeSystem/message-category-servicerequest"
FLAG_CATEGORIES: Final = f"{NHS}/CodeSystem/flag-categories-bars"
SAFEGUARDING: Final = f"{NHS}/CodeSystem/safeguarding-codes-bars"
SCENE_SAFETY: Final = f"{NHS}/CodeSystem/scene-safety-codes-bars"
CONSENT_CATEGORIES: Final = f"{NHS}/CodeSystem/consent-categories-bars"
CONSENT_SCOPE: Final = f"{HL7}/consentscope"
HOUSEHOLD: Final = f"{NHS}/CodeSystem/household-composition-bars"
REJECTED: Final = f"{NHS}/CodeSystem/rejected-reasons-bars"
ARP_PRIORITY: Final = "fhir.nhs.uk/codesystem/arp-priority-code"
"""In its bare form, and without the s that one official example leaves off."""
ACT_CODE: Final = f"{HL7}/v3-ActCode"
ROLE_CODE: Final = f"{HL7}/v3-RoleCode"
CONTACT_ROLE: Final = f"{HL7}/v2-0131"
NULL_FLAVOR: Final = f"{HL7}/v3-NullFlavor"

ETHNICITY_EXTENSION: Final = f"{UKCORE}/StructureDefinition/Extension-UKCore-EthnicCategory"
RELIGION_EXTENSION: Final = "http://hl7.org/fhir/StructureDefinition/patient-religion"
INTERPRETER_EXTENSION: Final = "http://hl7.org/fhir/StructureDefinition/patient-interpreterRequired"

FIELD: Final = "urn:referral-gateway:field"
"""Codes are JSON pointers into the canonical document: fields that FHIR has no place for (fhir_fields)."""
AGENCY: Final = "urn:referral-gateway:agency"
CASE: Final = "urn:referral-gateway:case"
STAGE: Final = "urn:referral-gateway:stage"
"""An extension of the ServiceRequest that the FHIR face answers: how far its envelope has come."""
CONCERN_CATEGORY: Final = "urn:referral-gateway:concern-category"
IMMEDIATE_DANGER: Final = "urn:referral-gateway:immediate-danger"
CONSENT_STATUS: Final = "urn:referral-gateway:consent-status"
OVERRIDE_REASON: Final = "urn:referral-gateway:consent-override-reason"
DECLINE_REASON: Final = "urn:referral-gateway:decline-reason"
BARS_MESSAGE: Final = "urn:referral-gateway:bars-message"
BARS_SERVICE_REQUEST: Final = "urn:referral-gateway:bars-service-request"

NOT_RECORDED: Final = "Name not recorded"
"""Stands where a name is required and none is known; read back as no name."""

_OFFICIAL_IDENTIFIERS: Final = {
    "nhs-number": f"{NHS}/Id/nhs-number",
    "ods-code": f"{NHS}/Id/ods-organization-code",
    "dos-service-id": f"{NHS}/Id/dos-service-id",
    "gmc-number": f"{UKCORE}/Id/gmc-number",
    "nmc-pin": f"{UKCORE}/Id/nmc-number",
    "hcpc-number": f"{UKCORE}/Id/hcpc-number",
}
_OWN_IDENTIFIERS: Final = "urn:referral-gateway:identifier:"

URGENCY_OF_PRIORITY: Final = {"routine": "routine", "urgent": "urgent", "asap": "urgent", "stat": "emergency"}
PRIORITY_OF_URGENCY: Final = {"routine": "routine", "urgent": "urgent", "emergency": "stat"}
GENDER_CODES: Final = {"male": "1", "female": "2", "other": "9", "unknown": "X"}
LANGUAGE_TAG: Final = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8}){0,5}")
FHIR_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
SNOMED_OR_U: Final = re.compile(r"U|[0-9]{6,18}")
CONTACT_ROLES: Final = {"N": "next-of-kin", "C": "emergency-contact"}


def bare(system: str) -> str:
    """`system` without scheme, letter case and stray punctuation: official examples differ in all three."""
    return system.strip().lower().removeprefix("https://").removeprefix("http://").rstrip("?/")


def _data(name: str) -> Any:
    return json.loads((resources.files("gateway.adapters") / "data" / name).read_bytes())


_safeguarding = _data("bars_safeguarding.json")
SAFEGUARDING_DISPLAY: Final[dict[str, str]] = {c: e["display"] for c, e in _safeguarding["codes"].items()}
CATEGORY_OF_CODE: Final[dict[str, str]] = {
    code: entry["category"] for code, entry in _safeguarding["codes"].items() if "category" in entry
}
CODE_FOR_CATEGORY: Final[dict[str, str]] = _safeguarding["code_for_category"]
URGENCY_OF_ARP: Final[dict[str, str]] = {
    code: entry["urgency"] for code, entry in _data("bars_urgency.json")["codes"].items()
}
REASON_OF_CODE: Final[dict[tuple[str, str], str]] = {
    (bare(system), code): entry["reason"]
    for system, codes in _data("bars_decline_reasons.json")["systems"].items()
    for code, entry in codes.items()
}
REJECTED_FOR_REASON: Final = {"no-capacity": "RRNA", "unable-to-contact": "FC"}
"""The codes of rejected-reasons-bars a declined decision is written with; OTH for every other reason."""

_SCHEME_OF_SYSTEM: Final = {bare(system): scheme for scheme, system in _OFFICIAL_IDENTIFIERS.items()}


def scheme_of(system: str) -> str | None:
    """The canonical identifier scheme a FHIR system stands for, or None."""
    found = _SCHEME_OF_SYSTEM.get(bare(system))
    if found is None and system.startswith(_OWN_IDENTIFIERS):
        found = system.removeprefix(_OWN_IDENTIFIERS)
    return found


def system_of(scheme: str) -> str:
    """The FHIR system written for a canonical identifier scheme."""
    return _OFFICIAL_IDENTIFIERS.get(scheme, _OWN_IDENTIFIERS + scheme)


def is_ours(system: str) -> bool:
    """Whether a code system is the gateway's own."""
    return system.startswith("urn:referral-gateway:")


def in_words(code: str) -> str:
    """A code as a reader would say it: `no-capacity` is "No capacity"."""
    return code.replace("-", " ").capitalize()
