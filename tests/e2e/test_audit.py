"""The audit log of running nodes: what they do stands in it, and whoever changes the past is found out."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import zipfile
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.crypto import witness as form
from gateway.crypto.envelope import open_envelope
from gateway.engine import witness
from gateway.messages import AgencyId, new_id
from gateway.store import audit, dead_letters, notes
from gateway.store.audit import Checkpoint
from gateway.transport.base import Sealed
from tests.command import app
from tests.road import metric, reached, refusal, send, wait_for_arrival
from tests.world import POLICE, SCHOOL, World, provision, running, until

TAKEN, FORK, CONTRADICTED, UNPROVEN = (
    f'gateway_audit_checkpoints_total{{outcome="{outcome}"}}'
    for outcome in ("taken", "fork", "contradicted", "unproven")
)

QUICK = """
[times]
tick = 0.05
settle = 60.0
checkpoint = 0.2
checkpoint_exchange = 0.2
"""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A school and the police, with quick clockwork."""
    async with running(provision(tmp_path, (SCHOOL, POLICE), extra=QUICK)) as world:
        yield world


async def delivered(world: World) -> str:
    """Send a message the whole way."""
    message_id = str((await send(world.clients[SCHOOL]))["message_id"])
    await wait_for_arrival(world, message_id)
    await world.clients[POLICE].ack([message_id])
    await reached(world, message_id, "delivered")
    return message_id


def typed(*arguments: object) -> tuple[int, str]:
    """A command in this process: its exit code, and what it says."""
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    return done.exit_code, done.output


async def made(message_id: str, node: Path, file: Path) -> tuple[int, str]:
    """Evidence, made while the node runs."""
    return await asyncio.to_thread(typed, "evidence", message_id, "-n", node, "-o", file)


def exported(world: World, name: str = "log") -> Path:
    file = world.folder / name
    assert typed("audit", "export", file, "-n", world.folder / SCHOOL)[0] == 0
    return file


def entries(world: World) -> list[dict[str, Any]]:
    code, text = typed("audit", "list", "-n", world.folder / SCHOOL, "--json")
    assert code == 0
    found: list[dict[str, Any]] = json.loads(text)["entries"]
    return found


def tamper(world: World, change: Callable[[sqlite3.Connection], object]) -> None:
    with sqlite3.connect(world.folder / SCHOOL / "gateway.db") as connection:
        change(connection)
    connection.close()


async def test_everything_that_happens_is_entered_and_verifies(world: World) -> None:
    message_id = await delivered(world)
    problem = await refusal(world.clients[SCHOOL], to=["nobody"])
    assert problem.code == "unknown-recipient"
    await world.stop(SCHOOL)
    found = entries(world)
    assert [one["index"] for one in found] == list(range(len(found)))
    assert [one["stage"] for one in found if one.get("message_id") == message_id] == [
        "accepted",
        "received",
        "delivered",
    ]
    accepted = next(one for one in found if one.get("stage") == "accepted")
    assert accepted["agreement"] == "all-to-all"
    kinds = [one["kind"] for one in found]
    for kind in ("node-started", "configuration-changed", "keys-changed", "directory-changed"):
        assert kind in kinds
    (denied,) = [one for one in found if one["kind"] == "policy-denied"]
    assert (denied["sender"], denied["code"]) == (SCHOOL, "unknown-recipient")
    assert "nobody" not in json.dumps(found)
    file = exported(world)
    code, text = typed("audit", "verify", file)
    assert code == 0, text
    assert f"valid: {len(found)} of {len(found)} entries" in text
    assert typed("audit", "verify", file, "--directory", world.directory)[0] == 0
    code, text = typed("audit", "prove", file, message_id)
    assert code == 0
    assert len(json.loads(text)["entries"]) == 3


