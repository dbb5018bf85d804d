"""SQLite behind the Store interface: one writer thread with group commit; reads where they are asked for.

Durability: WAL with synchronous=FULL, so COMMIT returns after the WAL is fsynced. The writer takes every
job that waits, runs each under its own savepoint in one transaction, commits once, and only then lets
the callers go on: a hundred concurrent requests share one fsync.

Reads run on the caller's thread, on a connection of their own: in WAL mode they never wait for the writer,
they are small and indexed, and handing one to a thread and back costs several times the read itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, cast

from gateway.errors import StartupError, Unavailable
from gateway.store.base import Job, Session

T = TypeVar("T")

MAX_BATCH = 256
"""Jobs in one transaction: bounds how long the first of them waits for the last."""
MAX_WAITING = 10_000
"""Jobs that may wait; beyond it the store says no (promise 9)."""
RESERVE = 64 * 1024 * 1024
"""Bytes of disk kept for finishing what was promised: with less, nothing new is accepted."""
BUSY_TIMEOUT = 5.0
"""Seconds SQLite waits for another process's lock (a backup) before it gives up."""

_Work = tuple[Job[Any], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class SqliteStore:
    """The default store: one file, one process."""

    def __init__(
        self,
        path: Path,
        on_commit: Callable[[int, float], None] = lambda jobs, seconds: None,
    ) -> None:
        """Open an existing database (`create` makes one). Raises StartupError."""
        if not path.exists():
            raise StartupError(f"there is no database at {path}: `gateway init` makes one")
        self._path = path
        self._on_commit = on_commit
        self._healthy = True
        self._closed = False
        self._writes: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        _migrate(path)
        self._reader = _connect(path)
        self._reader.execute("PRAGMA query_only=ON")
        self._writer = threading.Thread(target=self._write_loop, name="store-writer", daemon=True)
        self._writer.start()

    @staticmethod
    def create(path: Path) -> None:
        """Make an empty database, readable by its owner alone. Raises StartupError if it exists."""
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.touch(mode=0o600, exist_ok=False)
        except FileExistsError:
            raise StartupError(f"{path} exists already: it is never overwritten") from None
        _migrate(path)

    @property
    def shared(self) -> bool:
        """See Store.shared."""
        return False

    @property
    def healthy(self) -> bool:
        """False after a failure of the database, until a commit succeeds again; and while room is short."""
        return self._healthy and self.has_room

    @property
    def has_room(self) -> bool:
        """See Store.has_room."""
        try:
            status = os.statvfs(self._path.parent)
        except OSError:
            return False
        return status.f_bavail * status.f_frsize >= RESERVE

    async def write(self, job: Job[T]) -> T:
        """See Store.write."""
        if self._closed:
            raise Unavailable("shutting-down")
        if self._writes.qsize() >= MAX_WAITING:
            raise Unavailable("busy")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._writes.put((job, loop, future))
        # A caller that is cancelled must not undo what may already be committed: the job runs on.
        return await asyncio.shield(future)

    async def read(self, job: Job[T]) -> T:
        """See Store.read."""
        if self._closed:
            raise Unavailable("shutting-down")
        try:
            return job(cast("Session", self._reader))
        except sqlite3.Error:
            raise Unavailable("store-unavailable") from None

    async def close(self) -> None:
        """See Store.close."""
        if self._closed:
            return
        self._closed = True
        self._writes.put(None)
        await asyncio.to_thread(self._writer.join, 30.0)
        self._reader.close()

    def _write_loop(self) -> None:
        connection = _connect(self._path)
        stopping = False
        while not stopping:
            batch, stopping = _take(self._writes)
            if batch:
                self._run_batch(connection, batch)
        connection.close()

    def _run_batch(self, connection: sqlite3.Connection, batch: list[_Work]) -> None:
        started = time.perf_counter()
        outcomes: list[tuple[Any, BaseException | None]] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job, _, _ in batch:
                outcomes.append(_run_alone(connection, job))
            connection.execute("COMMIT")
            self._healthy = True
        except sqlite3.Error:
            # Disk full, locked, read-only, I/O error: nothing of this batch is durable, all are told.
            self._healthy = False
            _rollback(connection)
            outcomes = [(None, Unavailable("store-unavailable")) for _ in batch]
        _answer(batch, outcomes)
        self._on_commit(len(batch), time.perf_counter() - started)


@contextlib.contextmanager
def snapshot(path: Path) -> Iterator[Session]:
    """The database as it is at this moment, to read from while a node writes. Raises StartupError."""
    if not path.exists():
        raise StartupError(f"there is no database at {path}")
    try:
        connection = _connect(path)
        try:
            connection.execute("BEGIN")
            yield cast("Session", connection)
        finally:
            connection.close()
    except sqlite3.Error:
        raise StartupError(f"the database {path} cannot be read") from None


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def _migrate(path: Path) -> None:
    """Bring the schema up to date: migrations/NNNN_*.sql in order, tracked by PRAGMA user_version."""
    scripts = sorted(
        (
            entry
            for entry in resources.files("gateway.store.migrations").iterdir()
            if entry.name.endswith(".sql")
        ),
        key=lambda entry: entry.name,
    )
    try:
        connection = _connect(path)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > len(scripts):
            raise StartupError(f"{path} was made by a newer version of the gateway: upgrade the gateway")
        for number, script in enumerate(scripts[version:], start=version + 1):
            text = script.read_text("utf-8")
            connection.executescript(f"BEGIN IMMEDIATE;\n{text}\nPRAGMA user_version={number};\nCOMMIT;")
        connection.close()
    except sqlite3.Error as error:
        raise StartupError(f"cannot use the database {path}: {error.sqlite_errorname}") from None


def _take(waiting: queue.SimpleQueue[_Work | None]) -> tuple[list[_Work], bool]:
    """Wait for one job, then take all that wait too, up to MAX_BATCH. True: the end was asked for."""
    batch: list[_Work] = []
    item = waiting.get()
    while item is not None:
        batch.append(item)
        if len(batch) == MAX_BATCH:
            return batch, False
        try:
            item = waiting.get_nowait()
        except queue.Empty:
            return batch, False
    return batch, True


def _run_alone(connection: sqlite3.Connection, job: Job[T]) -> tuple[T | None, BaseException | None]:
    """Run one job so that its failure undoes only itself. Errors of the database itself go up."""
    connection.execute("SAVEPOINT job")
    try:
        result = job(cast(Session, connection))
    except sqlite3.OperationalError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a job raises is its caller's to handle
        connection.execute("ROLLBACK TO job")
        connection.execute("RELEASE job")
        return None, error
    connection.execute("RELEASE job")
    return result, None


def _rollback(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error:
            pass  # the transaction ended with the error itself


def _answer(batch: list[_Work], outcomes: list[tuple[Any, BaseException | None]]) -> None:
    """Hand results back, with one wake-up per event loop rather than one per job."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any, BaseException | None]]] = {}
    for (_, loop, future), (result, error) in zip(batch, outcomes, strict=True):
        by_loop.setdefault(loop, []).append((future, result, error))
    for loop, answers in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, answers)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more


def _resolve(answers: list[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
    for future, result, error in answers:
        if future.done():
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
