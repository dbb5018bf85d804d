"""What only the spool has: files, a lock, and publishers that die in the middle of a write."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.messages import UUID4
from gateway.transport import embedded
from gateway.transport.base import Lane, TransportFull, TransportUnavailable, Unroutable
from gateway.transport.embedded import EmbeddedTransport, _names, create_queues
from tests.transport.ground import HOUR, POLICE, Collector, dead_in_spool, now, sealed, unanswered

PROJECT = Path(__file__).parents[2]
SOME_ID = "1b4e28ba-2fa1-41d2-883f-0016d3cca427"


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    """The folder of the police's messages, in a fresh spool."""
    create_queues(tmp_path, [POLICE])
    return tmp_path / "police" / "messages"


@pytest.fixture
async def node(tmp_path: Path, queue: Path) -> AsyncIterator[EmbeddedTransport]:
    transport = EmbeddedTransport(tmp_path)
    await transport.start()
    yield transport
    await transport.close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_a_temporary_file_of_a_killed_publisher_is_ignored(
    node: EmbeddedTransport, queue: Path
) -> None:
    half = queue / f".{1:020d}.{uuid.uuid4()}.{now() + HOUR}"
    half.write_bytes(b"half")
    collector = Collector()
    await node.consume(POLICE, Lane.MESSAGES, collector, prefetch=10)
    await node.publish(sealed(b"whole"))
    assert await collector.body() == b"whole"
    assert collector.came.empty()
    assert half.exists()


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "core",
        f"1.{SOME_ID}",
        "1.not-a-uuid.2",
        f"one.{SOME_ID}.2",
        f"1.{SOME_ID}.never",
        f"1.{SOME_ID}.2.bak",
        f"1.{SOME_ID}.\N{SUPERSCRIPT TWO}",
        f"1.{uuid.UUID(int=1)}.2",
    ],
)
async def test_a_foreign_file_is_passed_over(node: EmbeddedTransport, queue: Path, name: str) -> None:
    (queue / name).write_bytes(b"foreign")
    collector = Collector()
    await node.consume(POLICE, Lane.MESSAGES, collector, prefetch=10)
    await node.publish(sealed(b"ours"))
    assert await collector.body() == b"ours"
    assert (queue / name).read_bytes() == b"foreign"
    assert not names(queue.parent / "dead")


async def test_a_folder_with_the_name_of_a_thing_does_not_stop_the_queue(
    node: EmbeddedTransport, queue: Path
) -> None:
    (queue / f"{1:020d}.{uuid.uuid4()}.{now() + HOUR}").mkdir()
    collector = Collector()
    await node.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
    await node.publish(sealed(b"ours"))
    assert await collector.body() == b"ours"


async def test_a_file_name_says_a_sequence_an_identifier_and_an_expiry_and_nothing_else(
    node: EmbeddedTransport, queue: Path
) -> None:
    thing = sealed(b"body")
    await node.publish(thing)
    (name,) = names(queue)
    sequence, envelope_id, expires = name.split(".")
    assert re.fullmatch(r"[0-9]{20}", sequence)
    assert UUID4.fullmatch(envelope_id)
    assert envelope_id == thing.envelope_id
    assert int(expires) == thing.expires
    assert (queue / name).read_bytes() == b"body"


async def test_only_the_owner_may_read_what_waits(node: EmbeddedTransport, queue: Path) -> None:
    await node.publish(sealed(b"body"))
    (name,) = names(queue)
    assert (queue / name).stat().st_mode & 0o077 == 0
    assert queue.stat().st_mode & 0o077 == 0  # noqa: ASYNC240 - a test may block


async def test_an_acknowledged_thing_leaves_nothing_behind(node: EmbeddedTransport, queue: Path) -> None:
    collector = Collector()
    await node.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
    await node.publish(sealed(b"body"))
    await collector.next()
    assert names(queue) == [".lock"]
    assert not names(queue.parent / "dead")


