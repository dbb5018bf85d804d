"""Looks for newer keys and a newer directory: now and then, and when an envelope speaks of an unknown key."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Final

from gateway.engine.audit import Auditor
from gateway.engine.parts import Parts
from gateway.errors import Unavailable

PAUSE: Final = 1.0
"""Seconds between two looks that envelopes ask for: rubbish cannot make us look all the time."""


class DirectoryWatch:
    """One look at a time."""

    def __init__(self, parts: Parts, auditor: Auditor) -> None:
        self._parts, self._auditor = parts, auditor
        self._one, self._keys = asyncio.Lock(), asyncio.Lock()
        self._looked = -PAUSE

    async def look(self) -> bool:
        """True when there is a newer directory; it is in use then, and entered in the audit log."""
        async with self._one:
            self._looked = time.monotonic()
            if not await asyncio.to_thread(self._parts.source.refresh):
                return False
            self._parts.log.info("directory-loaded", count=len(self._parts.directory.agencies))
            try:
                await self._auditor.directory_changed()
            except Unavailable:
                self._parts.log.warning("store-unavailable")  # the next tick enters it
            return True

    async def look_again(self) -> None:
        """Before somebody is called unknown: their key may be younger than our copy."""
        asked = time.monotonic()
        await asyncio.sleep(max(0.0, self._looked + PAUSE - asked))
        if self._looked < asked:  # nobody has looked since
            await self.look()

    async def catch_up(self) -> None:
        """Keys and directory as another process of this node may have them already. Never waits its turn."""
        await self.look_at_keys()
        if time.monotonic() >= self._looked + PAUSE:
            await self.look()

    async def look_at_keys(self) -> None:
        """Take in files of our own keys that changed; entered in the audit log."""
        parts = self._parts
        refused = partial(parts.log.error, "keys-refused")
        async with self._keys:
            if not await asyncio.to_thread(parts.keys.refresh, parts.directory, parts.now(), refused):
                return
        try:
            await self._auditor.keys_changed()
        except Unavailable:
            parts.log.warning("store-unavailable")  # the next start finds the difference
