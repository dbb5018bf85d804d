"""The pupil of a DfE Common Transfer File (CTF), read and written: pure functions for adapters.

What may live here: the part of the CTF that says who a pupil is. A CTF has no element for a concern: what a
school worries about comes beside it. Elements are named as CTF 25 names them; `Gender`, of files before it,
is read too. What attainment, attendance and free meals say is not read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from lxml import etree

from gateway.adapters import form_fields, paths, strict_xml, words
from gateway.adapters.base import AdapterError
from gateway.adapters.form_fields import DATE, EMAIL, NOTHING, TEXT, YES_NO, Codec, Field, coded
from gateway.adapters.school_fields import DFE_ETHNICITY, DFE_ETHNICITY_CODE, DFE_SEX
from gateway.messages import Problem

VERSION: Final = "25.0"
UNKNOWN_LEA, UNKNOWN_ESTAB = "XXX", "XXXX"
"""Where the school is not known; file names of the DfE's guide have XXXXXXX there."""
DISABILITY: Final = "DfE disability"
_LANGUAGE: Final = "DfE language code "
_DECLARATION = re.compile(r"\A\ufeff?\s*<\?xml[^>]*\?>")
_CONTROL = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SEPTEMBER = 9

_language = Codec(
    "",
    lambda text: "English" if text == "ENG" else f"{_LANGUAGE}{text}",
    lambda name: (
        "ENG" if name == "English" else name[len(_LANGUAGE) :] if name.startswith(_LANGUAGE) else None
    ),
)
_disability = Codec(
    "",
    lambda code: {"system": DISABILITY, "code": code},
    lambda value: value.get("code") if value.get("system") == DISABILITY else None,
)
_provision = coded({"N": "none", "K": "sen-support", "E": "ehc-plan", "S": "ehc-plan", "A": "sen-support"})
_NAME, _OLD = "person.name[0]", "person.name[use=old]"
_ADDRESS, _CONTACT = "person.address[0]", "person.contact[0]"
_BASIC, _LINES = "BasicDetails", "Address.AddressLines"
_CARER = "additional.socialCare.responsibleAuthority.identifier[scheme=other&system=DfE local authority]"

FIELDS: Final = [
    Field("UPN", "person.identifier[scheme=upn].value", TEXT),
    Field("UniqueLearnerNumber", "person.identifier[scheme=uln].value", TEXT),
    Field("UCI", "person.identifier[scheme=other&system=UCI].value", TEXT, note="of examination boards"),
    Field("Surname", f"{_NAME}.familyName[0]", TEXT),
    Field("Forename", f"{_NAME}.givenName[0]", TEXT),
    Field("DOB", "person.dateOfBirth.date", DATE),
    Field("Sex", "person.sexCode", DFE_SEX),
    Field(f"{_BASIC}.FormerUPN", "person.identifier[scheme=former-upn].value", TEXT),
    Field(f"{_BASIC}.PreferredSurname", "person.name[use=usual].familyName[0]", TEXT),
    Field(f"{_BASIC}.PreferredForename", f"{_NAME}.preferredName", TEXT),
    Field(f"{_BASIC}.FormerSurname", f"{_OLD}.familyName[0]", TEXT),
    Field(f"{_BASIC}.FormerForename", f"{_OLD}.givenName[0]", TEXT),
    Field(f"{_BASIC}.MiddleNames", f"{_NAME}.givenName[1:]", TEXT, many=" ", joined=True),
    Field(f"{_BASIC}.NCyearActual", "additional.education.yearGroup", TEXT),
    Field(f"{_BASIC}.Ethnicity", "person.ethnicity", DFE_ETHNICITY),
    Field(f"{_BASIC}.Ethnicity", "person.ethnicityCode", DFE_ETHNICITY_CODE),
    Field(
        f"{_BASIC}.Languages.Type[LanguageType=F].Language",
        "person.language[0].name",
        _language,
        note="the first language; ENG is English, any other stays a code",
    ),
    Field(f"{_BASIC}.Disabilities.Disability", "person.disability", _disability, many=" "),
    Field("LookedAfter.InCare", "additional.socialCare.lookedAfter", YES_NO),
    Field("LookedAfter.CareAuthority", f"{_CARER}.value", TEXT),
    Field(
        "SENhistory.SEN.SENprovision",
        "additional.education.sendSupport",
        _provision,
        note="of the latest StartDate",
    ),
    Field(f"{_LINES}.AddressLine1", f"{_ADDRESS}.line1", TEXT, note="of a BS7666Address: SAON, PAON, Street"),
    Field(f"{_LINES}.AddressLine2", f"{_ADDRESS}.line2", TEXT, note="of a BS7666Address: Locality"),
    Field(f"{_LINES}.AddressLine3", f"{_ADDRESS}.line3", TEXT),
    Field(f"{_LINES}.AddressLine4", f"{_ADDRESS}.city", TEXT, note="of a BS7666Address: Town, PostTown"),
    Field("Address.County", f"{_ADDRESS}.county", TEXT, note="or AddressLine5, or AdministrativeArea"),
    Field("Address.PostCode", f"{_ADDRESS}.postcode", TEXT),
    Field("Address.Country", f"{_ADDRESS}.country", TEXT),
    Field("Phones.Phone.PhoneNo", f"{_CONTACT}.telephone", TEXT, many=";"),
    Field("Email", f"{_CONTACT}.email", EMAIL, many=";"),
]
"""In the order of the file. `Contacts` and `SENneeds` are lists of objects: see `_people` and `_needs`."""

