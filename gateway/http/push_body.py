"""What the body of a push looks like: the message as the inbox shows it, with its files inside.

Always text: receivers verify signatures over what they take for UTF-8. The same message gives the same bytes
at every attempt.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

from gateway.adapters.base import Native
from gateway.http import render
from gateway.http.ports import OpenedMessage

JSON = "application/json"


def whole(opened: OpenedMessage, files: Mapping[int, bytes], original: Native | None) -> Native:
    """Canonical JSON within what GET /v1/inbox/{id} answers; in place of links, files in base64.

    `files` are the attachments by index; `original` is what the sender's system wrote, if it is wanted.
    """
    about = render.opened(opened)
    for one in about["attachments"]:
        del one["href"]
        one["body"] = base64.b64encode(files[one["index"]]).decode()
    if about["original"]:
        del about["original"]["href"]
        if original is not None:
            about["original"]["body"] = base64.b64encode(original.body).decode()
    document = {
        "message": render.entry(opened.entry),
        "content": json.loads(opened.native.body),
        **about,
    }
    return Native(JSON, json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())
