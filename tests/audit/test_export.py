"""Files of an audit log that anybody may have touched: one line says what is wrong, nothing else happens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.audit import export, log, merkle
from gateway.audit.export import LogInvalid
from gateway.crypto.audit_key import AuditKey
from gateway.crypto.keys import SigningKey
from gateway.crypto.note import NoteKeys, read_note, sign_note
from gateway.crypto.witness import decode_confirmed, decode_shown
from gateway.store import audit
from gateway.store.base import Session
from gateway.store.sqlite import SqliteStore

SIGNERS = [(SigningKey.from_seed(b"\x01" * 32), AuditKey(b"\x02" * 32))]
KEYS = {"school": [NoteKeys(signing.public, own.public) for signing, own in SIGNERS]}


async def grown(folder: Path, sizes: list[int]) -> list[str]:
    """The lines of a log with a checkpoint at each of these sizes."""
    SqliteStore.create(folder / "a.db")
    store = SqliteStore(folder / "a.db")

    def job(session: Session, size: int) -> None:
        while audit.size(session) < size:
            audit.record(session, "test", number=audit.size(session))
        log.checkpoint(session, SIGNERS, 1)

    for size in sizes:
        await store.write(lambda s, size=size: job(s, size))  # type: ignore[misc]
    found = await store.read(lambda s: list(export.lines(s, KEYS)))
    await store.close()
    return found


@pytest.fixture
async def lines(tmp_path: Path) -> list[str]:
    return await grown(tmp_path, [1, 3, 40, 57, 300])


async def test_a_revoked_keys_checkpoint_counts_only_under_a_later_one(tmp_path: Path) -> None:
    old = [(SigningKey.from_seed(b"\x03" * 32), SIGNERS[0][1])]
    revoked = {"school": [NoteKeys(signing.public, own.public) for signing, own in old]}
    SqliteStore.create(tmp_path / "a.db")
    store = SqliteStore(tmp_path / "a.db")
    for signers in (old, SIGNERS):
        await store.write(lambda s: audit.record(s, "test"))
        await store.write(lambda s, by=signers: log.checkpoint(s, by, 1))  # type: ignore[misc]
    both = {"school": [*KEYS["school"], *revoked["school"]]}
    found = await store.read(lambda s: list(export.lines(s, both)))
    await store.close()

    assert export.verify(found).covered == 2  # the file's own keys
    assert export.verify(found, trusted=KEYS, revoked=revoked).covered == 2
    with pytest.raises(LogInvalid, match="not signed with the keys"):
        export.verify(found, trusted=KEYS)
    end = '{"end":1}'
    with pytest.raises(LogInvalid, match="signed with a key that was revoked"):
        export.verify([*found[:3], end], trusted=KEYS, revoked=revoked)
    forged = found[1].replace('"test"', '"tset"')
    with pytest.raises(LogInvalid, match="do not match"):
        export.verify([found[0], forged, *found[2:]], trusted=KEYS, revoked=revoked)


async def test_a_log_that_grew_in_steps_has_the_roots_of_one_made_at_once(lines: list[str]) -> None:
    found = export.verify(lines, keep_leaves=True)
    assert (found.entries, found.covered, found.checkpoints) == (300, 300, 5)
    root = merkle.root(300, log.memory_reader(found.leaves))
    assert read_note(found.last).root == root


async def test_whatever_is_dropped_doubled_or_swapped_is_found(lines: list[str]) -> None:
    for at in range(len(lines) - 1):
        spoilt = [lines[:at] + lines[at + 1 :], lines[: at + 1] + lines[at:]]
        spoilt.append([*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]])
        if lines[at].startswith('{"checkpoint"'):
            spoilt = spoilt[2:]  # one less of several checkpoints, or one twice, says nothing false
        for one in spoilt:
            with pytest.raises(LogInvalid):
                export.verify(one)


async def test_the_end_may_be_cut_only_where_nobody_kept_a_checkpoint(lines: list[str]) -> None:
    at = next(i for i, line in enumerate(lines) if line.startswith('{"index":57'))
    shorter = [*lines[:at], '{"end":57}']
    assert export.verify(shorter).covered == 57
    kept = read_note(json.loads(lines[-2])["checkpoint"])
    with pytest.raises(LogInvalid, match="the end of the log is missing"):
        export.verify(shorter, kept=[kept])
    forged = read_note(sign_note(kept.origin, 57, bytes(32), SIGNERS))
    with pytest.raises(LogInvalid, match="rewritten"):
        export.verify(shorter, kept=[forged])


async def test_every_checkpoint_that_was_kept_is_compared(lines: list[str]) -> None:
    """Two peers may keep one of the same size, and only one of them the true one."""
    mine = read_note(json.loads(lines[-2])["checkpoint"])
    other = read_note(sign_note(mine.origin, 300, bytes(32), SIGNERS))
    for kept in ([mine, other], [other, mine]):
        with pytest.raises(LogInvalid, match="rewritten"):
            export.verify(lines, kept=kept)
    assert export.verify(lines, kept=[mine, mine]).covered == 300


async def test_a_log_of_many_agencies_that_rotated_often_verifies(tmp_path: Path) -> None:
    """Forty schools of one authority, and three years of monthly rotations."""
    keys: dict[str, list[NoteKeys]] = {}
    signers = []
    for number in range(40):
        own = AuditKey(bytes([number]) * 32)
        all_time = [SigningKey.from_seed(bytes([number, month]) * 16) for month in range(36)]
        signers.append((all_time[-1], own))
        keys[f"school-{number}"] = [NoteKeys(one.public, own.public) for one in all_time]
    SqliteStore.create(tmp_path / "a.db")
    store = SqliteStore(tmp_path / "a.db")
    await store.write(lambda s: audit.record(s, "test"))
    await store.write(lambda s: log.checkpoint(s, signers, 1))
    found = await store.read(lambda s: list(export.lines(s, keys)))
    await store.close()
    assert export.verify(found).covered == 1
    assert export.verify(found, trusted={"school-39": keys["school-39"]}).covered == 1


async def test_a_fork_in_one_file_is_called_one(lines: list[str]) -> None:
    last = read_note(json.loads(lines[-2])["checkpoint"])
    other = json.dumps({"checkpoint": sign_note(last.origin, 300, bytes(32), SIGNERS)})
    with pytest.raises(LogInvalid, match="forked"):
        export.verify([*lines[:-1], other, lines[-1]])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    import asyncio

    return "\n".join(asyncio.run(grown(tmp_path_factory.mktemp("log"), [3, 5])))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_changed_byte_of_an_entry_passes(small: str, data: st.DataObject) -> None:
    entries = [i for i, line in enumerate(small.split("\n")) if line.startswith('{"index"')]
    found = small.split("\n")
    at = data.draw(st.sampled_from(entries))
    place = data.draw(st.integers(0, len(found[at]) - 1))
    character = data.draw(st.characters(codec="ascii"))
    line = found[at][:place] + character + found[at][place + 1 :]
    if line != found[at]:
        with pytest.raises(LogInvalid):
            export.verify([*found[:at], line, *found[at + 1 :]])


@given(st.lists(st.one_of(st.text(max_size=60), st.just('{"index":0}'), st.just('{"end":0}')), max_size=5))
def test_what_is_no_log_is_refused(found: list[str]) -> None:
    with pytest.raises(LogInvalid):
        export.verify(found)


@given(st.binary(max_size=80))
def test_what_peers_send_is_read_strictly(data: bytes) -> None:
    readers: list[Any] = [decode_shown, decode_confirmed]
    for read in readers:
        with pytest.raises(ValueError, match=r".+"):
            read(data)
