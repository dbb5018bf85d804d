"""Decrypts what arrived and finds out who signed it. A key that is unknown is looked for once more."""

from __future__ import annotations

import time

from gateway.crypto import envelope
from gateway.crypto.envelope import Opened
from gateway.engine.parts import Parts
from gateway.engine.watch import DirectoryWatch
from gateway.errors import RefusedByPeer, Unavailable
from gateway.messages import Reason
from gateway.transport.base import Sealed


class Unsealer:
    """Opens envelopes to the agencies of this node."""

    def __init__(self, parts: Parts, watch: DirectoryWatch) -> None:
        self._parts = parts
        self._watch = watch

    async def open(self, sealed: Sealed) -> Opened:
        """Decrypt and authenticate, with the newest directory and keys of our own if need be.

        Raises RefusedByPeer; Unavailable while the key may be one of ours that cannot be read now.
        """
        try:
            return await self._open_ours(sealed)
        except RefusedByPeer as refusal:
            if refusal.reason is not Reason.UNKNOWN_SENDER:
                raise
        await self._watch.look_again()
        return self._open(sealed)

    async def _open_ours(self, sealed: Sealed) -> Opened:
        """With the newest of our own keys if need be. Raises as `open` does."""
        try:
            return self._open(sealed)
        except RefusedByPeer as refusal:
            if refusal.reason is not Reason.UNKNOWN_KEY:
                raise
        # A rotation writes the key file, then the directory: its sender may have looked before we did.
        await self._watch.look_at_keys()
        try:
            return self._open(sealed)
        except RefusedByPeer as refusal:
            if refusal.reason is Reason.UNKNOWN_KEY and self._parts.keys.is_stale(sealed.recipient):
                raise Unavailable("key-token-unavailable") from None
            raise

    def _open(self, sealed: Sealed) -> Opened:
        """With what we know now. Raises RefusedByPeer."""
        started = time.perf_counter()
        opened = envelope.open_envelope(
            sealed.body,
            recipient=sealed.recipient,
            keys=self._parts.keys[sealed.recipient].opening,
            find_verify_key=self._parts.find_verify_key,
        )
        self._parts.metrics.step("open", time.perf_counter() - started)
        return opened
