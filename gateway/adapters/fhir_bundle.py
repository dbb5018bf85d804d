"""Looking things up in a FHIR message Bundle, leniently: nothing here raises on odd content.

What may live here: accessors over the JSON shape and the resolving of references. No mapping. A list of
one and a single value read alike (official examples mix them), blank text reads as absent, and a value of
an unexpected kind reads as absent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.adapters.fhir_terms import bare

Resource = Mapping[str, Any]
"""A FHIR resource or data type in its JSON shape."""

NOTHING: Resource = {}
_VISIBLE = re.compile(r"[^\x00-\x20\xa0]")
_BLANK = "".join(map(chr, range(0x21))) + "\xa0"
"""What the schemas call blank; wider spaces are visible to them, and kept."""


def many(value: Any) -> list[Any]:
    """`value` as a list: itself, empty for None, or a list of one."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def objects(container: Resource, name: str) -> list[Resource]:
    """Every object under `name`."""
    return [item for item in many(container.get(name)) if isinstance(item, Mapping)]


def one(container: Resource, *path: str) -> Resource:
    """The first object at each step of `path`; empty when there is none."""
    for name in path:
        container = next(iter(objects(container, name)), NOTHING)
    return container


def texts(container: Resource, *path: str) -> list[str]:
    """Every non-blank text under the last name of `path`, stripped. Numbers and booleans read as in XML."""
    return [found for item in many(one(container, *path[:-1]).get(path[-1])) if (found := _text(item))]


def text(container: Resource, *path: str) -> str | None:
    """The first non-blank text at `path`."""
    return next(iter(texts(container, *path)), None)


def _text(item: Any) -> str:
    if isinstance(item, bool):
        return str(item).lower()
    if isinstance(item, str | int | float):
        found = str(item).strip(_BLANK)
        return found if _VISIBLE.search(found) else ""
    return ""


def codings(container: Resource, name: str) -> Iterator[tuple[str, str, str | None]]:
    """(system, code, display) of every coding of every concept under `name`; a blank system reads as ''."""
    for concept in objects(container, name):
        for coding in objects(concept, "coding"):
            if code := text(coding, "code"):
                yield text(coding, "system") or "", code, text(coding, "display")


def code_of(container: Resource, name: str, system: str) -> str | None:
    """The first code of `system` under `name`."""
    return next(iter(codes_of(container, name, system)), None)


def codes_of(container: Resource, name: str, system: str) -> list[str]:
    """Every code of `system` under `name`. Systems are compared in their bare form."""
    wanted = bare(system)
    return [code for found, code, _ in codings(container, name) if bare(found) == wanted]


def wording(container: Resource, name: str) -> str | None:
    """What a person would read for the concept under `name`: its text, else a display, else a code."""
    concept = one(container, name)
    shown = [display or code for _, code, display in codings(container, name)]
    return text(concept, "text") or next(iter(shown), None)


@dataclass(frozen=True, slots=True)
class Bundle:
    """The entries of one message, in order, found by reference or by type."""

    resources: tuple[Resource, ...] = field(repr=False)
    """One for each entry, in order; NOTHING where an entry holds none."""
    _by_reference: Mapping[str, Resource] = field(repr=False)

    @classmethod
    def of(cls, document: Resource) -> Bundle:
        """Index `document`. Where two entries claim one reference, the first keeps it."""
        resources = []
        by_reference: dict[str, Resource] = {}
        for entry in many(document.get("entry")):
            resource = one(entry, "resource") if isinstance(entry, Mapping) else NOTHING
            resources.append(resource)
            if full_url := text(entry, "fullUrl") if isinstance(entry, Mapping) else None:
                by_reference.setdefault(full_url, resource)
            if identifier := text(resource, "id"):
                by_reference.setdefault(f"{text(resource, 'resourceType')}/{identifier}", resource)
                by_reference.setdefault(f"urn:uuid:{identifier}", resource)
        return cls(tuple(resources), by_reference)

    def of_type(self, *names: str) -> list[Resource]:
        """Every resource of these types, in order of entry."""
        return [resource for resource in self.resources if text(resource, "resourceType") in names]

    def resolve(self, holder: Resource, *path: str) -> Resource:
        """The resource in the bundle that the Reference at `path` points to; empty when it is not here."""
        return self.get(text(holder, *path, "reference"))

    def get(self, reference: str | None) -> Resource:
        """The resource with this reference, its history version left off; empty when it is not here."""
        if reference is None:
            return NOTHING
        return self._by_reference.get(reference.split("/_history/")[0], NOTHING)
