"""PostgreSQL behind the Store interface: for several nodes of one organisation on one database.

Durability: synchronous_commit=on, so COMMIT returns after the WAL is flushed. A writer takes every job that
waits, runs each under its own savepoint in one transaction and commits once, as the SQLite store does.

One write transaction at a time, in the whole database: each begins by taking the same advisory lock, which
its end gives back. Jobs were written for SQLite, where that is so by nature, and rely on it:

- a cursor over `inbox.sequence` or `receipts.id` never skips a row. Identities are handed out at once, but
  rows are seen at COMMIT: without the lock 8 may be seen, and paged past, before 7;
- "look, then write" holds: two chunks that arrive at once cannot each miss the other and leave a message
  incomplete for ever;
- two batches that touch the same rows in different order do not deadlock.

What is lost is little: a batch is gathered while the lock is waited for, so more load makes larger batches.

Reads run in a few threads, on connections of their own: a network stands between, so not on the caller's.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from typing import Any, Generic, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

from gateway.errors import StartupError, Unavailable
from gateway.store.base import Job, Session

T = TypeVar("T")
Connection = psycopg.Connection[tuple[Any, ...]]

MAX_BATCH = 256
"""Jobs in one transaction: bounds how long the first of them waits for the last."""
MAX_WAITING = 10_000
"""Writes, and reads, that may wait; beyond it the store says no (promise 9)."""
RERUNS = 3
"""How often a batch that PostgreSQL rolled back for a conflict is run again."""
READERS = 4
"""Threads, and connections, for reads."""
CLOSE_TIMEOUT = 30.0
"""Seconds for what was asked for before `close`."""

CONNECT: dict[str, Any] = {
    "connect_timeout": 5,
    # A server that vanished without a word (power, network) is noticed after about ten seconds.
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "client_encoding": "utf8",
    "application_name": "referral-gateway",
}
"""Connection parameters, stronger than those in the URL."""

# A node that stops in the middle of a transaction must not keep the write lock from the others: hence the
# last of these timeouts.
_TIMEOUTS = """
    SET statement_timeout = '10s';
    SET lock_timeout = '10s';
    SET idle_in_transaction_session_timeout = '10s';
"""
_SESSION = {
    False: f"{_TIMEOUTS} SET synchronous_commit = on; SET default_transaction_read_only = off;",
    True: f"{_TIMEOUTS} SET default_transaction_read_only = on;",
}
"""What a connection begins with; the key says whether it is for reads."""
_LOCK = 0x6761_7465
"""The key of the advisory lock; anything, but the same in every node."""
# READ COMMITTED, whatever the server's default: a stricter level would look at the database as it was
# before the lock was granted.
_BEGIN = f"""
    BEGIN ISOLATION LEVEL READ COMMITTED;
    SELECT pg_advisory_xact_lock({_LOCK});
    SAVEPOINT job;
"""

_ONLY_HERE = re.compile(r"/\* postgresql: (.*?) \*/")
"""See base.on_postgresql."""

_CONFLICTS = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)
_OF_THE_JOB = (psycopg.IntegrityError, psycopg.DataError)
"""Errors that say something of a job's values; any other says something of the database."""


@dataclass(slots=True)
class _Work(Generic[T]):
    """A job somebody waits for."""

    job: Job[T]
    answer: Future[T] = field(default_factory=Future)


_Outcome = tuple[Any, BaseException | None]


