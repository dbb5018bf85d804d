"""The Mex- headers: what a sender says in them, and how they stand in answers.

What headers say becomes the canonical document of type `file`, and is written back from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from gateway.http.mesh_errors import MeshRefusal
from gateway.messages import moment

FIELDS: dict[str, tuple[str, int]] = {
    "fileName": ("Mex-FileName", 300),
    "subject": ("Mex-Subject", 500),
    "localId": ("Mex-LocalID", 300),
    "partnerId": ("Mex-PartnerID", 300),
    "checksum": ("Mex-Content-Checksum", 100),
}
"""Fields of the document that a header carries as it is, and how long it may be (MESH API, Send message)."""
FLAGS: dict[str, str] = {"compressed": "Mex-Content-Compressed", "encrypted": "Mex-Content-Encrypted"}
OCTETS = "application/octet-stream"
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_RANGE = re.compile(r"\s*([0-9]{1,6})\s*:\s*([0-9]{1,6})\s*")


def text(request: web.Request, name: str, most: int) -> str:
    """A header's value, or nothing. Raises MeshRefusal when it came twice, is too long or is not text."""
    values = request.headers.getall(name, [])
    value = _decoded(values[0]).strip() if values else ""
    if len(values) > 1 or len(value) > most or _CONTROL.search(value):
        raise MeshRefusal("malformed-headers")
    return value


def _decoded(value: str) -> str:
    """UTF-8, or else Latin-1, which is what Python's http.client writes."""
    data = value.encode("utf-8", "surrogateescape")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def chunk_range(request: web.Request, number: int, most: int) -> int:
    """How many chunks there are, this being chunk `number`. Raises MeshRefusal."""
    value = text(request, "Mex-Chunk-Range", 20)
    if not value and number == 1:
        return 1
    found = _RANGE.fullmatch(value)
    if found is None or int(found[1]) != number or not number <= int(found[2]) <= most:
        raise MeshRefusal("chunk-range")
    return int(found[2])


def encoding(request: web.Request) -> str | None:
    """`gzip` or nothing; the body is decoded when it is read. Raises MeshRefusal."""
    value = text(request, "Content-Encoding", 100).lower()
    if value not in {"", "identity", "gzip"}:
        raise MeshRefusal("content-encoding")
    return "gzip" if value == "gzip" else None


def document(request: web.Request, sender: str, recipient: str, workflow: str) -> dict[str, Any]:
    """The document of type `file` for what is being sent. Raises MeshRefusal."""
    fields: dict[str, Any] = {
        "type": "file",
        "version": 1,
        "workflow": workflow,
        "senderMailbox": sender,
        "recipientMailbox": recipient,
    }
    for name, (header, most) in FIELDS.items():
        if value := text(request, header, most):
            fields[name] = value
    for name, header in FLAGS.items():
        if value := text(request, header, 10):
            fields[name] = value.upper() in {"Y", "YES", "TRUE"}
    # A chunked message says what the whole is in a header of its own.
    media_type = text(request, "Mex-Content-Type", 300) or text(request, "Content-Type", 300)
    if media_type:
        fields["mediaType"] = media_type
    if encoding(request):
        fields["contentEncoding"] = "gzip"
    return fields


def described(fields: Mapping[str, Any]) -> dict[str, str]:
    """The headers that a document of type `file` fills."""
    headers = {header: fields[name] for name, (header, _) in FIELDS.items() if name in fields}
    headers |= {header: "Y" for name, header in FLAGS.items() if fields.get(name)}
    return headers


def stamp(at: int) -> str:
    """A moment (milliseconds since the epoch) as MESH writes it in headers and version 1."""
    return moment(at).strftime("%Y%m%d%H%M%S")


def iso(at: int) -> str:
    """The same as version 2 writes it (RFC 3339)."""
    return moment(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def http_date(at: int) -> str:
    """The same as HTTP writes it (RFC 9110 section 5.6.7)."""
    return moment(at).strftime("%a, %d %b %Y %H:%M:%S GMT")
