"""The broker's own dead letters: seen with their reason, left alone, and put back."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from typer.testing import CliRunner

from gateway.transport import graveyard, topology
from gateway.transport.base import Lane
from gateway.transport.rabbitmq import RabbitTransport
from tests.command import app
from tests.transport.ground import PATIENCE, POLICE, Collector, sealed


async def dead(url: str, count: int) -> list[graveyard.Letter]:
    """Wait until that many have died."""
    async with asyncio.timeout(PATIENCE):
        while len(found := await graveyard.look(url, None, limit=10)) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # the broker does not tell
    return found


async def test_letters_are_listed_left_alone_and_put_back(broker_url: str, tmp_path: Path) -> None:
    await topology.declare(broker_url, [POLICE])
    node = RabbitTransport(broker_url)
    await node.start()
    refusing = Collector(lambda delivery: delivery.dead_letter())
    await node.consume(POLICE, Lane.MESSAGES, refusing, prefetch=1)
    one, two = sealed(b"one"), sealed(b"two, longer")
    await node.publish(one)
    await node.publish(two)
    found = await dead(broker_url, 2)
    assert {letter.envelope_id: letter.size for letter in found} == {one.envelope_id: 3, two.envelope_id: 11}
    assert {(letter.queue, letter.reason) for letter in found} == {("gateway.police.messages", "refused")}
    assert all(letter.died is not None for letter in found)
    assert len(await dead(broker_url, 2)) == 2, "looking takes nothing away"

    password = tmp_path / "password"
    password.write_text("guest")
    options = ["--url", broker_url.replace(":guest@", "@"), "--password-file", str(password)]
    shown = await asyncio.to_thread(CliRunner().invoke, app, ["broker", "dead-letters", *options, "--json"])
    assert {row["envelope_id"] for row in json.loads(shown.output)["dead_letters"]} == {
        one.envelope_id,
        two.envelope_id,
    }

    refusing.answer = None  # the cause is removed
    assert await graveyard.send_again(broker_url, None, two.envelope_id, limit=10)
    came = [await refusing.next() for _ in range(3)][-1]  # both were refused before
    assert came.sealed.envelope_id == two.envelope_id
    assert [letter.envelope_id for letter in await dead(broker_url, 1)] == [one.envelope_id]
    assert not await graveyard.send_again(broker_url, None, two.envelope_id, limit=10)
    await node.close()


async def test_what_expired_says_so(broker_url: str) -> None:
    await topology.declare(broker_url, [POLICE])
    node = RabbitTransport(broker_url)
    await node.start()
    await node.publish(sealed(b"late", lifetime=50))
    (letter,) = await dead(broker_url, 1)
    assert letter.reason == "expired"
    await node.close()
