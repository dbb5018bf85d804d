"""The only place that starts tasks: each is held, named, and its failure is reported, never lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

RESTART = 1.0
"""Seconds before work that failed is started again."""


class Tasks:
    """Long-running work that ends together. Work that fails is reported and started again."""

    def __init__(self, on_failure: Callable[[str, Exception], None]) -> None:
        self._on_failure = on_failure
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """Keep `work` running until `cancel`."""
        task = asyncio.create_task(self._keep(work, name), name=name)  # noqa: TID251 - this is the helper
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        while True:
            try:
                await work()
                return
            except Exception as error:  # noqa: BLE001 - a bug in one round must not stop the road
                self._on_failure(name, error)
                await asyncio.sleep(RESTART)

    async def cancel(self) -> None:
        """Cancel all and wait until they have ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Bell:
    """Wakes whoever waits for something new; ringing before anyone waits is not lost to the next waiter."""

    def __init__(self) -> None:
        self._future: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """Wake every waiter."""
        if self._future is not None and not self._future.done():
            self._future.set_result(None)
        self._future = None

    def listen(self) -> asyncio.Future[None]:
        """What the next ring completes. Take it before looking, so that nothing slips in between."""
        if self._future is None:
            self._future = asyncio.get_running_loop().create_future()
        return self._future


async def wait_for_ring(heard: asyncio.Future[None], timeout: float) -> bool:
    """Wait for a ring, at most `timeout` seconds; True when it rang."""
    done, _ = await asyncio.wait({heard}, timeout=timeout)
    return bool(done)
