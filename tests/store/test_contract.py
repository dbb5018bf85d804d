"""What a store promises, held against both of them; then what only PostgreSQL has to answer for."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import inspect
import re
import shutil
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gateway.store.postgres
import gateway.store.sqlite
from gateway.errors import StartupError, Unavailable
from gateway.messages import (
    AgencyId,
    CaseId,
    Emergency,
    EnvelopeId,
    Header,
    MessageId,
    Reason,
    Receipt,
    Stage,
    new_id,
)
from gateway.store import (
    audit,
    claims,
    dead_letters,
    dump,
    idempotency,
    inbox,
    key_usage,
    mesh,
    notes,
    outbox,
    receipts,
    reconciliations,
)
from gateway.store.base import Job, Session, Store
from gateway.store.postgres import RERUNS, PostgresStore
from gateway.store.sqlite import SqliteStore
from tests.postgres import PostgresServer

PATIENCE = 30.0
"""Seconds until something that should have happened has not."""


def put(session: Session, number: int) -> int:
    session.execute(
        "INSERT INTO dead_letters (envelope_id, agency, reason, at, size) VALUES ('e', 'a', 'r', ?, 0)",
        (number,),
    )
    return number


def numbers(session: Session) -> list[int]:
    return [row[0] for row in session.execute("SELECT at FROM dead_letters ORDER BY at").fetchall()]


def take_key(session: Session, key: bytes) -> None:
    session.execute(
        "INSERT INTO idempotency (agency, key_mac, fingerprint, message_id, warnings, created)"
        " VALUES ('a', ?, ?, 'm', '[]', 0)",
        (key, b""),
    )


class Gate:
    """A job that holds the writer until it is told to go on."""

    def __init__(self) -> None:
        self._entered = threading.Event()
        self._open = threading.Event()

    def __call__(self, session: Session) -> None:
        self._entered.set()
        assert self._open.wait(PATIENCE)

    async def entered(self) -> None:
        assert await asyncio.to_thread(self._entered.wait, PATIENCE)

    def open(self) -> None:
        self._open.set()


class SqliteGround:
    """A file, and what may happen to it."""

    module = gateway.store.sqlite
    integrity_error = sqlite3.IntegrityError

    def __init__(self, folder: Path) -> None:
        self._path = folder / "gateway.db"
        SqliteStore.create(self._path)

    def open(self, on_commit: Callable[[int, float], None] = lambda jobs, seconds: None) -> Store:
        return SqliteStore(self._path, on_commit=on_commit)

    def crash(self) -> None:
        """What is in the files now is what a process that is killed now leaves."""
        after = self._path.with_name("after")
        after.mkdir()
        for file in self._path.parent.glob("gateway.db*"):
            if not file.name.endswith("-shm"):  # rebuilt when the file is opened
                shutil.copy(file, after)
        self._path = after / self._path.name

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """Another process keeps the lock."""
        other = sqlite3.connect(self._path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        yield
        other.close()


class PostgresGround:
    """A server, and what may happen to it."""

    module = gateway.store.postgres
    integrity_error = psycopg.IntegrityError

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self.url = server.create_database()
        PostgresStore.create(self.url)

    def open(self, on_commit: Callable[[int, float], None] = lambda jobs, seconds: None) -> Store:
        return PostgresStore(self.url, on_commit=on_commit)

    def crash(self) -> None:
        with self.outage():
            pass

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        self._server.kill()
        try:
            yield
        finally:
            self._server.start()


Ground = SqliteGround | PostgresGround


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.xdist_group("postgres"))])
def ground(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ground:
    monkeypatch.setattr(gateway.store.sqlite, "BUSY_TIMEOUT", 0.05)
    if request.param == "sqlite":
        return SqliteGround(tmp_path)
    return PostgresGround(request.getfixturevalue("postgres"))


@pytest.fixture
async def store(ground: Ground) -> AsyncIterator[Store]:
    store = ground.open()
    yield store
    await store.close()


# --- both stores ---


async def test_a_job_gets_its_result_and_others_see_what_it_wrote(ground: Ground, store: Store) -> None:
    assert await store.write(lambda s: put(s, 7)) == 7
    other = ground.open()
    assert await other.read(numbers) == [7]
    await other.close()


async def test_what_was_awaited_outlives_kill(ground: Ground, store: Store) -> None:
    await asyncio.gather(*(store.write(partial(put, number=n)) for n in range(50)))
    ground.crash()
    after = ground.open()
    assert await after.read(numbers) == list(range(50))
    await after.close()


async def test_concurrent_jobs_share_a_commit(ground: Ground) -> None:
    batches: list[int] = []
    store = ground.open(lambda jobs, seconds: batches.append(jobs))
    await asyncio.gather(*(store.write(partial(put, number=n)) for n in range(200)))
    assert await store.read(numbers) == list(range(200))
    await store.close()
    assert sum(batches) == 200
    assert len(batches) < 100


async def test_a_job_that_fails_undoes_only_itself(store: Store) -> None:
    def half(session: Session) -> None:
        put(session, 99)
        raise LookupError

    jobs: list[Job[Any]] = [partial(put, number=n) for n in range(10)]
    jobs.insert(5, half)
    gate = Gate()
    held = asyncio.ensure_future(store.write(gate))  # so that the rest are one batch
    await gate.entered()
    asked = asyncio.gather(*(store.write(job) for job in jobs), return_exceptions=True)
    gate.open()
    await held
    results = await asked
    assert isinstance(results.pop(5), LookupError)
    assert results == list(range(10))
    assert await store.read(numbers) == list(range(10))


async def test_a_value_the_database_refuses_fails_only_its_own_job(ground: Ground, store: Store) -> None:
    await store.write(lambda s: take_key(s, b"1"))
    refused, accepted = await asyncio.gather(
        store.write(lambda s: take_key(s, b"1")),
        store.write(lambda s: take_key(s, b"2")),
        return_exceptions=True,
    )
    assert isinstance(refused, ground.integrity_error)
    assert accepted is None
    assert store.healthy


async def test_a_statement_that_is_not_one_is_no_answer(store: Store) -> None:
    with pytest.raises(Unavailable):
        await store.write(lambda s: s.execute("SELECT 1 FROM nowhere"))
    with pytest.raises(Unavailable):
        await store.read(lambda s: s.execute("SELECT 1 FROM nowhere"))
    assert not store.healthy
    await store.write(lambda s: put(s, 1))
    assert store.healthy


async def test_a_cancelled_caller_does_not_undo_the_job(ground: Ground, store: Store) -> None:
    gate = Gate()
    held = asyncio.ensure_future(store.write(gate))
    await gate.entered()
    task = asyncio.ensure_future(store.write(lambda s: put(s, 1)))
    await asyncio.sleep(0)  # it has asked
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.open()
    await held
    await store.close()
    after = ground.open()
    assert await after.read(numbers) == [1]
    await after.close()


async def test_too_many_waiting_jobs_are_refused(
    ground: Ground, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ground.module, "MAX_WAITING", 3)
    gate = Gate()
    held = asyncio.ensure_future(store.write(gate))
    await gate.entered()
    tasks = [asyncio.ensure_future(store.write(partial(put, number=n))) for n in range(6)]
    await asyncio.sleep(0)  # each has asked
    gate.open()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    await held
    refused = [result for result in results if isinstance(result, Unavailable)]
    assert refused
    assert {error.code for error in refused} == {"busy"}
    # Three wait; a second writer may hold one more. What was not refused was done.
    accepted = [result for result in results if not isinstance(result, Unavailable)]
    assert len(accepted) >= 3
    assert await store.read(numbers) == accepted


async def test_close_finishes_what_was_asked_for(ground: Ground, store: Store) -> None:
    gate = Gate()
    held = asyncio.ensure_future(store.write(gate))
    await gate.entered()
    asked = asyncio.gather(*(store.write(partial(put, number=n)) for n in range(600)))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(store.close())
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="shutting-down"):
        await store.write(lambda s: put(s, -1))
    gate.open()
    await closing
    await held
    assert await asked == list(range(600))
    after = ground.open()
    assert await after.read(numbers) == list(range(600))
    await after.close()


async def test_a_closed_store_says_no(store: Store) -> None:
    await store.close()
    await store.close()
    with pytest.raises(Unavailable, match="shutting-down"):
        await store.write(lambda s: put(s, 1))
    with pytest.raises(Unavailable, match="shutting-down"):
        await store.read(numbers)


async def test_a_database_that_cannot_be_used_says_so_and_recovers(ground: Ground, store: Store) -> None:
    await store.write(lambda s: put(s, 1))
    assert store.healthy
    with ground.outage():
        results = await asyncio.gather(
            *(store.write(partial(put, number=n)) for n in range(2, 12)), return_exceptions=True
        )
        assert {type(result) for result in results} == {Unavailable}
        assert {getattr(result, "code", "") for result in results} == {"store-unavailable"}
        assert not store.healthy
    await store.write(lambda s: put(s, 12))
    assert store.healthy
    assert await store.read(numbers) == [1, 12]


async def test_a_reader_cannot_write(store: Store) -> None:
    with pytest.raises(Unavailable):
        await store.read(lambda s: put(s, 1))
    assert await store.read(numbers) == []


async def test_values_come_back_as_they_went(store: Store) -> None:
    values = ("what?", "100 %s %", b"\x00\xff?%", 2**62, None)
    columns = "envelope_id, issuer, cose, at, reason, stage"

    def job(session: Session) -> Any:
        session.execute(f"INSERT INTO receipts ({columns}) VALUES (?, ?, ?, ?, ?, '%')", values)
        return session.execute(f"SELECT {columns} FROM receipts WHERE stage LIKE '%' AND at = ?", (2**62,))

    row = await store.write(lambda s: tuple(job(s).fetchone()))
    assert row == (*values, "%")
    assert [type(value) for value in row[:3]] == [str, str, bytes]


async def test_executemany_runs_for_each_row_and_for_none(store: Store) -> None:
    def job(session: Session) -> int:
        sql = "INSERT INTO dead_letters (envelope_id, agency, reason, at, size) VALUES ('e', 'a', 'r', ?, 0)"
        session.executemany(sql, [])
        return session.executemany(sql, [(1,), (2,), (3,)]).rowcount

    assert await store.write(job) == 3
    assert await store.read(numbers) == [1, 2, 3]


# --- the same answers from both ---

ENVELOPES = [EnvelopeId(f"e{n}") for n in range(4)]
MESSAGES = [MessageId(f"m{n}") for n in range(3)]
AGENCIES = [AgencyId("a0"), AgencyId("a1")]
BODIES = [b"", b"\x00\xff", b"body"]
STAGES = list(Stage)

envelope_ids = st.sampled_from(ENVELOPES)
chunk_ids = st.sampled_from([EnvelopeId(f"c{n}") for n in range(4)])
message_ids = st.sampled_from(MESSAGES)
agencies = st.sampled_from(AGENCIES)
bodies = st.sampled_from(BODIES)
stages = st.sampled_from(STAGES)
senders = st.sampled_from([AgencyId(f"sender-of-{one}") for one in MESSAGES])
times = st.integers(0, 50)
limits = st.integers(1, 4)


claimants = st.sampled_from([claims.NOBODY, "p1", "p2"])
a_claim = st.builds(claims.Claim, claimant=claimants, until=st.integers(0, 60))


def deadline(envelope_id: str, base: int) -> int:
    """A time no other envelope has: the order among equal times is the database's own."""
    return base * 10 + int(envelope_id[1:])