async def test_the_past_cannot_be_changed_dropped_or_put_in_another_order(world: World) -> None:
    await delivered(world)
    await world.stop(SCHOOL)
    whole = (world.folder / SCHOOL / "gateway.db").read_bytes()

    def swap(connection: sqlite3.Connection) -> None:
        (one,), (other,) = connection.execute(
            "SELECT body FROM audit_entries WHERE number IN (2, 3) ORDER BY number"
        ).fetchall()
        connection.execute("UPDATE audit_entries SET body = ? WHERE number = 2", (other,))
        connection.execute("UPDATE audit_entries SET body = ? WHERE number = 3", (one,))

    def drop(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM audit_entries WHERE number = 2")

    def change(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE audit_entries SET body = replace(body, 'delivered', 'rejected')")

    def truncate(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM audit_entries WHERE number >= 5")

    def unsign(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE audit_checkpoints SET note = replace(note, '+', '/')")

    for number, (spoil, said) in enumerate(
        [
            (swap, "do not match"),
            (drop, "entry 2 should stand here"),
            (change, "do not match"),
            (truncate, "stands after"),
            (unsign, "checkpoint"),
        ]
    ):
        for leftover in ("-wal", "-shm"):
            (world.folder / SCHOOL / f"gateway.db{leftover}").unlink(missing_ok=True)
        (world.folder / SCHOOL / "gateway.db").write_bytes(whole)
        tamper(world, spoil)
        code, text = typed("audit", "verify", exported(world, f"log-{number}"))
        assert code == 1, spoil.__name__
        assert said in text, text
        assert text.count("\n") == 1


async def test_a_transition_that_is_undone_leaves_no_entry(world: World) -> None:
    before = len(entries(world))

    def job(session: Any) -> None:
        audit.record(session, "receipt")
        raise KeyError

    with pytest.raises(KeyError):
        await world.nodes[SCHOOL].parts.store.write(job)
    assert len(entries(world)) == before


async def kept(world: World, keeper: AgencyId) -> list[tuple[AgencyId, Checkpoint, bool]]:
    return await world.nodes[keeper].parts.store.read(audit.peer_checkpoints)


async def test_peers_keep_each_others_checkpoints_as_they_grow(world: World) -> None:
    await delivered(world)

    async def size() -> int:
        return max((one.size for _, one, _ in await kept(world, POLICE)), default=0)

    await until(size, "the first checkpoint")
    first = await size()
    await delivered(world)

    async def grown() -> bool:
        return await size() > first and metric(world, POLICE, TAKEN) > 0

    await until(grown, "a later one, with its proof")
    assert not any(fork for _, _, fork in await kept(world, POLICE))
    assert metric(world, POLICE, FORK) == metric(world, SCHOOL, CONTRADICTED) == 0
    code, text = typed("audit", "peers", "-n", world.folder / POLICE, "--json")
    assert code == 0
    newest = max(json.loads(text)["checkpoints"], key=lambda one: int(one["size"]))
    note = world.folder / "kept.note"
    note.write_text(newest["note"], "utf-8")
    assert typed("audit", "verify", exported(world), "--checkpoint", note)[0] == 0


async def test_a_rewritten_past_is_noticed_by_the_peer_and_at_home(world: World) -> None:
    await delivered(world)

    async def known() -> bool:
        return bool(await kept(world, POLICE))

    await until(known, "the first checkpoint")
    (honest, *_) = [one for _, one, _ in await kept(world, POLICE)]
    await world.stop(SCHOOL)

    def rewrite(connection: sqlite3.Connection) -> None:
        """Whoever owns the database and the keys: change an entry, forget hashes, sign everything anew."""
        connection.execute(
            "UPDATE audit_entries SET body = replace(body, 'started', 'stopped') WHERE number = 0"
        )
        connection.execute("DELETE FROM audit_nodes")
        connection.execute("DELETE FROM audit_checkpoints")

    tamper(world, rewrite)
    await world.start(SCHOOL)
    await delivered(world)
    await until(lambda: metric(world, POLICE, FORK), "the peer finds out")
    await until(lambda: metric(world, SCHOOL, CONTRADICTED), "so does the node itself")
    evidence = await kept(world, POLICE)
    assert [fork for _, _, fork in evidence].count(True) >= 1
    code, text = typed("audit", "peers", "-n", world.folder / POLICE)
    assert "FORK" in text
    found = await world.nodes[POLICE].parts.store.read(lambda s: audit.entries(s, 0, 1000))
    assert any('"kind":"peer-log-forked"' in one.text for one in found)
    file, note = exported(world), world.folder / "kept.note"
    assert typed("audit", "verify", file)[0] == 0, "by itself the new past is signed and whole"
    note.write_text(honest.note, "utf-8")
    code, text = typed("audit", "verify", file, "--checkpoint", note)
    assert code == 1
    assert "rewritten" in text


async def test_old_checkpoints_that_are_delivered_again_accuse_nobody(world: World) -> None:
    """The broker has them all; one it chooses comes six times."""
    await delivered(world)
    school, police = world.nodes[SCHOOL].parts, world.nodes[POLICE].parts
    shown: list[Sealed] = []
    publish = school.transport.publish

    async def tap(sealed: Sealed) -> None:
        shown.append(sealed)
        await publish(sealed)

    school.transport.publish = tap  # type: ignore[method-assign]
    taken = metric(world, POLICE, TAKEN)
    while metric(world, POLICE, TAKEN) < taken + 2:
        before = metric(world, POLICE, TAKEN)
        await school.store.write(
            lambda s: audit.record(s, "recall-asked", agency=SCHOOL, message_id=new_id())
        )
        await until(partial(more_than, world, before), "the next checkpoint")
    notes_sent = [one for one in shown if one.recipient == POLICE]
    old = next(one for one in notes_sent if kind_of(world, one) == witness.SHOW)
    unproven = metric(world, POLICE, UNPROVEN)
    for _ in range(witness.UNPROVEN + 1):
        await publish(old)
    await until(lambda: metric(world, POLICE, UNPROVEN) >= unproven + witness.UNPROVEN + 1, "all arrive")
    assert metric(world, POLICE, FORK) == 0
    assert not any(fork for _, _, fork in await kept(world, POLICE))
    found = await police.store.read(lambda s: audit.entries(s, 0, 1000))
    assert not any('"kind":"peer-log-forked"' in one.text for one in found)


def more_than(world: World, count: float) -> bool:
    return metric(world, POLICE, TAKEN) > count


def kind_of(world: World, sealed: Sealed) -> str:
    """The type of what was sealed for the police."""
    parts = world.nodes[POLICE].parts
    opened = open_envelope(
        sealed.body,
        recipient=POLICE,
        keys=parts.keys[POLICE].opening,
        find_verify_key=parts.find_verify_key,
    )
    return opened.header.type


async def test_nobody_shows_a_checkpoint_of_another_agency(world: World) -> None:
    await delivered(world)
    school, police = world.nodes[SCHOOL].parts, world.nodes[POLICE].parts
    theirs = await police.store.read(audit.latest)
    assert theirs is not None
    payload = form.encode_shown(form.Shown(theirs.note, 0, ()))
    await school.store.write(lambda s: notes.owe(s, witness.SHOW, SCHOOL, POLICE, payload))

    async def refused() -> bool:
        return bool(await police.store.read(dead_letters.count))

    await until(refused, "it is set aside")
    assert not any(one.note == theirs.note for _, one, _ in await kept(world, POLICE))


async def test_evidence_of_a_message_verifies_offline_and_only_unchanged(world: World) -> None:
    message_id = await delivered(world)
    file = world.folder / "evidence.zip"
    for agency, stages in ((POLICE, 2), (SCHOOL, 3)):  # the recipient has no `accepted` of the sender
        file.unlink(missing_ok=True)
        code, text = await made(message_id, world.folder / agency, file)
        assert code == 0, text
        code, text = typed("evidence", "verify", file, "--directory", world.directory)
        assert code == 0, text
        assert text.count("valid    ") == stages
    with zipfile.ZipFile(file) as archive:
        whole = {name: archive.read(name).decode() for name in archive.namelist()}
    assert "delivered" in whole["report.html"]
    document = json.loads(whole["evidence.json"])

    def spoilt(name: str, value: object) -> dict[str, str]:
        return {**whole, "evidence.json": json.dumps({**document, name: value})}

    entries = [{**one, "entry": one["entry"].replace("delivered", "rejected")} for one in document["entries"]]
    moved = [{**one, "index": one["index"] + 1} for one in document["entries"]]
    for number, files in enumerate(
        [
            spoilt("entries", entries),
            spoilt("entries", moved),
            spoilt("entries", document["entries"][:-1]),
            spoilt("receipts", [document["receipts"][0][:-8] + "AAAAAAA="]),
            spoilt("receipts", []),
            spoilt("checkpoint", document["checkpoint"].replace("\n", "1\n", 2)),
            spoilt("directories", ["{}"]),
            spoilt("message_id", "f81d4fae-7dec-41d0-a765-00a0c91e6bf6"),
            {**whole, "report.html": whole["report.html"].replace("delivered", "expired")},
            {**whole, "more.txt": ""},
            {"evidence.json": "[]", "report.html": ""},
        ]
    ):
        changed = world.folder / f"{number}.zip"
        with zipfile.ZipFile(changed, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        code, text = typed("evidence", "verify", changed)
        assert (code, text.count("\n")) == (1, 1), (number, text)
    changed.write_bytes(file.read_bytes()[:-100])
    assert typed("evidence", "verify", changed)[0] == 1
    assert (await made(new_id(), world.folder / SCHOOL, changed))[0] == 1


async def test_evidence_signed_with_keys_the_directory_does_not_list_is_refused(
    world: World, tmp_path: Path
) -> None:
    message_id = await delivered(world)
    file, other = world.folder / "evidence.zip", tmp_path / "other"
    assert (await made(message_id, world.folder / SCHOOL, file))[0] == 0
    other.mkdir()
    provision(other, (SCHOOL, POLICE))
    assert typed("evidence", "verify", file)[0] == 0
    assert typed("evidence", "verify", file, "--directory", other / "directory.json")[0] == 1
    log = exported(world)
    assert typed("audit", "verify", log, "--directory", other / "directory.json")[0] == 1
