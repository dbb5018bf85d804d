"""The audit log of running nodes: what they do stands in it, and whoever changes the past is found out."""

from __future__ import annotations

import asyncio
import io
import json
import sqlite3
import struct
import tracemalloc
import zipfile
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway import config, provisioning
from gateway.audit import evidence, page
from gateway.crypto import witness as form
from gateway.crypto.envelope import open_envelope
from gateway.engine import witness
from gateway.errors import Unavailable
from gateway.http import auth
from gateway.http.client import File
from gateway.http.ports import Permission
from gateway.messages import AgencyId, new_id
from gateway.node import now_ms
from gateway.store import audit, dead_letters, notes
from gateway.store.audit import Checkpoint
from gateway.store.base import Session
from gateway.transport.base import Sealed
from tests.command import app
from tests.road import metric, reached, refusal, send, wait_for_arrival
from tests.world import POLICE, SCHOOL, World, provision, running, until

TAKEN, FORK, CONTRADICTED, UNPROVEN, DAMAGED = (
    f'gateway_audit_checkpoints_total{{outcome="{outcome}"}}'
    for outcome in ("taken", "fork", "contradicted", "unproven", "damaged")
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
    code, text = typed("audit", "list", "-n", world.folder / POLICE, "--message", message_id, "--json")
    assert [one.get("agreement") for one in json.loads(text)["entries"]] == ["all-to-all", None]
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


async def test_a_token_made_behind_the_logs_back_is_noticed(world: World) -> None:
    """By hand, or by a command that was killed before it could enter what it had done."""
    settings = config.load(world.folder / SCHOOL)

    async def noticed() -> int:
        return [one["kind"] for one in entries(world)].count("tokens-changed")

    await until(noticed, "those of the start")
    before = await noticed()
    auth.create_token(settings.path(settings.node.tokens), SCHOOL, frozenset({Permission.SEND}), now_ms())

    async def again() -> bool:
        return await noticed() > before

    await until(again, "the node sees it")


async def test_a_copy_that_could_not_be_finished_is_on_record(world: World, tmp_path: Path) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text("a passphrase that is long enough", "utf-8")
    code, _ = await asyncio.to_thread(
        typed, "backup", tmp_path / "none" / "copy", "-n", world.folder / SCHOOL, "-p", secret
    )
    assert code != 0
    assert [one["kind"] for one in entries(world)].count("backed-up") == 1


async def test_a_message_with_attachments_is_allowed_before_it_is_received(world: World) -> None:
    sent = await send(world.clients[SCHOOL], attachments=[File("a.txt", "text/plain", b"x" * 100)])
    await wait_for_arrival(world, sent["message_id"])
    code, text = typed(
        "audit", "list", "-n", world.folder / POLICE, "--message", sent["message_id"], "--json"
    )
    assert code == 0
    found = json.loads(text)["entries"]
    assert [one["kind"] for one in found] == ["policy-allowed", "receipt"]
    assert found[0]["agreement"] == "all-to-all"


async def test_what_changed_while_the_database_could_not_be_used_is_entered_once_it_can(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = world.nodes[SCHOOL]
    write, down = node.parts.store.write, True

    async def flaky(job: Any) -> Any:
        if down:
            raise Unavailable("store-unavailable")
        return await write(job)

    monkeypatch.setattr(node.parts.store, "write", flaky)
    provisioning.rotate(config.load(world.folder / SCHOOL), SCHOOL, 0, now_ms())
    node.parts.keys.refresh(node.parts.directory, now_ms(), lambda: None)
    assert await asyncio.to_thread(node.parts.source.refresh), "both are in use"
    for note in (node._auditor.keys_changed, node._auditor.directory_changed):
        with pytest.raises(Unavailable):
            await note()
    kinds = ("directory-changed", "keys-changed")
    before = [one["kind"] for one in entries(world)]
    assert [before.count(kind) for kind in kinds] == [1, 1]
    down = False

    async def entered() -> bool:
        after = [one["kind"] for one in entries(world)]
        return [after.count(kind) for kind in kinds] == [2, 2]

    await until(entered, "it is entered")


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


@pytest.mark.parametrize("gone", ["number = 2", "number >= 5", "number >= 0"])
async def test_a_log_that_lacks_entries_is_an_alarm_and_stops_no_message(world: World, gone: str) -> None:
    message_id = await delivered(world)
    await world.stop(SCHOOL)
    tamper(world, lambda database: database.execute(f"DELETE FROM audit_entries WHERE {gone}"))
    file = world.folder / "evidence.zip"
    code, text = await made(message_id, world.folder / SCHOOL, file)
    assert (code, text.count("\n")) == (1, 1), text
    assert not file.exists()
    await world.start(SCHOOL)
    await until(lambda: metric(world, SCHOOL, DAMAGED), "it is noticed")
    await delivered(world)
    await world.stop(SCHOOL)
    assert typed("audit", "verify", exported(world))[0] == 1
    await world.start(SCHOOL)


async def test_a_transition_that_is_undone_leaves_no_entry(world: World) -> None:
    def receipts() -> int:
        # A node that starts enters its files one by one: the others' number still grows.
        return [one["kind"] for one in entries(world)].count("receipt")

    await delivered(world)
    before = receipts()

    def job(session: Any) -> None:
        audit.record(session, "receipt")
        raise KeyError

    with pytest.raises(KeyError):
        await world.nodes[SCHOOL].parts.store.write(job)
    assert receipts() == before > 0


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
    found_there = await kept(world, POLICE)
    assert [fork for _, _, fork in found_there].count(True) >= 1
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


async def test_a_peer_that_says_what_it_likes_of_our_log_fills_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witness, "EVIDENCE", 3)
    await delivered(world)

    async def known() -> bool:
        return bool(await kept(world, POLICE))

    await until(known, "the first checkpoint")
    ((_, honest, _), *_) = await kept(world, POLICE)
    police = world.nodes[POLICE].parts

    def owe(lie: bytes, session: Session) -> None:
        notes.owe(session, witness.CONFIRM, POLICE, SCHOOL, lie)

    for number in range(8):
        lie = form.encode_confirmed(form.Confirmed(honest.origin, honest.size, number.to_bytes(32)))
        await police.store.write(partial(owe, lie))
    await delivered(world)  # its receipts wake what sends notes
    await until(lambda: metric(world, SCHOOL, CONTRADICTED) == 8, "each is counted")
    await world.stop(SCHOOL)
    assert [one["kind"] for one in entries(world)].count("own-log-contradicted") == 3


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


async def test_evidence_says_only_of_those_that_signed_the_log_that_they_did(world: World) -> None:
    message_id = await delivered(world)
    file, changed = world.folder / "evidence.zip", world.folder / "changed.zip"
    assert (await made(message_id, world.folder / SCHOOL, file))[0] == 0
    with zipfile.ZipFile(file) as archive:
        document = json.loads(archive.read("evidence.json"))
    document["agencies"] = [POLICE, SCHOOL]
    found = evidence.check(document)
    assert found.agencies == (SCHOOL,)
    with zipfile.ZipFile(changed, "w") as archive:
        archive.writestr("evidence.json", json.dumps(document))
        archive.writestr("report.html", page.render(found))
    code, text = typed("evidence", "verify", changed, "--directory", world.directory)
    assert code == 0
    assert text.endswith(f"message {message_id}, in the audit log of school\n")


async def test_evidence_made_during_a_rotation_is_signed_with_a_key_the_directory_lists(world: World) -> None:
    """The new key is here already; governance has not published it yet."""
    message_id = await delivered(world)
    settings = config.load(world.folder / SCHOOL)
    now = now_ms()
    settings.key_store().rotate(SCHOOL, now, now + 600_000)
    await world.stop(SCHOOL)
    tamper(world, lambda database: audit.record(database, "test"))  # something to sign
    file = world.folder / "evidence.zip"
    code, text = await made(message_id, world.folder / SCHOOL, file)
    assert code == 0, text
    assert typed("evidence", "verify", file, "--directory", world.directory)[0] == 0
    assert typed("audit", "verify", exported(world), "--directory", world.directory)[0] == 0


async def test_evidence_after_a_revocation_is_vouched_for_by_the_issuers_own_log_alone(world: World) -> None:
    message_id = await delivered(world)
    nodes = {agency: world.folder / agency for agency in (SCHOOL, POLICE)}
    before, own, others = (world.folder / f"{name}.zip" for name in ("before", "own", "others"))
    assert (await made(message_id, nodes[POLICE], before))[0] == 0
    settings = config.load(nodes[POLICE])
    kid = settings.key_store().load(POLICE).signing.kid
    for command in (["rotate", "--lead", "0"], ["revoke", kid.hex()]):
        code, text = await asyncio.to_thread(typed, "keys", *command, "-n", nodes[POLICE])
        assert code == 0, text
    assert (await made(message_id, nodes[POLICE], own))[0] == 0
    assert (await made(message_id, nodes[SCHOOL], others))[0] == 0

    def check(file: Path) -> tuple[int, str]:
        return typed("evidence", "verify", file, "--directory", world.directory)

    code, text = check(own)
    assert code == 0, text
    assert text.count("signed by police") == 2
    code, text = check(before)
    assert code == 1, "its log is signed with the key that was stolen"
    code, text = check(others)
    assert (code, "key of police that was revoked" in text) == (1, True), text


@pytest.mark.parametrize("size", [100, 64 * 1024 * 1024])
def test_a_bomb_that_is_called_evidence_takes_no_memory(tmp_path: Path, size: int) -> None:
    """One that says it is small, and one that is text of the size it says but millions of values."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        whole = 64 * 1024 * 1024
        archive.writestr("evidence.json", "[" + "[]," * ((whole - 4) // 3) + "[]]".rjust((whole - 4) % 3 + 3))
        archive.writestr("report.html", "")
    assert archive.getinfo("evidence.json").file_size == whole
    file = tmp_path / "evidence.zip"
    file.write_bytes(packed.getvalue().replace(struct.pack("<L", whole), struct.pack("<L", size)))
    tracemalloc.start()
    try:
        code, text = typed("evidence", "verify", file)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (code, text.count("\n")) == (1, 1)
    assert peak < 4 * size + 10_000_000


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
