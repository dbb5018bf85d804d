"""Three nodes from deploy/rabbitmq, and one of them killed: what a cluster is for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from gateway.messages import AgencyId
from gateway.transport import drift, rabbitmq
from gateway.transport.base import Lane, TransportFull, TransportUnavailable
from gateway.transport.definitions import VHOST
from gateway.transport.rabbitmq import RabbitTransport
from tests.rabbit import cluster
from tests.transport.ground import COUNCIL, PATIENCE, POLICE, Collector, publish_when_it_works, sealed
from tests.transport.production import Production, accounts, add_admin, certified, wanted

pytestmark = pytest.mark.xdist_group("cluster")


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Production]]:
    folder = tmp_path_factory.mktemp("cluster")
    authority = certified(folder)
    nodes = cluster(folder)
    try:
        for node in nodes:
            node.start()
        add_admin(nodes[0])
        yield [Production(node, authority) for node in nodes]
    finally:
        for node in nodes:
            node.kill()
        for node in reversed(nodes):
            node.stop()


def on_all(brokers: list[Production], agency: AgencyId) -> RabbitTransport:
    """A node of an agency that knows every broker."""
    url, *more = (broker.url(agency) for broker in brokers)
    tls = brokers[0].tls(agency)
    return RabbitTransport(url, tuple(more), tls=tls, external=True, user_id=agency, confirm_timeout=5)


async def differences(broker: Production) -> list[str]:
    async with broker.management() as management:
        return drift.differences(wanted(), await management.read(VHOST), accounts())


async def test_a_broker_is_killed_nothing_confirmed_is_lost_and_the_others_carry_on(
    brokers: list[Production], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rabbitmq, "WATCH", 0.2)
    monkeypatch.setattr(rabbitmq, "REFUSED", 3.0)
    async with brokers[0].management() as management:
        await management.apply(wanted())
    assert await differences(brokers[0]) == []
    sender, recipient, collector = on_all(brokers, POLICE), on_all(brokers, COUNCIL), Collector()
    await sender.start()
    await recipient.start()
    await recipient.consume(COUNCIL, Lane.MESSAGES, collector, prefetch=10)
    confirmed: set[str] = set()
    enough = asyncio.Event()

    async def publish() -> None:
        while True:
            thing = sealed(b"body", COUNCIL)
            await sender.publish(thing)
            confirmed.add(thing.envelope_id)
            if len(confirmed) >= 50:
                enough.set()

    publishers = [asyncio.create_task(publish()) for _ in range(2)]
    current = sender._addresses[-1]
    killed = next(broker for broker in brokers if broker.url(POLICE) == current)
    async with asyncio.timeout(PATIENCE):
        await enough.wait()
        await asyncio.to_thread(killed.node.kill)
        failures = await asyncio.gather(*publishers, return_exceptions=True)
    assert all(isinstance(failure, (TransportUnavailable, TransportFull)) for failure in failures)
    last = sealed(b"last", COUNCIL)
    await publish_when_it_works(sender, last)
    came: set[str] = set()
    while not confirmed | {last.envelope_id} <= came:
        came.add((await collector.next()).sealed.envelope_id)
    assert sender.connected
    assert sender._addresses[-1] != current
    assert await differences(next(broker for broker in brokers if broker is not killed)) == []
    await sender.close()
    await recipient.close()
    await asyncio.to_thread(killed.node.start)
    assert await differences(killed) == []
