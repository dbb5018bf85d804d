"""The life of keys in running nodes: nothing is lost, and what was sealed to a destroyed key is gone."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway import config, provisioning
from gateway.cli.database import in_database
from gateway.crypto import envelope
from gateway.crypto.key_document import AgencyKeys
from gateway.crypto.keystore import FileKeyStore
from gateway.directory import file as directory_file
from gateway.errors import RefusedByPeer
from gateway.http.client import ApiProblem
from gateway.messages import AgencyId, Reason
from gateway.node import now_ms
from gateway.store import audit, key_usage
from gateway.transport.base import Lane, Sealed
from tests.crypto.test_destroy import holding, secret_of
from tests.operators import Operators, typed
from tests.road import arrived, ladder, metric, reached, send, wait_for_arrival
from tests.world import POLICE, SCHOOL, World, provision, running, until

QUICK = """
[times]
tick = 0.05
settle = 60.0
keys_retire = 2
checkpoint = 0.5
"""
PEOPLE = ("ada", "grace")


def world_of(folder: Path, people: Operators, broker: str = "", refresh: str = "0.1") -> World:
    world = provision(folder / "world", (SCHOOL, POLICE), broker=broker, extra=QUICK)
    for agency in (SCHOOL, POLICE):
        file = world.folder / agency / config.FILE_NAME
        node = f"[node]\ndirectory_refresh = {refresh}"
        file.write_text(file.read_text("utf-8").replace("[node]", node), "utf-8")
        people.install(world.folder / agency, *PEOPLE)
    return world


@pytest.fixture
def people(tmp_path: Path) -> Operators:
    return Operators(tmp_path / "people", *PEOPLE)


def keys_of(world: World, agency: AgencyId) -> AgencyKeys:
    return world.nodes[agency].parts.keys[agency]


async def run(world: World, agency: AgencyId, *arguments: object) -> tuple[int, str]:
    """`gateway keys ...` beside the running node."""
    return await asyncio.to_thread(typed, "keys", *arguments, "-n", world.folder / agency)


async def states(world: World, agency: AgencyId) -> dict[str, str]:
    listed = json.loads((await run(world, agency, "list", "--json"))[1])["keys"]
    return {key["kid"]: key["state"] for key in listed}


async def destroy(world: World, agency: AgencyId, people: Operators, kid: bytes, *more: object) -> None:
    """Two people destroy a key, as soon as it may be."""
    request, said = people.folder / f"{kid.hex()}.json", ""

    async def asked() -> bool:
        nonlocal said
        about = ("destroy", kid.hex(), *people.by("ada"), "--request", request, *more)
        code, said = await run(world, agency, *about)
        return code == 0

    await until(asked, "the key may be destroyed")

    async def confirmed() -> bool:  # a message may have come for the key in between
        code, _ = await run(world, agency, "confirm", request, *people.by("grace"))
        return code == 0

    await until(confirmed, "the key is destroyed")


class Traffic:
    """Messages from the school to the police all the time, and a system that collects them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sent: list[str] = []
        self.seen: Counter[str] = Counter()
        self._stop = asyncio.Event()
        self._sending = asyncio.create_task(self._send())
        self._tasks = [self._sending, asyncio.create_task(self._collect())]

    async def _send(self) -> None:
        while not self._stop.is_set():
            self.sent.append((await send(self.world.clients[SCHOOL]))["message_id"])
            await asyncio.sleep(0.02)

    async def _collect(self) -> None:
        client = self.world.clients[POLICE]
        while not self._sending.done() or len(self.seen) < len(self.sent):
            page = await client.inbox(wait=1, content=True)
            ids = [message["message_id"] for message in page["messages"]]
            assert all("content" in message for message in page["messages"])
            self.seen.update(ids)
            if ids:
                await client.ack(ids)

    async def more(self, number: int = 10) -> None:
        """Until so many more were sent and delivered."""
        wanted = len(self.sent) + number
        await until(lambda: len(self.sent) >= wanted or self._failed(), "messages are accepted")
        await until(lambda: self.seen.keys() >= set(self.sent[:wanted]) or self._failed(), "they arrive")

    def _failed(self) -> bool:
        for task in self._tasks:
            if task.done():
                task.result()
        return False

    async def end(self) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)


