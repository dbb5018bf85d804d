"""What a BaRS message is worried about: safeguarding flags, triage outcomes, observations, scene safety.

What may live here: the reading of Flag, CarePlan, Condition and Observation, and of the clinical lists that
the canonical referral holds as text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.adapters import fhir_fields
from gateway.adapters import fhir_terms as terms
from gateway.adapters.fhir_bundle import (
    Bundle,
    Resource,
    code_of,
    codes_of,
    codings,
    objects,
    one,
    text,
    texts,
    wording,
)
from gateway.adapters.fhir_message import Message
from gateway.adapters.fhir_read_parts import coded, present, prose

NO_NARRATIVE = "The FHIR message gives no narrative."
CLINICAL_NARRATIVE = "Clinical Narrative"
WISHES = "Expectations and wishes"
_SCENE_SAFE_OR_UNKNOWN = ("S", "UNK")


def concern(message: Message) -> dict[str, Any]:
    """Categories, codes and narrative. The category is `other` where no safeguarding code names one."""
    bundle, request = message.bundle, message.request
    safeguarding = list(
        dict.fromkeys(
            code
            for flag in _flags(bundle, "SG")
            for code in codes_of(flag, "code", terms.SAFEGUARDING)
            if terms.SNOMED_OR_U.fullmatch(code)
        )
    )
    implied = [terms.CATEGORY_OF_CODE[code] for code in safeguarding if code in terms.CATEGORY_OF_CODE]
    stated = codes_of(request, "reasonCode", terms.CONCERN_CATEGORY)
    codes = list(_codes(bundle))
    narrative = prose([*texts_of(request, "reasonCode"), *plan_texts(bundle)])
    if not narrative and not safeguarding and not codes:
        narrative = NO_NARRATIVE
    return present(
        category=list(dict.fromkeys(stated or implied)) or ["other"],
        safeguardingCode=safeguarding,
        code=codes,
        narrative=narrative,
        personsViews=prose(value for label, value in _observed(bundle) if label.lower() == WISHES.lower()),
    )


def texts_of(resource: Resource, name: str) -> Iterator[str]:
    """The words of every concept under `name`: its text, else the first display of a code not ours."""
    for concept in objects(resource, name):
        theirs = (
            display for system, _, display in codings({name: concept}, name) if not terms.is_ours(system)
        )
        if found := text(concept, "text") or next((display for display in theirs if display), None):
            yield found


def plan_texts(bundle: Bundle) -> Iterator[str]:
    """A CarePlan's own words: the consultation summary stands as an outcome without a code."""
    for plan in bundle.of_type("CarePlan"):
        yield from texts(plan, "title") + texts(plan, "description")
        for activity in objects(plan, "activity"):
            for outcome in objects(activity, "outcomeCodeableConcept"):
                if not objects(outcome, "coding"):
                    yield from texts(outcome, "text")
        for note in objects(plan, "note"):
            yield from texts(note, "text")


def _codes(bundle: Bundle) -> Iterator[dict[str, Any]]:
    """Presenting complaints, triage outcomes and findings that have a code and no value."""
    for condition in bundle.of_type("Condition"):
        if found := coded(one(condition, "code")):
            yield found
    yield from outcomes(bundle)
    for observation in bundle.of_type("Observation"):
        labelled = code_of(observation, "code", terms.HOUSEHOLD) or fhir_fields.is_field(observation)
        found = None if labelled or _value(observation) else coded(one(observation, "code"))
        if found and "code" in found:
            yield found


def outcomes(bundle: Bundle) -> Iterator[dict[str, Any]]:
    """The coded outcomes of every CarePlan: symptom group, discriminator, disposition, ambulance category."""
    for plan in bundle.of_type("CarePlan"):
        for activity in objects(plan, "activity"):
            for outcome in objects(activity, "outcomeCodeableConcept"):
                found = coded(outcome) if objects(outcome, "coding") else None
                if found:
                    yield found


