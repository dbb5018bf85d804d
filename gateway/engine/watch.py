"""Looks for a newer directory: now and then, and when an envelope speaks of a key it does not know."""

from __future__ import annotations

import asyncio
import time
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
        self._one = asyncio.Lock()
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
