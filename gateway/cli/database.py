"""One job in a node's database, for commands of its operator."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from gateway.cli.common import Exit, fail
from gateway.errors import StartupError, Unavailable
from gateway.store.base import Session
from gateway.store.opening import open_store

T = TypeVar("T")


def in_database(database: Path | str, job: Callable[[Session], T]) -> T:
    """Do one thing in a database, also while its node runs. Raises StartupError."""
    try:
        return asyncio.run(_run(database, job))
    except Unavailable:
        fail("the database cannot be used now", Exit.UNAVAILABLE)


def enter(database: Path | str, job: Callable[[Session], object]) -> None:
    """Add to the audit log what was done. Should that fail, what was done stands, and a warning says so."""
    try:
        asyncio.run(_run(database, job))
    except (StartupError, Unavailable):
        print("gateway: done, but not entered in the audit log: the database cannot be used", file=sys.stderr)


async def _run(database: Path | str, job: Callable[[Session], T]) -> T:
    store = open_store(database, lambda jobs, seconds: None)
    try:
        return await store.write(job)
    finally:
        await store.close()
