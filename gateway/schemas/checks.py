"""What is noticed in a valid document but stops nothing: nobody goes unreferred for a typing slip. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
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
    return list(islice(_slips(document, ()), MAX_PROBLEMS))


def _slips(value: Any, path: Path) -> Iterator[Problem]:
    if isinstance(value, list):
        for i, item in enumerate(value):
            yield from _slips(item, (*path, i))
    elif isinstance(value, Mapping):
        yield from _slips_of_object(value, path)
        for name, item in value.items():
            yield from _slips(item, (*path, name))
    elif isinstance(value, str) and _is_no_leap_day(value):
        yield Problem(pointer(path), "29 February in a year that has none")


def _slips_of_object(value: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    if "scheme" in value and (check := SCHEMES.get(value["scheme"])):
        fits, slip = check
        if not fits(value["value"]):
            yield Problem(pointer((*path, "value")), slip)
    for name, (fits, slip) in _FIELDS.items():
        if name in value and not fits(value[name]):
            yield Problem(pointer((*path, name)), slip)
    if path == ("consent",) and value["status"] == "not-recorded":
        yield Problem("/consent/status", "consent is not recorded: ask the referrer")


def _is_no_leap_day(text: str) -> bool:
    """Whether `text` is a date, or a date and time, on a 29 February that never was."""
    if text[4:10] != "-02-29" or not text[:4].isdecimal() or text[10:11] not in {"", "T"}:
        return False
    year = int(text[:4])
    return year % 4 != 0 or (year % 100 == 0 and year % 400 != 0)
