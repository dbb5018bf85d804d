"""A BaRS servicerequest-response as a canonical decision, and back: docs/adapters/fhir-bars.md.

What may live here: both directions of the decision, which is small. BaRS has no field that says accepted or
declined; the status of the ServiceRequest does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.adapters import fhir_feedback, fhir_fields
from gateway.adapters import fhir_terms as terms
from gateway.adapters.fhir_bundle import NOTHING, Resource, codings, objects, text
from gateway.adapters.fhir_message import RESPONSE, Message, refuse, sender, source_name
from gateway.adapters.fhir_read_concern import health, outcomes, plan_texts, texts_of
from gateway.adapters.fhir_read_parts import line, moment, organisation, present, professional, prose
from gateway.adapters.fhir_write_parts import (
    Draft,
    add_professional,
    coding,
    concept,
    message_header,
    on_calendar,
)
from gateway.messages import UUID4

NO_REASON = "The FHIR message gives no reason."
NO_QUESTION = "The FHIR message names no question."
_OUTCOMES = {"revoked": "declined", "entered-in-error": "declined", "on-hold": "more-information-needed"}
_STATUSES = {"accepted": "active", "declined": "revoked", "more-information-needed": "on-hold"}


def read(message: Message) -> dict[str, Any]:
    """The canonical decision, version 1. Raises AdapterError when it reports a technical failure."""
    bundle, request = message.bundle, message.request
    code = text(message.header, "response", "code") or "ok"
    if code != "ok":
        raise refuse(f"{message.header_at}/response/code", "ok: a technical failure is not a decision")
    outcome = _OUTCOMES.get(text(request, "status") or "", "accepted")
    own = _own_encounter(message)
    given = list(texts_of(request, "reasonCode"))
    words = prose([_unless_said(fhir_feedback.missed(bundle), given), *given])
    notes = [found for note in objects(request, "note") if (found := text(note, "text"))]
    state = _unless_said(fhir_feedback.validation(message, own), notes)
    triage = [found.get("display") or found.get("code") for found in outcomes(bundle)]
    clinical = health(message).get("clinicalSummary")
    flags = prose(fhir_feedback.safeguarding(bundle), "\n")
    said = [state, *notes, flags, *plan_texts(bundle), prose(triage, "; "), clinical]
    document = present(
        type="decision",
        version=1,
        outcome=outcome,
        decidedBy=_decided_by(message),
        decidedAt=moment(text(message.document, "timestamp")),
        reference=line(text(own, "identifier", "value")),
        referralReference=line(text(message.header, "response", "identifier")),
        note=prose(said),
    )
    if outcome == "declined":
        document |= _reason(message, words)
    elif words:
        document["reasonText"] = words
    if outcome == "more-information-needed":
        document["questions"] = [prose(notes) or NO_QUESTION]
    fields = [found for found in bundle.of_type("Observation") if fhir_fields.is_field(found)]
    fhir_fields.restore(document, fields)
    return document


def _unless_said(sentence: str | None, words: list[str]) -> str | None:
    """`sentence`, unless one of the texts begins with it already: as this adapter itself writes them."""
    said = sentence is not None and any(one.startswith(sentence) for one in words)
    return None if said else sentence


def _reason(message: Message, words: str | None) -> dict[str, Any]:
    """The code, ours before BaRS's, from the request or an encounter; `other`, with words, without one."""
    holders = [message.request, *message.bundle.of_type("Encounter")]
    stated = [found for holder in holders for found in codings(holder, "reasonCode")]
    ours = (code for system, code, _ in stated if system == terms.DECLINE_REASON)
    theirs = (terms.REASON_OF_CODE.get((terms.bare(system), code)) for system, code, _ in stated)
    reason = next((found for found in [*ours, *theirs] if found), "other")
    return present(reasonCode=reason, reasonText=words or (NO_REASON if reason == "other" else None))


