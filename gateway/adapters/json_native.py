"""Our own form: the canonical document as JSON (docs/messages.md). Reads strictly, and does not validate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gateway.adapters import strict_json
from gateway.adapters.base import AdapterError, Native
from gateway.messages import Canonical, Header, Problem

MEDIA_TYPE = "application/json"


class JsonNative:
    """The `json` adapter: a self-describing object with `type` and `version`."""

    name = "json"
    media_types = (MEDIA_TYPE,)

    def to_canonical(self, native: Native) -> Canonical:
        """The document and what it says it is. Whether it satisfies its schema is for the road to check."""
        document = strict_json.loads(native.body)
        if not isinstance(document, dict):
            raise AdapterError([Problem("", "an object")])
        type_, version = document.get("type"), document.get("version")
        if not isinstance(type_, str):
            raise AdapterError([Problem("/type", "the message type, as text")])
        if not isinstance(version, int) or isinstance(version, bool):
            raise AdapterError([Problem("/version", "the version of the message type, as a whole number")])
        return Canonical(type_, version, document)

    def from_canonical(self, header: Header, message: Canonical, media_type: str) -> Native:
        """The document as it is: every type has this form."""
        del header, media_type
        return Native(MEDIA_TYPE, dumps(message.document))


def dumps(document: Mapping[str, Any]) -> bytes:
    """Canonical JSON: UTF-8, names in order, no space; the same bytes for the same document."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
    return text.encode()


ADAPTER = JsonNative()
