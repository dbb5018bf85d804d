"""A referral or decision as plain text for a force's inbox, under the headings of the national Prevent form.

Written only: nobody's text is read back. Whatever has no heading of its own stands at the end, so that the
text holds all that the message says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.adapters import table
from gateway.adapters.base import AdapterError, Native
from gateway.adapters.mapping import Page, Row
from gateway.messages import Canonical, Header, Problem

MEDIA_TYPE: Final = "text/plain"
SECTIONS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("INDIVIDUAL", ("person",)),
    ("DESCRIBE THE CONCERN", ("concern", "urgency", "immediateDanger", "immediateDangerDetail")),
    ("SAFETY OF OFFICERS AND WORKERS", ("riskToProfessionals",)),
    ("OTHER INFORMATION AND AGENCIES", ("involved", "additional")),
    ("CONSENT, AND WHO KNOWS", ("consent",)),
    ("WHAT IS ASKED FOR", ("request",)),
    ("PERSON MAKING THE REFERRAL", ("referrer",)),
    ("DATES AND REFERENCES", ("reference", "otherReferences", "writtenAt", "change", "previousReference")),
)
"""Heading -> the canonical fields below it, after section 10 of what forces and councils publish of the form."""


class PreventForm:
    """The `prevent-form` adapter."""

    name = "prevent-form"
    media_types = (MEDIA_TYPE,)
    page = Page(
        "Prevent referral as plain text",
        "For a force that receives by mail or prints: UTF-8 text under the headings of the national form. It is written "
        "only. Every field of the message appears once, under its heading or at the end; line breaks inside a value "
        "are indented, so that no value can look like a heading.",
        [
            (
                "Written: referral, and decision under the heading DECISION",
                [Row(heading, ", ".join(fields)) for heading, fields in SECTIONS],
            )
        ],
    )

    def to_canonical(self, native: Native) -> Canonical:
        """See Adapter."""
        del native
        raise AdapterError([Problem("", "this format is only written")])

    def from_canonical(self, header: Header, message: Canonical, media_type: str) -> Native:
        """See Adapter."""
        if message.type not in {table.REFERRAL, table.DECISION}:
            raise AdapterError([Problem("/type", "a referral or a decision")])
        left = {name: value for name, value in message.document.items() if name not in {"type", "version"}}
        title = "REFERRAL" if message.type == table.REFERRAL else "DECISION ON A REFERRAL"
        lines = [f"{title}    OFFICIAL-SENSITIVE", ""]
        lines += [f"  From      {header.sender}", f"  To        {header.recipient}"]
        lines += [f"  Sent      {table.moment_of(header.created)}", f"  Purpose   {header.purpose}"]
        lines += [f"  Message   {header.message_id}", f"  Case      {header.case}"]
        for heading, fields in SECTIONS if message.type == table.REFERRAL else ():
            found = {name: left.pop(name) for name in fields if name in left}
            lines += _section(heading, found)
        lines += _section("ANYTHING ELSE" if message.type == table.REFERRAL else "DECISION", left)
        return Native(media_type, ("\n".join(lines) + "\n").encode())


def _section(heading: str, found: Mapping[str, Any]) -> list[str]:
    lines = list(_lines(found, 1))
    return ["", heading, *lines] if lines else []


def _lines(value: Any, depth: int, label: str = "") -> Iterator[str]:
    indent = "  " * depth
    if isinstance(value, Mapping):
        if label:
            yield f"{indent}{label}:"
        for name, inner in value.items():
            yield from _lines(inner, depth + bool(label), words(name))
    elif isinstance(value, list):
        for number, inner in enumerate(value, start=1):
            numbered = f"{label} {number}" if len(value) > 1 else label
            yield from _lines(inner, depth, numbered)
    else:
        text = "yes" if value is True else "no" if value is False else str(value)
        first, *more = text.splitlines() or [""]
        yield f"{indent}{label}: {first}"
        yield from (f"{indent}    {line}" for line in more)


def words(name: str) -> str:
    """A field's name as words: `dateOfBirth` is `Date of birth`."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return spaced[:1].upper() + spaced[1:].lower() if not name.isupper() else name


ADAPTER: Final = PreventForm()
