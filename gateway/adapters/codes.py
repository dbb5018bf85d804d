"""Published code lists for ethnicity and sex or gender, into the canonical codes and back.

What may live here: lookups in `data/ethnicity.json` and `data/sex.json`, which name their sources. The lists:

- ethnicity: `dfe` (main and extended census codes), `nhs` (ETHNIC CATEGORY, 16+1), `police` (self-defined
  ethnicity 16+1, with the later W3, A4 and O2; with or without the prefix ESDD_);
- sex or gender: `dfe` (M, F, U), `cin` (children in need census: 0, 1, 2, 9), `nhs` (1, 2, 9, X), `fhir`.

A code that is in no list, or says less than one canonical code does (refused, not known), gives None: then
keep it as a `coded` value (`ethnicity_coded`). A list that is not named above raises KeyError.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any, Final


def data(name: str) -> Any:
    """The packaged data file `data/NAME.json`."""
    return json.loads((resources.files("gateway.adapters") / "data" / f"{name}.json").read_bytes())


class _List:
    """One published list: its codes, what they stand for, and what is written for each canonical code."""

    def __init__(self, listed: dict[str, Any]) -> None:
        self.system: str = listed["system"]
        self.written: dict[str, str] = listed["write"]
        self._prefix: str = listed.get("prefix", "").casefold()
        self._codes: dict[str, dict[str, str]] = {
            code.casefold(): entry for code, entry in listed["codes"].items()
        }

    def entry(self, code: str) -> dict[str, str]:
        return self._codes.get(code.strip().casefold().removeprefix(self._prefix), {})


_ethnicity, _sex = data("ethnicity"), data("sex")
_ETHNICITY: Final = {name: _List(listed) for name, listed in _ethnicity["lists"].items()}
_ETHNICITY_NAMES: Final[dict[str, str]] = _ethnicity["names"]
_SEX: Final = {name: _List(listed) for name, listed in _sex["lists"].items()}
_SEX_NAMES: Final[dict[str, str]] = _sex["names"]


def ethnicity(list_name: str, code: str) -> str | None:
    """The canonical ethnicityCode (ONS Census 2021, 20b) that a code of the list stands for, or None."""
    return _ETHNICITY[list_name].entry(code).get("canonical")


def ethnicity_code(list_name: str, canonical: str) -> str | None:
    """The code of the list to write for an ethnicityCode, or None: -8, or a group that two codes share.

    The older lists have no group for Arab, Roma or Gypsy; then it is the "other" group these belong to.
    """
    return _ETHNICITY[list_name].written.get(canonical)


def ethnicity_coded(list_name: str, code: str) -> dict[str, str]:
    """The canonical `ethnicity`: the code as the sender wrote it, with its list and, if listed, its meaning.

    `code` is not blank.
    """
    found = _ETHNICITY[list_name]
    display = found.entry(code).get("display")
    return {"system": found.system, "code": code.strip()} | ({"display": display} if display else {})


def sex(list_name: str, code: str) -> str | None:
    """The canonical sexCode or genderCode (1, 2, 9, X) that a code of the list stands for, or None."""
    return _SEX[list_name].entry(code).get("canonical")


def sex_code(list_name: str, canonical: str) -> str | None:
    """The code of the list to write for a sexCode or genderCode, or None: `dfe` has nothing for 9."""
    return _SEX[list_name].written.get(canonical)


def ethnicity_name(canonical: str) -> str | None:
    """What an ethnicityCode means, in words, or None."""
    return _ETHNICITY_NAMES.get(canonical)


def sex_name(canonical: str) -> str | None:
    """What a sexCode or genderCode means, in words, or None."""
    return _SEX_NAMES.get(canonical)
