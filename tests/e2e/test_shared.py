"""Several processes of one node on one PostgreSQL: they share the work, and one may go while others serve."""

from __future__ import annotations

import asyncio
import json
import signal
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bench.nodes import RECIPIENT, SENDER, BenchNode, restart, start_pair, start_twin
from gateway import config, provisioning
from gateway.http.client import ApiProblem, Client, Unreachable
from gateway.messages import AgencyId, MessageId
from gateway.node import Node, now_ms
from gateway.transport import topology
from gateway.transport.tap import RabbitTap
from tests import road
from tests.postgres import PostgresServer
from tests.road import referral
from tests.world import POLICE, SCHOOL, provision, running, until

pytestmark = pytest.mark.xdist_group("postgres")


@pytest.fixture
async def nodes(
    tmp_path: Path, broker_url: str, postgres: PostgresServer
) -> AsyncIterator[dict[AgencyId, list[BenchNode]]]:
    """Two processes of the sender's node, two of the recipient's."""
    await topology.declare(broker_url, [SENDER, RECIPIENT])
    databases = {agency: postgres.create_database() for agency in (SENDER, RECIPIENT)}
    first = start_pair(tmp_path, broker_url, databases)
    running = {SENDER: [first[0], start_twin(first[0])], RECIPIENT: [first[1], start_twin(first[1])]}
    yield running
    for pair in running.values():
        for node in pair:
            node.stop()


async def send(client: Client, key: str) -> str:
    answer = await client.send(
        json.dumps(referral()).encode(),
        media_type="application/json",
        to=[RECIPIENT],
        purpose="prevent",
        lawful_basis="public-task",
        idempotency_key=key,
    )
    return str(answer["message_id"])


async def test_two_processes_send_each_envelope_once_and_hand_each_message_over_once(
    nodes: dict[AgencyId, list[BenchNode]], broker_url: str
) -> None:
    tap = RabbitTap(broker_url, [RECIPIENT])
    watching = asyncio.ensure_future(tap.run())
    await tap.ready.wait()
    senders = [Client(node.url, node.token) for node in nodes[SENDER]]
    recipients = [Client(node.url, node.token) for node in nodes[RECIPIENT]]
    keys = [str(uuid.uuid4()) for _ in range(60)]
    # Every request goes to both processes at once: one accepts it, both give the same answer.
    answers = await asyncio.gather(*(send(client, key) for key in keys for client in senders))
    assert all(one == two for one, two in zip(answers[::2], answers[1::2], strict=True))
    sent = set(answers)
    assert len(sent) == len(keys)

    acknowledged: Counter[str] = Counter()

    async def collect(client: Client) -> None:
        page = await client.inbox(wait=1)
        for message in page["messages"]:
            try:
                await client.ack([message["message_id"]])
            except ApiProblem as problem:
                assert problem.code == "already-final"
            acknowledged[message["message_id"]] += 1

    async def all_there() -> bool:
        await asyncio.gather(*(collect(client) for client in recipients))
        return set(acknowledged) == sent

    await until(all_there, "all arrive", timeout=60)

    async def final() -> bool:
        states = [await senders[0].status(message_id) for message_id in sent]
        return all(state["recipients"][0]["stage"] == "delivered" for state in states)

    await until(final, "every ladder is final", timeout=60)
    watching.cancel()
    await asyncio.wait({watching}, timeout=20)
    published = Counter(name for name in tap.seen.names if ".messages" in name)
    assert len(published) == len(keys)
    assert set(published.values()) == {1}, "an envelope was published by both"
    for client in (*senders, *recipients):
        await client.close()


