"""CSV as RFC 4180 has it: a header and one row, read strictly, written safe to open in a spreadsheet.

What may live here: cells and names of columns. What they mean is for the adapters that use it.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.adapters import words
from gateway.adapters.base import AdapterError
from gateway.messages import Problem

MAX_COLUMNS: Final = 500
MAX_BLANK_ROWS: Final = 10_000
"""Spreadsheets leave some at the end; to read millions would hold up everybody else."""
_CELL = re.compile(r'(?:"((?:[^"]++|"")*+)"|([^"\r\n,]*+))(,|\r\n|\r|\n|\Z)')
"""A cell and what ends it (RFC 4180 section 2). It never goes back over a character."""
_FORMULA = re.compile(r"'*[=+\-@\t\r\n|%\uff1d\uff0b\uff0d\uff20]")
"""The start of a cell that spreadsheets take for a formula, after any apostrophes (OWASP, CSV Injection)."""


def read(body: bytes) -> dict[str, str]:
    """The cells of the one row by column: names in lower case with underscores, blank cells left out.

    UTF-8, with or without a byte order mark. Cells in quotation marks may hold commas and line ends. An
    apostrophe that `write` put before a formula is taken off. Raises AdapterError (malformed) for bytes that
    are no CSV, and AdapterError for a row too few or too many.
    """
    rows = _rows(body)
    if not rows:
        raise AdapterError([Problem("", "a header row")])
    header = [_column(name) for name in rows[0]]
    named = [name for name in header if name]
    if len(set(named)) != len(named):
        raise AdapterError([Problem("", "each column once")])
    if len(rows) != 2:
        raise AdapterError([Problem("", "one row below the header: one message each")])
    cells = rows[1]
    if len(cells) > len(header) or any(
        words.stripped(cell) and not header[i] for i, cell in enumerate(cells)
    ):
        raise AdapterError([Problem("", "no more cells in the row than there are named columns")])
    return {name: _plain(cell) for name, cell in zip(header, cells, strict=False) if words.stripped(cell)}


def _rows(body: bytes) -> list[list[str]]:
    """The rows that say anything: three at most, which is one too many."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = None
    # Raised out here, so that it does not carry the decoder's own error, which holds the document.
    if text is None:
        raise AdapterError([Problem("", "UTF-8 encoding")], malformed=True)
    rows: list[list[str]] = []
    row: list[str] = []
    at = blank = 0
    while at <= len(text) and len(rows) <= 2:  # the header and two messages
        cell = _CELL.match(text, at)
        if cell is None:
            raise AdapterError(
                [Problem("", "CSV as RFC 4180 has it: see the quotation marks")], malformed=True
            )
        quoted, plain, end = cell.groups()
        row.append(quoted.replace('""', '"') if quoted is not None else plain)
        at = cell.end() + (not end)
        if len(row) > MAX_COLUMNS:
            raise AdapterError([Problem("", f"at most {MAX_COLUMNS} columns")])
        if end != ",":
            if any(words.stripped(part) for part in row):
                rows.append(row)
            elif (blank := blank + 1) > MAX_BLANK_ROWS:
                raise AdapterError([Problem("", f"at most {MAX_BLANK_ROWS} blank rows")])
            row = []
    return rows


def _column(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.strip().casefold())


def _plain(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def write(columns: Sequence[str], cells: Mapping[str, Any], separators: Mapping[str, str]) -> bytes:
    """A header row of every column and one row of cells. Lists are joined by their column's separator.

    A cell that a spreadsheet would take for a formula gets an apostrophe before it, which `read` takes off.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerow([_safe(_cell(cells.get(name), separators.get(name, "; "))) for name in columns])
    return out.getvalue().encode()


def _cell(value: Any, separator: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return separator.join(_cell(item, separator) for item in value)
    return str(value)


def _safe(cell: str) -> str:
    if not words.stripped(cell):
        return ""
    return f"'{cell}" if _FORMULA.match(cell) else cell
