"""What all form platforms share: answers to questions, and a map that says what each question means.

A map is data (`data/forms/*.json`): the names of the forms it is for, and a row for each question. An answer
that no row takes is not lost: it goes into the note, as `question: answer`, in the order of the form. A form
without a map is read that way altogether.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, Final

from gateway.adapters import table
from gateway.adapters.base import AdapterError
from gateway.adapters.mapping import Row
from gateway.adapters.table import DAY, FLAG, MOMENT, TEXT, YES_NO, Field, Kind, Table, codes
from gateway.messages import Canonical, Header, Problem

MAX_ANSWERS: Final = 2_000
DECISION_FORM: Final = "Decision on a referral"
REST: Final = "rest"
"""The question under which all that a form has no question for is written, a line each."""
_KINDS: Final[Mapping[str, Kind]] = {
    "text": TEXT,
    "day": DAY,
    "moment": MOMENT,
    "yes-no": YES_NO,
    "flag": FLAG,
}
_NARRATIVE: Final = "concern.narrative"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered question."""

    question: str
    """The question's identifier or key."""
    label: str = field(repr=False)
    """The question as it was asked."""
    text: str = field(repr=False)
    parts: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Of a question with several fields: `first_name`, `postcode`."""


@dataclass(frozen=True, slots=True)
class FormMap:
    """What the questions of one form mean."""

    name: str
    type: str
    """The message type."""
    forms: frozenset[str]
    """Names of the forms, lower case; the first of `titles` is written."""
    titles: tuple[str, ...]
    purposes: frozenset[str]
    """Written for messages shared for one of these purposes; empty: for any."""
    rows: tuple[Field, ...]
    labels: Mapping[str, str]
    """Question -> as it is asked, for writing."""

    @property
    def table(self) -> Table:
        """The rows, as both directions use them."""
        return Table(self.rows)


def parse_map(document: Mapping[str, Any]) -> FormMap:
    """A map from its JSON (docs/adapters.md). Raises ValueError for a row that cannot be understood."""
    rows: list[Field] = []
    labels: dict[str, str] = {}
    for row in document["rows"]:
        question = row["question"]
        labels.setdefault(question, row["label"])
        native = f"{question}.{row['part']}" if "part" in row else f"{question}.text"
        kind = codes(row["values"]) if "values" in row else _KINDS[row.get("kind", "text")]
        rows.append(Field(native, row["canonical"], kind, row.get("note", "")))
    titles = tuple(document["forms"])
    return FormMap(
        document["name"],
        document["type"],
        frozenset(title.lower() for title in titles),
        titles,
        frozenset(document.get("purposes", ())),
        tuple(rows),
        labels,
    )


@cache
def shipped() -> tuple[FormMap, ...]:
    """The maps that come with the node."""
    folder = resources.files("gateway.adapters") / "data" / "forms"
    files = sorted((one for one in folder.iterdir() if one.name.endswith(".json")), key=lambda one: one.name)
    return tuple(parse_map(json.loads(one.read_bytes())) for one in files)


def read(
    form: str, answers: Sequence[Answer], maps: Sequence[FormMap], extra: Mapping[str, Any]
) -> Canonical:
    """A message of a form's answers. `extra` has canonical fields that the platform itself knows.

    Raises AdapterError for more than MAX_ANSWERS, or a form in which nothing is answered.
    """
    if len(answers) > MAX_ANSWERS:
        raise AdapterError([Problem("", f"at most {MAX_ANSWERS} answers")])
    if not any(answer.text for answer in answers):
        raise AdapterError([Problem("", "at least one answer")])
    chosen = next((one for one in maps if form.strip().lower() in one.forms), None)
    rows = chosen.rows if chosen else ()
    native = {answer.question: {"text": answer.text, **answer.parts} for answer in answers}
    document = Table(rows).read(native)
    taken = {row.native.partition(".")[0] for row in rows if _was_read(row, native)}
    rest = "\n".join(
        f"{answer.label}: {answer.text}" for answer in answers if answer.text and answer.question not in taken
    )
    if chosen is not None and chosen.type == table.DECISION:
        _append(document, rest, "note")
        return table.decision(document)
    for path, value in extra.items():
        if value is not None and table.get(document, path) is None:
            table.put(document, path, value)
    # Without a narrative, what no row took is all that the form says.
    _append(document, rest, "note" if table.get(document, _NARRATIVE) else _NARRATIVE)
    return table.referral(document)


def _was_read(row: Field, native: Mapping[str, Any]) -> bool:
    return row.kind.read(table.get(native, row.native)) is not None


def _append(document: dict[str, Any], rest: str, path: str) -> None:
    if rest:
        before = table.get(document, path)
        table.put(document, path, f"{before}\n{rest}" if before else rest)


def write(header: Header, message: Canonical, maps: Sequence[FormMap]) -> tuple[str, list[Answer]]:
    """The form's name and its answers. Raises AdapterError when no map writes this type of message."""
    fitting = [one for one in maps if one.type == message.type]
    chosen = next(
        (one for one in fitting if header.purpose in one.purposes),
        next((one for one in fitting if not one.purposes), None),
    )
    if chosen is None:
        raise AdapterError([Problem("/type", "no form map writes this type")])
    native = chosen.table.write(message.document)
    answers = [
        Answer(question, label, _joined(found), {k: v for k, v in found.items() if k != "text"})
        for question, label in chosen.labels.items()
        if (found := native.get(question))
    ]
    if rest := chosen.table.rest(message.document):
        answers.append(Answer(REST, "What else does the referral say?", "\n".join(rest)))
    return chosen.titles[0], answers


def _joined(found: Mapping[str, Any]) -> str:
    text = found.get("text")
    return str(text) if text is not None else " ".join(str(part) for part in found.values())


def text_of(value: Any) -> str:
    """An answer as text: several are put below each other."""
    if isinstance(value, list):
        return "\n".join(filter(None, map(text_of, value)))
    if isinstance(value, bool):
        return "Yes" if value else "No"
    return str(value).strip() if isinstance(value, str | int | float) else ""


def page_tables(maps: Sequence[FormMap]) -> Iterator[tuple[str, Sequence[Row]]]:
    """The maps as an adapter's page shows them."""
    for one in maps:
        yield f"Form `{one.titles[0]}` ({one.type})", one.table.page_rows()
