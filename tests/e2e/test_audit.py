"""The audit log of running nodes: what they do stands in it, and whoever changes the past is found out."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from tests.road import reached, refusal, send, wait_for_arrival
from tests.world import POLICE, SCHOOL, World, provision, running

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
        from gateway.store import audit

        audit.record(session, "receipt")
        raise KeyError

    with pytest.raises(KeyError):
        await world.nodes[SCHOOL].parts.store.write(job)
    assert len(entries(world)) == before
