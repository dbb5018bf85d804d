"""A duty to refer and its outcome, from the native object and to it: docs/adapters/duty-to-refer.md.

What may live here: what the status, the three agreements and the outcomes mean. The fields are in dtr_fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.adapters import dtr_fields as dtr
from gateway.adapters import form_fields, paths, words
from gateway.adapters.base import AdapterError
from gateway.messages import Canonical, Problem

NOT_RECORDED: Final = "Name not recorded"
NO_REASON: Final = "The duty to refer gives no reason."
DUTY: Final = {"system": "Housing Act 1996", "code": "s213B", "display": "Duty to refer"}
_WHO: Final = {"name", "role", "organisation"}
"""One of these must be known of whoever refers or decides."""
_STATUSES: Final = "one of: SUBMITTED, WITHDRAWN, ACCEPTED, NOT_ACCEPTED"
_HOUSING: Final = {"homelessness", "threatened-with-homelessness", "housing"}
_CATEGORIES: Final = {
    "homeless": "homelessness",
    "threatened-with-homelessness": "threatened-with-homelessness",
}


def read(native: Mapping[str, Any]) -> dict[str, Any]:
    """The canonical referral or decision. Raises AdapterError."""
    status = native.get("status") if isinstance(native.get("status"), str) else None
    if status in {"SUBMITTED", "WITHDRAWN"}:
        document, unread = _referral(native, withdrawn=status == "WITHDRAWN")
        fields, besides = dtr.REFERRAL, tuple(dtr.MORE["referral"])
    elif status in {"ACCEPTED", "NOT_ACCEPTED"}:
        document, unread = _decision(native)
        fields, besides = dtr.DECISION, (*dtr.MORE["decision"], *_DROPPED)
    else:
        raise AdapterError([Problem("/status", _STATUSES)])
    if unread:
        raise AdapterError([found.problem() for found in unread])
    form_fields.add_note(document, form_fields.unknown(fields, native, besides))
    return document


_DROPPED: Final = (
    *("crn", "caseId", "change", "urgency", "person", "circumstances", "referringBody", "agreements"),
    *(f"submission.{name}" for name in ("submissionDate", "submissionNote", "createdBy", "createdAt")),
)
"""Of a decision: it answers a referral that says all this."""


def _referral(
    native: Mapping[str, Any], *, withdrawn: bool
) -> tuple[dict[str, Any], list[form_fields.Unread]]:
    if not native.get("submission"):
        raise AdapterError([Problem("/submission", "required: nothing has been submitted")])
    document: dict[str, Any] = {"type": "referral", "version": 1}
    unread = form_fields.read(dtr.REFERRAL, native, document)
    paths.put(document, "concern.code", [DUTY])
    housing = paths.get(document, "additional.housing.dutyToRefer")
    paths.put(document, "concern.category", [_CATEGORIES.get(housing, "housing")])
    event = paths.get(document, "concern.lifeEvent[type=duty-to-refer-submitted]")
    if event:
        event["description"] = "Duty to refer submitted"
    if withdrawn:
        document["change"] = "withdraw"
        document.setdefault("previousReference", document.get("reference"))
        reason = paths.get(document, f"request.code[system={dtr.WITHDRAWAL}]") or {}
        if reason.get("code") in dtr.WITHDRAWAL_REASONS:
            reason.setdefault("display", dtr.WITHDRAWAL_REASONS[reason["code"]])
    names = document.setdefault("person", {}).setdefault("name", [{}])
    if not form_fields.is_name(names[0]):
        names[0] |= {"text": NOT_RECORDED, "use": "temp"}
    document.setdefault("urgency", "routine")
    document["immediateDanger"] = "not-known"
    document.setdefault("referrer", {})
    if not document["referrer"].keys() & _WHO:
        unread.append(form_fields.Unread("referringBody.organisation", "required", ""))
    _name_authority(document)
    unread += _consent(native, document, withdrawn=withdrawn)
    return paths.prune(document), unread


def _name_authority(document: dict[str, Any]) -> None:
    """The name that a GSS code stands for, where none is given; and a name for the service."""
    service = paths.get(document, "request.service")
    if service is None:
        return
    code = paths.get(service, "organisation.identifier[scheme=gss-code].value")
    name = paths.get(service, "organisation.name") or dtr.AUTHORITIES.get(str(code))
    if name:
        paths.put(document, "additional.housing.preferredAuthority", name)
        service["organisation"]["name"] = name
    service["name"] = name or code or paths.get(service, "organisation.identifier[0].value")


def _consent(
    native: Mapping[str, Any], document: dict[str, Any], *, withdrawn: bool
) -> list[form_fields.Unread]:
    """The three agreements. One that was not given stops a referral, and not the withdrawal of one."""
    consent = document.setdefault("consent", {})
    agreed, unread = [], []
    for name, meaning in dtr.AGREEMENTS.items():
        raw = paths.get(native, f"agreements.{name}")
        stated = form_fields.YES_NO.decode(str(raw)) if raw not in (None, "") else None
        if stated:
            agreed.append(meaning)
        elif raw not in (None, "") and not withdrawn:
            rule = "true: the duty to refer needs the person's agreement"
            unread.append(form_fields.Unread(f"agreements.{name}", rule, ""))
    consent["status"] = "given" if "referral" in agreed else "not-recorded"
    if agreed:
        consent |= {"agreedTo": agreed, "givenBy": "person"}
    return unread


def _decision(native: Mapping[str, Any]) -> tuple[dict[str, Any], list[form_fields.Unread]]:
    document: dict[str, Any] = {"type": "decision", "version": 1}
    unread = form_fields.read(dtr.DECISION, native, document)
    code, note = (paths.get(native, f"submission.{name}") for name in ("outcomeReason", "outcomeNote"))
    code, note = (words.stripped(text) if isinstance(text, str) else "" for text in (code, note))
    entry = dtr.OUTCOME_REASONS.get(code, {})
    said = entry.get("display", code)
    if document.get("outcome") == "declined":
        document["reasonCode"] = entry.get("reason", "other")
        if document["reasonCode"] == "other":
            said, note = note or said or NO_REASON, ""
        elif entry.get("reason") == "no-local-connection":
            said = ""
    document |= {"reasonText": said, "note": note}
    code = paths.get(document, "decidedBy.organisation.identifier[scheme=gss-code].value")
    if name := dtr.AUTHORITIES.get(str(code)):
        document["decidedBy"]["organisation"].setdefault("name", name)
    document = paths.prune(document)
    if not document.get("decidedBy", {}).keys() & _WHO:
        unread.append(form_fields.Unread("submission.localAuthority.localAuthorityAreaName", "required", ""))
    return document, unread


def write(message: Canonical) -> dict[str, Any]:
    """The native object. Raises AdapterError for what is no duty to refer and has no form in it."""
    if message.type == "decision":
        return _write_decision(message.document)
    if message.type == "referral":
        return _write_referral(message.document)
    raise AdapterError([Problem("/type", "one of: referral, decision")])


def _write_referral(document: Mapping[str, Any]) -> dict[str, Any]:
    housing = paths.get(document, "additional.housing") or {}
    categories = set(document["concern"]["category"])
    if not housing and not categories & _HOUSING:
        raise AdapterError([Problem("/concern/category", f"one of: {', '.join(sorted(_HOUSING))}")])
    status = "WITHDRAWN" if document.get("change") == "withdraw" else "SUBMITTED"
    native: dict[str, Any] = {"status": status} | form_fields.write(dtr.REFERRAL, document)
    submission = native.setdefault("submission", {})
    if "id" not in submission and "previousReference" in document:
        submission["id"] = document["previousReference"]
    if "writtenAt" in document:
        submission.setdefault("submissionDate", document["writtenAt"][:10])
    if not submission:
        submission["submissionNote"] = words.text({"concern": document["concern"]})
    if "dutyToRefer" not in housing:
        found = next((name for name, category in _CATEGORIES.items() if category in categories), None)
        if found:
            paths.put(
                native,
                "circumstances.housingStatus",
                found.upper().replace("-", "_"),
            )
    agreed = document["consent"].get("agreedTo", [])
    if document["consent"]["status"] == "given" and (
        stated := {name: True for name, meaning in dtr.AGREEMENTS.items() if meaning in agreed}
    ):
        native["agreements"] = stated | native.get("agreements", {})
    body = native.setdefault("referringBody", {})
    if not body.keys() & {"organisation", "odsCode", "role"} and "createdBy" not in submission:
        body["organisation"] = words.line({"referrer": document["referrer"]})
    native = paths.prune(native)
    return form_fields.with_rest(native, "otherInformation", document, read)


def _write_decision(document: Mapping[str, Any]) -> dict[str, Any]:
    if document["outcome"] not in {"accepted", "declined"}:
        raise AdapterError([Problem("/outcome", "one of: accepted, declined")])
    native = form_fields.write(dtr.DECISION, document)
    submission = native.setdefault("submission", {})
    code, text = document.get("reasonCode"), document.get("reasonText")
    for name, entry in dtr.OUTCOME_REASONS.items():
        fits = entry["outcome"] == document["outcome"] and code == entry.get("reason")
        if fits and (text == entry["display"] or code == "no-local-connection"):
            submission["outcomeReason"] = name
    if document["outcome"] == "declined" and "outcomeReason" not in submission:
        submission["outcomeReason"] = "REJECTED_FOR_ANOTHER_REASON"
        submission["outcomeNote"] = text or words.in_words("reasonCode", code)
    elif "note" in document:
        submission["outcomeNote"] = document["note"]
    authority = paths.get(native, "submission.localAuthority") or {}
    if not authority.keys() & {"localAuthorityAreaName", "gssCode", "localAuthorityAreaId"} and not (
        native.get("decidedBy", {}).keys() & _WHO
    ):
        named = words.line({"decidedBy": document["decidedBy"]})
        paths.put(native, "submission.localAuthority.localAuthorityAreaName", named)
    return form_fields.with_rest(native, "submission.outcomeNote", document, read)
