"""A node that kills itself at a named point of the road, or that lacks one step of its durability.

Started in place of `python -m gateway`: `python -m tests.faults.victim kill POINT PASSES run --node ...` or
`... spoil STEP run --node ...`. The product holds no code for tests: its own functions are wrapped here.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from gateway.cli.root import main
from gateway.engine import folder_files, folder_in, folder_out, intake, mailbox, outbound, receipting
from gateway.engine.inbound import Arrivals
from gateway.http import push_client
from gateway.store import idempotency, inbox, outbox, receipts
from gateway.store.postgres import PostgresStore
from gateway.store.sqlite import SqliteStore
from gateway.transport.embedded import EmbeddedTransport, SpoolDelivery
from gateway.transport.rabbit_delivery import RabbitDelivery
from gateway.transport.rabbitmq import RabbitTransport

Place = tuple[Any, str]

SENDING: dict[str, tuple[list[Place], str]] = {
    "intake: written, not committed": ([(intake, "_store")], "after"),
    "intake: committed, not answered": ([(intake.Intake, "_accept")], "after"),
    "outbox: before publishing": ([(EmbeddedTransport, "publish"), (RabbitTransport, "publish")], "before"),
    "outbox: confirmed, not marked": (
        [(EmbeddedTransport, "publish"), (RabbitTransport, "publish")],
        "after",
    ),
    "outbox: marked, not committed": ([(outbox, "mark_sent")], "after"),
    "receipt: kept, not committed": ([(outbox, "set_stage")], "after"),
    "receipt: committed, not acknowledged": ([(receipting.Recorder, "take")], "after"),
}
"""Points at the sender's node: what is wrapped, and on which side of it the node dies."""
RECEIVING: dict[str, tuple[list[Place], str]] = {
    "inbox: written, not committed": ([(inbox, "add")], "after"),
    "inbox: committed, not acknowledged": ([(SpoolDelivery, "ack"), (RabbitDelivery, "ack")], "before"),
    "inbox: acknowledged": ([(SpoolDelivery, "ack"), (RabbitDelivery, "ack")], "after"),
    "receipts: before publishing": ([(receipting.ReceiptSender, "_send")], "before"),
    "receipts: published, not settled": ([(receipting.ReceiptSender, "_send")], "after"),
    "receipts: settled, not committed": ([(receipts, "settle")], "after"),
    "answer: written, not committed": ([(inbox, "finish")], "after"),
    "answer: committed, not answered": ([(mailbox.Mailbox, "ack")], "after"),
}
"""Points at the recipient's node."""
FACES: dict[str, tuple[list[Place], str]] = {
    "push: answered with 2xx, not acknowledged": ([(push_client.PushClient, "post")], "after"),
    "folder: claimed": ([(folder_in.InFolder, "_claim")], "after"),
    "folder: accepted, receipts not kept": ([(folder_in.InFolder, "_keep")], "before"),
    "folder: receipts kept, file still there": ([(folder_in, "_write_receipts")], "after"),
    "folder: prepared": ([(folder_out.OutFolder, "_prepare")], "after"),
    "folder: some of it handed over": ([(folder_files, "move")], "after"),
    "folder: handed over, not acknowledged": ([(folder_out.OutFolder, "_acknowledge")], "before"),
    "folder: acknowledged, not tidied": ([(mailbox.Mailbox, "ack")], "after"),
}
"""Points of the faces that not every node has."""


def die() -> None:
    """As a power cut would: nothing is flushed, nobody is told."""
    os.kill(os.getpid(), signal.SIGKILL)


def wrap(places: list[Place], side: str, passes: int) -> None:
    """Kill this process at the given pass of a point."""
    passed = 0

    def count() -> None:
        nonlocal passed
        passed += 1
        if passed == passes:
            die()

    for owner, name in places:
        setattr(owner, name, _wrapped(getattr(owner, name), side, count))


def _wrapped(function: Callable[..., Any], side: str, count: Callable[[], None]) -> Callable[..., Any]:
    if asyncio.iscoroutinefunction(function):

        @wraps(function)
        async def coroutine(*arguments: Any, **named: Any) -> Any:
            if side == "before":
                count()
            result = await function(*arguments, **named)
            if side == "after":
                count()
            return result

        return coroutine

    @wraps(function)
    def plain(*arguments: Any, **named: Any) -> Any:
        if side == "before":
            count()
        result = function(*arguments, **named)
        if side == "after":
            count()
        return result

    return plain


# --- one step of the durability removed: the checker must turn red ---

