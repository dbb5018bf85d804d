"""The store's promises: durable when awaited, each job alone, a commit shared, a clear no when it cannot."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from functools import partial
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


def put(session: Session, number: int) -> int:
    session.execute(
        "INSERT INTO dead_letters (envelope_id, agency, reason, at, size) VALUES ('e', 'a', 'r', ?, 0)",
        (number,),
    )
    return number


def numbers(session: Session) -> list[int]:
    return [row[0] for row in session.execute("SELECT at FROM dead_letters ORDER BY at").fetchall()]


async def test_what_was_awaited_is_seen_by_another_connection(store: SqliteStore, tmp_path: Path) -> None:
    assert await store.write(lambda s: put(s, 7)) == 7
    other = sqlite3.connect(tmp_path / "gateway.db")
    assert other.execute("SELECT at FROM dead_letters").fetchall() == [(7,)]
    other.close()


async def test_every_commit_is_synced_before_the_caller_goes_on(store: SqliteStore) -> None:
    assert await store.write(lambda s: s.execute("PRAGMA synchronous").fetchone()) == (2,)  # FULL
    assert await store.write(lambda s: s.execute("PRAGMA journal_mode").fetchone()) == ("wal",)


async def test_concurrent_jobs_share_a_commit(tmp_path: Path) -> None:
    batches: list[int] = []
    SqliteStore.create(tmp_path / "shared.db")
    store = SqliteStore(tmp_path / "shared.db", on_commit=lambda jobs, seconds: batches.append(jobs))
    await asyncio.gather(*(store.write(partial(put, number=n)) for n in range(200)))
    assert await store.read(numbers) == list(range(200))
    await store.close()
    assert sum(batches) == 200
    assert len(batches) < 100


async def test_a_job_that_fails_undoes_only_itself(store: SqliteStore) -> None:
    def half(session: Session) -> None:
        put(session, 99)
        raise LookupError

    good = [store.write(partial(put, number=n)) for n in range(10)]
    results = await asyncio.gather(*good, store.write(half), return_exceptions=True)
    assert results[:10] == list(range(10))
    assert isinstance(results[10], LookupError)
    assert await store.read(numbers) == list(range(10))


async def test_a_cancelled_caller_does_not_undo_the_job(store: SqliteStore) -> None:
    task = asyncio.ensure_future(store.write(lambda s: put(s, 1)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.write(lambda s: put(s, 2))
    assert await store.read(numbers) == [1, 2]


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


async def test_a_reader_cannot_write(store: SqliteStore) -> None:
    with pytest.raises(Unavailable):
        await store.read(lambda s: put(s, 1))


async def test_a_closed_store_says_no(store: SqliteStore) -> None:
    await store.close()
    with pytest.raises(Unavailable):
        await store.write(lambda s: put(s, 1))


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