class PostgresStore:
    """The store for several nodes: one database that an operator made and backs up."""

    def __init__(
        self,
        url: str,
        on_commit: Callable[[int, float], None] = lambda jobs, seconds: None,
        writers: int = 2,
    ) -> None:
        """Open a database that `create` has set up. Raises StartupError.

        `writers` share the write lock: the second gathers its batch while the first commits. Jobs that are
        waiting at the same time may run in any order. `on_commit` is called on the writers' threads.
        """
        self._url = url
        self._on_commit = on_commit
        self._healthy = True
        self._closed = False
        self._reading = 0
        _migrate(url, empty=False)
        self._writes: queue.SimpleQueue[_Work[Any] | None] = queue.SimpleQueue()
        self._writers = [
            threading.Thread(target=self._write_loop, name=f"store-writer-{number}", daemon=True)
            for number in range(writers)
        ]
        self._links: queue.SimpleQueue[_Link] = queue.SimpleQueue()
        for _ in range(READERS):
            self._links.put(_Link(url, read_only=True))
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        for writer in self._writers:
            writer.start()

    @staticmethod
    def create(url: str) -> None:
        """Make the tables in a database that has none yet. Raises StartupError.

        Any number of nodes may do this, also at the same time: what is there already stays as it is.
        """
        _migrate(url, empty=True)

    @property
    def shared(self) -> bool:
        """See Store.shared."""
        return True

    @property
    def has_room(self) -> bool:
        """See Store.has_room: the database's own disk is its operator's to watch."""
        return True

    @property
    def healthy(self) -> bool:
        """False after a failure of the database, until a commit succeeds again."""
        return self._healthy

    async def write(self, job: Job[T]) -> T:
        """See Store.write. After a conflict `job` is run again: it must change nothing but the database."""
        if self._closed:
            raise Unavailable("shutting-down")
        if self._writes.qsize() >= MAX_WAITING:
            raise Unavailable("busy")
        work = _Work(job)
        # A caller that is cancelled must not undo what may already be committed: the job runs on.
        work.answer.set_running_or_notify_cancel()
        self._writes.put(work)
        return await asyncio.shield(asyncio.wrap_future(work.answer))

    async def read(self, job: Job[T]) -> T:
        """See Store.read."""
        if self._closed:
            raise Unavailable("shutting-down")
        if self._reading >= MAX_WAITING:
            raise Unavailable("busy")
        self._reading += 1
        try:
            return await asyncio.wrap_future(self._readers.submit(self._read, job))
        finally:
            self._reading -= 1

    async def close(self) -> None:
        """See Store.close."""
        if self._closed:
            return
        self._closed = True
        for _ in self._writers:
            self._writes.put(None)
        await asyncio.to_thread(self._finish)

    def _finish(self) -> None:
        ends = time.monotonic() + CLOSE_TIMEOUT
        for writer in self._writers:
            writer.join(max(0.0, ends - time.monotonic()))
        self._readers.shutdown()
        while not self._links.empty():
            self._links.get().close()

    def _read(self, job: Job[T]) -> T:
        link = self._links.get()  # there is one for each thread
        try:
            return link.try_twice(lambda connection: job(_Session(connection)))
        except psycopg.Error:
            raise Unavailable("store-unavailable") from None
        finally:
            self._links.put(link)

    def _write_loop(self) -> None:
        link = _Link(self._url, read_only=False)
        stopping = False
        while not stopping:
            first = self._writes.get()
            stopping = first is None or self._run_batch(link, [first])
        link.close()

    def _run_batch(self, link: _Link, batch: list[_Work[Any]]) -> bool:
        """Run one job and all that wait too, answer them. True: the end was asked for."""
        started = time.perf_counter()
        stopping = False
        try:
            connection = link.try_twice(_begin)
            stopping = _take_more(self._writes, batch)
            outcomes = _commit(connection, batch)
            self._healthy = True
        except psycopg.Error:
            # Not reached, lost, disk full, read-only, timeout. All are told, and nothing is run again by
            # itself: if the connection broke during COMMIT, the batch may be durable. Callers ask again
            # under the same idempotency key.
            self._healthy = False
            link.close()
            outcomes = [(None, Unavailable("store-unavailable")) for _ in batch]
        for work, (result, error) in zip(batch, outcomes, strict=True):
            if error is not None:
                work.answer.set_exception(error)
            else:
                work.answer.set_result(result)
        self._on_commit(len(batch), time.perf_counter() - started)
        return stopping


class _Link:
    """A connection that is made when it is first needed, and made again when it was lost."""

    def __init__(self, url: str, *, read_only: bool) -> None:
        self._url = url
        self._read_only = read_only
        self._connection: Connection | None = None

    def try_twice(self, step: Callable[[Connection], T]) -> T:
        """Do something that leaves nothing behind; once more if the connection kept from before is dead.

        A server that restarted is so found by the next job, and not at the cost of one for each connection.
        """
        kept = self._connection
        if kept is not None and not kept.closed:
            try:
                return step(kept)
            except psycopg.OperationalError:
                if not kept.closed:
                    raise
        self._connection = _connect(self._url, _SESSION[self._read_only])
        return step(self._connection)

    def close(self) -> None:
        """Close; what was not committed is undone."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Session:
    """An open transaction, as jobs know it: `?` for values."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> psycopg.Cursor[tuple[Any, ...]]:
        """Run one statement."""
        return self._connection.execute(_translated(sql), parameters)

    def executemany(
        self, sql: str, parameters: Iterable[Sequence[Any]], /
    ) -> psycopg.Cursor[tuple[Any, ...]]:
        """Run one statement for each row of values."""
        cursor = self._connection.cursor()
        cursor.executemany(_translated(sql), parameters)
        return cursor


@lru_cache(maxsize=512)
def _translated(sql: str) -> bytes:
    """The placeholders of psycopg. Statements hold values only as parameters, so any `?` is one."""
    sql = _ONLY_HERE.sub(r"\1", sql)
    return sql.replace("%", "%%").replace("?", "%s").encode()