LATE = 0.5
"""Seconds by which a spoilt node commits after it has answered."""


def _commit_later(of: str) -> None:
    """Answer before the commit, for writes that come from this class."""
    for store in (SqliteStore, PostgresStore):
        write = store.write

        async def later(self: Any, job: Any, write: Any = write) -> Any:
            if not getattr(job, "__qualname__", "").startswith(of):
                return await write(self, job)
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_later(LATE, lambda: asyncio.ensure_future(write(self, job)))
            return None

        store.write = later  # type: ignore[method-assign]
    _die_after_the_answer()


def _die_after_the_answer() -> None:
    """Die between the early answer and the late commit."""
    accept = intake.Intake._accept

    async def accepted(self: Any, *arguments: Any) -> Any:
        result = await accept(self, *arguments)
        asyncio.get_running_loop().call_later(LATE / 2, die)
        return result

    intake.Intake._accept = accepted  # type: ignore[method-assign, assignment]


def acknowledge_first() -> None:
    """Tell the transport that it is durable before it is."""
    handle = Arrivals._handle

    async def early(self: Any, delivery: Any) -> None:
        await delivery.ack()
        if delivery.sealed.lane == "messages":
            die()
        await handle(self, delivery)

    Arrivals._handle = early  # type: ignore[method-assign]


def mark_first() -> None:
    """Mark an envelope as sent before the transport has it."""
    publish = outbound.Publisher._publish

    async def early(self: Any, unsent: Any) -> None:
        await self._parts.store.write(partial(outbox.mark_sent, envelope_id=unsent.envelope_id))
        die()
        await publish(self, unsent)

    outbound.Publisher._publish = early  # type: ignore[method-assign]


def settle_first() -> None:
    """Forget owed receipts before the transport has them; the last ones, which no later one makes good."""
    send = receipting.ReceiptSender._send
    sql = "SELECT 1 FROM receipts WHERE stage = 'delivered' AND cose = ?"

    async def early(self: Any, batch: Any) -> bool:
        store = self._parts.store
        if await store.read(lambda s: any(s.execute(sql, (one.cose,)).fetchone() for one in batch)):
            await store.write(lambda s: receipts.settle(s, [one.id for one in batch]))
            die()
        return await send(self, batch)

    receipting.ReceiptSender._send = early  # type: ignore[method-assign]


def forget_keys() -> None:
    """Do not remember idempotency keys, and die before the answer."""

    def nothing(*arguments: Any, **named: Any) -> None:
        """The step that is missing."""

    idempotency.remember = nothing
    wrap(*SENDING["intake: committed, not answered"], 1)


def answer_first() -> None:
    """Answer an acknowledgement from the inbox before it is committed."""
    acknowledge = mailbox.Mailbox.ack

    async def early(self: Any, agency: Any, message_ids: Any) -> Any:
        answered: list[Any] = []
        write = self._parts.store.write

        async def only_tried(job: Any) -> Any:
            class Tried(Exception):
                pass

            def tried(session: Any) -> None:
                answered.extend(job(session))
                raise Tried  # which undoes it

            try:
                await write(tried)
            except Tried:
                return answered

        object.__setattr__(self, "_parts", _with_store(self._parts, only_tried))
        asyncio.get_running_loop().call_later(LATE, die)
        return await acknowledge(self, agency, message_ids)

    mailbox.Mailbox.ack = early  # type: ignore[method-assign]


def _with_store(parts: Any, write: Any) -> Any:
    from dataclasses import replace

    class Spoilt:
        def __getattr__(self, name: str) -> Any:
            return write if name == "write" else getattr(parts.store, name)

    return replace(parts, store=Spoilt())


SPOILT_SENDER: dict[str, Callable[[], None]] = {
    "202 before the commit": partial(_commit_later, "Intake."),
    "marked as sent before it is published": mark_first,
    "idempotency key not remembered": forget_keys,
}
SPOILT_RECIPIENT: dict[str, Callable[[], None]] = {
    "acknowledged to the transport before the commit": acknowledge_first,
    "receipts forgotten before they are published": settle_first,
    "acknowledgement answered before the commit": answer_first,
}


if __name__ == "__main__":
    kind, what, *rest = sys.argv[1:]
    if kind == "kill":
        wrap(*(SENDING | RECEIVING | FACES)[what], int(rest.pop(0)))
    else:
        (SPOILT_SENDER | SPOILT_RECIPIENT)[what]()
    sys.argv = ["gateway", *rest]
    main()
