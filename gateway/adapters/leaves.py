"""Takes a native document apart: each value, and the document without it or with another in its place.

So a conformance check can tell which values a mapping reads, whatever the format: what changes nothing in
the canonical message when it is taken away or altered is not carried.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lxml import etree

from gateway.adapters import strict_json, strict_xml
from gateway.adapters.base import Native


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value of a document."""

    where: str
    """A JSON pointer, an XML path, a column, or an HL7 field such as `PID-5.1`; never a value."""
    without: bytes = field(repr=False)
    altered: bytes = field(repr=False)


def leaves(native: Native) -> Iterator[Leaf] | None:
    """Its values, in order; None for a form that is not known. Raises AdapterError if it does not parse."""
    kind = re.split(r"[+/]", native.media_type)[-1]
    if kind == "json":
        return _json(strict_json.loads(native.body))
    if kind == "xml":
        return _xml(strict_xml.parse(native.body))
    if kind == "csv":
        return _csv(native.body.decode("utf-8-sig", "replace"))
    if kind in {"hl7-v2", "er7", "x-hl7"} or native.body.startswith(b"MSH"):
        return _er7(native.body.decode("utf-8", "replace"))
    return None


def _json(root: Any) -> Iterator[Leaf]:
    def dump() -> bytes:
        return json.dumps(root, ensure_ascii=False).encode()

    def walk(value: Any, path: str) -> Iterator[Leaf]:
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in list(entries):
            where = f"{path}/{str(key).replace('~', '~0').replace('/', '~1')}"
            if isinstance(item, dict | list):
                yield from walk(item, where)
                continue
            value[key] = _other(item)
            altered = dump()
            if isinstance(value, dict):
                kept = dict(value)
                del value[key]
                without = dump()
                value.clear()
                value.update({name: item if name == key else one for name, one in kept.items()})
            else:
                del value[key]
                without = dump()
                value.insert(key, item)
            yield Leaf(where, without, altered)

    return walk(root, "") if isinstance(root, dict | list) else iter(())


def _other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return f"{value or ''}x"


def _xml(root: etree._Element) -> Iterator[Leaf]:
    def dump() -> bytes:
        return etree.tostring(root, encoding="UTF-8", xml_declaration=True)

    for element in root.iter(etree.Element):
        where = _xml_path(element)
        for name, value in [(str(name), str(value)) for name, value in element.attrib.items()]:
            element.set(name, f"{value}x")
            altered = dump()
            del element.attrib[name]
            without = dump()
            element.set(name, value)
            yield Leaf(f"{where}/@{etree.QName(name).localname}", without, altered)
        text = element.text
        if len(element) or not text or not text.strip():
            continue
        element.text = f"{text}x"
        altered = dump()
        element.text = None
        without = dump()
        element.text = text
        yield Leaf(where, without, altered)


def _csv(text: str) -> Iterator[Leaf]:
    rows = list(csv.reader(io.StringIO(text)))

    def dump() -> bytes:
        out = io.StringIO()
        csv.writer(out, lineterminator="\r\n").writerows(rows)
        return out.getvalue().encode()

    for row in rows[1:]:
        for number, name in enumerate(rows[0][: len(row)]):
            value = row[number]
            if not value:
                continue
            row[number] = ""
            without = dump()
            row[number] = f"{value}x"
            altered = dump()
            row[number] = value
            yield Leaf(name, without, altered)


def _er7(text: str) -> Iterator[Leaf]:
    """HL7 v2: segments by line, fields by `|`, components by `^`. The first two fields of MSH are syntax."""
    segments = [line.split("|") for line in re.split(r"[\r\n]+", text) if line]

    def dump() -> bytes:
        return "\r".join("|".join(fields) for fields in segments).encode()

    for fields in segments:
        first = 2 if fields[0] == "MSH" else 1
        for number in range(first, len(fields)):
            components = fields[number].split("^")
            for position, component in enumerate(components):
                if not component:
                    continue
                kept, parts = fields[number], list(components)
                parts[position] = ""
                fields[number] = "^".join(parts)
                without = dump()
                parts[position] = f"{component}x"
                fields[number] = "^".join(parts)
                altered = dump()
                fields[number] = kept
                field_number = number + 1 if fields[0] == "MSH" else number
                yield Leaf(f"{fields[0]}-{field_number}.{position + 1}", without, altered)


def _xml_path(element: etree._Element) -> str:
    """Local names from the root, with a position where there are several of a name: `/Bundle/entry[2]/…`."""
    steps = []
    for one in (element, *element.iterancestors()):
        name, parent = etree.QName(one).localname, one.getparent()
        same = [other for other in parent if other.tag == one.tag] if parent is not None else []
        steps.append(f"{name}[{same.index(one) + 1}]" if len(same) > 1 else name)
    return "/" + "/".join(reversed(steps))