@contextlib.contextmanager
def snapshot(url: str) -> Iterator[Session]:
    """The database as it is at this moment, to read from while others write. Raises StartupError."""
    try:
        with _connect(url, "SET default_transaction_read_only = on") as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield _Session(connection)
    except psycopg.Error:
        raise StartupError("the PostgreSQL database cannot be read") from None


def _connect(url: str, session: str = "") -> Connection:
    # Autocommit means here: psycopg begins no transaction that this module did not ask for.
    connection = psycopg.connect(url, autocommit=True, **CONNECT)
    try:
        connection.execute(session.encode())
    except psycopg.Error:
        connection.close()
        raise
    return connection


def _begin(connection: Connection) -> Connection:
    connection.execute(_BEGIN.encode())
    return connection


def _take_more(waiting: queue.SimpleQueue[_Work[Any] | None], batch: list[_Work[Any]]) -> bool:
    """Add the jobs that wait, up to MAX_BATCH. True: the end was asked for."""
    while len(batch) < MAX_BATCH:
        try:
            work = waiting.get_nowait()
        except queue.Empty:
            return False
        if work is None:
            return True
        batch.append(work)
    return False


def _commit(connection: Connection, batch: list[_Work[Any]]) -> list[_Outcome]:
    """Run the jobs in the open transaction and commit it, again from the start after a conflict."""
    for _ in range(RERUNS):
        try:
            return _commit_once(connection, batch)
        except _CONFLICTS:
            # PostgreSQL says so only of a transaction it did not commit: running it again is safe.
            connection.execute("ROLLBACK")
            _begin(connection)
    return _commit_once(connection, batch)


def _commit_once(connection: Connection, batch: list[_Work[Any]]) -> list[_Outcome]:
    session = _Session(connection)
    outcomes = [_run_alone(session, connection, work.job) for work in batch]
    connection.execute("COMMIT")
    return outcomes


def _run_alone(session: _Session, connection: Connection, job: Job[T]) -> _Outcome:
    """Run one job so that its failure undoes only itself. Errors of the database itself go up.

    It begins and ends at an open savepoint: one round trip for each job rather than two.
    """
    try:
        result = job(session)
    except Exception as error:
        if isinstance(error, psycopg.Error) and not isinstance(error, _OF_THE_JOB):
            raise
        connection.execute("ROLLBACK TO SAVEPOINT job")
        return None, error
    connection.execute("RELEASE SAVEPOINT job; SAVEPOINT job")
    return result, None


def _migrate(url: str, *, empty: bool) -> None:
    """Bring the schema up to date, in one transaction; `empty` says whether there may be none yet."""
    try:
        name = "{dbname} at {host}".format_map({"dbname": "?", "host": "?"} | conninfo_to_dict(url))
    except psycopg.Error:
        raise StartupError("the URL of the PostgreSQL database is not well formed") from None
    try:
        with _connect(url) as connection, connection.transaction():
            if connection.info.parameter_status("server_encoding") != "UTF8":
                raise StartupError(f"the database {name} must have the encoding UTF8")
            connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK})".encode())
            version = _version(connection)
            if version == 0 and not empty:
                raise StartupError(
                    f"the database {name} holds no gateway's tables: `gateway init` makes them"
                )
            scripts = _scripts()
            if version > len(scripts):
                raise StartupError(f"{name} was made by a newer version of the gateway: upgrade the gateway")
            for number, script in enumerate(scripts[version:], start=version + 1):
                connection.execute(script.encode())
                connection.execute("UPDATE schema_version SET version = %s", (number,))
    except psycopg.Error as error:
        # The first line says which server and why; no line holds a password.
        reason = str(error).partition("\n")[0]
        raise StartupError(f"cannot use the database {name}: {reason}") from None


def _version(connection: Connection) -> int:
    """How many scripts have been run; in a new database it makes the table that will say so.

    It looks before it makes: the role a node runs as need not be allowed to make tables.
    """
    if connection.execute("SELECT to_regclass('schema_version')").fetchone() == (None,):
        connection.execute(
            "CREATE TABLE schema_version"
            " (only_row BOOLEAN PRIMARY KEY DEFAULT true CHECK (only_row), version INTEGER NOT NULL)"
        )
        connection.execute("INSERT INTO schema_version (version) VALUES (0)")
    row = connection.execute("SELECT version FROM schema_version").fetchone()
    return int(row[0]) if row else 0


def _scripts() -> list[str]:
    """migrations/NNNN_*.sql in order; where migrations/postgres has a file of the same name, that one."""
    folder = resources.files("gateway.store.migrations")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    twins = {entry.name: entry for entry in folder.joinpath("postgres").iterdir()}
    return [twins.get(name, folder.joinpath(name)).read_text("utf-8") for name in names]
