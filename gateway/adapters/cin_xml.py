"""Children in need census XML (DfE, statutory return): one child and its last referral, both ways.

Pseudonymous: it has no name and no address. `GenderCurrent` (to 2024) and `Sex` (from 2025) are both read.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from gateway.adapters import codes, table, xml_tree
from gateway.adapters.base import AdapterError, Native
from gateway.adapters.mapping import Page
from gateway.adapters.table import DAY, READ, TEXT, WRITE, Each, Field, Kind, Table
from gateway.messages import Canonical, Header, Problem

MEDIA_TYPE: Final = "application/vnd.referral-gateway.cin+xml"
NEED_SYSTEM: Final = "CIN primary need code"
DISABILITY_SYSTEM: Final = "CIN disability code"
_SOURCES: Final = frozenset(
    [
        "1A",
        "1B",
        "1C",
        "1D",
        "2A",
        "2B",
        "3A",
        "3B",
        "3C",
        "3D",
        "3E",
        "3F",
        "4",
        "5A",
        "5B",
        "5C",
        "5D",
        "6",
        "7",
        "8",
        "9",
        "10",
    ]
)
_NEEDS: Final = {f"N{number}": f"N{number}" for number in range(10)}
_CATEGORIES: Final = {
    "N1": "child-safeguarding",
    "N3": "family-support",
    "N4": "family-support",
    "N5": "family-support",
    "N7": "poverty",
    "N8": "family-support",
}
_SEX: Final = Kind(
    lambda value: codes.sex("cin", str(value)) or codes.sex("dfe", str(value)),
    lambda value: codes.sex_code("cin", value),
    "1 and M male, 2 and F female, 9 indeterminate, 0 and U not known",
)
_ETHNICITY: Final = Kind(
    lambda value: codes.ethnicity("dfe", str(value)), lambda value: codes.ethnicity_code("dfe", value)
)
_ETHNICITY_CODED: Final = Kind(
    lambda value: codes.ethnicity_coded("dfe", str(value)) if value else None,
    lambda value: value.get("code") if codes.ethnicity("dfe", value.get("code", "")) else None,
    "kept as it was written",
)
_IDENTIFIERS, _DETAILS = "Children.Child.ChildIdentifiers", "Children.Child.CINdetails"
_CHARACTERISTICS: Final = "Children.Child.ChildCharacteristics"
TABLE: Final = Table(
    (
        Field("Header.Source.LEA", "referrer.organisation.identifier[system=DfE local authority].value"),
        Field("Header.Source.DateTime", "writtenAt", table.MOMENT, on=READ),
        Field(f"{_IDENTIFIERS}.LAchildID", "person.identifier[scheme=la-child-id].value"),
        Field(f"{_IDENTIFIERS}.UPN", "person.identifier[scheme=upn].value"),
        Field(f"{_IDENTIFIERS}.FormerUPN", "person.identifier[scheme=former-upn].value"),
        Field(f"{_IDENTIFIERS}.PersonBirthDate", "person.dateOfBirth.date", DAY),
        Field(f"{_IDENTIFIERS}.ExpectedPersonBirthDate", "person.expectedDateOfBirth.date", DAY),
        Field(f"{_IDENTIFIERS}.GenderCurrent", "person.sexCode", _SEX),
        Field(f"{_IDENTIFIERS}.GenderCurrent", "person.genderCode", _SEX, "where there is no sexCode", WRITE),
        Field(f"{_IDENTIFIERS}.Sex", "person.sexCode", _SEX, "from 2025", READ),
        Field(f"{_IDENTIFIERS}.PersonDeathDate", "person.deceasedDate.date", DAY),
        Field(f"{_CHARACTERISTICS}.Ethnicity", "person.ethnicity", _ETHNICITY_CODED),
        Field(f"{_CHARACTERISTICS}.Ethnicity", "person.ethnicityCode", _ETHNICITY),
        Each(
            f"{_CHARACTERISTICS}.Disabilities.Disability",
            "person.disability",
            (Field("", "code", TEXT, "with the system `CIN disability code`"),),
        ),
        Field(f"{_DETAILS}.CINreferralDate", "concern.began.date", DAY, "the day of the referral", WRITE),
        Field(f"{_DETAILS}.CINreferralDate", "concern.began.date", DAY, "the day of the referral", READ),
        Field(
            f"{_DETAILS}.ReferralSource",
            "referrer.sourceCode",
            Kind(lambda value: value if value in _SOURCES else None, str, "the published list, 1A to 10"),
        ),
        Field(f"{_DETAILS}.PrimaryNeedCode", "concern.primaryNeedCode", table.codes(_NEEDS)),
        Field(
            f"{_DETAILS}.PrimaryNeedCode",
            "concern.category[0]",
            table.codes(_CATEGORIES),
            "else `other`",
            READ,
        ),
    ),
    dropped={
        "Header.CollectionDetails, Header.Source.SoftwareCode, Header.Source.Release, Header.Source.SerialNo": (
            "about the return, not about the child"
        ),
        f"{_IDENTIFIERS}.UPNunknown": "not a field: it goes into the note, as all that follows",
        f"{_DETAILS}.CINclosureDate, {_DETAILS}.ReasonForClosure, {_DETAILS}.DateOfInitialCPC": "into the note",
        f"{_DETAILS}.Assessments, {_DETAILS}.CINPlanDates, {_DETAILS}.Section47": "into the note, a line each",
        f"{_DETAILS}.ChildProtectionPlans, {_DETAILS}.ReferralNFA": "into the note, a line each",
        "stray text": "passed over; the note says at which element it stood",
    },
)
_REQUIRED: Final = {
    f"{_IDENTIFIERS}.LAchildID": ("/person/identifier", "the local authority's child identifier"),
    f"{_IDENTIFIERS}.GenderCurrent": ("/person/sexCode", "required"),
    f"{_CHARACTERISTICS}.Ethnicity": ("/person/ethnicityCode", "required"),
    f"{_DETAILS}.ReferralSource": ("/referrer/sourceCode", "required"),
}


class CinXml:
    """The `cin-xml` adapter."""

    name = "cin-xml"
    media_types = (MEDIA_TYPE,)
    page = Page(
        "Children in need census XML",
        "The DfE's statutory return, for the child and the referral in it. One child in a file: a message is about one "
        "person. Of several `CINdetails` the one referred last counts, the others go into the note. Both `GenderCurrent` "
        "and `Sex` are read, stray text between elements is passed over and reported in the note. Written: a file that "
        "satisfies the DfE's schemas of 2022 to 2024, for a referral with the local authority's identifier of the "
        "child, sex, ethnicity and referral source; anything else is refused rather than made up. The census has no "
        "place for a narrative or a name, so what is written is for matching records, never the referral itself.",
        [("Referral", TABLE.page_rows())],
        table.REFERRAL_DEFAULTS,
    )

    def to_canonical(self, native: Native) -> Canonical:
        """See Adapter."""
        tree, stray = xml_tree.read(native.body, "Message")
        child = table.get(tree, "Children.Child")
        if isinstance(child, list):
            raise AdapterError([Problem("/Message/Children", "one Child: a message is about one person")])
        if not isinstance(child, dict):
            raise AdapterError([Problem("/Message/Children/Child", "required")])
        if not table.get(tree, f"{_IDENTIFIERS}.LAchildID"):
            raise AdapterError([Problem("/Message/Children/Child/ChildIdentifiers/LAchildID", "required")])
        earlier = _last_first(child)
        document = TABLE.read(tree)
        for one in table.get(document, "person.disability") or ():
            one["system"] = DISABILITY_SYSTEM
        for one in table.get(document, "referrer.organisation.identifier") or ():
            one["scheme"] = "other"
        need = table.get(document, "concern.primaryNeedCode") or "N0"
        table.put(document, "concern.code", [{"system": NEED_SYSTEM, "code": need}])
        if table.get(document, "person.deceasedDate.date"):
            table.put(document, "person.isDeceased", True)
        lines = [line for line in TABLE.unread(tree) if not line.startswith("Header.")]
        lines += [f"earlier referral: {line}" for one in earlier for line in Table(()).unread(one)]
        lines += [f"text between elements at {path}" for path in dict.fromkeys(stray)]
        if lines:
            document["note"] = "\n".join(line.removeprefix("Children.Child.") for line in lines)
        return table.referral(document)

    def from_canonical(self, header: Header, message: Canonical, media_type: str) -> Native:
        """See Adapter."""
        if message.type != table.REFERRAL:
            raise AdapterError([Problem("/type", "only a referral has this form")])
        written = TABLE.write(message.document)
        problems = [Problem(*why) for path, why in _REQUIRED.items() if table.get(written, path) is None]
        lea = table.get(written, "Header.Source.LEA") or ""
        if not (len(lea) == 3 and lea.isdecimal()):
            problems.append(
                Problem("/referrer/organisation/identifier", "the DfE local authority code, 3 digits")
            )
        if problems:
            raise AdapterError(problems)
        return Native(media_type, xml_tree.write("Message", _in_order(written, header)))


def _last_first(child: dict[str, Any]) -> list[dict[str, Any]]:
    """Leave the referral that came last in the child; the others."""
    found = child.get("CINdetails")
    if not isinstance(found, list):
        return []
    *earlier, last = sorted(
        (one for one in found if isinstance(one, dict)), key=lambda one: str(one.get("CINreferralDate", ""))
    )
    child["CINdetails"] = last
    return earlier


def _in_order(written: dict[str, Any], header: Header) -> dict[str, Any]:
    """As the schema's sequences want it."""
    made = datetime.fromtimestamp(header.created / 1000, UTC)
    details = table.get(written, _DETAILS)
    characteristics = table.get(written, _CHARACTERISTICS)
    ordered = {
        "CINreferralDate": details.get("CINreferralDate", made.date().isoformat()),
        "ReferralSource": details["ReferralSource"],
    }
    ordered |= {"PrimaryNeedCode": need} if (need := details.get("PrimaryNeedCode")) else {}
    return {
        "Header": {
            "CollectionDetails": {
                "Collection": "CIN",
                "Year": str(made.year),
                "ReferenceDate": made.date().isoformat(),
            },
            "Source": {
                "SourceLevel": "L",
                "LEA": table.get(written, "Header.Source.LEA"),
                "SoftwareCode": "Referral Gateway",
                "Release": "1",
                "SerialNo": "001",
                "DateTime": made.strftime("%Y-%m-%dT%H:%M:%S"),
            },
        },
        "Children": {
            "Child": {
                "ChildIdentifiers": table.get(written, _IDENTIFIERS),
                "ChildCharacteristics": characteristics,
                "CINdetails": ordered | {"ReferralNFA": "false"},
            }
        },
    }


ADAPTER: Final = CinXml()
