"""The FHIR Consent as the canonical consent, and back.

What may live here: both directions of that one resource. BaRS knows implied consent to direct care (DRC) and
little more, so why a referral is made without consent is said in code systems of our own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.adapters import fhir_terms as terms
from gateway.adapters.fhir_bundle import Bundle, Resource, code_of, objects, text
from gateway.adapters.fhir_read_parts import date, present, prose
from gateway.adapters.fhir_write_parts import concept, on_calendar

_STATUS_OF_POLICY = {"OPTIN": "given", "OPTINR": "given", "IMPLIED": "implied", "IMPLIEDD": "implied"}
_REFUSED = ("OPTOUT", "OPTOUTE")
_WRITTEN = {
    "given": ("active", "OPTIN"),
    "implied": ("active", "IMPLIED"),
    "not-sought": ("inactive", "NOCONSENT"),
    "refused-overridden": ("rejected", "OPTOUT"),
    "lacks-capacity": ("inactive", "NOCONSENT"),
}
"""Consent.status and the v3-ActCode of Consent.policyRule; `not-recorded` is written as no Consent at all."""
REFUSED_DETAIL = "Recorded as refused in the FHIR message, which gives no reason for referring all the same."


def read(bundle: Bundle) -> dict[str, Any]:
    """The consent recorded in the message; `not-recorded` when there is none, or none that says anything."""
    for found in bundle.of_type("Consent"):
        if text(found, "status") != "entered-in-error":
            status = _status(found)
            if status:
                return status | present(date=date(text(found, "dateTime")))
    return {"status": "not-recorded"}


def _status(found: Resource) -> dict[str, Any] | None:
    if ours := code_of(found, "category", terms.CONSENT_STATUS):
        return present(status=ours, **_override(found))
    policy = code_of(found, "policyRule", terms.ACT_CODE)
    denied = text(found, "provision", "type") == "deny" and not policy
    if policy in _REFUSED or denied or text(found, "status") == "rejected":
        return {"status": "refused-overridden", "overrideReason": "other", "overrideDetail": REFUSED_DETAIL}
    if text(found, "status") != "active":
        return None
    if policy in _STATUS_OF_POLICY:
        return {"status": _STATUS_OF_POLICY[policy]}
    direct_care = code_of(found, "category", terms.CONSENT_CATEGORIES) == "DRC"
    return {"status": "implied"} if direct_care and policy is None else None


def _override(found: Resource) -> dict[str, Any]:
    for category in objects(found, "category"):
        if reason := code_of({"category": category}, "category", terms.OVERRIDE_REASON):
            return present(overrideReason=reason, overrideDetail=prose([text(category, "text")]))
    return {}


def write(consent: Mapping[str, Any], patient: Mapping[str, str]) -> dict[str, Any] | None:
    """The Consent resource, never saying more than the canonical consent; None when nothing was recorded."""
    if consent["status"] not in _WRITTEN:
        return None
    status, policy = _WRITTEN[consent["status"]]
    if status == "active":
        categories = [concept(terms.CONSENT_CATEGORIES, "DRC", "Direct Care")]
    else:
        override = consent["overrideReason"]
        categories = [
            concept(terms.CONSENT_STATUS, consent["status"], terms.in_words(consent["status"])),
            concept(terms.OVERRIDE_REASON, override, terms.in_words(override), consent.get("overrideDetail")),
        ]
    return {"resourceType": "Consent"} | present(
        status=status,
        scope=concept(terms.CONSENT_SCOPE, "patient-privacy", "Privacy Consent"),
        category=categories,
        patient=patient,
        dateTime=on_calendar(consent.get("date")),
        policyRule=concept(terms.ACT_CODE, policy),
    )
