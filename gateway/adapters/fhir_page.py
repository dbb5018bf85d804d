"""The mapping page of the adapter `fhir-bars`: docs/adapters/fhir-bars.md is written from it."""

from __future__ import annotations

from typing import Final

from gateway.adapters.mapping import DROPPED, Page, Row

_INTRODUCTION: Final = """\
The body is the Bundle that BaRS posts to
`$process-message`: type `message`, a MessageHeader first.

| event (`MessageHeader.eventCoding`) | becomes |
|---|---|
| `servicerequest-request` (referral, validation; new, update, revoked, entered in error) | `referral` version 1 |
| `servicerequest-response` | `decision` version 1 |
| `booking-request`, `booking-response`, anything else | refused: `event not supported` |

**Reading is lenient.** Only what the mapping needs is checked, because official examples break strict models:
lists and single values read alike, systems are compared without scheme and letter case, text between elements
is passed over. What is read but has no place in the canonical message is not lost: the sender's own bytes travel
sealed beside it.

**Writing is strict.** Every element is R4's (4.0.1), in R4's order, and every reference leads to an entry of
the Bundle. **Nothing that the canonical message says is left out**: what FHIR has no place for is written as
an Observation that a person can read and this adapter reads back ([below](#what-fhir-has-no-place-for)).

Not read: the sending software, QuestionnaireResponse, Communication, Procedure, Appointment (but for one that was missed), EpisodeOfCare,
statusHistory, map positions, dosages, inactive Flags, resource metadata and narrative XHTML. They are clinical or
technical detail that the recipient finds in the original. Texts longer than the schema allows (300 or 20,000
characters) are cut and end in "…"; a date or e-mail address that is none is left out.

## What is refused

A body that is not well-formed, is not UTF-8, names a JSON field twice, nests deeper than 64, has more than
250,000 XML tags or JSON values, or has any XML document type declaration (so no entities of any kind) is refused
as `malformed-body`. These are refused as `unmappable-content`, with a pointer into the FHIR JSON shape and a rule,
never a value:

| pointer | rule |
|---|---|
| `/resourceType`, `/type` | always Bundle; always message |
| `/entry` | an entry with a MessageHeader |
| `/entry/N/resource/eventCoding/code` | event not supported |
| `/entry/N/resource/reason/coding/0/code` | one of: new, update, delete (absent reads as new) |
| `/entry/N/resource/focus` | a ServiceRequest in this bundle |
| `/entry/N/resource/subject/reference` | a Patient in this bundle (requests only) |
| `/entry/N/resource/response/code` | ok: a technical failure is not a decision |

## Consent

| FHIR Consent | `status` |
|---|---|
| policyRule OPTIN, OPTINR (active) | `given` |
| policyRule IMPLIED, IMPLIEDD; or category DRC without policyRule (active) | `implied` |
| policyRule OPTOUT, OPTOUTE; provision deny; status rejected | `refused-overridden`, reason `other`, and a detail saying that the message gives none |
| category coded in `urn:referral-gateway:consent-status` | that status, with reason and detail from `urn:referral-gateway:consent-override-reason` |
| anything else, or none | `not-recorded`; written as no Consent at all |

`not-sought` and `lacks-capacity` are written inactive with policyRule NOCONSENT, `refused-overridden` rejected
with OPTOUT, so no FHIR system takes them for agreement. BaRS asks for one Consent in each request: a receiver that
insists will refuse a referral whose consent was not recorded, which is the honest outcome.

## What a response says beside the decision

BaRS uses a response for more than yes or no. The canonical decision has no fields for these three, so they are
fixed sentences, which people understand and this adapter writes as BaRS again:

| FHIR | canonical |
|---|---|
| an Appointment with status `noshow` ("did not attend" feedback) | `reasonText` begins with "The person did not attend the appointment from … to ….", or with "The person did not attend." where the Bundle gives no times. Written as an Appointment only with both times, as R4 has none without |
| the status of the answerer's Encounter, where `SR.category` is `validation` | `note` begins with "Validation in progress." (interim answer) or "Validation finished." Written with that Encounter, the category and the MessageDefinition of a validation response |
| active Flags SG | a line each in `note`: "Safeguarding flag: …". Read only: they repeat what the referral said |

The answer to a request for validation needs one of these sentences to be written as such: a decision does not say what kind of
request it answers.

## Written for the receiver's sake

- A category without a safeguarding code is flagged with the code it stands for, or U (unspecified).
- The Encounter's status is `unknown` and its class UNK: a school's referral is no clinical encounter, but BaRS wants one.
- Sender and receiver are Organizations with the agency's identifier in `urn:referral-gateway:agency`; the case is
  `SR.requisition` in `urn:referral-gateway:case`. Reading passes over both, as the signed header says them.
- `Bundle.id` is the message id, so `response.identifier` of an answer can name it. All other identifiers derive
  from it (UUID version 5); timestamps are the header's `created`. The same message is always the same bytes.
- Characters that FHIR forbids (control characters) become U+FFFD.
- A decision names no person, so the Patient that R4 requires holds the case identifier only.

## What FHIR has no place for

After writing, the adapter reads its own Bundle and compares. Each canonical field that did not come back becomes an
Observation (status final) whose code is the field's JSON pointer in `urn:referral-gateway:field`, worded for people:

```json
{"resourceType": "Observation", "status": "final",
 "code": {"coding": [{"system": "urn:referral-gateway:field", "code": "/consent/doNotInform", "display": "Consent: do not inform"}]},
 "subject": {"reference": "urn:uuid:…"}, "valueString": "…"}
```

A list travels whole, one component for each value in it. When such a Bundle is read, these fields stand over what
the other resources say; pointers that do not fit the document are passed over, and the schema judges the rest.

## Examples

`gateway/adapters/examples/fhir-bars/` holds five, about people who do not exist: an emergency department to
children's social care, a mental health trust to police (risk of radicalisation, code 766969008), children's social
care answering the first, a treatment centre where a child was not brought, and a finished validation. The code lists are NHS
England's, re-keyed with source and version in `gateway/adapters/data/`.
"""

