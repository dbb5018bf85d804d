"""Reading the parts of a FHIR message that every kind of message has: people, places, organisations, dates.

What may live here: pure functions from FHIR data types to the canonical parts of the same meaning
(gateway/schemas/common/1.json). A part that would not satisfy the schema is left out, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from gateway.adapters import fhir_terms as terms
from gateway.adapters.fhir_bundle import (
    NOTHING,
    Bundle,
    Resource,
    code_of,
    codings,
    objects,
    text,
    texts,
    wording,
)

MAX_LINE = 300
MAX_TEXT = 20_000
"""Characters in the schema's `line` and `text`."""

_YEAR = r"(?:18|19|20|21)\d{2}"
_MONTH = r"(?:0[1-9]|1[0-2])"
_DATE = re.compile(rf"({_YEAR})(?:-({_MONTH})(?:-(0[1-9]|[12]\d|3[01]))?)?")
_DATE_TIME = re.compile(
    rf"{_YEAR}-{_MONTH}-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{{1,9}})?"
    r"(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
)
_SHORT_MONTHS = {"02": "29", "04": "30", "06": "30", "09": "30", "11": "30"}
_EMAIL = re.compile(r"[^\x00-\x20@]+@[^\x00-\x20@]+")
_RELATIONSHIP = re.compile(r"[A-Z]{2,20}")
_LAST_RANK = 1000


def present(**fields: Any) -> dict[str, Any]:
    """The fields that hold something: no None, no blank text, no empty list or object."""
    return {name: value for name, value in fields.items() if value not in (None, "", [], {})}


def line(value: str | None) -> str | None:
    """`value` cut to the length of a `line`; a cut shows as an ellipsis."""
    return _cut(value, MAX_LINE)


def prose(values: Iterable[str | None], separator: str = "\n\n") -> str | None:
    """The texts joined, repeats left out, cut to the length of a `text`; None when there are none."""
    return _cut(separator.join(dict.fromkeys(value for value in values if value)) or None, MAX_TEXT)


def _cut(value: str | None, longest: int) -> str | None:
    return value if value is None or len(value) <= longest else value[: longest - 1] + "…"


def date(value: str | None) -> str | None:
    """The day of a FHIR date or dateTime; None unless year, month and day are all there."""
    partial = partial_date(value)
    return partial["date"] if partial and "accuracyIndicator" not in partial else None


def partial_date(value: str | None) -> dict[str, str] | None:
    """A FHIR date, which may be a year or a month only, with what is unknown marked."""
    found = _DATE.match(value or "")
    if found is None:
        return None
    year, month, day = found.groups()
    if day and day > _SHORT_MONTHS.get(month, "31"):
        return None
    accuracy = None if day else "UAA" if month else "UUA"
    return present(date=f"{year}-{month or '01'}-{day or '01'}", accuracyIndicator=accuracy)


def moment(value: str | None) -> str | None:
    """A FHIR dateTime that has a time and an offset, otherwise None."""
    return value if value and _DATE_TIME.fullmatch(value) and date(value) else None


def identifiers(resource: Resource) -> list[dict[str, Any]]:
    """Every identifier with a value; the gateway's own, of the case, left out."""
    found = []
    for identifier in objects(resource, "identifier"):
        system, value = text(identifier, "system"), line(text(identifier, "value"))
        if value is None or system == terms.CASE:
            continue
        scheme = terms.scheme_of(system) if system else None
        if scheme is None:
            found.append(present(scheme="other", value=value, system=line(system)))
        else:
            found.append({"scheme": scheme, "value": value})
    return found


def coded(concept: Resource) -> dict[str, Any] | None:
    """A CodeableConcept as one coded value: its first coding, worded by display or text."""
    for system, code, display in codings({"concept": concept}, "concept"):
        shown = display or text(concept, "text")
        return present(system=line(system), code=line(code), display=line(shown))
    return present(display=line(text(concept, "text"))) or None


def names(resource: Resource) -> list[dict[str, Any]]:
    """Every HumanName that says something."""
    found = []
    for name in objects(resource, "name"):
        whole = text(name, "text")
        parts = present(
            familyName=[line(family) for family in texts(name, "family")],
            givenName=[line(given) for given in texts(name, "given")][:10],
            prefix=line(" ".join(texts(name, "prefix"))),
            text=None if whole == terms.NOT_RECORDED else line(whole),
        )
        if parts.keys() - {"prefix"}:
            use = text(name, "use")
            known = (
                use
                if use in ("usual", "official", "temp", "nickname", "anonymous", "old", "maiden")
                else None
            )
            found.append(parts | present(use=known))
    return found


