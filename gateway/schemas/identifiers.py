"""Check digits and shapes of the numbers that agencies know people and places by. Pure functions.

Each takes the identifier as text and says whether it can be right. Letter case and the spaces and hyphens
that people write inside a number do not matter. None of them says that the number was ever issued. A failure
is a warning and never a refusal: NHS England's and the DfE's own examples fail theirs.
"""

from __future__ import annotations

import re

_UPN_LETTERS = "ABCDEFGHJKLMNPQRTUVWXYZ"
"""23 letters, without I, O and S (DfE, Unique pupil numbers: guidance)."""
_PNC_LETTERS = "ZABCDEFGHJKLMNPQRTUVWXY"
"""The same letters, counted from Z as zero: PNC id and CRO number."""


def nhs_number(value: str) -> bool:
    """Ten digits, the last a check digit modulo 11 (NHS Data Dictionary)."""
    digits = _compact(value)
    if not re.fullmatch("[0-9]{10}", digits):
        return False
    check = 11 - sum(int(digit) * (10 - i) for i, digit in enumerate(digits[:9])) % 11
    return check % 11 == int(digits[9])  # 11 counts as 0; 10 has no digit and never matches


def upn(value: str) -> bool:
    """A check letter and twelve digits; the last may be a letter in a temporary number (DfE)."""
    text = _compact(value)
    if not re.fullmatch(f"[{_UPN_LETTERS}][0-9]{{11}}[0-9{_UPN_LETTERS}]", text):
        return False
    values = [int(digit) for digit in text[1:12]]
    values.append(int(text[12]) if text[12].isdigit() else _UPN_LETTERS.index(text[12]))
    return _UPN_LETTERS[sum(i * digit for i, digit in enumerate(values, start=2)) % 23] == text[0]


def uln(value: str) -> bool:
    """Ten digits, the last a check digit modulo 11 (Learning Records Service)."""
    digits = _compact(value)
    if not re.fullmatch("[1-9][0-9]{9}", digits):
        return False
    remainder = sum(int(digit) * (10 - i) for i, digit in enumerate(digits[:9])) % 11
    return remainder != 0 and 10 - remainder == int(digits[9])


def pnc_id(value: str) -> bool:
    """Year, up to seven digits and a check letter: 2002/0073319Z (Police National Computer)."""
    match = re.fullmatch("(?:[0-9]{2})?([0-9]{2})/([0-9]{1,7})([A-Z])", _compact(value))
    if match is None:
        return False
    year, serial, letter = match.groups()
    return _PNC_LETTERS[int(year + serial.zfill(7)) % 23] == letter


def cro_number(value: str) -> bool:
    """Serial, year and check letter: 265416/21G; of a search file SF05/482703J (Criminal Records Office)."""
    text = _compact(value)
    if match := re.fullmatch("([0-9]{1,6})/([0-9]{2})([A-Z])", text):
        serial, year, letter = match.groups()
        serial = serial.zfill(6)
    elif match := re.fullmatch("SF([0-9]{2})/([0-9]{1,6})([A-Z])", text):
        year, serial, letter = match.groups()
    else:
        return False
    return _PNC_LETTERS[int(year + serial) % 23] == letter


def nino(value: str) -> bool:
    """Two letters, six digits, A to D (HMRC NIM39110). It has no check digit."""
    pattern = "(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z][0-9]{6}[A-D]"
    return re.fullmatch(pattern, _compact(value)) is not None


def uprn(value: str) -> bool:
    """1 to 12 digits. It has no public check digit."""
    return re.fullmatch("[0-9]{1,12}", _compact(value)) is not None


def usrn(value: str) -> bool:
    """1 to 8 digits."""
    return re.fullmatch("[0-9]{1,8}", _compact(value)) is not None


def crn(value: str) -> bool:
    """A letter and six digits (probation case reference)."""
    return re.fullmatch("[A-Z][0-9]{6}", _compact(value)) is not None


def ods_code(value: str) -> bool:
    """3 to 10 letters and digits (NHS Organisation Data Service)."""
    return re.fullmatch("[A-Z0-9]{3,10}", _compact(value)) is not None


def school_urn(value: str) -> bool:
    """5 or 6 digits (DfE, Get information about schools)."""
    return re.fullmatch("[0-9]{5,6}", _compact(value)) is not None


def laestab(value: str) -> bool:
    """Local authority and establishment: 3802093 or 380/2093."""
    return re.fullmatch("[0-9]{3}/?[0-9]{4}", _compact(value)) is not None


def ukprn(value: str) -> bool:
    """Eight digits, the first 1 (UK Register of Learning Providers)."""
    return re.fullmatch("1[0-9]{7}", _compact(value)) is not None


def gss_code(value: str) -> bool:
    """The ONS code of a local authority: E09000012."""
    return re.fullmatch("(?:E0[6-9]|E10|W06|S12|N09)[0-9]{6}", _compact(value)) is not None


def postcode(value: str) -> bool:
    """The shape of a UK postcode, with or without its space."""
    return re.fullmatch("(?:GIR0AA|[A-Z]{1,2}[0-9][0-9A-Z]?[0-9][A-Z]{2})", _compact(value)) is not None


def _compact(value: str) -> str:
    return re.sub("[ -]", "", value).upper()
