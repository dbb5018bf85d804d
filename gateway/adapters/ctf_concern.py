"""The adapter for school information systems: the pupil as a Common Transfer File, the concern as JSON.

What may live here: the two directions end to end, and the rule that joins the two parts. The file itself is
read in ctf, the fields of the concern are in school_fields.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from gateway.adapters import ctf, form_fields, paths, school_fields, school_record, strict_json, words
from gateway.adapters.base import AdapterError, Native
from gateway.adapters.mapping import DROPPED, Page, Row
from gateway.messages import Canonical, Header, Problem

MEDIA_TYPE: Final = "application/vnd.referral-gateway.ctf-concern+json"

_UPN: Final = "concern.upn"
_JOIN: Final = "the UPN or former UPN of the pupil in the CTF"
_CTF_ROWS: Final = [
    *form_fields.rows([*ctf.FIELDS, ctf.GENDER, ctf.UPRN]),
    *form_fields.rows(ctf.CONTACT_FIELDS),
    Row("Contacts.Contact.Address", "involved.people[].address", "as the pupil's; only read"),
    Row("SENhistory.SENneeds.SENneed.SENtype", "additional.education.sendNeed", "by SENtypeRank"),
    Row(
        "Header.SourceSchool",
        "additional.education.school",
        "SchoolName; LEA and Estab as laestab; written from the referrer's where there is none",
    ),
    Row("EthnicitySource, MedicalFlag, EnrolStatus", DROPPED, "flags that say nothing on their own"),
    Row("FSMhistory, Attendance, StageAssessments, SchoolHistory", DROPPED, "not needed to act on a concern"),
    Row("Contacts.Contact.Gender, Contacts.Contact.MiddleNames", DROPPED, "the referral needs neither"),
]


class CtfConcern:
    """Implements gateway.adapters.base.Adapter."""

    name = "ctf-concern"
    media_types = (MEDIA_TYPE,)
    page = Page(
        title="A pupil's Common Transfer File with a concern",
        introduction="""
One JSON object of two parts:

```json
{
  "ctf": "<CTfile><Header>…</Header><CTFpupilData><Pupil><UPN>…</UPN>…</Pupil></CTFpupilData></CTfile>",
  "concern": { "upn": "…", "concern": "what was seen", "urgency": "routine", "school_name": "…" }
}
```

`ctf` is the text of the DfE Common Transfer File (CTF 25 and the versions before it) that every school
information system exports, `partial` or `full`, with one pupil in it. `concern` is what the file has no
place for. Its fields are our own, the same as the columns of [school-csv](school-csv.md); lists may be JSON
lists, yes and no may be true and false. An answer comes as `{"decision": {…}}`, with the fields that
school-csv has for one.

**The join.** `concern.upn` must be the `UPN` of the pupil in the file, permanent or temporary, or its
`FormerUPN`; capitals and spaces do not matter. Anything else is refused at `/concern/upn`, so that nobody's
concern is filed under another child. A check letter that does not fit is a warning.