Old = dict[AgencyId, AgencyKeys]


async def rotate_all(world: World, old: Old, traffic: Traffic) -> None:
    for agency in old:
        assert (await run(world, agency, "rotate", "--lead", "1"))[0] == 0
        await traffic.more()
    for agency, keys in old.items():
        await until(partial(signs_with_another, world, agency, keys.signing.kid), "the new keys are used")
    await traffic.more()  # nothing is on its way any more that an old key signed


def signs_with_another(world: World, agency: AgencyId, kid: bytes) -> bool:
    return keys_of(world, agency).signing.kid != kid


async def revoke_all(world: World, agency: AgencyId, keys: AgencyKeys) -> None:
    """Every node knows it by its next look at the directory."""
    for kid in (keys.signing.kid, keys.current_opening.kid):
        code, said = await run(world, agency, "revoke", kid.hex())
        assert code == 0, said
    await until(partial(believed_by_none, world, agency, keys.signing.kid), "no node believes it", timeout=5)


def believed_by_none(world: World, agency: AgencyId, kid: bytes) -> bool:
    return not any(node.parts.find_verify_key(agency, kid) for node in world.nodes.values())


async def forgotten(world: World, agency: AgencyId, kid: bytes) -> None:
    await until(lambda: kid not in keys_of(world, agency).opening, "the node forgets it as well")
    assert (await states(world, agency))[kid.hex()] == "destroyed"


def refusals(world: World, agency: AgencyId) -> dict[str, float]:
    text = world.nodes[agency].metrics()[0].decode()
    rows = [
        line.rpartition(" ") for line in text.splitlines() if line.startswith("gateway_envelopes_refused")
    ]
    found = {name: float(number) for name, _, number in rows if "{" in name}
    assert found
    return {name: number for name, number in found.items() if number}


async def log_verifies(world: World, agency: AgencyId, people: Operators) -> None:
    """As those see it who have the file alone, and who have the directory as well."""
    log = people.folder / f"{agency}.log"
    code, said = await asyncio.to_thread(typed, "audit", "export", log, "-n", world.folder / agency)
    assert code == 0, said
    for more in ([], ["-d", world.directory]):
        code, said = await asyncio.to_thread(typed, "audit", "verify", log, *more)
        assert code == 0, said


async def test_rotating_revoking_and_destroying_under_load_loses_nothing(
    tmp_path: Path, people: Operators, broker_url: str
) -> None:
    async with running(world_of(tmp_path, people, broker_url), broker=broker_url) as world:
        old = {agency: keys_of(world, agency) for agency in (SCHOOL, POLICE)}
        secrets = {a: secret_of(k, k.current_opening.kid) for a, k in old.items()}
        traffic = Traffic(world)
        await traffic.more()
        await rotate_all(world, old, traffic)
        await revoke_all(world, SCHOOL, old[SCHOOL])
        await traffic.more()
        for agency, keys in old.items():
            for kid in (keys.current_opening.kid, keys.signing.kid):
                await destroy(world, agency, people, kid)
                await traffic.more(3)
            await forgotten(world, agency, keys.current_opening.kid)
        await traffic.more()
        await traffic.end()

        assert len(traffic.sent) > 60
        assert traffic.seen == Counter(traffic.sent), "each is handed over once"
        for message_id in traffic.sent:
            await reached(world, message_id, "delivered")
        used = json.loads((await run(world, POLICE, "usage", "--json"))[1])["keys"]
        peers = {one["state"]: [peer["peer"] for peer in one["peers"]] for one in used}
        assert peers == {"destroyed": [SCHOOL], "active": [SCHOOL]}
        for agency in old:
            assert refusals(world, agency) == {}
            await world.stop(agency)
            assert holding(world.folder / agency, secrets[agency]) == []
            await log_verifies(world, agency, people)


