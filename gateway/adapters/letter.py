"""The adapter for people without a system: a message as a letter, one HTML page to read and print.

What may live here: the page. Everything the canonical document says is in it, in its own order; nothing of it
is loaded from elsewhere, and nothing in it can run: all text is escaped, and the page forbids scripts.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from gateway.adapters import words
from gateway.adapters.base import AdapterError, Native
from gateway.adapters.mapping import Page, Row
from gateway.messages import Canonical, Header, Problem

MEDIA_TYPE = "text/html"

_TITLES: Final = {"referral": "Referral", "decision": "Decision on a referral"}
_FIRST: Final = "About this message"
_SKIPPED: Final = ("type", "version")
"""The title says the first; the second is of no use to a reader."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""HTML allows none of these (HTML Living Standard section 13.2.3.5); a carriage return is written as one."""
_STYLE: Final = """
body { font: 11pt/1.45 Arial, Helvetica, sans-serif; color: #0b0c0c; max-width: 48em; margin: 2em auto; }
h1 { font-size: 18pt; margin-bottom: 0.2em; }
h2 { font-size: 13pt; margin: 1.4em 0 0.3em; border-bottom: 2px solid #0b0c0c; break-after: avoid; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: 0.3em 0.6em 0.3em 0; }
th, td { border-bottom: 1px solid #b1b4b6; }
th { width: 34%; font-weight: bold; }
td { white-space: pre-wrap; overflow-wrap: anywhere; }
tr { break-inside: avoid; }
.mark { font-weight: bold; }
.alert { border: 3px solid #b00020; padding: 0.6em; font-weight: bold; }
footer { margin-top: 2em; font-size: 9pt; }
@page { size: A4; margin: 18mm; }
@media print { body { margin: 0; max-width: none; } }
""".strip()


class Letter:
    """Implements gateway.adapters.base.Adapter. It only writes."""

    name = "letter"
    media_types = (MEDIA_TYPE,)
    page = Page(
        title="A letter to read and print",
        introduction="""
One HTML page (HTML Living Standard), for any agency that has no system to connect: open it in a browser and
print it. The page stands alone: no image, script, font or link to anything, and its own content security
policy forbids them. Every text is escaped. **It only writes**, a `referral` or a `decision`; a letter that
is sent in is refused: `this format is only written`.

Every field that the message has is in the letter, with its name in words. At the top it says when somebody
is in danger or the referral urgent, who must not learn of it, and that contact details are not safe to use.
""",
        tables=[
            (
                "Written",
                [
                    Row(
                        "heading", "type", "with the agencies from the signed header, and when it was written"
                    ),
                    Row(
                        "notices at the top",
                        "immediateDanger, urgency, consent.doNotInform",
                        "and unsafe contact details",
                    ),
                    Row(_FIRST, "reference, writtenAt, change, note", "and all else that is one value"),
                    Row(
                        "a section each", "person, concern, consent, involved, referrer, request, additional"
                    ),
                    Row(
                        "a section of its own, in a decision", "decidedBy, nextStep, signpostedTo, questions"
                    ),
                    Row("Attachments", "attachments", "their names; the files come beside the letter"),
                ],
            )
        ],
    )

    def to_canonical(self, native: Native) -> NoReturn:
        """Refuse: a letter is for people."""
        del native
        raise AdapterError([Problem("", "this format is only written")])

    def from_canonical(self, header: Header, message: Canonical, media_type: str) -> Native:
        """The letter. Raises AdapterError for a type of message it has no title for."""
        del media_type
        if message.type not in _TITLES:
            raise AdapterError([Problem("/type", f"one of: {', '.join(_TITLES)}")])
        return Native(MEDIA_TYPE, _page(header, message).encode())


def _page(header: Header, message: Canonical) -> str:
    title = _TITLES[message.type]
    written = datetime.fromtimestamp(header.created / 1000, UTC).strftime("%d %B %Y, %H:%M UTC").lstrip("0")
    policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'"
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en-GB">',
            '<head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="referrer" content="no-referrer">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>{title}</title>",
            f"<style>{_STYLE}</style></head>",
            f"<body><h1>{title}</h1>",
            '<p class="mark">Confidential: personal information. Share only with those who need it.</p>',
            f"<p>From {_text(header.sender)} to {_text(header.recipient)}, {written}</p>",
            *_notices(message.document),
            *_sections(message.document),
            f"<footer>Message {_text(header.message_id)}, case {_text(header.case)}</footer>",
            "</body></html>",
            "",
        ]
    )


def _notices(document: Mapping[str, Any]) -> Iterator[str]:
    if document.get("immediateDanger") == "yes":
        yield '<p class="alert">Somebody is in danger now. A letter is no substitute for a 999 call.</p>'
    if silent := document.get("consent", {}).get("doNotInform"):
        yield f'<p class="alert">Must not learn of this referral: {_text(silent)}</p>'
    if _has_unsafe(document):
        yield '<p class="alert">Some contact details here are not safe to use: see "Safe to use".</p>'
    if document.get("urgency") in {"urgent", "emergency"}:
        yield f'<p class="alert">Urgency: {_text(words.in_words("urgency", document["urgency"]))}</p>'


def _has_unsafe(value: Any) -> bool:
    if isinstance(value, Mapping):
        return value.get("safeToUse") is False or any(map(_has_unsafe, value.values()))
    return isinstance(value, list) and any(map(_has_unsafe, value))


def _sections(document: Mapping[str, Any]) -> Iterator[str]:
    """A table of the single values, then one for each object and list."""
    shown = {name: value for name, value in document.items() if name not in _SKIPPED}
    single = {name: value for name, value in shown.items() if not isinstance(value, (Mapping, list))}
    if single:
        yield from _table(_FIRST, words.entries(single))
    for name, value in shown.items():
        if name not in single and value:
            label = words.label_of(name)
            found = words.entries({name: value}, (), "")
            yield from _table(label, ((labels[1:] or labels, text) for labels, text in found))


def _table(heading: str, rows: Any) -> Iterator[str]:
    yield f"<h2>{_text(heading)}</h2><table>"
    for labels, text in rows:
        yield f'<tr><th scope="row">{_text(", ".join(labels))}</th><td dir="auto">{_text(text)}</td></tr>'
    yield "</table>"


def _text(text: str) -> str:
    """`text` as HTML text or attribute value."""
    return html.escape(_CONTROL.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n")))


ADAPTER = Letter()
