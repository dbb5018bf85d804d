"""Notes between nodes: sealed and signed like everything else, sent until the transport has them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from gateway.crypto import envelope
from gateway.engine.parts import Parts
from gateway.engine.tasks import Bell, Tasks, wait_for_ring
from gateway.errors import Unavailable
from gateway.messages import AgencyId, CaseId, EnvelopeId, Header, MessageId, new_id
from gateway.protocol import retry
from gateway.protocol.deadlines import RECEIPT_LIFETIME
from gateway.store import notes
from gateway.store.notes import Note
from gateway.transport.base import Lane, Sealed, TransportError

VERSION = 1
ROUND = 64
"""Notes read from the store at once."""


def seal_note(
    parts: Parts, kind: str, agency: AgencyId, recipient: AgencyId, payload: bytes
) -> Sealed | None:
    """A note ready to be published; None while the directory lists no key to seal it to.

    `sealing_suites` does not count: a note holds nothing of a message's content, and whoever was let send one
    must get its receipts.
    """
    now = parts.now()
    key = parts.directory.sealing_key(recipient, now)
    if key is None:
        return None
    header = Header(
        MessageId(new_id()),
        EnvelopeId(new_id()),
        kind,
        VERSION,
        agency,
        recipient,
        CaseId(new_id()),
        None,
        now,
        now + RECEIPT_LIFETIME,
        "",
        "",
    )
    body = envelope.seal(header, payload, signer=parts.keys[agency].signing, to=key)
    return Sealed(header.envelope_id, recipient, Lane.RECEIPTS, header.expires, body)


async def keep_sending(bell: Bell, send_round: Callable[[], Awaitable[tuple[int, bool]]]) -> None:
    """Run rounds for ever: at once while there is something, on a ring, with backoff after a failure.

    A round tells how many things it sent, and whether any could not be.
    """
    attempts = 0
    while True:
        heard = bell.listen()
        try:
            sent, failed = await send_round()
        except Unavailable:
            sent, failed = 0, True
        attempts = attempts + 1 if failed else 0
        if failed:
            await asyncio.sleep(retry.delay(attempts, random.random()) / 1000)  # noqa: S311 - jitter
        elif not sent:
            await wait_for_ring(heard, timeout=1.0)


class NoteSender:
    """Sends owed notes, oldest first, until the transport has them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._bell = Bell()

    def start(self, tasks: Tasks) -> None:
        """Start the one task that sends."""
        tasks.spawn(self._run, "note-sender")

    def wake(self) -> None:
        """Something is owed."""
        self._bell.ring()

    async def _run(self) -> None:
        await keep_sending(self._bell, self._round)

    async def _round(self) -> tuple[int, bool]:
        """Send what is owed now; how many were sent, and whether any could not be."""
        sent, failed = 0, False
        for note in await self._owed():
            sealed = seal_note(self._parts, note.type, note.agency, note.recipient, note.body)
            try:
                if sealed is None:
                    raise TransportError("no key")
                await self._parts.transport.publish(sealed)
            except TransportError:
                self._parts.metrics.publish_failed("notes")
                failed = True
                continue  # another recipient may be reachable
            await self._settle(note)
            sent += 1
        return sent, failed

    async def _owed(self) -> list[Note]:
        parts = self._parts
        now, me = parts.now(), parts.claims.name()
        found = await parts.store.read(lambda s: notes.owed(s, limit=ROUND, now=now, claimant=me))
        if not found or not parts.claims.needed:
            return found
        claim, ids = parts.claims.make(now), [one.id for one in found]
        taken = await parts.store.write(lambda s: notes.claim(s, ids, now, claim))
        return [one for one in found if one.id in taken]

    async def _settle(self, note: Note) -> None:
        await self._parts.store.write(lambda s: notes.settle(s, note.id))
        self._parts.metrics.published(Lane.RECEIPTS)
        self._parts.log.info("note-sent", agency=note.agency, recipient=note.recipient, type=note.type)
