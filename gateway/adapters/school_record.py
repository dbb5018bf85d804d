"""A school's referral and the answer to it, from fields and to fields: for `school-csv` and `ctf-concern`.

What may live here: what must be said, and what is said in words where a field would be blank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.adapters import form_fields, paths, words
from gateway.adapters.form_fields import Field, Unread
from gateway.adapters.school_fields import DECISION

REQUIRED: Final = "required"
NAME_NOT_RECORDED: Final = "Name not recorded"
_WHO: Final = {"name", "role", "organisation"}
"""One of these must be known of whoever refers or decides."""


def read_referral(
    fields: Sequence[Field], source: Mapping[str, Any], document: dict[str, Any]
) -> list[Unread]:
    """Read into `document` what these fields say, and say what the form did not ask. Gives what is amiss."""
    unread = form_fields.read(fields, source, document)
    for person in paths.get(document, "involved.people") or []:
        person["name"] = list(filter(form_fields.is_name, person.get("name", [])))
        if not person["name"]:
            del person["name"]
        if not person.keys() & {"name", "relationship", "role"}:
            person["name"] = [{"text": NAME_NOT_RECORDED, "use": "temp"}] if person else []
    concern = document.setdefault("concern", {})
    concern.setdefault("category", ["other"])
    document.setdefault("consent", {}).setdefault("status", "not-recorded")
    document.setdefault("immediateDanger", "not-known")
    missing = [name for name in ("concern", "urgency") if not _says(source, name)]
    if not document.get("referrer", {}).keys() & _WHO:
        missing.append("school_name")
    return [*unread, *(Unread(name, REQUIRED, "") for name in missing)]


def read_decision(source: Mapping[str, Any]) -> tuple[dict[str, Any], list[Unread]]:
    """The canonical decision, and what is amiss."""
    document: dict[str, Any] = {"type": "decision", "version": 1}
    unread = form_fields.read(DECISION, source, document)
    missing = [] if _says(source, "outcome") else ["outcome"]
    if not document.get("decidedBy", {}).keys() & _WHO:
        missing.append("decided_by_organisation")
    return paths.prune(document), [*unread, *(Unread(name, REQUIRED, "") for name in missing)]


def _says(source: Mapping[str, Any], name: str) -> bool:
    return source.get(name) not in (None, "", [], {})


def write_referral(fields: Sequence[Field], document: Mapping[str, Any]) -> dict[str, Any]:
    """The fields, with those that must not be blank put in words where the document has only codes."""
    native = form_fields.write(fields, document)
    native.setdefault("concern", words.text({"concern": document["concern"]}))
    if not native.keys() & {"referrer_name", "referrer_role", "school_name", "school_urn", "school_laestab"}:
        native["school_name"] = words.line({"referrer": document["referrer"]})
    return native


def write_decision(document: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an answer, with whoever decided in words where the document has only numbers."""
    native = form_fields.write(DECISION, document)
    if not native.keys() & {f"decided_by_{name}" for name in _WHO}:
        native["decided_by_organisation"] = words.line({"decidedBy": document["decidedBy"]})
    return form_fields.with_rest(native, "other_information", document, lambda found: read_decision(found)[0])