@st.composite
def headers(draw: st.DrawFn) -> Header:
    envelope_id, message_id = draw(envelope_ids), draw(message_ids)
    return Header(
        message_id=message_id,
        envelope_id=envelope_id,
        type="referral",
        version=1,
        sender=AgencyId(f"sender-of-{message_id}"),
        recipient=draw(agencies),
        case=draw(st.sampled_from([CaseId("c1"), CaseId("c2")])),
        in_reply_to=draw(st.none() | message_ids),
        created=draw(times),
        expires=deadline(envelope_id, draw(times)),
        purpose="p",
        lawful_basis="l",
    )


@st.composite
def outbound(draw: st.DrawFn) -> Job[Any]:
    envelope_id, body = draw(envelope_ids), draw(bodies)
    envelope = outbox.OutboundEnvelope(
        envelope_id=envelope_id,
        message_id=draw(message_ids),
        position=int(envelope_id[1:]),
        recipient=draw(agencies),
        stage=draw(st.just(Stage.ACCEPTED) | stages),
        presumed=draw(st.booleans()),
        digest=body,
        size=len(body),
        expires=deadline(envelope_id, draw(times)),
        sent=draw(st.booleans()),
        attempts=draw(st.integers(0, 3)),
    )
    due = deadline(envelope_id, draw(times))
    return partial(outbox.add_envelope, envelope=envelope, body=body, due=due, claim=draw(a_claim))


