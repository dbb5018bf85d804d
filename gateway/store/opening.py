"""Which store a node uses: a path is SQLite, a postgresql:// URL is PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.errors import StartupError
from gateway.store import sqlite
from gateway.store.base import Session, Store
from gateway.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from gateway.store.postgres import PostgresStore


def open_store(database: Path | str, on_commit: Callable[[int, float], None]) -> Store:
    """Open what `create_store` made; a str is a URL. Raises StartupError."""
    if isinstance(database, Path):
        return SqliteStore(database, on_commit=on_commit)
    return _postgres()(database, on_commit=on_commit)


def create_store(database: Path | str) -> None:
    """Make an empty database at a path, or the tables in the database of a URL. Raises StartupError."""
    if isinstance(database, Path):
        SqliteStore.create(database)
    else:
        _postgres().create(database)


def _postgres() -> type[PostgresStore]:
    try:
        from gateway.store.postgres import PostgresStore  # noqa: PLC0415 - an extra: only who uses it needs it
    except ImportError:
        raise StartupError(
            "PostgreSQL needs the package's extra: pip install 'referral-gateway[postgres]'"
        ) from None
    return PostgresStore


def snapshot(database: Path | str) -> AbstractContextManager[Session]:
    """The database as it is at this moment, to read from while nodes write. Raises StartupError."""
    if isinstance(database, Path):
        return sqlite.snapshot(database)
    _postgres()
    from gateway.store import postgres  # noqa: PLC0415 - as above

    return postgres.snapshot(database)
