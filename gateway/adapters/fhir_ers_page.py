"""The mapping page of the adapter `fhir-ers`: docs/adapters/fhir-ers.md is written from it."""

from __future__ import annotations

from typing import Final

from gateway.adapters.mapping import DROPPED, Page, Row

_INTRODUCTION: Final = """
Resources of NHS England's e-Referral Service, as its public API gives and takes them: FHIR STU3 and R4, JSON. **Read
only**: e-RS takes operations on its own records and no messages of others, so nothing is written in this form. The
recipient gets the canonical message, or BaRS ([fhir-bars](fhir-bars.md)). Name the adapter (`adapter=fhir-ers`) with
`application/json`: `application/fhir+json` is read as BaRS.

| what is sent | becomes |
|---|---|
| STU3 `ReferralRequest` (retrieveReferralRequest, and the answer of every operation on one) | `referral` version 1 |
| the same in state `REJECTED` (answer of rejectReferral) | `decision`, declined |
| R4 `ServiceRequest`, alone or the only one of a searchset Bundle | `referral` |
| Parameters of createReferral, createReferralAndSendForTriage | `referral` |
| Parameters of createAdviceAndGuidance | `referral` with `request.action` advise |
| answer of cancelReferral (`updatedReferralRequest`) | `referral` with `change` withdraw |
| Parameters of recordTriageOutcome, rejectReferral | `decision`: accepted or declined |
| request of cancelReferral, convertAdviceAndGuidanceToReferral, worklists, services, advice and guidance records | refused |

Refused are bodies that name no patient (a request to cancel names its referral in the address only), searches that
found none or several, and review outcomes other than ACCEPT_REFER_BOOK_LATER and RETURN_TO_REFERRER_WITH_ADVICE. A decision has
no referral's number in it, but for a rejected record: name the message with `in_reply_to`.

e-RS holds no name, address or letter in these resources: the person is an NHS number, and the clinical facts are in
attached documents that e-RS keeps. Send them along as attachments.
"""

_REFERRAL: Final = (
    Row(
        "ReferralRequest.id, ServiceRequest.identifier",
        "reference",
        "The UBRN (in R4 of the system …/Id/UBRN).",
    ),
    Row("identifier", "otherReferences", "The others, with their system."),
    Row(
        "subject.identifier, patient",
        "person.identifier",
        "The NHS number, under `fhir.nhs.net` or `fhir.nhs.uk`.",
    ),
    Row(
        "status",
        "change, previousReference",
        "cancelled, revoked, entered-in-error: `withdraw` of the same UBRN; else none.",
    ),
    Row("Extension-eRS-eReferralPathwayStart-1, authoredOn, eReferralPathwayStart", "writtenAt", ""),
    Row(
        "Extension-eRS-ReferralPriority-1, priority",
        "urgency",
        "ROUTINE routine; URGENT and TWO_WEEK_WAIT urgent, the latter also as a code of `request`. The priority of the search where the record has none.",
    ),
    Row("specialty, clinicType", "request.code", "Of the record, else of the service search."),
    Row("ServiceRequest.code", "request.code, request.action", "advice-and-guidance: `advise`."),
    Row(
        "shortlist.entry.item", "request.service, request.detail", "One service; several are listed in words."
    ),
    Row("request", "concern.narrative, request.action", "The text of an advice and guidance request."),
    Row("referringClinician", "referrer.identifier", "An SDS user id, as `other` with its system."),
    Row(
        "Extension-eRS-PatientAdditionalRequirement-1",
        "person.reasonableAdjustment",
        "ADVOCACY, TRANSPORT and so on.",
    ),
    Row(
        "Extension-eRS-ReferralState-1, Appointment, DocumentReference",
        "note",
        "In words: the state with reason and comments, times and status of an appointment, titles of attached documents.",
    ),
    Row("Extension-eRS-Commissioning-Rule-Org-1", DROPPED, "Who pays, not who refers."),
    Row(
        "Extension-eRS-ClinicalInfoFirstSubmitted-1, Extension-eRS-ClinicalInfoLastUpdated-1",
        DROPPED,
        "When e-RS got letters.",
    ),
    Row(
        "postcode, distanceLimit, ageAndGenderAppropriate, organisation",
        DROPPED,
        "How services were searched for; the postcode need not be the person's.",
    ),
    Row(
        "intentionToAddReferralLetter, firstReminderLetterFollowUpDays",
        DROPPED,
        "Reminders of e-RS to itself.",
    ),
    Row("supportingInfo, meta, intent", DROPPED, "References into e-RS and technical detail."),
)

_DECISION: Final = (
    Row(
        "reviewOutcome, Extension-eRS-ReferralState-1",
        "outcome",
        "ACCEPT_REFER_BOOK_LATER accepted; RETURN_TO_REFERRER_WITH_ADVICE and REJECTED declined.",
    ),
    Row(
        "rejectionReason, Extension-eRS-ReferralState-1",
        "reasonCode",
        "SERVICE_INAPPROPRIATE `not-appropriate`; every other `other`, with the code in words.",
    ),
    Row("reviewComments, rejectionComments, rejectionReason", "reasonText", ""),
    Row("ReferralRequest.id", "referralReference", "The UBRN of a rejected record."),
    Row("reviewPriority", "note", "In words."),
    Row(
        "reviewAttachmentFile, appointmentCancelledInPAS",
        DROPPED,
        "For e-RS; send the file along as an attachment.",
    ),
)

PAGE: Final = Page(
    "NHS e-Referral Service",
    _INTRODUCTION,
    (("Referral", _REFERRAL), ("Decision", _DECISION)),
    (
        ("person.name", "`Name not recorded`, use `temp`: the NHS number finds the name."),
        ("concern.category", "`other`: e-RS has specialties, which are what is asked for."),
        ("concern.narrative", "“The e-RS record gives no narrative.”"),
        ("consent", "`not-recorded`: e-RS does not say."),
        ("urgency", "`routine`, where no priority is given, as in e-RS itself."),
        ("immediateDanger", "`not-known`: e-RS does not ask."),
        (
            "referrer.organisation.name",
            "`Name not recorded`: the session that sent it knew; the signed header names the agency.",
        ),
        ("decidedBy.organisation.name", "The same."),
        ("reasonText", "“The e-RS record gives no reason.”, when declined without a reason or comments."),
    ),
)
