"""One job in a node's database, for commands of its operator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from gateway.cli.common import Exit, fail
from gateway.errors import Unavailable
from gateway.store.base import Session
from gateway.store.opening import open_store

T = TypeVar("T")


def in_database(database: Path | str, job: Callable[[Session], T]) -> T:
    """Do one thing in a database, also while its node runs. Raises StartupError."""

    async def work() -> T:
        store = open_store(database, lambda jobs, seconds: None)
        try:
            return await store.write(job)
        finally:
            await store.close()

    try:
        return asyncio.run(work())
    except Unavailable:
        fail("the database cannot be used now", Exit.UNAVAILABLE)