**Written.** A partial CTF of the pupil and the concern. What neither has a place for is put in words into
`concern.other_information`. A referral without a UPN is refused: write it as `school-csv` or `letter`. The
gateway holds no copy of the DfE's XSD; the elements and their order follow published files.
""",
        tables=[
            ("The pupil: `ctf`", _CTF_ROWS),
            (
                "The concern: `concern`",
                [
                    Row("upn", "person.identifier[].value", "needed: joins the parts"),
                    *form_fields.rows(school_fields.CONCERN),
                ],
            ),
            ("The answer: `decision`", form_fields.rows(school_fields.DECISION)),
        ],
        defaults=school_fields.DEFAULTS,
    )

    def to_canonical(self, native: Native) -> Canonical:
        """Read both parts as one referral, or an answer. Raises AdapterError."""
        parts = strict_json.loads(native.body)
        if not isinstance(parts, dict):
            raise AdapterError([Problem("", "an object")])
        if "decision" in parts:
            source = _part(parts, "decision", dict)
            document, unread = school_record.read_decision(source)
            rest = form_fields.unknown(school_fields.DECISION, source)
        else:
            document, unread = _read(parts)
            rest = form_fields.unknown([_UPN_FIELD, *school_fields.CONCERN], parts["concern"])
        if unread:
            part = "/concern" if document["type"] == "referral" else "/decision"
            problems = (found.problem() for found in unread)
            raise AdapterError([Problem(part + problem.pointer, problem.rule) for problem in problems])
        form_fields.add_note(document, rest)
        return Canonical(document["type"], 1, document)

    def from_canonical(self, header: Header, message: Canonical, media_type: str) -> Native:
        """Write both parts, or an answer. Raises AdapterError for a referral without a UPN."""
        del media_type
        if message.type == "decision":
            written: dict[str, Any] = {"decision": school_record.write_decision(message.document)}
        elif message.type == "referral":
            written = _write(header, message.document)
        else:
            raise AdapterError([Problem("/type", "one of: referral, decision")])
        return Native(MEDIA_TYPE, json.dumps(written, ensure_ascii=False, indent=1).encode())


_UPN_FIELD: Final = form_fields.Field("upn", "person.identifier[scheme=upn].value", form_fields.TEXT)


def _part(parts: Mapping[str, Any], name: str, kind: type) -> Any:
    part = parts.get(name)
    if not isinstance(part, kind):
        raise AdapterError([Problem(f"/{name}", "text" if kind is str else "an object")])
    return part


def _read(parts: Mapping[str, Any]) -> tuple[dict[str, Any], list[form_fields.Unread]]:
    text, concern = _part(parts, "ctf", str), _part(parts, "concern", dict)
    pupil, notes = _read_ctf(text)
    _check_join(pupil, concern)
    document: dict[str, Any] = {"type": "referral", "version": 1, **pupil}
    unread = school_record.read_referral(school_fields.CONCERN, concern, document)
    form_fields.add_note(document, *notes)
    return paths.prune(document), unread


def _read_ctf(text: str) -> tuple[dict[str, Any], list[str]]:
    """As ctf.read, with the problems' pointers leading into `ctf`."""
    try:
        return ctf.read(text)
    except AdapterError as refused:
        problems = [Problem(f"/ctf{problem.pointer}", problem.rule) for problem in refused.problems]
        malformed = refused.malformed
    raise AdapterError(problems, malformed=malformed)


def _check_join(pupil: Mapping[str, Any], concern: Mapping[str, Any]) -> None:
    stated = concern.get("upn")
    if not isinstance(stated, str) or not stated.strip():
        raise AdapterError([Problem("/concern/upn", school_record.REQUIRED)])
    schemes = ("upn", "former-upn")
    known = {_compact(paths.get(pupil, f"person.identifier[scheme={scheme}].value")) for scheme in schemes}
    if _compact(stated) not in known - {""}:
        raise AdapterError([Problem("/concern/upn", _JOIN)])


def _compact(upn: str | None) -> str:
    return "".join((upn or "").split()).upper()


def _write(header: Header, document: Mapping[str, Any]) -> dict[str, Any]:
    upn = paths.get(document, "person.identifier[scheme=upn].value")
    if upn is None:
        raise AdapterError([Problem("/person/identifier", "a UPN: it joins the concern to the pupil")])
    names = [paths.get(document, f"person.name[0].{part}[0]") for part in ("familyName", "givenName")]
    if not any(name and words.stripped(name) for name in names):
        raise AdapterError([Problem("/person/name/0", "a family name or given names: the CTF needs them")])
    parts: dict[str, Any] = {
        "ctf": ctf.write(document, header.created),
        "concern": {"upn": upn, **school_record.write_referral(school_fields.CONCERN, document)},
    }
    return form_fields.with_rest(parts, "concern.other_information", document, lambda found: _read(found)[0])


ADAPTER = CtfConcern()
