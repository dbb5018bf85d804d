"""The embedded transport: a spool folder shared by node processes on one machine.

    spool/<agency>/<lane>/<sequence>.<envelope id>.<expires>     one sealed thing waiting
    spool/<agency>/<lane>/.lock                                  held by the one process that consumes
    spool/<agency>/<lane>/.tries.<name>                          how often it came back unanswered
    spool/<agency>/dead/<sequence>.<envelope id>                 set aside

Publishing writes a temporary file, fsyncs it, renames it into place and fsyncs the folder: after that it
survives a crash, before that it does not exist. Acknowledging unlinks. A thing that was handed over but
not answered is still in the folder when its consumer comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.messages import UUID4, AgencyId, EnvelopeId
from gateway.transport.base import Handler, Lane, Sealed, TransportFull, TransportUnavailable, Unroutable
from gateway.transport.supervisor import Supervisor

POLL = 0.02
"""Seconds between looks into a queue."""
MAX_LENGTH = 100_000
"""Things in one queue; beyond it publishing is refused."""
CLOSE_TIMEOUT = 10.0
"""Seconds that handlers under way get to finish."""
DELIVERY_LIMIT = 20
"""Times a thing may come back unanswered (its consumer died) before it is set aside, as on RabbitMQ."""
_LOCK = ".lock"
_DEAD = "dead"


def create_queues(spool: Path, agencies: Sequence[AgencyId]) -> None:
    """Make the queues of these agencies; safe to repeat."""
    for agency in agencies:
        for folder in (*(lane.value for lane in Lane), _DEAD):
            (spool / agency / folder).mkdir(mode=0o700, parents=True, exist_ok=True)


class SpoolDelivery:
    """A file of the queue, not yet answered."""

    def __init__(self, queue: _Queue, path: Path, sealed: Sealed) -> None:
        self._queue = queue
        self._path = path
        self.sealed = sealed
        self.redelivered = path.name in queue.returned

    async def ack(self) -> None:
        """See Delivery.ack."""
        await asyncio.to_thread(_forget, self._path)
        self._queue.answered(self._path.name, again=False)

    async def requeue(self) -> None:
        """See Delivery.requeue."""
        self._queue.answered(self._path.name, again=True)

    async def dead_letter(self) -> None:
        """See Delivery.dead_letter."""
        await asyncio.to_thread(_bury, self._path)
        self._queue.answered(self._path.name, again=False)


@dataclass(slots=True)
class _Queue:
    """One queue this node consumes."""

    folder: Path
    agency: AgencyId
    lane: Lane
    handler: Handler
    prefetch: int
    lock: int
    """File descriptor that holds the lock."""
    out: set[str] = field(default_factory=set)
    """Names handed over and not yet answered."""
    returned: set[str] = field(default_factory=set)
    """Names that came back, or were here before this consumer: perhaps handed over before."""
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def answered(self, name: str, *, again: bool) -> None:
        """A delivery was answered."""
        self.out.discard(name)
        if again:
            self.returned.add(name)
        else:
            self.returned.discard(name)
        self.news.set()


class EmbeddedTransport:
    """Implements Transport over a spool folder."""

    def __init__(self, spool: Path, *, max_length: int = MAX_LENGTH) -> None:
        self._spool = spool
        self._max_length = max_length
        self._queues: list[_Queue] = []
        self._handling: set[asyncio.Task[None]] = set()
        self._loops = Supervisor()
        self._started = False

    async def start(self) -> None:
        """See Transport.start."""
        if not self._spool.is_dir():
            raise TransportUnavailable("the spool folder does not exist")
        self._started = True

    @property
    def connected(self) -> bool:
        """See Transport.connected."""
        return self._started and self._spool.is_dir()

    async def publish(self, sealed: Sealed) -> None:
        """See Transport.publish."""
        try:
            await asyncio.to_thread(self._write, sealed)
        except OSError:
            raise TransportUnavailable("the spool folder cannot be written") from None
        for queue in self._queues:
            if (queue.agency, queue.lane) == (sealed.recipient, sealed.lane):
                queue.news.set()

    def _write(self, sealed: Sealed) -> None:
        folder = self._spool / sealed.recipient / sealed.lane.value
        if not folder.is_dir():
            raise Unroutable("the recipient has no queue in the spool")
        if len(_names(folder)) >= self._max_length:
            raise TransportFull("the recipient's queue is at its limit")
        name = f"{time.time_ns():020d}.{sealed.envelope_id}.{sealed.expires}"
        temporary = folder / f".{name}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(sealed.body)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(folder / name)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync(folder)

    async def consume(self, agency: AgencyId, lane: Lane, handler: Handler, *, prefetch: int) -> None:
        """See Transport.consume. Raises TransportUnavailable while another process consumes the queue."""
        folder = self._spool / agency / lane.value
        if not folder.is_dir():
            raise Unroutable("this agency has no queue in the spool: run `gateway init`")
        lock = await asyncio.to_thread(_acquire, folder / _LOCK)
        queue = _Queue(folder, agency, lane, handler, prefetch, lock)
        queue.returned.update(await asyncio.to_thread(_names, folder))
        self._queues.append(queue)
        self._loops.start(self._deliver(queue))

    async def _deliver(self, queue: _Queue) -> None:
        while True:
            queue.news.clear()
            with contextlib.suppress(OSError):  # the spool is gone for the moment: the next look tells
                await self._look(queue)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL):
                    await queue.news.wait()

    async def _look(self, queue: _Queue) -> None:
        for name in await asyncio.to_thread(_names, queue.folder):
            if len(queue.out) >= queue.prefetch:
                return
            if name not in queue.out:
                await self._hand_over(queue, name)

    async def _hand_over(self, queue: _Queue, name: str) -> None:
        path = queue.folder / name
        _, envelope_id, expires = name.split(".")
        over = int(expires) <= time.time_ns() // 1_000_000
        if over or (name in queue.returned and await asyncio.to_thread(_tries, path) > DELIVERY_LIMIT):
            await asyncio.to_thread(_bury, path)
            return
        try:
            body = await asyncio.to_thread(path.read_bytes)
        except OSError:
            return  # the next look tries again
        sealed = Sealed(EnvelopeId(envelope_id), queue.agency, queue.lane, int(expires), body)
        queue.out.add(name)
        task = asyncio.create_task(_run(queue.handler, SpoolDelivery(queue, path, sealed)))  # noqa: TID251
        self._handling.add(task)
        task.add_done_callback(self._handling.discard)

    async def close(self) -> None:
        """See Transport.close."""
        self._started = False
        await self._loops.stop()
        if self._handling:
            _, unfinished = await asyncio.wait(self._handling, timeout=CLOSE_TIMEOUT)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
        while self._queues:
            os.close(self._queues.pop().lock)


async def _run(handler: Handler, delivery: SpoolDelivery) -> None:
    await handler(delivery)


def _names(folder: Path) -> list[str]:
    """What waits, oldest first. Temporary files, the lock and strangers are passed over."""
    found = []
    for name in os.listdir(folder):  # noqa: PTH208 - names, not a Path for each
        parts = name.split(".")
        if len(parts) == 3 and parts[0].isdecimal() and UUID4.fullmatch(parts[1]) and parts[2].isdecimal():
            found.append(name)
    return sorted(found)


def _tries(path: Path) -> int:
    """Count that it is handed over once more; how often it was by now.

    Written before the consumer sees it: one that kills its consumer must not be tried for ever.
    """
    file = path.with_name(f".tries.{path.name}")
    try:
        count = int(file.read_text("ascii")) + 1
    except (OSError, ValueError):
        count = 1
    file.write_text(str(count), "ascii")
    return count


def _forget(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.with_name(f".tries.{path.name}").unlink(missing_ok=True)


def _bury(path: Path) -> None:
    path.with_name(f".tries.{path.name}").unlink(missing_ok=True)
    sequence, envelope_id, _ = path.name.split(".")
    with contextlib.suppress(FileNotFoundError):
        path.rename(path.parent.parent / _DEAD / f"{sequence}.{envelope_id}")
        _sync(path.parent.parent / _DEAD)
        _sync(path.parent)


def _acquire(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise TransportUnavailable("another process is consuming this queue") from None
    return descriptor


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