_REFERRAL: Final = (
    Row(
        "Encounter.identifier.value",
        "reference",
        "Of `SR.encounter`: BaRS keeps the sender's case number there.",
    ),
    Row(
        "Bundle.id, SR.id",
        "otherReferences",
        "Systems `urn:referral-gateway:bars-message`, `…:bars-service-request`. Read only.",
    ),
    Row(
        "SR.authoredOn, Bundle.timestamp",
        "writtenAt",
        "The first there is, and only with a time and an offset.",
    ),
    Row(
        "MessageHeader.reason, SR.status",
        "change",
        "Status revoked or entered-in-error, or reason delete: `withdraw`; written as reason update, status revoked.",
    ),
    Row("SR.id", "previousReference", "Unless new: an update is about the same ServiceRequest."),
    Row(
        "Patient.identifier",
        "person.identifier",
        "Known systems by scheme; others as `other` with their system.",
    ),
    Row(
        "Patient.name",
        "person.name",
        "None: one name `Name not recorded`, use `temp`. R4 has one family name, so parts are joined when written.",
    ),
    Row(
        "Patient.birthDate, Patient.deceased[x]",
        "person.dateOfBirth, person.isDeceased, person.deceasedDate",
        "A year or month alone is marked UUA or UAA.",
    ),
    Row("Patient.gender", "person.genderCode", "male 1, female 2, other 9, unknown X."),
    Row(
        "Extension-UKCore-EthnicCategory, patient-religion, patient-interpreterRequired",
        "person.ethnicity, person.religion, person.interpreterNeeded",
        "Extensions of Patient.",
    ),
    Row("Patient.communication.language", "person.language"),
    Row(
        "Patient.address", "person.address", "Fourth and later lines join the third; `district` is `county`."
    ),
    Row(
        "Patient.telecom, Patient.contact",
        "person.contact",
        "Contacts related by ONESELF, or to nobody and without a name, are the person's own. Best rank first, grouped by use; fax, pager and url are not read.",
    ),
    Row(
        "Patient.contact, RelatedPerson",
        "involved.people",
        "All other contacts. v3-RoleCode is `relationship`; v2-0131 N and C are next-of-kin and emergency-contact.",
    ),
    Row("Patient.generalPractitioner", "involved.organisations", "With role `General practice`."),
    Row("PractitionerRole", "involved.professionals", "Other than the requester's."),
    Row(
        "Observation.code",
        "involved.household.composition",
        "Where it is coded in household-composition-bars.",
    ),
    Row("Flag.code", "concern.safeguardingCode", "Of category SG, codes of safeguarding-codes-bars."),
    Row(
        "SR.reasonCode.coding",
        "concern.category",
        "In `urn:referral-gateway:concern-category`; else from the safeguarding codes (`data/bars_safeguarding.json`).",
    ),
    Row(
        "SR.reasonCode.text, CarePlan",
        "concern.narrative",
        "CarePlan title, description, notes, and outcomes without a code. Written as a CarePlan outcome in words, as BaRS does.",
    ),
    Row(
        "Condition, CarePlan.activity.outcomeCodeableConcept, Observation.code",
        "concern.code",
        "Coded outcomes, and Observations without a value. Written as Conditions.",
    ),
    Row("Observation.valueString", "concern.personsViews", "Of the Observation `Expectations and wishes`."),
    Row("Consent", "consent", "See above."),
    Row("SR.priority", "urgency", "routine; urgent and asap: urgent; stat: emergency."),
    Row(
        "Flag.code",
        "immediateDanger, immediateDangerDetail",
        "Of category API, coded in `urn:referral-gateway:immediate-danger`.",
    ),
    Row(
        "Flag.code",
        "riskToProfessionals",
        "Of category SS (scene safety), unless it only says safe or unknown.",
    ),
    Row("Flag.code", "person.reasonableAdjustment", "Of category RA."),
    Row("Flag.code", "additional.health.alerts", "Every other active Flag. Written as Flag API."),
    Row(
        "Observation.value[x], Observation.note, AllergyIntolerance, MedicationStatement",
        "additional.health.clinicalSummary",
        "`Clinical Narrative` first, then the others by label; names only of allergies and medicines.",
    ),
    Row(
        "SR.requester, MessageHeader.sender",
        "referrer",
        "PractitionerRole, Practitioner or Organization; the sending organisation where it names none.",
    ),
    Row("SR.category", "request.action", "validation: `validate`."),
    Row("SR.category, Task.code", "request.code", "Codings of other systems: use case codes such as a1t1."),
    Row("Task.description", "request.detail", "Read only."),
    Row("SR.performer", "request.service", "A HealthcareService, else an Organization."),
    Row("SR.occurrence[x]", "request.start, request.end"),
    Row("SR.patientInstruction, SR.locationReference", "request.practical", "Locations in one line each."),
    Row("SR.note", "note"),
    Row(
        "MessageHeader.source, CDSSExtension",
        DROPPED,
        "The sending software; its name stands for a referrer that is nowhere named.",
    ),
    Row(
        "MessageHeader.destination",
        DROPPED,
        "The signed header says who it is for. The [FHIR face](../fhir.md) finds the recipient by it.",
    ),
    Row(
        "QuestionnaireResponse, Communication, Procedure, EpisodeOfCare, Location.position, Dosage",
        DROPPED,
        "Clinical or technical detail that the recipient finds in the original.",
    ),
)

