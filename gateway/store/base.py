"""What a store is: jobs of plain SQL, run in transactions, durable when awaited.

A job is a function of a `Session`; the engine composes it from the functions in `outbox.py`, `inbox.py`,
`receipts.py`, `idempotency.py`. The SQL keeps to what SQLite and PostgreSQL share (`?` placeholders,
`ON CONFLICT`, `RETURNING`), so that both run the same files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


def on_postgresql(sql: str) -> str:
    """A piece of a statement that PostgreSQL runs and SQLite takes for a comment."""
    return f"/* postgresql: {sql} */"


SKIP_LOCKED = on_postgresql("FOR UPDATE SKIP LOCKED")
"""Ends a SELECT of rows to claim; SQLite, with its one writer, needs no such words."""
KEEP_IDENTITY = on_postgresql("OVERRIDING SYSTEM VALUE")
"""Stands in an INSERT that brings numbers the database hands out otherwise."""
Row = Sequence[Any]


class Cursor(Protocol):
    """The part of a DB-API cursor that jobs use (PEP 249)."""

    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...


class Session(Protocol):
    """An open transaction."""

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Cursor: ...
    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> Cursor: ...


Job = Callable[[Session], T]


class Store(Protocol):
    """Runs jobs. Raises Unavailable("store-unavailable") when the database cannot serve."""

    async def write(self, job: Job[T]) -> T:
        """Run `job` in a transaction and return once it is on disk (fsync).

        Jobs of concurrent callers share a commit; each fails alone: what `job` raises reaches its own
        caller and its changes are undone, the others' are not.
        """
        ...

    async def read(self, job: Job[T]) -> T:
        """Run a small, indexed `job` on what is committed; it must not write."""
        ...

    async def close(self) -> None:
        """Finish what was asked for, then close. Safe to call twice."""
        ...

    @property
    def shared(self) -> bool:
        """Whether other processes may work on the same database, so that rows must be claimed."""
        ...

    @property
    def has_room(self) -> bool:
        """Whether something new may be accepted: there is room to finish what was promised besides."""
        ...

    @property
    def healthy(self) -> bool:
        """False after a failure of the database itself, until a commit succeeds again, or without room."""
        ...
