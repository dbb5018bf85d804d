"""What makes two requests under one Idempotency-Key the same request.

Keyed with a secret of the agency: neither the key nor the request can be guessed back from the database,
whatever a caller puts into them.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid

from gateway.http.ports import Submission
from gateway.messages import MessageId

_KEY = b"referral-gateway/1 idempotency key"
_ID = b"referral-gateway/1 message id"
_REQUEST = b"referral-gateway/1 idempotency request"


def key_mac(secret: bytes, key: str) -> bytes:
    """The name under which a key is remembered."""
    return hmac.digest(secret, _KEY + b"\0" + key.encode(), "sha256")


def message_id(secret: bytes, key: str) -> MessageId:
    """The message that a key stands for, in the form of a random identifier (RFC 9562 UUID version 4).

    Derived rather than drawn, so that a node which was restored to an older copy knows a request that is
    repeated from what its peers tell it. Without the agency's secret it says nothing of the key.
    """
    return MessageId(
        str(uuid.UUID(bytes=hmac.digest(secret, _ID + b"\0" + key.encode(), "sha256")[:16], version=4))
    )


class Fingerprint:
    """An HMAC over everything the caller sent, each field with its length so that none can slide."""

    def __init__(self, secret: bytes, submission: Submission) -> None:
        self._mac = hmac.new(secret, _REQUEST, hashlib.sha256)
        self._add(submission.body.media_type, submission.body.body, submission.adapter)
        self._add(*submission.recipients)
        self._add(submission.purpose, submission.lawful_basis, submission.case, submission.in_reply_to)
        self._add(str(submission.expires_in))

    def add_attachment(self, name: str, media_type: str, sha256: bytes) -> None:
        """An attachment, in the order sent."""
        self._add(name, media_type, sha256)

    def value(self) -> bytes:
        """The fingerprint of all added so far."""
        return self._mac.digest()

    def _add(self, *fields: str | bytes | None) -> None:
        self._mac.update(len(fields).to_bytes(4, "big"))
        for field in fields:
            data = b"" if field is None else field.encode() if isinstance(field, str) else field
            self._mac.update((b"\0" if field is None else b"\1") + len(data).to_bytes(8, "big"))
            self._mac.update(data)
