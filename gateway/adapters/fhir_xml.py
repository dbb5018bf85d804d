"""FHIR XML to and from the JSON shape of the same resource (HL7 FHIR R4, section 2.6.1 XML and 2.6.2 JSON).

What may live here: the syntax only, no resource and no profile. This is the one module that imports lxml.

Which elements repeat is known only to the resource definitions, so `read` gives a list where an element
occurred more than once and a single value otherwise; `gateway.adapters.fhir_bundle` reads both alike.
`write` puts elements in the order in which the dictionaries hold them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from lxml import etree

from gateway.adapters.base import AdapterError
from gateway.messages import Problem

FHIR = "http://hl7.org/fhir"
MAX_DEPTH = 64
"""Deeper than any FHIR message needs, and far below Python's own recursion limit."""
MAX_TAGS = 250_000
"""A bound on what parsing may cost in memory; NHS England's largest example has under 3,000."""

_DECLARED_ENCODING = re.compile(rb"<\?xml[^>]*?\sencoding\s*=\s*[\"']([^\"']*)[\"']")
_PREFIX = f"{{{FHIR}}}"


def read(body: bytes) -> dict[str, Any]:
    """The resource in `body` in its JSON shape. Raises AdapterError(malformed=True), never anything else."""
    _refuse_unsafe(body)
    # Every switch off: no entity is expanded, no DTD or network is touched, libxml2's own size and depth
    # limits stay on. The encoding is given, so that a declaration cannot choose another one.
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    root = None
    # Errors are raised after the handlers, so that ours do not carry lxml's, which may quote the document.
    with suppress(etree.XMLSyntaxError, ValueError):
        root = etree.fromstring(body, parser)
    if root is None:
        raise _malformed("well-formed XML")
    if not root.tag.startswith(_PREFIX):
        raise _malformed(f"a root element in the namespace {FHIR}")
    return _resource(root, 1)


def _refuse_unsafe(body: bytes) -> None:
    if not _is_utf8(body):
        raise _malformed("UTF-8 encoding")
    # The bytes are UTF-8 and XML keywords have one spelling, so no document type can hide from this search.
    if b"<!DOCTYPE" in body:
        raise _malformed("no document type declaration")
    if body.count(b"<") > MAX_TAGS:
        raise _malformed(f"at most {MAX_TAGS} tags")


def _is_utf8(body: bytes) -> bool:
    declared = _DECLARED_ENCODING.match(body.removeprefix(b"\xef\xbb\xbf"))
    if declared and declared[1].lower() not in (b"utf-8", b"utf8"):
        return False
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _malformed(rule: str) -> AdapterError:
    return AdapterError([Problem("", rule)], malformed=True)


def _resource(element: etree._Element, depth: int) -> dict[str, Any]:
    return {"resourceType": etree.QName(element).localname} | _children(element, depth)


def _children(element: etree._Element, depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise _malformed(f"elements nested at most {MAX_DEPTH} deep")
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