async def test_every_change_of_state_is_entered_and_what_is_due_is_shown(
    tmp_path: Path, people: Operators
) -> None:
    async with running(world_of(tmp_path, people)) as world:
        old = keys_of(world, POLICE).current_opening.kid
        database = config.load(world.folder / POLICE).database()

        def entered() -> list[str]:
            found = in_database(database, lambda s: audit.entries(s, 0, 10_000))
            every = [json.loads(entry.text) for entry in found]
            mine = [one for one in every if one.get("kid") == old.hex()]
            return [str(one.get("code") if one["kind"] == "key-state" else one["kind"]) for one in mine]

        async def until_entered(*wanted: str) -> None:
            async def there() -> bool:
                return await asyncio.to_thread(entered) == list(wanted)

            await until(there, f"the log says {wanted}")

        def let_go() -> int | None:
            return in_database(database, lambda s: key_usage.let_go(s, POLICE, old))

        due = f'gateway_keys_due{{agency="{POLICE}",what="destroy"}}'
        await until_entered("active")
        assert await asyncio.to_thread(let_go) is None
        assert metric(world, POLICE, due) == 0
        assert (await run(world, POLICE, "rotate", "--lead", "0"))[0] == 0
        await until_entered("active", "retiring")
        await until(lambda: asyncio.to_thread(let_go), "the node has seen that peers seal to another")
        await until(lambda: metric(world, POLICE, due) == 2, "a signing and an opening key wait")
        await until_entered("active", "retiring", "retired")
        await destroy(world, POLICE, people, old)
        await until(lambda: metric(world, POLICE, due) == 1, "one waits still")
        await until(lambda: old not in keys_of(world, POLICE).opening, "the node has seen it")
        found = await asyncio.to_thread(entered)
        assert found[:-2] == ["active", "retiring", "retired", "approval-asked", *["approval-given"] * 2]
        assert set(found[-2:]) == {"key-destroyed", "destroyed"}  # the command's entry, and the node's
        # Started anew it enters nothing twice.
        await world.stop(POLICE)
        await world.start(POLICE)
        await wait_for_arrival(world, (await send(world.clients[SCHOOL]))["message_id"])
        await until_entered(*found)


def body_of(world: World, message_id: str) -> bytes:
    """What the police's node keeps of a message."""
    with sqlite3.connect(world.folder / POLICE / "gateway.db") as database:
        row = database.execute("SELECT body FROM inbox WHERE message_id = ?", (message_id,)).fetchone()
    return bytes(row[0])


async def dead(world: World, number: int) -> None:
    await until(lambda: metric(world, POLICE, "gateway_dead_letters") == number, f"{number} set aside")


async def test_after_destruction_nothing_in_the_nodes_folder_opens_what_was_sealed(
    tmp_path: Path, people: Operators
) -> None:
    async with running(world_of(tmp_path, people)) as world:
        old = keys_of(world, POLICE)
        kid = old.current_opening.kid
        secret = secret_of(old, kid)
        assert holding(world.folder / POLICE, secret) == [f"{POLICE}.json"]
        waits = (await send(world.clients[SCHOOL]))["message_id"]
        await wait_for_arrival(world, waits)
        body = await asyncio.to_thread(body_of, world, waits)
        find = world.nodes[POLICE].parts.find_verify_key
        assert envelope.open_envelope(body, recipient=POLICE, keys=old.opening, find_verify_key=find)
        assert (await run(world, POLICE, "rotate", "--lead", "0"))[0] == 0
        await until(lambda: len(keys_of(world, POLICE).opening) == 2, "the node has the new keys")

        async def says_so() -> bool:
            request = people.folder / "refused.json"
            about = ("destroy", kid.hex(), *people.by("ada"), "--request", request)
            _, said = await run(world, POLICE, *about)
            return f"1 message(s) sealed to this key wait in the inbox of {POLICE}" in said

        await until(says_so, "a message waits for the key")
        await destroy(world, POLICE, people, kid, "--with-messages")
        # The sender is told of the one that two people gave up.
        one = await reached(world, waits, "rejected")
        assert one["receipts"][-1]["reason"] == Reason.UNKNOWN_KEY
        assert not await arrived(world.clients[POLICE], waits)

        await until(lambda: kid not in keys_of(world, POLICE).opening, "the node forgets it")
        assert holding(world.folder / POLICE, secret) == []
        left = FileKeyStore(world.folder / POLICE / "keys").load(POLICE)
        with pytest.raises(RefusedByPeer) as refused:
            envelope.open_envelope(body, recipient=POLICE, keys=left.opening, find_verify_key=find)
        assert refused.value.reason is Reason.UNKNOWN_KEY
        # With another envelope id it is no repeat; to a running node it is one dead letter, again and again.
        outer = envelope.peek(body)
        sealed = Sealed(outer.envelope_id, POLICE, Lane.MESSAGES, outer.expires, body)
        await world.nodes[SCHOOL].parts.transport.publish(sealed)
        await dead(world, 1)
        listed = await asyncio.to_thread(typed, "dead-letters", "list", "--json", "-n", world.folder / POLICE)
        (letter,) = json.loads(listed[1])["dead_letters"]
        assert letter["reason"] == Reason.UNKNOWN_KEY
        replayed = await asyncio.to_thread(
            typed, "dead-letters", "replay", letter["number"], "-n", world.folder / POLICE
        )
        assert replayed[0] == 0, replayed[1]
        name = f'gateway_envelopes_refused_total{{reason="{Reason.UNKNOWN_KEY}"}}'
        await until(lambda: metric(world, POLICE, name) == 2, "it is refused again")
        await dead(world, 1)
        after = (await send(world.clients[SCHOOL]))["message_id"]
        await wait_for_arrival(world, after)
        await world.clients[POLICE].ack([after])
        await reached(world, after, "delivered")


