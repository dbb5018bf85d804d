"""The adapters for the duty to refer: JSON as HMPPS Single Accommodation Service names it, and a CSV row.

What may live here: bytes to the native object and back, and the pages. What it means is in dtr_record.
"""

from __future__ import annotations

import json
from typing import Any, Final

from gateway.adapters import csv_text, dtr_record, form_fields, paths, strict_json
from gateway.adapters import dtr_fields as dtr
from gateway.adapters.base import AdapterError, Native
from gateway.adapters.mapping import DROPPED, Page, Row
from gateway.messages import Canonical, Header, Problem

JSON: Final = "application/vnd.referral-gateway.duty-to-refer+json"
CSV: Final = "text/vnd.referral-gateway.duty-to-refer+csv"

_TABLES: Final = [
    (
        "Referral: status SUBMITTED or WITHDRAWN",
        [
            Row("status", "change", "WITHDRAWN: withdraw, of `submission.id`"),
            Row(
                "agreements.referral",
                "consent.agreedTo, consent.status",
                "true: given. No: refused, see above",
            ),
            Row("agreements.contactDetails, agreements.localAuthority", "consent.agreedTo"),
            *form_fields.rows(dtr.REFERRAL),
        ],
    ),
    (
        "Decision: status ACCEPTED or NOT_ACCEPTED",
        [
            *form_fields.rows(dtr.DECISION),
            Row(
                "submission.outcomeReason",
                "reasonCode, reasonText",
                "NO_LOCAL_CONNECTION is no-local-connection, INTENTIONALLY_HOMELESS not-eligible, any other "
                "other; of an accepted one the meaning stands in reasonText",
            ),
            Row(
                "submission.outcomeNote",
                "note, reasonText",
                "the reason, where it is other; written: also the rest",
            ),
            Row("crn, caseId", DROPPED, "the referral says whom it is about"),
            Row("submission.submissionDate, submission.submissionNote", DROPPED, "of the referral answered"),
            Row("submission.createdBy, submission.createdAt", DROPPED, "of the referral answered"),
        ],
    ),
]
_DEFAULTS: Final = [
    ("person.name", f"`{dtr_record.NOT_RECORDED}`, use `temp`: HMPPS's own records have a CRN and no name"),
    ("concern.category", "`housing`, when the housing status is not said"),
    ("concern.code", "always `s213B`, duty to refer"),
    ("consent.status", "`not-recorded`, when the agreements are not said"),
    ("urgency", "`routine`"),
    ("immediateDanger", "`not-known`: not asked"),
    ("reasonText", f"`{dtr_record.NO_REASON}`, when it is declined without a reason"),
]

_WHERE: Final = {
    "status": "change",
    "agreements.referral": "consent.agreedTo",
    "agreements.contactDetails": "consent.agreedTo",
    "agreements.localAuthority": "consent.agreedTo",
    "submission.outcomeReason": "reasonCode, reasonText",
    "submission.outcomeNote": "note, reasonText",
}


class DutyToRefer:
    """Implements gateway.adapters.base.Adapter."""

    name = "duty-to-refer"
    media_types = (JSON,)
    page = Page(
        title="Duty to refer",
        introduction="""
A referral of somebody homeless or threatened with homelessness to the local authority they chose (Housing
Act 1996 section 213B), and the council's receipt and outcome. There is no national format. Names and codes
are those of HMPPS Single Accommodation Service wherever it has them (`crn`, `caseId`, `status`,
`submission`; its repositories, MIT); `person`, `agreements`, `circumstances`, `referringBody`, `decidedBy`
and what a note below calls ours are added, because its model does not say who the person is or what they
agreed to.

A referral needs three agreements: to the referral, to passing on contact details, and to the authority.
They are `true`, or left out where the system does not ask (a warning follows). **One that is false is
refused**, unless the referral is being withdrawn. A record with `submission` null was never submitted, and
is refused.

What is written but has no field is put in words into `otherInformation`, in a decision into `outcomeNote`.
A referral with no word of housing, and a decision that asks for more information, are not written in this
form. Names of authorities come from the list of GSS codes (MHCLG); a code that is not on it is kept.
""",
        tables=_TABLES,
        defaults=_DEFAULTS,
    )

    def to_canonical(self, native: Native) -> Canonical:
        """Read by `status`. Raises AdapterError."""
        document = strict_json.loads(native.body)
        if not isinstance(document, dict):
            raise AdapterError([Problem("", "an object")])
        found = dtr_record.read(document)
        return Canonical(found["type"], 1, found)

    def from_canonical(self, header: Header, message: Canonical, media_type: str) -> Native:
        """Write a referral or an outcome. Raises AdapterError for any other message."""
        del header, media_type
        return Native(JSON, json.dumps(dtr_record.write(message), ensure_ascii=False, indent=1).encode())


class DutyToReferCsv:
    """Implements gateway.adapters.base.Adapter: the same fields as one row, for import by hand."""

    name = "duty-to-refer-csv"
    media_types = (CSV,)
    page = Page(
        title="Duty to refer as CSV",
        introduction="""
The fields of [duty-to-refer](duty-to-refer.md) as one CSV row below a header row, for housing systems that
import tables (RFC 4180, UTF-8). Columns are the fields with underscores for capitals, without `submission`,
`person` and `circumstances` before them: `reference_number`, `date_of_birth`, `release_or_discharge_date`.
The rules and the codes are the same. Several values have a semicolon between them. A cell that a
spreadsheet would run as a formula is written with an apostrophe before it, which reading takes off. A
request that names this adapter may say `text/csv`.
""",
        tables=[
            (
                f"{kind.capitalize()}: columns",
                [
                    Row(name, rows[native].canonical if native in rows else _WHERE[native], f"`{native}`")
                    for name, native in dtr.columns(kind).items()
                ],
            )
            for kind, rows in (
                ("referral", {row.native: row for row in form_fields.rows(dtr.REFERRAL)}),
                ("decision", {row.native: row for row in form_fields.rows(dtr.DECISION)}),
            )
        ],
        defaults=_DEFAULTS,
    )

    def to_canonical(self, native: Native) -> Canonical:
        """Read one row by its `status`. Raises AdapterError, with pointers by the names of the JSON form."""
        row = csv_text.read(native.body)
        known = dtr.columns("decision") | dtr.columns("referral")
        nested: dict[str, Any] = {}
        for name, cell in row.items():
            path = known.get(name)
            if path:
                paths.put(nested, path, cell)
            else:
                nested[f"column {name}"] = cell
        found = dtr_record.read(nested)
        return Canonical(found["type"], 1, found)

    def from_canonical(self, header: Header, message: Canonical, media_type: str) -> Native:
        """Write one row. Raises AdapterError as the JSON form does."""
        del header
        written = dtr_record.write(message)
        columns = dtr.columns(message.type)
        cells = {name: paths.get(written, native) for name, native in columns.items()}
        return Native(media_type, csv_text.write(list(columns), cells, dtr.separators()))


ADAPTER = DutyToRefer()
CSV_ADAPTER = DutyToReferCsv()
