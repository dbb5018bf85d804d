"""The adapter for schools whose system exports tables: one CSV row, one referral, and the answer likewise.

What may live here: the two directions end to end. The columns are in school_fields, the CSV in csv_text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.adapters import csv_text, form_fields, paths, school_fields, school_record, words
from gateway.adapters.base import AdapterError, Native
from gateway.adapters.mapping import Page
from gateway.messages import Canonical, Header, Problem

MEDIA_TYPE: Final = "text/vnd.referral-gateway.school-referral+csv"

REFERRAL: Final = [*school_fields.PUPIL, *school_fields.CONCERN]
DECISION: Final = school_fields.DECISION
_COLUMNS: Final = {
    "referral": list(dict.fromkeys(field.native for field in REFERRAL)),
    "decision": list(dict.fromkeys(field.native for field in DECISION)),
}
_NAMES: Final = {"name", "surname", "forename", "middle_names", "preferred_forename", "former_surname"}
_SEPARATORS: Final = {field.native: field.many for field in [*REFERRAL, *DECISION] if field.many}


class SchoolCsv:
    """Implements gateway.adapters.base.Adapter."""

    name = "school-csv"
    media_types = (MEDIA_TYPE,)
    page = Page(
        title="A school's referral as CSV",
        introduction="""
One CSV file (RFC 4180), one message: a header row and one row below it. **These columns are our own.**
Schools' safeguarding systems publish no export format, so this is the stand-in: rename the columns of an
export, or have a report made with these names. Columns may stand in any order and be left out; what is
blank counts as not said. A request that names this adapter may say `text/csv`.

**Read.** UTF-8, with or without the byte order mark that Excel writes. Names of columns may have capitals,
spaces or hyphens for underscores. Several values in a cell have a semicolon between them, questions a
vertical bar. A row with an `outcome` is a decision, any other a referral. A date that is none, a code of no
list, a cell without a column are refused, with the column's name and the rule. A column not listed here is
kept in words in `note`.

**Written.** Every column, in this order, in UTF-8. What has no column is put in words into
`other_information`, so nothing is left out. A cell that a spreadsheet would run as a formula (it begins
with `=`, `+`, `-`, `@` and the like) gets an apostrophe before it, which reading takes off again.
""",
        tables=[
            ("Referral", form_fields.rows(REFERRAL)),
            ("Decision", form_fields.rows(DECISION)),
        ],
        defaults=school_fields.DEFAULTS,
    )

    def to_canonical(self, native: Native) -> Canonical:
        """Read one row. Raises AdapterError naming the columns that are amiss."""
        row = csv_text.read(native.body)
        fields = DECISION if "outcome" in row else REFERRAL
        document, unread = school_record.read_decision(row) if fields is DECISION else _read_referral(row)
        if unread:
            raise AdapterError([found.problem() for found in unread])
        form_fields.add_note(document, form_fields.unknown(fields, row))
        return Canonical(document["type"], 1, document)

    def from_canonical(self, header: Header, message: Canonical, media_type: str) -> Native:
        """Write one row. Raises AdapterError for a type of message that has no columns."""
        del header
        if message.type == "referral":
            native = school_record.write_referral(REFERRAL, message.document)
            if not native.keys() & _NAMES:
                native["name"] = words.line({"name": message.document["person"]["name"]})
            native = form_fields.with_rest(
                native, "other_information", message.document, lambda found: _read_referral(found)[0]
            )
        elif message.type == "decision":
            native = school_record.write_decision(message.document)
        else:
            raise AdapterError([Problem("/type", "one of: referral, decision")])
        return Native(media_type, csv_text.write(_COLUMNS[message.type], native, _SEPARATORS))


def _read_referral(row: Mapping[str, Any]) -> tuple[dict[str, Any], list[form_fields.Unread]]:
    document: dict[str, Any] = {"type": "referral", "version": 1}
    unread = school_record.read_referral(REFERRAL, row, document)
    if not document.get("person", {}).get("name"):
        unread.append(form_fields.Unread("surname", school_record.REQUIRED, ""))
    return paths.prune(document), unread


ADAPTER = SchoolCsv()
