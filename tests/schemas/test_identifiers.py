"""Values from public test lists; shared/notes/formats.md section 6 names their sources."""

from __future__ import annotations

import pytest

from gateway.schemas import identifiers

RIGHT = {
    identifiers.nhs_number: [
        "9434765919", "9000000009", "9912003888", "9476719931", "9449305552", "9658218881", "9462979626",
        "943 476 5919", "943-476-5919",
    ],
    identifiers.upn: ["B801200005001", "H801200001001", "h801200001001"],
    identifiers.uln: ["1000000027", "1000000043", "1000000108"],
    identifiers.pnc_id: [
        "1979/0163001B", "1967/9893091D", "2002/0073319Z", "2000/0000223R", "1981/0000034U", "2003/0000003Y",
        "2003/3Y", "02/0073319Z",
    ],
    identifiers.cro_number: ["265416/21G", "SF05/482703J"],
    identifiers.nino: ["AB123456C", "AB 12 34 56 C"],
    identifiers.uprn: ["1", "100012345678"],
    identifiers.usrn: ["1", "12345678"],
    identifiers.crn: ["S511935"],
    identifiers.ods_code: ["X26", "RY6", "A81001"],
    identifiers.school_urn: ["107258", "149001", "10725"],
    identifiers.laestab: ["3802093", "380/2093"],
    identifiers.ukprn: ["10000001"],
    identifiers.gss_code: ["E09000012", "W06000015"],
    identifiers.postcode: ["M1 1AE", "B33 8TH", "CR2 6XH", "DN55 1PT", "W1A 0AX", "EC1A1BB", "gir 0aa"],
}  # fmt: skip

WRONG = {
    identifiers.nhs_number: [
        "3478526985",
        "7778521234",
        "1234567890",
        "943476591",
        "94347659190",
        "943476591x",
        "",
    ],
    identifiers.upn: ["A123456789123", "X98765432123B", "Q207000016049", "I801200005001", "B80120000500", ""],
    identifiers.uln: ["1000000028", "0000000000", "9999999999", "100000002", ""],
    identifiers.pnc_id: ["1980/0163001B", "2001/0171310S", "2012/0052494O", "1979/0163001", "0163001B", ""],
    identifiers.cro_number: ["265416/21H", "SF05/482703K", "2654167/21G", "265416-21G", ""],
    identifiers.nino: ["CD789012D", "EF345678E", "BG123456A", "AB123456", ""],
    identifiers.uprn: ["1000123456789", "12a", ""],
    identifiers.usrn: ["123456789", ""],
    identifiers.crn: ["511935S", "S51193", ""],
    identifiers.ods_code: ["X2", "A8100100000", "A81.01", ""],
    identifiers.school_urn: ["1072", "1072589", ""],
    identifiers.laestab: ["380209", "38/02093", ""],
    identifiers.ukprn: ["20000001", "1000001", ""],
    identifiers.gss_code: ["E05000012", "E0900001", ""],
    identifiers.postcode: ["NORTHTOWN", "M1 1A", "1M 1AE", "M1  1AEE", ""],
}


def cases(table):
    pairs = [(check, value) for check, values in table.items() for value in values]
    return [pytest.param(check, value, id=f"{check.__name__} {value}") for check, value in pairs]


@pytest.mark.parametrize(("check", "value"), cases(RIGHT))
def test_right(check, value):
    assert check(value)


@pytest.mark.parametrize(("check", "value"), cases(WRONG))
def test_wrong(check, value):
    assert not check(value)


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (identifiers.nhs_number, "9434765919"),
        (identifiers.upn, "B801200005001"),
        (identifiers.uln, "1000000027"),
        (identifiers.pnc_id, "1979/0163001B"),
        (identifiers.cro_number, "265416/21G"),
    ],
)
def test_a_slip_in_any_one_digit_is_noticed(check, value):
    for i, digit in enumerate(value):
        if digit.isdigit() and not (check is identifiers.pnc_id and i < 2):  # the century is not in the sum
            other = value[:i] + str((int(digit) + 1) % 10) + value[i + 1 :]
            assert not check(other)


def test_a_temporary_pupil_number_ends_with_a_letter_that_counts():
    letters = "ABCDEFGHJKLMNPQRTUVWXYZ"
    fitting = [first for first in letters if identifiers.upn(f"{first}80120000500B")]
    assert len(fitting) == 1


def test_digits_of_other_scripts_are_no_digits():
    assert not identifiers.nhs_number("\uff19434765919")
    assert not identifiers.uprn("\u0661\u0662\u0663")