@st.composite
def again(draw: st.DrawFn) -> Job[Any]:
    envelope_id = draw(envelope_ids)
    return partial(outbox.send_again, envelope_id=envelope_id, due=deadline(envelope_id, draw(times)))


def claim_some(session: Session, limit: int, now: int, claim: claims.Claim) -> int:
    found = receipts.owed(session, limit=limit, now=now, claimant=claim.claimant)
    return len(receipts.claim(session, [one.id for one in found], now, claim))


def claim_notes(session: Session, limit: int, now: int, claim: claims.Claim) -> int:
    found = notes.owed(session, limit=limit, now=now, claimant=claim.claimant)
    return len(notes.claim(session, [one.id for one in found], now, claim))


def settle_note(session: Session) -> None:
    for one in notes.owed(session, limit=1, now=100):
        notes.settle(session, one.id)


refusals = st.builds(
    dead_letters.Refused,
    envelope_id=envelope_ids,
    agency=agencies,
    lane=st.sampled_from(["messages", "receipts"]),
    reason=st.sampled_from(list(Reason)),
    at=times,
    expires=times,
    body=bodies,
)


def replay_newest(session: Session) -> list[bool]:
    return [dead_letters.ask_replay(session, one.id) for one in dead_letters.newest(session, limit=1)]


def replayed(session: Session, limit: int) -> list[dead_letters.Refused]:
    return [one for _, one in dead_letters.to_replay(session, limit=limit)]


def drop_newest(session: Session) -> list[bool]:
    return [dead_letters.drop(session, one.id) for one in dead_letters.newest(session, limit=1)]


def asked_one(session: Session, due: int) -> None:
    for one in reconciliations.every(session)[:1]:
        reconciliations.asked(session, one, due=due)


@st.composite
def put_offs(draw: st.DrawFn) -> Job[Any]:
    envelope_id = draw(envelope_ids)
    return partial(outbox.put_off, envelope_id=envelope_id, due=deadline(envelope_id, draw(times)))


def finish_of(session: Session, envelope_id: EnvelopeId, stage: Stage) -> None:
    if found := inbox.body_of(session, envelope_id):
        inbox.finish(session, found.held, stage)


def waiting_after(session: Session, envelope_id: EnvelopeId, agency: AgencyId, limit: int) -> Any:
    found = inbox.body_of(session, envelope_id)
    return inbox.waiting(session, agency, after=found.held.sequence if found else 0, limit=limit)


def read_unanswered(session: Session, agency: AgencyId) -> list[tuple[inbox.Held, bytes]]:
    return list(inbox.unanswered(session, agency))


def settle_some(session: Session, limit: int) -> None:
    receipts.settle(session, [one.id for one in receipts.owed(session, limit=limit)])


def read_new(session: Session, limit: int) -> list[bytes]:
    return [cose for _, cose in receipts.unannounced(session, limit=limit)]


def announce_some(session: Session, limit: int) -> None:
    receipts.mark_announced(session, [number for number, _ in receipts.unannounced(session, limit=limit)])


def call(function: Callable[..., Any], **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Job[Any]]:
    return st.builds(partial, st.just(function), **arguments)


def statements(stage: st.SearchStrategy[Stage], reason: st.SearchStrategy[Any]) -> st.SearchStrategy[Receipt]:
    return st.builds(
        Receipt,
        stage=stage,
        message_id=message_ids,
        envelope_id=envelope_ids,
        envelope_digest=st.just(b"d"),
        sender=agencies,
        recipient=agencies,
        issuer=agencies,
        at=times,
        reason=reason,
    )


steps = [stage for stage in Stage if stage is not Stage.OPENED]
signed = statements(st.sampled_from(steps), st.none() | st.sampled_from(Reason)) | statements(
    st.just(Stage.OPENED), st.sampled_from(Emergency)
)
outbound_messages = st.builds(
    outbox.OutboundMessage,
    message_id=message_ids,
    agency=agencies,
    case=st.just("c"),
    type=st.just("referral"),
    version=st.just(1),
    in_reply_to=st.none() | message_ids,
    created=times,
    expires=times,
    purpose=st.just("p"),
    lawful_basis=st.just("l"),
)
remembered = st.builds(
    idempotency.Remembered, fingerprint=bodies, message_id=message_ids, warnings=st.just("[]")
)

mailboxes = st.sampled_from(["B1", "B2"])