GENDER: Final = Field("Gender", "person.genderCode", DFE_SEX, note="before CTF 24; only read")
UPRN: Final = Field("Address.UPRN", f"{_ADDRESS}.UPRN", TEXT, note="of a BS7666Address; only read")
_PERSON: Final = [
    Field("Title", "name[0].prefix", TEXT),
    Field("Surname", "name[0].familyName[0]", TEXT),
    Field("Forename", "name[0].givenName[0]", TEXT),
    Field("Relationship", "relationshipText", TEXT),
    Field("Responsibility", "parentalResponsibility", YES_NO),
    Field("AddressAsPupil", "livesWithPerson", Codec("", lambda text: text == "yes" or NOTHING, bool)),
    Field("Phones.Phone.PhoneNo", "contact[0].telephone", TEXT, many=";"),
    Field("Email", "contact[0].email", EMAIL, many=";"),
]
CONTACT_FIELDS: Final = [
    Field(f"Contacts.Contact.{field.native}", f"involved.people[].{field.path}", field.codec)
    for field in _PERSON
]
"""For the mapping page."""


def read(text: str) -> tuple[dict[str, Any], list[str]]:
    """The parts of a canonical referral that the one pupil of a CTF fills, and in words what it left unread.

    Raises AdapterError; its pointers lead into the CTF: `/CTfile/CTFpupilData/Pupil`.
    """
    # The text has been decoded: whatever encoding its declaration names is no longer true.
    root = strict_xml.parse(_DECLARATION.sub("", text).encode())
    if _local(root) != "CTfile":
        raise AdapterError([Problem("", "a CTfile element")])
    file = _plain(root, 0)
    pupil = paths.get(file, "CTFpupilData.Pupil")
    if not isinstance(pupil, dict):
        raise AdapterError([Problem("/CTfile/CTFpupilData/Pupil", "one pupil: one message each")])
    document: dict[str, Any] = {}
    _flatten(pupil)
    unread = form_fields.read([*FIELDS, GENDER, UPRN], pupil, document)
    if not paths.get(document, "person.name[0]"):
        raise AdapterError([Problem("/CTfile/CTFpupilData/Pupil/Surname", "required")])
    unread += _people(pupil, document)
    _needs(pupil, document)
    _school(file, document)
    return paths.prune(document), [f"CTF {found.words()}" for found in unread]


