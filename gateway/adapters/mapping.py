"""What an adapter says about itself: one row for each native field, from which docs/adapters/ is generated.

An adapter may carry a `page`. Tests hold the canonical side of every row to the schemas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

DROPPED: Final = ""
"""The canonical side of a native field that is not carried; the note says why. The original still travels."""


@dataclass(frozen=True, slots=True)
class Row:
    """One native field and where it goes."""

    native: str
    """As the format's own specification writes it."""
    canonical: str
    """A path into the canonical document: `person.name[].family`; several with commas; or DROPPED."""
    note: str = ""
    """What is changed or defaulted on the way, or why it is dropped."""


@dataclass(frozen=True, slots=True)
class Page:
    """The mapping page of one adapter."""

    title: str
    introduction: str
    """Markdown: the format, its specification and version, what is read and what is written."""
    tables: Sequence[tuple[str, Sequence[Row]]]
    """A heading and its rows: `Read: referral`, `Written: decision`."""
    defaults: Sequence[tuple[str, str]] = ()
    """A canonical path, and what stands there when the format does not say, with the reason."""


def render(name: str, media_types: Sequence[str], page: Page) -> str:
    """The page as Markdown."""
    types = ", ".join(f"`{one}`" for one in media_types)
    parts = [
        f"# {page.title} (`{name}`)",
        f"<!-- generated from the adapter `{name}`: make docs -->",
        f"Media types {types}.",
        page.introduction.strip(),
    ]
    for heading, rows in page.tables:
        lines = [f"| {_cell(row.native)} | {_target(row)} | {row.note} |" for row in rows]
        parts.append(f"## {heading}")
        parts.append("\n".join(["| native | canonical | notes |", "|---|---|---|", *lines]))
    if page.defaults:
        lines = [f"| {_cell(path)} | {what} |" for path, what in page.defaults]
        parts.append("## Where the format does not say")
        parts.append("\n".join(["| canonical | what stands there |", "|---|---|", *lines]))
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return ", ".join(f"`{one.strip()}`" for one in text.split(","))


def _target(row: Row) -> str:
    return _cell(row.canonical) if row.canonical else "not carried"