@st.composite
def mesh_sent(draw: st.DrawFn) -> Job[Any]:
    message_id = draw(message_ids)
    sent = mesh.MeshSent(
        message_id=message_id,
        agency=draw(agencies),
        report_id=message_id.replace("m", "r"),
        mailbox=draw(mailboxes),
        recipient="B3",
        workflow="W",
        local_mac=draw(st.none() | bodies),
        details=b"sealed",
        created=draw(times),
    )
    return partial(mesh.add, sent=sent)


STEPS: dict[Callable[..., Any], st.SearchStrategy[Job[Any]]] = {
    outbox.add_message: call(outbox.add_message, message=outbound_messages),
    outbox.add_envelope: outbound(),
    outbox.message: call(outbox.message, agency=agencies, message_id=message_ids),
    outbox.envelopes: call(outbox.envelopes, message_id=message_ids),
    outbox.find: call(outbox.find, envelope_id=envelope_ids),
    outbox.due: call(
        outbox.due, now=times, limit=limits, exclude=st.frozensets(envelope_ids), claimant=claimants
    ),
    outbox.claim: call(outbox.claim, envelope_id=envelope_ids, now=times, claim=a_claim),
    outbox.send_again: again(),
    claims.renew: call(claims.renew, claim=a_claim),
    outbox.mark_sent: call(outbox.mark_sent, envelope_id=envelope_ids),
    outbox.put_off: put_offs(),
    outbox.set_stage: call(outbox.set_stage, envelope_id=envelope_ids, stage=stages, presumed=st.booleans()),
    outbox.overdue: call(outbox.overdue, before=st.integers(0, 500), limit=limits),
    outbox.backlog: call(outbox.backlog),
    outbox.oldest_due: call(outbox.oldest_due),
    outbox.add_chunk: call(
        outbox.add_chunk,
        chunk=st.builds(outbox.OutboundChunk, chunk_id=chunk_ids, body=bodies),
        envelope_id=envelope_ids,
        position=st.integers(0, 3),
        created=times,
    ),
    outbox.next_chunk: call(outbox.next_chunk, envelope_id=envelope_ids),
    outbox.mark_chunk_sent: call(outbox.mark_chunk_sent, chunk_id=chunk_ids),
    outbox.drop_chunks: call(outbox.drop_chunks, envelope_id=envelope_ids),
    outbox.drop_chunks_from: call(
        outbox.drop_chunks_from, envelope_id=envelope_ids, position=st.integers(0, 3)
    ),
    outbox.drop_orphan_chunks: call(outbox.drop_orphan_chunks, before=times),
    outbox.mark_recalled: call(outbox.mark_recalled, message_id=message_ids, at=times),
    notes.owe: call(notes.owe, kind=st.just("recall"), agency=agencies, recipient=agencies, body=bodies),
    notes.owed: call(notes.owed, limit=limits, now=times, claimant=claimants),
    notes.claim: call(claim_notes, limit=limits, now=times, claim=a_claim),
    notes.settle: call(settle_note),
    notes.expect_no_more: call(
        notes.expect_no_more, envelope_id=envelope_ids, sender=agencies, agency=agencies, at=times
    ),
    notes.is_recalled: call(notes.is_recalled, envelope_id=envelope_ids, sender=agencies),
    notes.forget_recalls: call(notes.forget_recalls, before=times),
    reconciliations.begin: call(
        reconciliations.begin, agency=agencies, peer=agencies, since=times, hold=st.just(False), due=times
    ),
    reconciliations.every: call(reconciliations.every),
    reconciliations.find: call(reconciliations.find, agency=agencies, peer=agencies),
    reconciliations.due: call(reconciliations.due, now=times),
    reconciliations.asked: call(asked_one, due=times),
    reconciliations.close: call(reconciliations.close, agency=agencies, peer=agencies, at=times),
    reconciliations.pending: call(reconciliations.pending),
    reconciliations.sent_to: call(
        reconciliations.sent_to, agency=agencies, peer=agencies, since=times, after=envelope_ids, limit=limits
    ),
    reconciliations.got_from: call(
        reconciliations.got_from, agency=agencies, peer=senders, since=times, after=envelope_ids, limit=limits
    ),
    reconciliations.recover: call(reconciliations.recover, header=headers(), digest=bodies),
    inbox.add: call(
        inbox.add,
        header=headers(),
        received=times,
        stage=st.sampled_from([inbox.WAITING, Stage.RECEIVED]),
        digest=bodies,
        body=bodies,
    ),
    inbox.get: call(inbox.get, agency=agencies, message_id=message_ids),
    inbox.waiting: call(waiting_after, envelope_id=envelope_ids, agency=agencies, limit=limits),
    inbox.finish: call(finish_of, envelope_id=envelope_ids, stage=stages),
    inbox.complete: call(inbox.complete, envelope_id=envelope_ids, received=times),
    inbox.body_of: call(inbox.body_of, envelope_id=envelope_ids),
    inbox.not_final: call(inbox.not_final, agency=agencies, message_id=message_ids),
    inbox.unanswered: call(read_unanswered, agency=agencies),
    inbox.expired: call(inbox.expired, now=st.integers(0, 500), limit=limits),
    inbox.backlog: call(inbox.backlog),
    inbox.add_chunk: call(inbox.add_chunk, chunk_id=chunk_ids, agency=agencies, expires=times, body=bodies),
    inbox.expect_chunks: call(
        inbox.expect_chunks, envelope_id=envelope_ids, agency=agencies, chunks=st.lists(chunk_ids, max_size=3)
    ),
    inbox.chunks_missing: call(inbox.chunks_missing, envelope_id=envelope_ids),
    inbox.chunk: call(inbox.chunk, agency=agencies, chunk_id=chunk_ids),
    inbox.drop_expired_chunks: call(inbox.drop_expired_chunks, now=times),
    key_usage.note: call(key_usage.note, agency=agencies, kid=bodies, peer=agencies, now=times),
    key_usage.of_agency: call(key_usage.of_agency, agency=agencies),
    key_usage.note_listed: call(
        key_usage.note_listed, agency=agencies, kid=bodies, listed=st.booleans(), now=times
    ),
    key_usage.let_go: call(key_usage.let_go, agency=agencies, kid=bodies),
    key_usage.close: call(key_usage.close, agency=agencies, kid=bodies, now=times),
    key_usage.is_closed: call(key_usage.is_closed, agency=agencies, kid=bodies),
    dead_letters.add: call(dead_letters.add, refused=refusals),
    dead_letters.newest: call(dead_letters.newest, limit=limits),
    dead_letters.ask_replay: call(replay_newest),
    dead_letters.to_replay: call(replayed, limit=limits),
    dead_letters.drop: call(drop_newest),
    dead_letters.drop_old: call(dead_letters.drop_old, before=times),
    dead_letters.count: call(dead_letters.count),
    receipts.keep: call(receipts.keep, receipt=signed, cose=bodies),
    receipts.of_envelope: call(receipts.of_envelope, envelope_id=envelope_ids),
    receipts.owe: call(receipts.owe, receipt=signed, cose=bodies),
    receipts.owe_again: call(receipts.owe_again, envelope_id=envelope_ids, sender=agencies),
    receipts.owed: call(receipts.owed, limit=limits, now=times, claimant=claimants),
    receipts.claim: call(claim_some, limit=limits, now=times, claim=a_claim),
    receipts.settle: call(settle_some, limit=limits),
    receipts.count_owed: call(receipts.count_owed),
    receipts.unannounced: call(read_new, limit=limits),
    receipts.mark_announced: call(announce_some, limit=limits),
    idempotency.remember: call(
        idempotency.remember, agency=agencies, key_mac=bodies, entry=remembered, created=times
    ),
    idempotency.recall: call(idempotency.recall, agency=agencies, key_mac=bodies),
    idempotency.forget: call(idempotency.forget, before=times),
    mesh.add: mesh_sent(),
    mesh.find: call(mesh.find, agency=agencies, mailbox=mailboxes, message_id=st.sampled_from(["m0", "r1"])),
    mesh.by_local_id: call(mesh.by_local_id, agency=agencies, mailbox=mailboxes, mac=bodies),
    mesh.reports: call(mesh.reports, agency=agencies, mailbox=mailboxes, limit=limits),
    mesh.close: call(mesh.close, message_id=message_ids, at=times),
    mesh.use_token: call(mesh.use_token, digest=bodies, until=times),
    mesh.free_token: call(mesh.free_token, digest=bodies),
    mesh.waiting: call(mesh.waiting, agency=agencies),
    mesh.tidy: call(mesh.tidy, now=times, before=times),
}
READ_ALL = {
    table: f"SELECT * FROM {table}"
    for table in (
        "outbound_messages",
        "outbound_envelopes",
        "outbound_chunks",
        "idempotency",
        "inbox",
        "inbound_chunks",
        "inbox_chunks",
        "receipts",
        "openings",
        "owed_receipts",
        "dead_letters",
        "recalls",
        "owed_notes",
        "reconciliations",
        "mesh_sent",
        "mesh_tokens",
        "key_usage",
        "closed_keys",
        "audit_facts",
    )
}
NUMBERED = {"inbox", "receipts", "openings", "owed_receipts", "dead_letters", "owed_notes"}