def _local(element: etree._Element) -> str:
    return etree.QName(element).localname


def _plain(element: etree._Element, depth: int) -> Any:
    """An element as text or as an object of its children, in a list where one name stands twice."""
    if depth > strict_xml.MAX_DEPTH:
        raise strict_xml.malformed(f"nesting at most {strict_xml.MAX_DEPTH} deep")
    if not len(element):
        return words.stripped(element.text or "")
    found: dict[str, Any] = {}
    for child in element:
        value, name = _plain(child, depth + 1), _local(child)
        if name not in found:
            found[name] = value
        elif isinstance(found[name], list):
            found[name].append(value)
        else:
            found[name] = [found[name], value]
    return found


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, dict)]


def _flatten(holder: dict[str, Any]) -> None:
    """Bring what may stand in several ways into the one way of FIELDS: telephones, addresses, SEN."""
    numbers = [phone.get("PhoneNo") for phone in _objects(paths.get(holder, "Phones.Phone"))]
    holder["Phones"] = {"Phone": {"PhoneNo": [number for number in numbers if isinstance(number, str)]}}
    if street := paths.get(holder, "Address.BS7666Address"):
        parts = [paths.get(street, name) for name in ("SAON", "PAON", "Street")]
        town = paths.get(street, "Town") or paths.get(street, "PostTown")
        lines = (
            " ".join(part for part in parts if isinstance(part, str)),
            paths.get(street, "Locality"),
            "",
            town,
        )
        holder["Address"]["AddressLines"] = {f"AddressLine{i}": line for i, line in enumerate(lines, start=1)}
        holder["Address"].setdefault("County", paths.get(street, "AdministrativeArea"))
        holder["Address"]["UPRN"] = paths.get(street, "UniquePropertyReferenceNumber")
    elif (fifth := paths.get(holder, f"{_LINES}.AddressLine5")) and isinstance(holder["Address"], dict):
        holder["Address"].setdefault("County", fifth)
    if stages := _objects(paths.get(holder, "SENhistory.SEN")):
        latest = max(stages, key=lambda stage: str(stage.get("StartDate", "")))
        holder["SENhistory"]["SEN"] = latest


def _people(pupil: Mapping[str, Any], document: dict[str, Any]) -> list[form_fields.Unread]:
    people, unread = [], []
    for contact in _objects(paths.get(pupil, "Contacts.Contact")):
        if "AddressAsPupil" in contact:
            contact["AddressAsPupil"] = contact["AddressAsPupil"] not in {"false", "0"}
        _flatten(contact)
        person: dict[str, Any] = {}
        unread += form_fields.read(_PERSON, contact, person)
        address: dict[str, Any] = {}
        form_fields.read(
            [field for field in [*FIELDS, UPRN] if field.path.startswith(_ADDRESS)], contact, address
        )
        if where := paths.get(address, "person.address"):
            person["address"] = where
        people.append(person)
    if people:
        paths.put(document, "involved.people", people)
    return unread


def _needs(pupil: Mapping[str, Any], document: dict[str, Any]) -> None:
    found = sorted(
        _objects(paths.get(pupil, "SENhistory.SENneeds.SENneed")),
        key=lambda need: str(need.get("SENtypeRank", "")),
    )
    known = {"SPLD": "SpLD", **{need: need for need in NEEDS}}
    types = [known.get(str(need.get("SENtype", "")).upper()) for need in found]
    if needs := list(dict.fromkeys(need for need in types if need)):
        paths.put(document, "additional.education.sendNeed", needs)


NEEDS: Final = ("MLD", "SLD", "PMLD", "SLCN", "ASC", "SEMH", "VI", "HI", "MSI", "PD")