async def test_a_node_that_has_not_looked_yet_takes_nothing_in_for_a_destroyed_key(
    tmp_path: Path, people: Operators
) -> None:
    """Both nodes go on with what they know: the sender seals to the old key, the recipient still has it."""
    async with running(world_of(tmp_path, people, refresh="3600.0")) as world:
        old = keys_of(world, POLICE)
        kid = old.current_opening.kid
        settings = config.load(world.folder / POLICE)
        provisioning.rotate(settings, POLICE, 0, now_ms())
        directory_file.revoke_key(world.directory, POLICE, kid, datetime.now(UTC))
        request = people.folder / "ask.json"
        about = ("destroy", kid.hex(), *people.by("ada"), "--request", request)
        code, said = await run(world, POLICE, *about)
        assert code == 0, said

        # A message comes for the key after it was asked for: it is not lost, and nothing is closed.
        for _ in range(2):
            message_id = (await send(world.clients[SCHOOL]))["message_id"]
            await wait_for_arrival(world, message_id)
            code, said = await run(world, POLICE, "confirm", request, *people.by("grace"))
            assert code != 0
            assert "1 message(s) sealed to this key wait" in said
            await world.clients[POLICE].ack([message_id])
            await reached(world, message_id, "delivered")
        code, said = await run(world, POLICE, "confirm", request, *people.by("grace"))
        assert code == 0, said

        assert kid in keys_of(world, POLICE).opening
        message_id = (await send(world.clients[SCHOOL]))["message_id"]
        one = await reached(world, message_id, "rejected")
        assert one["receipts"][-1]["reason"] == Reason.UNKNOWN_KEY
        assert not await arrived(world.clients[POLICE], message_id)
        await dead(world, 1)
        # After a restart it has no key for what comes: a dead letter, and nobody is told.
        await world.stop(POLICE)
        await world.start(POLICE)
        message_id = (await send(world.clients[SCHOOL]))["message_id"]
        await dead(world, 2)
        assert (await ladder(world, message_id))["stage"] == "accepted"


async def test_a_message_whose_sender_was_revoked_since_is_answered_without_its_content(
    tmp_path: Path, people: Operators
) -> None:
    async with running(world_of(tmp_path, people)) as world:
        message_id = (await send(world.clients[SCHOOL]))["message_id"]
        await wait_for_arrival(world, message_id)
        stolen = keys_of(world, SCHOOL).signing.kid
        assert (await run(world, SCHOOL, "rotate", "--lead", "0"))[0] == 0
        assert (await run(world, SCHOOL, "revoke", stolen.hex()))[0] == 0
        find = world.nodes[POLICE].parts.find_verify_key
        await until(lambda: find(SCHOOL, stolen) is None, "the police know")
        with pytest.raises(ApiProblem) as problem:
            await world.clients[POLICE].open(message_id)
        assert (problem.value.status, problem.value.code) == (410, "not-readable")
        page: dict[str, Any] = await world.clients[POLICE].inbox(content=True)
        (shown,) = page["messages"]
        assert "content" not in shown
        await world.clients[POLICE].reject(message_id, reason="unreadable")
        await reached(world, message_id, "rejected")