def test_every_function_of_the_store_is_compared() -> None:
    public = {
        function
        for module in (
            *(outbox, inbox, receipts, idempotency, claims, notes, dead_letters, reconciliations),
            *(mesh, key_usage),
        )
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    }
    assert public - {claims.take} == set(STEPS)  # which is what the `claim` functions call


def without_numbers(value: object) -> object:
    """PostgreSQL leaves gaps where SQLite does not: the order counts, not the number."""
    if isinstance(value, list):
        return [without_numbers(item) for item in value]
    if isinstance(value, tuple):
        return tuple(without_numbers(item) for item in value)
    if isinstance(value, inbox.HeldBody):
        return dataclasses.replace(value, held=dataclasses.replace(value.held, sequence=0))
    if isinstance(value, inbox.Held):
        return dataclasses.replace(value, sequence=0)
    if isinstance(value, receipts.Owed | notes.Note | dead_letters.DeadLetter):
        return dataclasses.replace(value, id=0)
    return value


async def outcome(store: Store, job: Job[Any]) -> tuple[str, object]:
    try:
        result = without_numbers(await store.write(job))
    except (sqlite3.IntegrityError, psycopg.IntegrityError):
        return "refused", None
    except idempotency.KeyTaken:
        return "taken", None
    if isinstance(job, partial) and job.func is inbox.backlog:
        assert isinstance(result, list)
        result = sorted(result)  # its order means nothing
    return "done", result


def everything(session: Session) -> dict[str, list[tuple[Any, ...]]]:
    tables = {}
    for table, sql in READ_ALL.items():
        rows = [tuple(row) for row in session.execute(sql).fetchall()]
        tables[table] = (
            [row[1:] for row in sorted(rows, key=lambda row: row[0])]
            if table in NUMBERED
            else sorted(rows, key=repr)
        )
    return tables


def clear(session: Session) -> None:
    for table in sorted(READ_ALL, reverse=True):  # envelopes' chunks and messages' envelopes first
        if table != "outbound_messages":
            session.execute(f"DELETE FROM {table}")
    session.execute("DELETE FROM outbound_messages")
    session.execute("DELETE FROM audit_entries")


