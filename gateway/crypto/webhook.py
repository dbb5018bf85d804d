"""Signatures of webhooks as Standard Webhooks defines them, version 1 of its symmetric scheme.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from gateway.messages import Sensitive

PREFIX: Final = "whsec_"
LEAST, MOST = 24, 64
"""Bytes of a secret, as the specification has it."""


def read_secret(text: str) -> Sensitive:
    """A secret in its written form, `whsec_` and base64. Raises ValueError, which never quotes it."""
    encoded = text.strip()
    try:
        secret = base64.b64decode(encoded.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if not encoded.startswith(PREFIX) or not LEAST <= len(secret) <= MOST:
        raise ValueError(f"a webhook secret is {PREFIX} and the base64 of {LEAST} to {MOST} random bytes")
    return Sensitive(secret)


def sign(secrets: Sequence[Sensitive], message_id: str, timestamp: int, payload: bytes) -> str:
    """The `webhook-signature` header: one signature for each secret. `timestamp` in seconds."""
    signed = f"{message_id}.{timestamp}.".encode() + payload
    return " ".join(f"v1,{base64.b64encode(_mac(secret.reveal(), signed)).decode()}" for secret in secrets)


def _mac(secret: bytes, data: bytes) -> bytes:
    mac = HMAC(secret, SHA256())
    mac.update(data)
    return mac.finalize()
