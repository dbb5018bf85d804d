"""Values of `ports.py` as the JSON the API answers with."""

from __future__ import annotations

import base64
from typing import Any

from gateway.http.ports import (
    Answered,
    AttachmentInfo,
    InboxEntry,
    MessageStatus,
    OpenedMessage,
    SignedReceipt,
)
from gateway.messages import moment


def time(at: int) -> str:
    """RFC 3339, UTC, milliseconds."""
    return moment(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def receipt(one: SignedReceipt) -> dict[str, Any]:
    """A receipt and its signed form."""
    return {
        "stage": one.stage.value,
        "issuer": one.issuer,
        "at": time(one.at),
        "reason": one.reason.value if one.reason else None,
        "receipt": base64.urlsafe_b64encode(one.cose).rstrip(b"=").decode(),
    }


def status(message: MessageStatus) -> dict[str, Any]:
    """A message with its ladders."""
    return {
        "message_id": message.message_id,
        "case": message.case,
        "type": message.type,
        "version": message.version,
        "sender": message.sender,
        "in_reply_to": message.in_reply_to,
        "created": time(message.created),
        "expires": time(message.expires),
        "purpose": message.purpose,
        "lawful_basis": message.lawful_basis,
        "recalled": time(message.recalled) if message.recalled is not None else None,
        "warnings": [{"pointer": one.pointer, "rule": one.rule} for one in message.warnings],
        "recipients": [
            {
                "recipient": ladder.recipient,
                "envelope_id": ladder.envelope_id,
                "stage": ladder.stage.value,
                "view": list(ladder.view) if ladder.view is not None else None,
                "receipts": [receipt(one) for one in ladder.receipts],
            }
            for ladder in message.ladders
        ],
    }


def entry(one: InboxEntry) -> dict[str, Any]:
    """A message of the inbox: metadata only."""
    header = one.header
    return {
        "sequence": one.sequence,
        "message_id": header.message_id,
        "envelope_id": header.envelope_id,
        "type": header.type,
        "version": header.version,
        "sender": header.sender,
        "case": header.case,
        "in_reply_to": header.in_reply_to,
        "purpose": header.purpose,
        "lawful_basis": header.lawful_basis,
        "created": time(header.created),
        "expires": time(header.expires),
        "received": time(one.received),
    }


def headers(one: InboxEntry) -> dict[str, str]:
    """The same for formats that have no place for it, as HTTP header fields."""
    return {
        "Gateway-Message-Id": one.header.message_id,
        "Gateway-Case": one.header.case,
        "Gateway-Sender": one.header.sender,
        "Gateway-Type": f"{one.header.type}/{one.header.version}",
    }


def opened(message: OpenedMessage) -> dict[str, Any]:
    """What goes with the content of an opened message."""
    base = f"/v1/inbox/{message.entry.header.message_id}"
    adapter, media_type = message.original or (None, None)
    return {
        "warnings": [{"pointer": one.pointer, "rule": one.rule} for one in message.warnings],
        "attachments": [_attachment(base, one) for one in message.attachments],
        "original": {"adapter": adapter, "media_type": media_type, "href": f"{base}/original"}
        if adapter
        else None,
    }


def answered(one: Answered) -> dict[str, Any]:
    """The outcome of ack or reject."""
    return {"message_id": one.message_id, **receipt(one.receipt)}


def _attachment(base: str, one: AttachmentInfo) -> dict[str, Any]:
    return {
        "index": one.index,
        "name": one.name,
        "media_type": one.media_type,
        "size": one.size,
        "sha256": one.sha256.hex(),
        "href": f"{base}/attachments/{one.index}",
    }