@pytest.mark.xdist_group("postgres")
def test_both_stores_give_the_same_answers(postgres: PostgresServer, tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        stores = SqliteGround(tmp_path).open(), PostgresGround(postgres).open()

        async def same(jobs: list[Job[Any]]) -> None:
            for store in stores:
                await store.write(clear)
            for job in jobs:
                left, right = [await outcome(store, job) for store in stores]
                assert left == right, job
            left_rows, right_rows = [await store.read(everything) for store in stores]
            assert left_rows == right_rows

        @settings(max_examples=100, deadline=None)
        @given(st.lists(st.one_of(*STEPS.values()), min_size=10, max_size=60))
        def compare(jobs: list[Job[Any]]) -> None:
            runner.run(same(jobs))

        try:
            compare()
        finally:
            for store in stores:
                runner.run(store.close())


# --- the audit log ---


@pytest.mark.parametrize("undone", [False, True])
async def test_entries_are_numbered_without_gaps_whoever_writes(store: Store, *, undone: bool) -> None:
    async def write(number: int) -> None:
        def job(session: Session) -> None:
            audit.record(session, "test", number=number)
            if undone and number % 3 == 0:
                raise KeyError

        with contextlib.suppress(KeyError):
            await store.write(job)

    await asyncio.gather(*(write(number) for number in range(60)))
    found = await store.read(lambda s: audit.entries(s, 0, 1000))
    assert [one.number for one in found] == list(range(40 if undone else 60))
    assert all(one.text.startswith(f'{{"index":{one.number},"at":') for one in found)


async def test_of_old_checkpoints_the_last_of_each_day_stays(store: Store) -> None:
    day = 86_400_000

    def job(session: Session) -> list[int]:
        for size, at in ((1, 5), (2, 6), (3, day), (4, day + 1), (5, 3 * day), (6, 3 * day + 1)):
            audit.put_checkpoint(session, audit.Checkpoint("origin", size, at, "note"))
        audit.thin(session, before=3 * day)
        return [one.size for one in audit.checkpoints(session)]

    assert await store.write(job) == [2, 4, 5, 6]


async def test_nothing_but_identifiers_and_constants_is_entered(store: Store) -> None:
    await store.write(
        lambda s: audit.record(s, "test", envelope_id="Zephyrine Quillfeather", agency="school")
    )
    (found,) = await store.read(lambda s: audit.entries(s, 0, 10))
    assert "Quill" not in found.text
    assert '"envelope_id":"invalid"' in found.text
    with pytest.raises(KeyError):
        await store.write(lambda s: audit.record(s, "test", name="Zephyrine"))


async def test_peers_are_learned_from_new_receipts_alone(store: Store) -> None:
    """What was looked at once is not looked at again: that would take longer and longer."""
    school, police, council = AgencyId("school"), AgencyId("police"), AgencyId("council")

    def stated(session: Session, sender: AgencyId, recipient: AgencyId, issuer: AgencyId) -> Receipt:
        made = Receipt(
            Stage.ACCEPTED if issuer == sender else Stage.RECEIVED,
            MessageId(new_id()),
            EnvelopeId(new_id()),
            bytes(32),
            sender,
            recipient,
            issuer,
            1,
        )
        assert receipts.keep(session, made, b"cose")
        return made

    def sent(session: Session, to: AgencyId) -> None:
        one = stated(session, school, to, school)
        message = outbox.OutboundMessage(
            one.message_id, school, CaseId("c"), "referral", 1, None, 1, 2, "purpose", "basis"
        )
        outbox.add_message(session, message)
        row = outbox.OutboundEnvelope(
            *(one.envelope_id, one.message_id, 0, to, Stage.ACCEPTED), False, bytes(32), 1, 2, False, 0
        )
        outbox.add_envelope(session, row, b"body", due=1, claim=claims.UNCLAIMED)

    def got(session: Session, sender: AgencyId) -> None:
        one = stated(session, sender, school, school)
        header = Header(
            *(one.message_id, one.envelope_id, "referral", 1, sender, school, CaseId("c"), None, 1, 2),
            *("purpose", "basis"),
        )
        inbox.add(session, header, received=1, stage=Stage.RECEIVED, digest=bytes(32), body=b"body")

    def meet(session: Session) -> int:
        rounds = 0
        while audit.meet_peers(session, limit=2):
            rounds += 1
        return rounds

    def due(session: Session) -> set[tuple[str, str, int]]:
        found = audit.due_peers(session, "origin", 7, before=10)
        return {(one.agency, one.peer, one.confirmed) for one in found}

    assert await store.write(meet) == 0
    for _ in range(2):
        await store.write(lambda s: sent(s, police))
    await store.write(lambda s: got(s, council))
    assert await store.read(due) == set()
    assert await store.write(meet) == 2
    assert await store.read(due) == {(school, police, 0), (school, council, 0)}
    assert await store.write(meet) == 0

    await store.write(lambda s: audit.peer_sent(s, audit.Peer(school, police, 0), "origin", at=5))
    await store.write(lambda s: audit.peer_confirmed(s, school, police, "origin", 7))
    await store.write(lambda s: got(s, police))
    assert await store.write(meet) == 1
    assert await store.read(due) == {(school, council, 0)}, "known, and it has the checkpoint"


# --- every row, out and in again ---


@pytest.mark.xdist_group("postgres")
def test_a_dump_of_either_store_is_the_same_in_the_other(postgres: PostgresServer, tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        stores = SqliteGround(tmp_path).open(), PostgresGround(postgres).open()

        async def there_and_back(jobs: list[Job[Any]]) -> None:
            one, two = stores
            for store in stores:
                await store.write(clear)
            assert await one.read(dump.is_empty)
            for job in jobs:
                await outcome(one, job)
            original = await one.read(lambda s: list(dump.rows(s)))
            await two.write(lambda s: dump.put(s, original))
            copied = await two.read(lambda s: list(dump.rows(s)))
            assert sorted(copied, key=repr) == sorted(original, key=repr)
            await one.write(clear)
            await one.write(lambda s: dump.put(s, copied))
            assert await one.read(lambda s: list(dump.rows(s))) == original
            numbers = [row[0] for table, row in original if table == "dead_letters"]
            for store in stores:
                await store.write(partial(put, number=0))
                (newest,) = await store.read(
                    lambda s: s.execute("SELECT MAX(id) FROM dead_letters").fetchone()
                )
                assert newest > max(numbers, default=0) + dump.JUMP // 2, "numbers go on above"

        @settings(max_examples=40, deadline=None)
        @given(st.lists(st.one_of(*STEPS.values()), min_size=10, max_size=60))
        def compare(jobs: list[Job[Any]]) -> None:
            runner.run(there_and_back(jobs))

        try:
            compare()
        finally:
            for store in stores:
                runner.run(store.close())


def test_every_column_is_dumped(tmp_path: Path) -> None:
    """But for claims, which die with the process that has them."""
    SqliteStore.create(tmp_path / "a.db")
    lite = sqlite3.connect(tmp_path / "a.db")
    columns = {
        table: {name for _, name, *_ in lite.execute(f"PRAGMA table_info({table})").fetchall()}
        - {"claimant", "claimed_until"}
        for (table,) in lite.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        if not table.startswith("sqlite_")
    }
    lite.close()
    assert {table: {*key, *others} for table, (key, others) in dump.TABLES.items()} == columns


# --- the tables ---

SQLITE_TYPES = {"INTEGER": "bigint", "BLOB": "bytea", "TEXT": "text"}


@pytest.mark.xdist_group("postgres")
def test_both_databases_have_the_same_tables(postgres: PostgresServer, tmp_path: Path) -> None:
    SqliteStore.create(tmp_path / "a.db")
    lite = sqlite3.connect(tmp_path / "a.db")
    in_sqlite = {
        (table, name, SQLITE_TYPES[kind], not (required or key))
        for (table,) in lite.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        if not table.startswith("sqlite_")
        for _, name, kind, required, _, key in lite.execute(f"PRAGMA table_info({table})").fetchall()
    }
    lite.close()
    url = postgres.create_database()
    PostgresStore.create(url)
    with psycopg.connect(url) as connection:
        in_postgres = set(
            connection.execute(
                "SELECT table_name, column_name, data_type, is_nullable = 'YES'"
                " FROM information_schema.columns"
                " WHERE table_schema = 'public' AND table_name <> 'schema_version'"
            ).fetchall()
        )
    assert in_postgres == in_sqlite
    folder = Path(inspect.getfile(gateway.store.postgres)).parent / "migrations"
    for twin in (folder / "postgres").glob("*.sql"):
        assert indexes(twin) == indexes(folder / twin.name)


def indexes(script: Path) -> set[str]:
    """What a script says of order and uniqueness: the same words in both languages."""
    text = re.sub(r"\s+", " ", re.sub(r"--.*", "", script.read_text("utf-8")))
    return set(
        re.findall(r"CREATE INDEX [^;]*|UNIQUE \([^)]*\)|PRIMARY KEY \([^)]*\)|REFERENCES \w+ \(\w+\)", text)
    )


# --- PostgreSQL alone ---


@pytest.fixture
def base(postgres: PostgresServer) -> PostgresGround:
    return PostgresGround(postgres)


@pytest.fixture
async def pg(base: PostgresGround) -> AsyncIterator[Store]:
    store = base.open()
    yield store
    await store.close()


def admin(url: str, sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(sql.encode())
        return cursor.fetchall() if cursor.description else []


async def until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < ends
        await asyncio.sleep(0.01)


@pytest.mark.xdist_group("postgres")
async def test_what_the_server_is_set_to_does_not_weaken_a_session(base: PostgresGround) -> None:
    name = base.url.rpartition("/")[2]
    for setting in ("synchronous_commit = off", "default_transaction_isolation = 'repeatable read'"):
        admin(base.url, f"ALTER DATABASE {name} SET {setting}")
    store = base.open()

    def show(session: Session) -> list[str]:
        names = ["synchronous_commit", "transaction_isolation", "statement_timeout", "lock_timeout"]
        names.append("idle_in_transaction_session_timeout")
        return [session.execute(f"SHOW {name}").fetchone()[0] for name in names]

    assert await store.write(show) == ["on", "read committed", "10s", "10s", "10s"]
    await store.close()


@pytest.mark.xdist_group("postgres")
async def test_a_cursor_cannot_pass_a_row_that_is_not_committed_yet(base: PostgresGround) -> None:
    """Node one has its number and has not committed; node two must not get and show the next one."""
    one, two = base.open(), base.open()
    gate = Gate()

    def slow(session: Session) -> None:
        put(session, 1)
        gate(session)

    first = asyncio.ensure_future(one.write(slow))
    await gate.entered()
    second = asyncio.ensure_future(two.write(lambda s: put(s, 2)))
    waits = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    await until(lambda: second.done() or bool(admin(base.url, waits)))
    assert not second.done()
    assert await two.read(numbers) == []
    gate.open()
    await asyncio.gather(first, second)
    in_order = "SELECT at FROM dead_letters ORDER BY id"
    assert admin(base.url, in_order) == [(1,), (2,)]
    await one.close()
    await two.close()


@pytest.mark.xdist_group("postgres")
async def test_the_last_two_chunks_at_two_nodes_make_one_message_whole(base: PostgresGround) -> None:
    nodes = base.open(), base.open()
    for round_ in range(20):
        envelope, agency = EnvelopeId(f"e{round_}"), AgencyId("a")
        chunks = [EnvelopeId(f"c{round_}-{n}") for n in range(2)]
        await nodes[0].write(partial(inbox.expect_chunks, envelope_id=envelope, agency=agency, chunks=chunks))
        whole = await asyncio.gather(
            *(
                node.write(partial(inbox.add_chunk, chunk_id=chunk, agency=agency, expires=9, body=b""))
                for node, chunk in zip(nodes, chunks, strict=True)
            )
        )
        assert sorted(whole, key=str) == [None, envelope]
    for node in nodes:
        await node.close()


@pytest.mark.xdist_group("postgres")
async def test_a_lost_connection_fails_its_batch_and_runs_nothing_again(
    base: PostgresGround, pg: Store
) -> None:
    runs = 0

    def cut(session: Session) -> None:
        nonlocal runs
        runs += 1
        put(session, 1)
        (pid,) = session.execute("SELECT pg_backend_pid()").fetchone()
        admin(base.url, f"SELECT pg_terminate_backend({pid}, 5000)")
        put(session, 2)

    with pytest.raises(Unavailable, match="store-unavailable"):
        await pg.write(cut)
    assert runs == 1
    assert not pg.healthy
    await pg.write(lambda s: put(s, 3))
    assert pg.healthy
    assert await pg.read(numbers) == [3]


@pytest.mark.xdist_group("postgres")
async def test_a_server_that_restarted_between_jobs_goes_unnoticed(base: PostgresGround, pg: Store) -> None:
    await asyncio.gather(*(pg.read(numbers) for _ in range(20)))
    await asyncio.gather(*(pg.write(partial(put, number=n)) for n in range(20)))
    base.crash()
    assert await asyncio.gather(*(pg.read(numbers) for _ in range(20))) == [list(range(20))] * 20
    await asyncio.gather(*(pg.write(partial(put, number=n)) for n in range(20, 40)))
    assert await pg.read(numbers) == list(range(40))


def conflict(session: Session) -> None:
    session.execute("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")


@pytest.mark.xdist_group("postgres")
async def test_a_batch_rolled_back_for_a_conflict_is_run_again(pg: Store) -> None:
    runs = 0

    def unlucky(session: Session) -> None:
        nonlocal runs
        runs += 1
        put(session, 100)
        if runs <= RERUNS:
            conflict(session)

    await asyncio.gather(*(pg.write(partial(put, number=n)) for n in range(5)), pg.write(unlucky))
    assert runs == RERUNS + 1
    assert await pg.read(numbers) == [0, 1, 2, 3, 4, 100]
    assert pg.healthy


@pytest.mark.xdist_group("postgres")
async def test_a_conflict_that_does_not_end_is_given_up(pg: Store) -> None:
    runs = 0

    def hopeless(session: Session) -> None:
        nonlocal runs
        runs += 1
        conflict(session)

    with pytest.raises(Unavailable, match="store-unavailable"):
        await pg.write(hopeless)
    assert runs == RERUNS + 1
    assert await pg.write(lambda s: put(s, 1)) == 1


@pytest.mark.xdist_group("postgres")
async def test_a_read_does_not_hold_the_event_loop(pg: Store) -> None:
    gate = Gate()
    reading = asyncio.ensure_future(pg.read(gate))
    await gate.entered()
    gate.open()
    await reading


@pytest.mark.xdist_group("postgres")
async def test_too_many_waiting_reads_are_refused(pg: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.store.postgres, "MAX_WAITING", 1)
    gate = Gate()
    reading = asyncio.ensure_future(pg.read(gate))
    await gate.entered()
    with pytest.raises(Unavailable, match="busy"):
        await pg.read(numbers)
    gate.open()
    await reading
    assert await pg.read(numbers) == []


@pytest.mark.xdist_group("postgres")
async def test_nodes_may_set_up_one_database_together(postgres: PostgresServer) -> None:
    url = postgres.create_database()
    await asyncio.gather(*(asyncio.to_thread(PostgresStore.create, url) for _ in range(5)))
    store = PostgresStore(url)
    await store.write(lambda s: put(s, 1))
    await asyncio.to_thread(PostgresStore.create, url)
    assert await store.read(numbers) == [1]
    await store.close()


@pytest.mark.xdist_group("postgres")
def test_a_node_never_makes_tables_by_itself(postgres: PostgresServer) -> None:
    url = postgres.create_database()
    with pytest.raises(StartupError, match="gateway init"):
        PostgresStore(url)
    assert admin(url, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []


@pytest.mark.xdist_group("postgres")
def test_a_database_from_a_newer_gateway_is_refused(base: PostgresGround) -> None:
    admin(base.url, "UPDATE schema_version SET version = 999")
    with pytest.raises(StartupError, match="newer version"):
        base.open()


@pytest.mark.xdist_group("postgres")
async def test_a_node_needs_no_right_to_make_tables(base: PostgresGround) -> None:
    role = "r" + base.url.rpartition("/")[2]
    admin(base.url, f"CREATE ROLE {role} LOGIN")
    admin(base.url, f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
    store = PostgresStore(base.url.replace("gateway@", f"{role}@"))
    await store.write(lambda s: put(s, 1))
    assert await store.read(numbers) == [1]
    await store.close()


@pytest.mark.xdist_group("postgres")
def test_a_database_that_does_not_hold_every_letter_is_refused(postgres: PostgresServer) -> None:
    name = "latin" + postgres.create_database().rpartition("/")[2]
    admin(postgres.url("postgres"), f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    with pytest.raises(StartupError, match="UTF8"):
        PostgresStore.create(postgres.url(name))


@pytest.mark.parametrize(
    "url",
    ["postgresql://u:secret@127.0.0.1:1/x", "postgresql://u:secret@127.0.0.1:1/x?nonsense=1", "u:secret@@:"],
)
def test_a_database_that_is_not_there_is_named_in_one_line_without_its_password(url: str) -> None:
    with pytest.raises(StartupError) as caught:
        PostgresStore(url)
    assert "PostgreSQL" in str(caught.value) or "127.0.0.1" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