async def test_what_a_killed_process_had_in_hand_another_sends(
    nodes: dict[AgencyId, list[BenchNode]],
) -> None:
    """The broker is away for the first process only when it dies: what it accepted must not die with it."""
    one, two = nodes[SENDER]
    client = Client(one.url, one.token)
    # Stopped between accepting and publishing at an arbitrary place: a burst, then kill -9 in the middle.
    burst = [asyncio.ensure_future(send(client, str(uuid.uuid4()))) for _ in range(40)]
    await asyncio.wait(burst, return_when=asyncio.FIRST_COMPLETED)
    one.process.send_signal(signal.SIGKILL)
    one.process.wait(30)
    answers = await asyncio.gather(*burst, return_exceptions=True)
    accepted = {answer for answer in answers if isinstance(answer, str)}
    assert accepted
    other = Client(two.url, two.token)

    async def sent() -> bool:
        states = [await other.status(message_id) for message_id in accepted]
        return all(state["recipients"][0]["stage"] == "received" for state in states)

    await until(sent, "the other process sends it", timeout=60)
    await client.close()
    await other.close()


async def some_more(done: list[str]) -> None:
    wanted = len(done) + 20
    await until(lambda: len(done) > wanted, "some more are sent", timeout=60)


async def test_a_rolling_restart_refuses_nothing_but_with_503_and_a_time(
    nodes: dict[AgencyId, list[BenchNode]],
) -> None:
    """A sender that knows both processes, as behind a balancer that reads /readyz, is never turned away."""
    pair = nodes[SENDER]
    stopping = asyncio.Event()
    refused: list[str] = []
    done: list[str] = []

    async def keep_sending(number: int) -> None:
        while not stopping.is_set():
            for node in sorted(pair, key=lambda _: number % 2 == 0):
                client = Client(node.url, node.token)
                try:
                    done.append(await send(client, str(uuid.uuid4())))
                    break
                except Unreachable:
                    continue  # not listening: the balancer takes the next
                except ApiProblem as problem:
                    if problem.status != 503 or problem.retry_after is None:
                        refused.append(problem.code)
                finally:
                    await client.close()

    work = [asyncio.ensure_future(keep_sending(number)) for number in range(4)]
    for position in range(2):
        await some_more(done)
        await asyncio.to_thread(pair[position].stop)
        assert pair[position].process.returncode == 0
        pair[position] = await asyncio.to_thread(restart, pair[position])
    await some_more(done)
    stopping.set()
    await asyncio.gather(*work)
    assert refused == []
    client = Client(pair[0].url, pair[0].token)

    async def sent() -> bool:
        states = [await client.status(message_id) for message_id in done]
        return all(state["recipients"][0]["stage"] == "received" for state in states)

    await until(sent, "everything accepted arrives", timeout=60)
    await client.close()


async def test_what_one_process_took_in_with_newer_keys_the_other_opens_too(
    tmp_path: Path, broker_url: str, postgres: PostgresServer
) -> None:
    """Both sides rotate without a lead; the recipient's processes would not look for an hour."""
    world = provision(
        tmp_path,
        (SCHOOL, POLICE),
        broker=broker_url,
        databases={POLICE: postgres.create_database()},
    )
    for agency, seconds in ((SCHOOL, 0.1), (POLICE, 3600.0)):
        file = tmp_path / agency / config.FILE_NAME
        section = f"[node]\ndirectory_refresh = {seconds}"
        file.write_text(file.read_text("utf-8").replace("[node]", section), "utf-8")
    async with running(world, broker=broker_url):
        second = Node(config.load(tmp_path / POLICE))
        await second.start()
        try:
            both = [world.nodes[POLICE], second]
            old = [world.nodes[agency].parts.keys[agency] for agency in (SCHOOL, POLICE)]
            for agency in (SCHOOL, POLICE):
                provisioning.rotate(config.load(tmp_path / agency), agency, 0, now_ms())
            school = world.nodes[SCHOOL].parts
            await until(
                lambda: school.keys[SCHOOL].signing.kid != old[0].signing.kid, "it signs with the new key"
            )

            def seals_to_the_new_key() -> bool:
                key = school.directory.sealing_key(POLICE, now_ms())
                return key is not None and key.kid not in old[1].opening

            await until(seals_to_the_new_key, "it seals to the new key")
            message_id = (await road.send(world.clients[SCHOOL]))["message_id"]
            await road.wait_for_arrival(world, message_id)
            assert [len(node.parts.keys[POLICE].opening) for node in both] in ([1, 2], [2, 1])
            for node in both:
                assert (await node._mailbox.open(POLICE, MessageId(message_id), [])).native.body
        finally:
            await second.stop()