_DECISION: Final = (
    Row(
        "SR.status",
        "outcome",
        "revoked, entered-in-error: declined; on-hold: more-information-needed; otherwise accepted.",
    ),
    Row(
        "SR.reasonCode, Encounter.reasonCode",
        "reasonCode",
        "Our codes in `urn:referral-gateway:decline-reason`, then rejected-reasons-bars and dos-rejected-reasons-bars (`data/bars_decline_reasons.json`).",
    ),
    Row("SR.reasonCode.text, Appointment.status", "reasonText", "A missed appointment first: see above."),
    Row(
        "SR.note, CarePlan, Observation, Flag",
        "note",
        "With the state of a validation, safeguarding flags, CarePlan words, triage outcomes and clinical summary.",
    ),
    Row("SR.note", "questions", "When on-hold."),
    Row(
        "SR.performer, PractitionerRole, MessageHeader.sender",
        "decidedBy",
        "The PractitionerRole that performs `SR` or works for the sender; else the sending Organization. Never the referrer's staff, whom responses repeat.",
    ),
    Row("Bundle.timestamp", "decidedAt"),
    Row("Encounter.identifier.value", "reference", "Of the Encounter that is not `SR.encounter`."),
    Row(
        "MessageHeader.response.identifier",
        "referralReference",
        "Written from it when it is a UUID, else from the header's in-reply-to.",
    ),
    Row(
        "MessageHeader.reason",
        DROPPED,
        "new or update: each answer is a message of its own, the latest stands.",
    ),
    Row(
        "Patient, Consent, RelatedPerson",
        DROPPED,
        "A decision repeats nothing of the person; the referral said it.",
    ),
)

PAGE: Final = Page(
    "FHIR R4, NHS Booking and Referral Standard",
    _INTRODUCTION,
    (
        ("Referral (`SR` is the ServiceRequest in focus)", _REFERRAL),
        ("Decision", _DECISION),
    ),
    (
        ("consent", "`not-recorded`: absence of a Consent says nothing; a warning travels with the message."),
        (
            "urgency",
            "The ambulance category in the CarePlan (`data/bars_urgency.json`); else `urgent` when the Encounter class is EMER; else `routine`. R4: without priority a request is routine, but an emergency contact must not wait.",
        ),
        ("immediateDanger", "`not-known`: BaRS does not ask; an urgent case is not the same."),
        ("concern.category", "`other`: no safeguarding flag, or a code that names no category."),
        (
            "concern.narrative",
            "“The FHIR message gives no narrative.”, only when there is no code either, as in withdrawals.",
        ),
        ("referrer", "The sending organisation, else the source's name."),
        ("reasonCode", "`other`, when declined without a code."),
        ("reasonText", "“The FHIR message gives no reason.”, when declined without a code or words."),
        ("questions", "“The FHIR message names no question.”, when on-hold without a note."),
    ),
)
