"""Openings by break-glass, told in log and metrics."""

from __future__ import annotations

from functools import partial

from gateway.crypto import proof
from gateway.crypto.approval import ApprovalInvalid
from gateway.crypto.break_glass import confirm
from gateway.engine.parts import Parts
from gateway.errors import ReceiptInvalid
from gateway.messages import Receipt
from gateway.store import receipts

ROUND = 50
"""Openings announced in one round."""


class Announcer:
    """Logs and counts openings, wherever they were made: by a command here, or at a recipient."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def tick(self) -> None:
        """Announce what is new. At least once: after a crash, again. Raises Unavailable."""
        store = self._parts.store
        while found := await store.read(lambda s: receipts.unannounced(s, limit=ROUND)):
            for _, cose in found:
                self._announce(cose)
            await store.write(partial(receipts.mark_announced, ids=[number for number, _ in found]))

    def _announce(self, cose: bytes) -> None:
        parts = self._parts
        try:
            notice = proof.read_receipt(cose)
        except ReceiptInvalid:
            return  # only what verified is kept
        what = "opened" if notice.issuer in parts.keys else self._judge(notice)
        parts.metrics.break_glass(what)
        parts.log.warning(
            "break-glass",
            message_id=notice.message_id,
            sender=notice.sender,
            recipient=notice.recipient,
            reason=notice.reason,
            code=what,
        )

    def _judge(self, notice: Receipt) -> str:
        """What our directory says of a recipient's opening."""
        try:
            confirm(notice, self._parts.directory.break_glass)
        except ApprovalInvalid:
            return "no-quorum"
        return "noticed"
