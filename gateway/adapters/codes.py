"""Ethnicity and sex in the lists of the NHS, the DfE and the police, and the canonical codes between them.

The lists are data (`data/ethnicity.json`, `data/sex.json`) with their sources. Where two lists cut the world
differently a code has no counterpart, and None says so: nobody's ethnicity is made up.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from gateway.adapters import lists

DFE: Final = "dfe"
NHS: Final = "nhs"
POLICE: Final = "police"
CIN: Final = "cin"


def ethnicity(list_name: str, code: str) -> str | None:
    """The canonical code (ONS Census 2021, 20b) of a code in one of the lists."""
    return _reading("ethnicity", list_name).get(code)


def ethnicity_code(list_name: str, canonical: str) -> str | None:
    """The code of one of the lists for a canonical code."""
    found = lists.load("ethnicity")["codes"].get(canonical, {}).get(list_name)
    return str(found[0]) if found else None


def ethnicity_name(list_name: str, code: str) -> str | None:
    """What a code of one of the lists means, in words; None when it is not in the list."""
    named: dict[str, str] = lists.load("ethnicity")["names"][list_name]
    return named.get(code)


def sex(list_name: str, code: str) -> str | None:
    """The canonical code (1, 2, 9, X) of a code in one of the lists."""
    return _reading("sex", list_name).get(code)


def sex_code(list_name: str, canonical: str) -> str | None:
    """The code of one of the lists for a canonical code."""
    found = lists.load("sex")["codes"].get(canonical, {}).get(list_name)
    return str(found[0]) if found else None


@cache
def _reading(name: str, list_name: str) -> dict[str, str]:
    rows: dict[str, Any] = lists.load(name)["codes"]
    return {code: canonical for canonical, row in rows.items() for code in row.get(list_name, ())}