def _decided_by(message: Message) -> dict[str, Any]:
    """Who performs the request, or a practitioner of the sender; else the sender. Never the referrer."""
    bundle = message.bundle
    performers = [bundle.get(text(found, "reference")) for found in objects(message.request, "performer")]
    theirs = [role for role in bundle.of_type("PractitionerRole") if _works_for_sender(message, role)]
    for role in [*performers, *theirs]:
        if text(role, "resourceType") == "PractitionerRole" and (found := professional(bundle, role)):
            return found
    name = line(source_name(message)) or terms.NOT_RECORDED
    return {"organisation": organisation(sender(message)) or {"name": name}}


def _works_for_sender(message: Message, role: Resource) -> bool:
    works_for = message.bundle.resolve(role, "organization")
    return bool(works_for) and works_for is sender(message)


def _own_encounter(message: Message) -> Resource:
    """The answering system's: the encounter that is not the referrer's, one with a case number first."""
    referrers = message.bundle.resolve(message.request, "encounter")
    theirs = [found for found in message.bundle.of_type("Encounter") if found is not referrers]
    numbered = (found for found in theirs if text(found, "identifier", "value"))
    return next(numbered, next(iter(theirs), NOTHING))


def write(draft: Draft, document: Mapping[str, Any]) -> dict[str, Any]:
    """Enter the decision's resources, return its MessageHeader. Raises AdapterError if it answers nothing."""
    answers = document.get("referralReference", "")
    answered = answers if UUID4.fullmatch(answers) else draft.header.in_reply_to
    if answered is None:
        raise refuse("/referralReference", "the UUID of the message answered, where there is no in-reply-to")
    request_urn = draft.promise("ServiceRequest")
    state = fhir_feedback.validated(document.get("note"))
    header = message_header(
        draft,
        RESPONSE,
        "new",
        f"servicerequest-response-{fhir_feedback.DEFINITIONS.get(state or '', 'referral')}",
        response={"identifier": answered, "code": "ok"},
        focus=[{"reference": request_urn}],
    )
    # A decision says nothing of the person; R4 wants a subject, so it is the case.
    case = {"system": terms.CASE, "value": draft.header.case}
    patient = draft.add({"resourceType": "Patient", "identifier": [case]})
    decided_by = add_professional(draft, document["decidedBy"])
    if "reference" in document or state:
        draft.add(_encounter(draft, document.get("reference"), state, patient))
    if found := fhir_feedback.appointment(document.get("reasonText"), patient):
        draft.add(found)
    draft.add(
        {"resourceType": "ServiceRequest"}
        | present(
            requisition=case,
            status=_STATUSES[document["outcome"]],
            intent="plan",
            category=[concept(terms.MESSAGE_CATEGORIES, "validation" if state else "referral")],
            subject=patient,
            authoredOn=on_calendar(document.get("decidedAt")) or draft.when,
            performer=[decided_by],
            reasonCode=_reason_code(document),
            note=[{"text": document["note"]}] if "note" in document else [],
        ),
        urn=request_urn,
    )
    return header


def _reason_code(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    reason, codes = document.get("reasonCode"), []
    if reason:
        rejected = terms.REJECTED_FOR_REASON.get(reason, "OTH")
        codes = [
            coding(terms.DECLINE_REASON, reason, terms.in_words(reason)),
            coding(terms.REJECTED, rejected),
        ]
    found = present(coding=codes, text=document.get("reasonText"))
    return [found] if found else []


def _encounter(
    draft: Draft, reference: str | None, state: str | None, patient: Mapping[str, str]
) -> dict[str, Any]:
    system = f"{terms.AGENCY}:{draft.header.sender}"
    return {"resourceType": "Encounter"} | present(
        identifier=[{"system": system, "value": reference}] if reference else [],
        status=state or "unknown",
        **{"class": coding(terms.NULL_FLAVOR, "UNK", "unknown")},
        subject=patient,
    )
