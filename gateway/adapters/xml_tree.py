"""Plain XML as a tree of dictionaries and text, for formats whose elements are either containers or values.

Attributes are not read. Stray text between elements, which census exports are known to hold, is given apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lxml import etree

from gateway.adapters import strict_xml
from gateway.adapters.strict_xml import MAX_DEPTH, malformed


def read(body: bytes, root: str) -> tuple[dict[str, Any], list[str]]:
    """The tree below the root element, and the paths at which stray text stands. Raises AdapterError (malformed).

    An element that occurs several times is a list. Namespaces are passed over.
    """
    element = strict_xml.parse(body)
    if etree.QName(element).localname != root:
        raise malformed(f"the root element {root}")
    stray: list[str] = []
    return _children(element, root, stray, 1), stray


def _children(element: etree._Element, path: str, stray: list[str], depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise malformed(f"elements nested at most {MAX_DEPTH} deep")
    found: dict[str, Any] = {}
    if element.text and element.text.strip():
        stray.append(path)
    for child in element:
        name = etree.QName(child).localname
        if child.tail and child.tail.strip():
            stray.append(path)
        value: Any = (child.text or "").strip()
        if len(child):
            value = _children(child, f"{path}.{name}", stray, depth + 1)
        if name not in found:
            found[name] = value
        elif isinstance(found[name], list):
            found[name].append(value)
        else:
            found[name] = [found[name], value]
    return found


def write(root: str, tree: Mapping[str, Any]) -> bytes:
    """The tree as UTF-8 XML, elements in the order of the dictionaries."""
    element = etree.Element(root)
    _write(element, tree)
    return etree.tostring(element, xml_declaration=True, encoding="UTF-8", pretty_print=True)


def _write(parent: etree._Element, tree: Mapping[str, Any]) -> None:
    for name, value in tree.items():
        for item in value if isinstance(value, list) else [value]:
            child = etree.SubElement(parent, name)
            if isinstance(item, Mapping):
                _write(child, item)
            else:
                child.text = str(item)
