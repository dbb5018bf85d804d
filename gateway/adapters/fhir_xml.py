"""FHIR XML to and from the JSON shape of the same resource (HL7 FHIR R4, section 2.6.1 XML and 2.6.2 JSON).

What may live here: the syntax only, no resource and no profile.

Which elements repeat is known only to the resource definitions, so `read` gives a list where an element
occurred more than once and a single value otherwise; `gateway.adapters.fhir_bundle` reads both alike.
`write` puts elements in the order in which the dictionaries hold them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lxml import etree

from gateway.adapters import strict_xml
from gateway.adapters.strict_xml import MAX_DEPTH, malformed

FHIR = "http://hl7.org/fhir"
_PREFIX = f"{{{FHIR}}}"


def read(body: bytes) -> dict[str, Any]:
    """The resource in `body` in its JSON shape. Raises AdapterError(malformed=True), never anything else."""
    root = strict_xml.parse(body)
    if not root.tag.startswith(_PREFIX):
        raise malformed(f"a root element in the namespace {FHIR}")
    return _resource(root, 1)


def _resource(element: etree._Element, depth: int) -> dict[str, Any]:
    return {"resourceType": etree.QName(element).localname} | _children(element, depth)


def _children(element: etree._Element, depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise malformed(f"elements nested at most {MAX_DEPTH} deep")
    found: dict[str, Any] = {}
    for child in element:
        # Other namespaces (the narrative's XHTML among them) hold nothing that is mapped.
        if isinstance(child.tag, str) and child.tag.startswith(_PREFIX):
            _add(found, child.tag[len(_PREFIX) :], child, depth)
    return found


def _add(found: dict[str, Any], name: str, child: etree._Element, depth: int) -> None:
    # A primitive's own extensions (JSON keeps them under `_name`) are passed over: no mapping reads them.
    value = child.get("value")
    _append(found, name, _complex(child, depth) if value is None else value)


def _append(found: dict[str, Any], name: str, value: Any) -> None:
    if name not in found:
        found[name] = value
    elif isinstance(found[name], list):
        found[name].append(value)
    else:
        found[name] = [found[name], value]


def _complex(element: etree._Element, depth: int) -> dict[str, Any]:
    if etree.QName(element).localname in ("resource", "contained"):
        inner = next((child for child in element if str(child.tag).startswith(_PREFIX)), None)
        return {} if inner is None else _resource(inner, depth + 2)
    return _attributes(element) | _children(element, depth + 1)


def _attributes(element: etree._Element) -> dict[str, Any]:
    return {name: element.get(name) for name in ("id", "url") if element.get(name) is not None}


def write(resource: Mapping[str, Any]) -> bytes:
    """`resource` (JSON shape, elements in the order of their definition) as UTF-8 XML."""
    namespaces = {None: FHIR}
    # The stubs do not know of a default namespace.
    root = etree.Element(f"{_PREFIX}{resource['resourceType']}", nsmap=namespaces)  # type: ignore[arg-type]
    _write_children(root, resource)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True)


def _write_children(parent: etree._Element, content: Mapping[str, Any]) -> None:
    for name, value in content.items():
        if name == "resourceType":
            continue
        for item in value if isinstance(value, list) else [value]:
            _write(parent, name, item)


def _write(parent: etree._Element, name: str, value: Any) -> None:
    if name == "url" and etree.QName(parent).localname in ("extension", "modifierExtension"):
        parent.set("url", value)
        return
    element = etree.SubElement(parent, f"{_PREFIX}{name}")
    if not isinstance(value, Mapping):
        element.set("value", _literal(value))
    elif "resourceType" in value:
        inner = etree.SubElement(element, f"{_PREFIX}{value['resourceType']}")
        _write_children(inner, value)
    else:
        _write_children(element, value)


def _literal(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