def health(message: Message) -> dict[str, Any]:
    """Clinical facts in words, and the flags that are neither safeguarding, adjustment nor danger."""
    bundle = message.bundle
    special = (CLINICAL_NARRATIVE.lower(), WISHES.lower())
    facts = [value for label, value in _observed(bundle) if label.lower() == special[0]]
    facts += [f"{label}: {value}" for label, value in _observed(bundle) if label.lower() not in special]
    allergies = [wording(found, "code") for found in bundle.of_type("AllergyIntolerance")]
    medicines = [
        wording(found, "medicationCodeableConcept") for found in bundle.of_type("MedicationStatement")
    ]
    facts += [f"Allergy: {allergy}" for allergy in allergies if allergy]
    facts += [f"Medication: {medicine}" for medicine in medicines if medicine]
    return present(clinicalSummary=prose(facts, "\n"), alerts=_other_alerts(bundle))


def _observed(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """(label, value) of every observation that has a value in words or figures, or a note."""
    for observation in bundle.of_type("Observation"):
        if fhir_fields.is_field(observation):
            continue
        label = wording(observation, "code") or "Observation"
        values = [_value(observation), *(text(note, "text") for note in objects(observation, "note"))]
        values += [
            f"{wording(component, 'code') or 'part'} {value}"
            for component in objects(observation, "component")
            if (value := _value(component))
        ]
        if shown := prose(values, "; "):
            yield label, shown


def _value(observation: Resource) -> str | None:
    quantity = one(observation, "valueQuantity")
    measured = " ".join(part for part in (text(quantity, "value"), text(quantity, "unit")) if part)
    return (
        text(observation, "valueString") or wording(observation, "valueCodeableConcept") or measured or None
    )


def household(bundle: Bundle) -> dict[str, Any]:
    """Household composition, where an observation codes it."""
    for observation in bundle.of_type("Observation"):
        if code_of(observation, "code", terms.HOUSEHOLD):
            return present(composition=coded(one(observation, "code")))
    return {}


def danger(message: Message) -> dict[str, Any]:
    """Immediate danger and risk to professionals, where a flag states them."""
    found: dict[str, Any] = {}
    for flag in _flags(message.bundle, "API"):
        if answer := code_of(flag, "code", terms.IMMEDIATE_DANGER):
            found = present(immediateDanger=answer, immediateDangerDetail=prose([text(flag, "code", "text")]))
            break
    scenes = []
    for flag in _flags(message.bundle, "SS"):
        code, words = code_of(flag, "code", terms.SCENE_SAFETY), text(flag, "code", "text")
        if words or code not in _SCENE_SAFE_OR_UNKNOWN:
            display = text(flag, "code", "coding", "display")
            scenes.append(": ".join(part for part in (display, words) if part) or None)
    return found | present(riskToProfessionals=prose(scenes))


def alerts(bundle: Bundle, category: str) -> list[dict[str, Any]]:
    """What the flags of one category say."""
    return [found for flag in _flags(bundle, category) if (found := coded(one(flag, "code")))]


def _other_alerts(bundle: Bundle) -> list[dict[str, Any]]:
    found = []
    for flag in _active(bundle):
        category = code_of(flag, "category", terms.FLAG_CATEGORIES)
        plain_scene = code_of(flag, "code", terms.SCENE_SAFETY) in _SCENE_SAFE_OR_UNKNOWN and not text(
            flag, "code", "text"
        )
        coded_elsewhere = category == "SG" and code_of(flag, "code", terms.SAFEGUARDING)
        elsewhere = coded_elsewhere or category == "RA" or (category == "SS" and not plain_scene)
        if elsewhere or code_of(flag, "code", terms.IMMEDIATE_DANGER):
            continue
        if value := coded(one(flag, "code")):
            found.append(value)
    return found


def _active(bundle: Bundle) -> list[Resource]:
    return [
        flag
        for flag in bundle.of_type("Flag")
        if text(flag, "status") not in ("inactive", "entered-in-error")
    ]


def _flags(bundle: Bundle, category: str) -> list[Resource]:
    return [flag for flag in _active(bundle) if code_of(flag, "category", terms.FLAG_CATEGORIES) == category]
