"""What a recipient may see of a referral: field groups that a sharing agreement names. Pure.

A field that no group names is left out of every view, so a schema that grows shows nothing new by accident.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

TYPE: Final = "referral"
"""The one message type that has groups."""
CORE: Final = "core"
"""In every view: who it is about, what kind of concern, how urgent and how dangerous, who asks."""
ATTACHMENTS: Final = "attachments"

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    CORE: (
        "type",
        "version",
        "reference",
        "writtenAt",
        "change",
        "previousReference",
        "person.name",
        "person.dateOfBirth",
        "person.estimatedAge",
        "person.isUnborn",
        "concern.category",
        "consent.status",
        "consent.overrideReason",
        "consent.overrideDetail",
        "consent.doNotInform",
        "urgency",
        "immediateDanger",
        "immediateDangerDetail",
        "riskToProfessionals",
        "referrer.name",
        "referrer.role",
        "referrer.organisation",
        "referrer.contact",
    ),
    "identifiers": ("person.identifier", "otherReferences", "referrer.identifier"),
    "contact": ("person.address", "person.noFixedAbode", "person.contact"),
    "characteristics": (
        "person.expectedDateOfBirth",
        "person.isDeceased",
        "person.deceasedDate",
        "person.genderCode",
        "person.genderText",
        "person.sexCode",
        "person.ethnicityCode",
        "person.ethnicity",
        "person.nationality",
        "person.immigrationStatus",
        "person.religion",
        "person.occupation",
        "person.appearance",
    ),
    "needs": (
        "person.language",
        "person.interpreterNeeded",
        "person.communicationNeeds",
        "person.disability",
        "person.reasonableAdjustment",
        "person.mentalCapacity",
        "concern.complexNeeds",
    ),
    "narrative": (
        "concern.safeguardingCode",
        "concern.code",
        "concern.primaryNeedCode",
        "concern.narrative",
        "concern.alreadyTried",
        "concern.levelOfNeed",
        "concern.began",
        "concern.incidentAt",
        "concern.identifiedBy",
        "concern.protectiveFactors",
        "concern.lifeEvent",
        "note",
    ),
    "prevent": ("concern.preventType",),
    "voices": ("concern.personsViews", "concern.familyViews"),
    "consent": (
        "consent.givenBy",
        "consent.givenByName",
        "consent.date",
        "consent.agreedTo",
        "consent.personAware",
        "consent.parentsAware",
        "consent.note",
    ),
    "family": ("involved.people", "involved.household"),
    "professionals": (
        "involved.professionals",
        "involved.organisations",
        "referrer.relationshipToPerson",
        "referrer.sourceCode",
        "referrer.safeguardingLeadInformed",
    ),
    "request": ("request",),
    "education": ("additional.education",),
    "health": ("additional.health",),
    "housing": ("additional.housing",),
    "police": ("additional.police",),
    "social-care": ("additional.socialCare",),
    ATTACHMENTS: ("attachments",),
}
"""Group -> the fields it holds, at most two steps deep."""

NOT_SHARED: Final = "The agreement under which this was sent leaves the narrative out."
"""Stands where a concern must say something and may not."""
_SAYS_SOMETHING: Final = ("narrative", "safeguardingCode", "code")


def in_order(groups: Collection[str]) -> tuple[str, ...]:
    """The groups of a view, CORE among them, in the order of GROUPS."""
    return tuple(name for name in GROUPS if name == CORE or name in groups)


def left_out(groups: Collection[str]) -> tuple[str, ...]:
    """The groups that a view does not show."""
    shown = in_order(groups)
    return tuple(name for name in GROUPS if name not in shown)


def reduced(document: Mapping[str, Any], groups: Collection[str]) -> dict[str, Any]:
    """The referral as the view shows it; valid if `document` is."""
    fields = {path for name in in_order(groups) for path in GROUPS[name]}
    shown: dict[str, Any] = {}
    for name, value in document.items():
        if name in fields:
            shown[name] = value
        elif isinstance(value, dict):
            part = {inner: one for inner, one in value.items() if f"{name}.{inner}" in fields}
            if part:
                shown[name] = part
    concern = shown["concern"]
    if not any(name in concern for name in _SAYS_SOMETHING):
        concern["narrative"] = NOT_SHARED
    return shown