async def test_a_dead_letter_keeps_its_sequence_and_identifier(node: EmbeddedTransport, queue: Path) -> None:
    collector = Collector(lambda delivery: delivery.dead_letter())
    thing = sealed(b"bad")
    await node.publish(thing)
    (name,) = names(queue)
    await node.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
    assert await dead_in_spool(queue.parent.parent, POLICE, 1) == [b"bad"]
    assert names(queue.parent / "dead") == [name.rsplit(".", 1)[0]]


async def test_the_limit_counts_what_waits_and_neither_the_lock_nor_temporary_files(
    tmp_path: Path, queue: Path
) -> None:
    (queue / f".{1:020d}.{uuid.uuid4()}.1").write_bytes(b"half")
    (queue / ".lock").touch()
    node = EmbeddedTransport(tmp_path, max_length=2)
    await node.start()
    await node.publish(sealed(b"one"))
    await node.publish(sealed(b"two"))
    with pytest.raises(TransportFull):
        await node.publish(sealed(b"three"))
    await node.close()


async def test_a_second_consumer_of_a_queue_is_refused_until_the_first_has_closed(
    node: EmbeddedTransport, tmp_path: Path
) -> None:
    other = EmbeddedTransport(tmp_path)
    await other.start()
    await node.consume(POLICE, Lane.MESSAGES, Collector(), prefetch=1)
    with pytest.raises(TransportUnavailable):
        await other.consume(POLICE, Lane.MESSAGES, Collector(), prefetch=1)
    await other.consume(POLICE, Lane.RECEIPTS, Collector(), prefetch=1)  # another queue, another lock
    await node.close()
    collector = Collector()
    await other.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
    await other.publish(sealed(b"mine now"))
    assert await collector.body() == b"mine now"
    await other.close()


async def test_creating_the_queues_again_keeps_what_waits(
    node: EmbeddedTransport, tmp_path: Path, queue: Path
) -> None:
    await node.publish(sealed(b"body"))
    before = names(queue)
    create_queues(tmp_path, [POLICE])
    assert names(queue) == before


async def test_without_a_spool_folder_it_does_not_start(tmp_path: Path) -> None:
    node = EmbeddedTransport(tmp_path / "missing")
    with pytest.raises(TransportUnavailable):
        await node.start()
    assert not node.connected


async def test_it_is_not_connected_while_the_spool_folder_is_missing(
    node: EmbeddedTransport, tmp_path: Path
) -> None:
    assert node.connected
    away = tmp_path.with_name(f"{tmp_path.name}-away")
    tmp_path.rename(away)  # noqa: ASYNC240 - a test may block
    assert not node.connected
    away.rename(tmp_path)
    assert node.connected


