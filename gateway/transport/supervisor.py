"""Holds a transport's own background task: kept alive, cancelled once, waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Supervisor:
    """At most a few tasks that end with the transport."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` until `stop`."""
        task = asyncio.create_task(work)  # noqa: TID251 - held here, cancelled and awaited in stop()
        self._tasks.append(task)
        return task

    async def stop(self) -> None:
        """Cancel and wait."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