def addresses(resource: Resource) -> list[dict[str, Any]]:
    """Every Address that says where."""
    found = []
    for address in objects(resource, "address"):
        lines = texts(address, "line")
        whole = _cut(text(address, "text"), 1000)
        where = present(
            line1=line(next(iter(lines), None)),
            line2=line(next(iter(lines[1:]), None)),
            line3=line(", ".join(lines[2:])),
            city=line(text(address, "city")),
            county=line(text(address, "district")),
            postcode=line(text(address, "postalCode")),
            country=line(text(address, "country")),
            text=whole,
        )
        if where:
            use = text(address, "use")
            found.append(
                where
                | present(
                    use=use if use in ("home", "work", "temp", "old", "billing") else None,
                    start=date(text(address, "period", "start")),
                    end=date(text(address, "period", "end")),
                )
            )
    return found


def contacts(telecoms: list[Resource]) -> list[dict[str, Any]]:
    """Telephone numbers and e-mail addresses, those of one use together, the best ranked first."""
    by_use: dict[str, dict[str, list[str]]] = {}
    for telecom in sorted(telecoms, key=_rank):
        value = line(text(telecom, "value"))
        kind = {"phone": "telephone", "sms": "telephone", "email": "email"}.get(text(telecom, "system") or "")
        if (
            value is None
            or kind is None
            or (kind == "email" and not (_EMAIL.fullmatch(value) and len(value) < 255))
        ):
            continue
        group = by_use.setdefault(text(telecom, "use") or "", {})
        if value not in group.setdefault(kind, []):
            group[kind].append(value)
    return [present(name=line(use.capitalize()), **group) for use, group in by_use.items()]


def _rank(telecom: Resource) -> int:
    rank = text(telecom, "rank") or ""
    return int(rank) if rank.isascii() and rank.isdecimal() and len(rank) < 4 else _LAST_RANK


def contact(resource: Resource) -> dict[str, Any]:
    """All the telecoms of a resource as one contact; empty when there are none."""
    merged: dict[str, list[str]] = {}
    for group in contacts(objects(resource, "telecom")):
        for kind in ("telephone", "email"):
            merged.setdefault(kind, []).extend(group.get(kind, []))
    return present(**{kind: values[:10] for kind, values in merged.items()})


def organisation(resource: Resource) -> dict[str, Any] | None:
    """An Organization, unless it is nameless, or an agency as we write it (the signed header names those)."""
    if any(text(identifier, "system") == terms.AGENCY for identifier in objects(resource, "identifier")):
        return None
    found = present(
        identifier=identifiers(resource),
        name=line(text(resource, "name")),
        type=_wordings(resource, "type"),
        contact=contacts(objects(resource, "telecom")),
        address=addresses(resource),
    )
    return found if {"name", "identifier"} & found.keys() else None


def professional(bundle: Bundle, role: Resource) -> dict[str, Any] | None:
    """A PractitionerRole with its Practitioner and Organization; or a Practitioner alone."""
    alone = text(role, "resourceType") == "Practitioner"
    person = role if alone else bundle.resolve(role, "practitioner")
    found = present(
        identifier=identifiers(person),
        name=next(iter(names(person)), None),
        role=_wordings(role, "code"),
        organisation=organisation(bundle.resolve(role, "organization")),
        contact=contact(person) or contact(role),
    )
    return found if found.keys() - {"contact"} else None


def person_involved(resource: Resource) -> dict[str, Any] | None:
    """A Patient.contact or a RelatedPerson; None when it names nobody."""
    relationships = [
        code
        for system, code, _ in codings(resource, "relationship")
        if terms.bare(system) == terms.bare(terms.ROLE_CODE) and _RELATIONSHIP.fullmatch(code)
    ]
    role = code_of(resource, "relationship", terms.CONTACT_ROLE)
    found = present(
        identifier=identifiers(resource),
        name=names(resource),
        relationship=relationships[:5],
        relationshipText=line(text(resource, "relationship", "text")),
        role=terms.CONTACT_ROLES.get(role or ""),
        dateOfBirth=partial_date(text(resource, "birthDate")),
        genderCode=terms.GENDER_CODES.get(text(resource, "gender") or ""),
        address=addresses(resource),
        contact=contacts(objects(resource, "telecom")),
    )
    return found if {"name", "relationship", "role"} & found.keys() else None


def is_the_person(resource: Resource) -> bool:
    """Whether a Patient.contact is the patient: related to themselves, or to nobody and without a name."""
    if code_of(resource, "relationship", terms.ROLE_CODE) == "ONESELF":
        return True
    return not names(resource) and not objects(resource, "relationship")


def extension(resource: Resource, url: str) -> Resource:
    """The first extension with this URL; empty when there is none."""
    return next((found for found in objects(resource, "extension") if text(found, "url") == url), NOTHING)


def _wordings(resource: Resource, name: str) -> list[str | None]:
    return [line(found) for concept in objects(resource, name) if (found := wording({name: concept}, name))]