async def test_a_spool_that_cannot_be_written_is_unavailable_and_keeps_no_half(
    node: EmbeddedTransport, queue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gateway.transport.embedded.os.fsync", full)
    with pytest.raises(TransportUnavailable):
        await node.publish(sealed(b"body"))
    assert not names(queue)


async def test_a_consumer_goes_on_when_its_folder_was_away_for_a_moment(
    node: EmbeddedTransport, queue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: asyncio.Queue[bool] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    is_away = False

    def look(folder: Path) -> list[str]:
        loop.call_soon_threadsafe(looks.put_nowait, is_away)
        if is_away:
            raise FileNotFoundError
        return _names(folder)

    monkeypatch.setattr("gateway.transport.embedded._names", look)
    collector = Collector()
    await node.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
    is_away = True
    async with asyncio.timeout(30):
        while not await looks.get():
            pass
    is_away = False
    await node.publish(sealed(b"back"))
    assert await collector.body() == b"back"


PUBLISHER = """
import asyncio, sys, uuid, time
from pathlib import Path
from gateway.transport import embedded
from gateway.transport.base import Lane, Sealed
from gateway.transport.embedded import EmbeddedTransport

async def publish(node):
    while True:
        name = str(uuid.uuid4())
        expires = time.time_ns() // 1_000_000 + 3_600_000
        await node.publish(Sealed(name, "police", Lane.MESSAGES, expires, name.encode() * 10_000))
        print(name, flush=True)

async def main():
    node = EmbeddedTransport(Path(sys.argv[1]))
    await node.start()
    await asyncio.gather(*(publish(node) for _ in range(4)))

asyncio.run(main())
"""


def publish_until_killed(spool: Path, count: int) -> list[str]:
    """Identifiers of what was confirmed before SIGKILL, at least `count`."""
    process = subprocess.Popen(
        [sys.executable, "-c", PUBLISHER, str(spool)], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    confirmed = [process.stdout.readline().strip() for _ in range(count)]
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    return confirmed + [line for line in rest.splitlines() if UUID4.fullmatch(line)]


async def test_a_publisher_killed_in_the_middle_leaves_only_whole_things_and_all_it_confirmed(
    node: EmbeddedTransport, tmp_path: Path, queue: Path
) -> None:
    confirmed: set[str] = set()
    for count in (1, 7, 20):
        confirmed.update(await asyncio.to_thread(publish_until_killed, tmp_path, count))
    waiting = [name for name in names(queue) if not name.startswith(".")]
    collector = Collector()
    await node.consume(POLICE, Lane.MESSAGES, collector, prefetch=10)
    came = {}
    for _ in waiting:
        thing = (await collector.next()).sealed
        came[thing.envelope_id] = thing.body
    assert confirmed <= set(came)
    assert all(body == name.encode() * 10_000 for name, body in came.items())


CONSUMER = """
import asyncio, sys
from pathlib import Path
from gateway.transport import embedded
from gateway.transport.base import Lane
from gateway.transport.embedded import EmbeddedTransport

async def take(delivery):
    print("taken", flush=True)
    await asyncio.Event().wait()

async def main():
    node = EmbeddedTransport(Path(sys.argv[1]))
    await node.start()
    await node.consume("police", Lane.MESSAGES, take, prefetch=1)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_killed_consumer_lets_go_of_the_queue_and_of_what_it_had(
    node: EmbeddedTransport, tmp_path: Path
) -> None:
    await node.publish(sealed(b"unanswered"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CONSUMER, str(tmp_path), cwd=PROJECT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"taken\n"
    collector = Collector()
    with pytest.raises(TransportUnavailable):
        await node.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
    process.kill()
    await process.wait()
    await node.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
    came = await collector.next()
    assert came.sealed.body == b"unanswered"
    assert came.redelivered


async def test_what_kills_its_consumer_again_and_again_is_set_aside(
    tmp_path: Path, queue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "DELIVERY_LIMIT", 3)
    first = EmbeddedTransport(tmp_path)
    await first.start()
    await first.publish(sealed(b"deadly"))
    for _ in range(3):
        consumer = EmbeddedTransport(tmp_path)
        await consumer.start()
        collector = Collector(unanswered)
        await consumer.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
        assert await collector.body() == b"deadly"
        await consumer.close()
    consumer = EmbeddedTransport(tmp_path)
    await consumer.start()
    collector = Collector()
    await consumer.consume(POLICE, Lane.MESSAGES, collector, prefetch=1)
    assert await dead_in_spool(tmp_path, POLICE, 1) == [b"deadly"]
    await first.publish(sealed(b"harmless"))
    assert await collector.body() == b"harmless"
    assert names(queue) == [".lock"]
    await consumer.close()
    await first.close()


async def test_a_queue_that_vanished_is_an_unroutable_recipient_not_a_crash(
    node: EmbeddedTransport, queue: Path
) -> None:
    shutil.rmtree(queue)
    with pytest.raises(Unroutable):
        await node.publish(sealed(b"body"))
