"""What is noticed in a valid document but stops nothing: nobody goes unreferred for a typing slip. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gateway.messages import Problem
from gateway.schemas import identifiers
from gateway.schemas.rules import MAX_PROBLEMS, pointer

_DIGIT = "the check digit does not fit"
_LETTER = "the check letter does not fit"
_SHAPE = "not the usual form of this identifier"

SCHEMES: Mapping[str, tuple[Callable[[str], bool], str]] = {
    "nhs-number": (identifiers.nhs_number, _DIGIT),
    "upn": (identifiers.upn, _LETTER),
    "former-upn": (identifiers.upn, _LETTER),
    "uln": (identifiers.uln, _DIGIT),
    "pnc-id": (identifiers.pnc_id, _LETTER),
    "cro-number": (identifiers.cro_number, _LETTER),
    "nino": (identifiers.nino, _SHAPE),
    "uprn": (identifiers.uprn, _SHAPE),
    "crn": (identifiers.crn, _SHAPE),
    "ods-code": (identifiers.ods_code, _SHAPE),
    "school-urn": (identifiers.school_urn, _SHAPE),
    "laestab": (identifiers.laestab, _SHAPE),
    "ukprn": (identifiers.ukprn, _SHAPE),
    "gss-code": (identifiers.gss_code, _SHAPE),
}
"""Identifier schemes that can be checked, with what to say of one that fails."""

_FIELDS: Mapping[str, tuple[Callable[[str], bool], str]] = {
    "postcode": (identifiers.postcode, "not the form of a UK postcode"),
    "UPRN": (identifiers.uprn, _SHAPE),
    "USRN": (identifiers.usrn, _SHAPE),
}

Path = tuple[str | int, ...]


def warnings(type: str, version: int, document: Mapping[str, Any]) -> list[Problem]:  # noqa: A002
    """Up to MAX_PROBLEMS things that look like slips in a document that `validate` found nothing wrong with.

    They travel with the message and show in the answer.
    """
    del type, version  # the shared parts look the same in every type so far
    found: list[Problem] = []
    _look(document, (), found)
    return found[:MAX_PROBLEMS]


def _look(value: Any, path: Path, found: list[Problem]) -> None:
    """On the hot path of every message: plain recursion over what a JSON reader makes, and no more."""
    if isinstance(value, str):
        if value[4:10] == "-02-29" and _is_no_leap_day(value):
            found.append(Problem(pointer(path), "29 February in a year that has none"))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _look(item, (*path, i), found)
    elif isinstance(value, dict):
        _look_at_object(value, path, found)
        for name, item in value.items():
            _look(item, (*path, name), found)


def _look_at_object(value: Mapping[str, Any], path: Path, found: list[Problem]) -> None:
    if "scheme" in value and (check := SCHEMES.get(value["scheme"])):
        fits, slip = check
        if not fits(value["value"]):
            found.append(Problem(pointer((*path, "value")), slip))
    for name, (fits, slip) in _FIELDS.items():
        if name in value and not fits(value[name]):
            found.append(Problem(pointer((*path, name)), slip))
    if path == ("consent",) and value["status"] == "not-recorded":
        found.append(Problem("/consent/status", "consent is not recorded: ask the referrer"))


def _is_no_leap_day(text: str) -> bool:
    """Whether `text` is a date, or a date and time, on a 29 February that never was."""
    if text[4:10] != "-02-29" or not text[:4].isdecimal() or text[10:11] not in {"", "T"}:
        return False
    year = int(text[:4])
    return year % 4 != 0 or (year % 100 == 0 and year % 400 != 0)
