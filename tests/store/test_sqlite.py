"""What only SQLite has to answer for; test_contract.py holds what both stores promise."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.errors import StartupError, Unavailable
from gateway.store.base import Session
from gateway.store.sqlite import SqliteStore


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    SqliteStore.create(tmp_path / "gateway.db")
    store = SqliteStore(tmp_path / "gateway.db")
    yield store
    await store.close()


async def test_every_commit_is_synced_before_the_caller_goes_on(store: SqliteStore) -> None:
    assert await store.write(lambda s: s.execute("PRAGMA synchronous").fetchone()) == (2,)  # FULL
    assert await store.write(lambda s: s.execute("PRAGMA journal_mode").fetchone()) == ("wal",)


async def test_a_database_that_cannot_write_says_so_and_recovers(store: SqliteStore) -> None:
    """SQLITE_FULL, made by a page limit: nothing of the batch stays, and the next commit works again."""
    await store.write(lambda s: s.execute("PRAGMA max_page_count=1") and None)
    big = b"x" * 1_000_000

    def fill(session: Session) -> None:
        session.execute(
            "INSERT INTO inbound_chunks (agency, chunk_id, expires, body) VALUES ('a','c',0,?)", (big,)
        )

    with pytest.raises(Unavailable):
        await store.write(fill)
    assert not store.healthy
    await store.write(lambda s: s.execute("PRAGMA max_page_count=1000000") and None)
    await store.write(fill)
    assert store.healthy


def test_a_node_never_makes_or_overwrites_a_database(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="gateway init"):
        SqliteStore(tmp_path / "missing.db")
    SqliteStore.create(tmp_path / "there.db")
    with pytest.raises(StartupError, match="never overwritten"):
        SqliteStore.create(tmp_path / "there.db")
    assert (tmp_path / "there.db").stat().st_mode & 0o077 == 0


def test_a_database_from_a_newer_gateway_is_refused(tmp_path: Path) -> None:
    SqliteStore.create(tmp_path / "new.db")
    connection = sqlite3.connect(tmp_path / "new.db")
    connection.execute("PRAGMA user_version=999")
    connection.close()
    with pytest.raises(StartupError, match="newer version"):
        SqliteStore(tmp_path / "new.db")


def test_a_file_that_is_no_database_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_text("this is not a database, only text that is long enough to have a header" * 10)
    with pytest.raises(StartupError, match="cannot use the database"):
        SqliteStore(path)
