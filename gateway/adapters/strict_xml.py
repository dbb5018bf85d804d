"""XML from outside, parsed with every switch off: no entities, DTD or network; bounded in size and depth."""

from __future__ import annotations

import re
from contextlib import suppress

from lxml import etree

from gateway.adapters.base import AdapterError
from gateway.messages import Problem

MAX_DEPTH = 64
"""Deeper than any format here needs, and far below Python's own recursion limit."""
MAX_TAGS = 250_000
"""A bound on what parsing may cost in memory; NHS England's largest example has under 3,000."""

_DECLARED_ENCODING = re.compile(rb"<\?xml[^>]*?\sencoding\s*=\s*[\"']([^\"']*)[\"']")


def parse(body: bytes) -> etree._Element:
    """The root element, without comments and processing instructions.

    Raises AdapterError(malformed=True), never anything else. Depth is for the reader to bound (MAX_DEPTH);
    libxml2 stops at 256.
    """
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
        raise malformed("well-formed XML")
    return root


def malformed(rule: str) -> AdapterError:
    """The bytes are not even what they claim to be."""
    return AdapterError([Problem("", rule)], malformed=True)


def _refuse_unsafe(body: bytes) -> None:
    if not _is_utf8(body):
        raise malformed("UTF-8 encoding")
    # The bytes are UTF-8 and XML keywords have one spelling, so no document type can hide from this search.
    if b"<!DOCTYPE" in body:
        raise malformed("no document type declaration")
    if body.count(b"<") > MAX_TAGS:
        raise malformed(f"at most {MAX_TAGS} tags")


def _is_utf8(body: bytes) -> bool:
    declared = _DECLARED_ENCODING.match(body.removeprefix(b"\xef\xbb\xbf"))
    if declared and declared[1].lower() not in (b"utf-8", b"utf8"):
        return False
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
