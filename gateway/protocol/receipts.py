"""What a receipt says of an envelope, whichever part of the node makes it."""

from __future__ import annotations

from gateway.messages import Header, Reason, Receipt, Stage


def receipt_for(
    header: Header, digest: bytes, stage: Stage, at: int, reason: Reason | None = None
) -> Receipt:
    """The recipient's statement about an envelope."""
    return Receipt(
        stage,
        header.message_id,
        header.envelope_id,
        digest,
        header.sender,
        header.recipient,
        issuer=header.recipient,
        at=at,
        reason=reason,
    )