def _school(file: Mapping[str, Any], document: dict[str, Any]) -> None:
    """The school that made the file, unless it is the local authority itself."""
    source = paths.get(file, "Header.SourceSchool")
    lea, estab, name = (paths.get(source, part) for part in ("LEA", "Estab", "SchoolName"))
    school: dict[str, Any] = {"name": name if isinstance(name, str) else None}
    if re.fullmatch(r"\d{3}", str(lea)) and re.fullmatch(r"\d{4}", str(estab)):
        school["identifier"] = [{"scheme": "laestab", "value": f"{lea}/{estab}"}]
    if found := paths.prune(school):
        paths.put(document, "additional.education.school", found)


def _safe(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without the contact details of the person that must not be used: a CTF cannot say so beside them."""
    person = document.get("person", {})
    return {**document, "person": {**person, "contact": _usable(person)}}


def _usable(person: Mapping[str, Any]) -> list[Any]:
    return [found for found in person.get("contact", []) if found.get("safeToUse") is not False]


def write(document: Mapping[str, Any], created: int) -> str:
    """A partial CTF of the pupil. `created` is the time of the message, in milliseconds since 1970."""
    when = datetime.fromtimestamp(created / 1000, UTC)
    root = etree.Element("CTfile")
    _add(root, "Header", _header(document, when))
    pupil = form_fields.write(FIELDS, _safe(document))
    _expand(pupil)
    contacts = []
    for order, person in enumerate(document.get("involved", {}).get("people", []), start=1):
        native = form_fields.write(_PERSON, {**person, "contact": _usable(person)})
        if native.keys() & {"Surname", "Forename"}:
            _expand(native)
            contacts.append({"Order": str(order)} | native)
    if contacts:
        pupil["Contacts"] = {"Contact": contacts}
    if needs := paths.get(document, "additional.education.sendNeed"):
        ranked = [{"SENtypeRank": str(i), "SENtype": need.upper()} for i, need in enumerate(needs, start=1)]
        pupil.setdefault("SENhistory", {})["SENneeds"] = {"SENneed": ranked}
    _add(root, "CTFpupilData", {"Pupil": pupil})
    return etree.tostring(root, encoding="unicode")


def _header(document: Mapping[str, Any], when: datetime) -> dict[str, Any]:
    school = paths.get(document, "additional.education.school") or paths.get(
        document, "referrer.organisation"
    )
    number = re.fullmatch(
        r"(\d{3})\D?(\d{4})", str(paths.get(school, "identifier[scheme=laestab].value") or "")
    )
    source = {
        "LEA": number[1] if number else UNKNOWN_LEA,
        "Estab": number[2] if number else UNKNOWN_ESTAB,
        "SchoolName": paths.get(school, "name"),
        "AcademicYear": str(when.year if when.month >= _SEPTEMBER else when.year - 1),
    }
    return {
        "DocumentName": "Common Transfer File",
        "CTFversion": VERSION,
        "DateTime": when.strftime("%Y-%m-%dT%H:%M:%S"),
        "DocumentQualifier": "partial",
        "SupplierID": "Referral Gateway",
        "SourceSchool": source,
        "DestSchool": {"LEA": UNKNOWN_LEA, "Estab": UNKNOWN_ESTAB},
    }


def _expand(holder: dict[str, Any]) -> None:
    """Undo `_flatten` for telephones: an element each. Only the first e-mail address has one."""
    if numbers := paths.get(holder, "Phones.Phone.PhoneNo"):
        holder["Phones"] = {"Phone": [{"PhoneNo": number} for number in numbers]}
    if "Email" in holder:
        holder["Email"] = holder["Email"][0]


def _add(parent: etree._Element, name: str, value: Any) -> None:
    if isinstance(value, list):
        for item in value:
            _add(parent, name, item)
    elif isinstance(value, Mapping):
        element = etree.SubElement(parent, name)
        for inner, below in value.items():
            _add(element, inner, below)
    elif value is not None:
        text = str(value).lower() if isinstance(value, bool) else str(value)
        etree.SubElement(parent, name).text = _CONTROL.sub("\ufffd", text)
