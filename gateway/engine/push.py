"""Push delivery: an agency's inbox emptied into its own server. See docs/push.md.

A message is acknowledged when the server said 2xx, in the way its own system would have done it. A crash in
between repeats the request with the same identifier. Until then it stays in the inbox, where it can be
pulled.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.adapters import strict_json
from gateway.adapters.base import AdapterError, Native
from gateway.crypto import webhook
from gateway.engine.mailbox import Mailbox
from gateway.engine.parts import Parts
from gateway.engine.tasks import Bell, Tasks, wait_for_ring
from gateway.errors import RefusedByPeer, RefusedByUs, Unavailable
from gateway.http import push_body, render
from gateway.http.ports import OpenedMessage
from gateway.http.push_client import Answer, NoAnswer, PushClient
from gateway.messages import AgencyId, Sensitive
from gateway.protocol import breaker, pushing
from gateway.protocol.breaker import Breaker
from gateway.protocol.pushing import BROKEN, DONE, Outcome
from gateway.store import pushes
from gateway.store.base import Session
from gateway.store.pushes import Due

SCAN: Final = 1.0
"""Seconds between looks for messages that are due."""
TIDY: Final = 300.0
"""Seconds between looks for rows that are of no use any more."""
_GONE: Final = {"not-found", "already-final", "expired"}


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an agency wants its messages pushed, and how."""

    agency: AgencyId
    fhir: bool
    """To `$process-message` with the headers of BaRS; otherwise a webhook."""
    format: str
    """Media type."""
    original: bool
    """Whether what the sender's system wrote goes with it."""
    most: int
    """Bytes of a request's body."""
    concurrency: int
    secrets: tuple[Sensitive, ...] = ()
    """Of webhooks; two while one replaces the other."""
    token: Sensitive | None = field(default=None, repr=False)


class Pusher:
    """Pushes one agency's messages, a bounded number at once, with backoff and a breaker."""

    def __init__(self, parts: Parts, mailbox: Mailbox, destination: Destination, client: PushClient) -> None:
        self._parts = parts
        self._mailbox = mailbox
        self._to = destination
        self._client = client
        self._breaker = Breaker()
        self._not_before = 0
        """The destination asked to be left alone until then: steady milliseconds."""
        self._under_way: set[int] = set()
        self._queue: asyncio.Queue[Due] = asyncio.Queue()
        self._bell = Bell()
        self._tidied = 0.0
        parts.metrics.add_push(destination.agency)

    def start(self, tasks: Tasks) -> None:
        """Start the workers and the scan."""
        for number in range(self._to.concurrency):
            tasks.spawn(self._work, f"push-{number}")
        tasks.spawn(self._scan, "push-scan")

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()

    async def _scan(self) -> None:
        while True:
            heard, freed = self._mailbox.listen(self._to.agency), self._bell.listen()
            full = False
            try:
                full = await self._offer_due()
                await self._look_after()
            except Unavailable:
                pass  # the next look finds them
            # While all hands are busy a new message changes nothing.
            await wait_for_ring(freed if full else heard, timeout=SCAN)

    async def _offer_due(self) -> bool:
        """Hand out what may start now; True when there may be more."""
        parts, most = self._parts, 2 * self._to.concurrency
        steady = _steady()
        room = breaker.room(self._breaker, steady, most - len(self._under_way))
        if room <= 0 or steady < self._not_before or not parts.clock_believed():
            return len(self._under_way) >= most
        now, me = parts.now(), parts.claims.name()
        limit = room + len(self._under_way)
        found = await parts.store.read(
            lambda s: pushes.due(s, self._to.agency, now, limit=limit, claimant=me)
        )
        fresh = [one for one in found if one.sequence not in self._under_way][:room]
        if fresh and parts.claims.needed:
            fresh = await self._claim(fresh, now)
        for one in fresh:
            self._under_way.add(one.sequence)
            self._queue.put_nowait(one)
        return len(fresh) == room

    async def _claim(self, found: Sequence[Due], now: int) -> list[Due]:
        """Those that no other process was quicker to take."""
        claim = self._parts.claims.make(now)

        def job(session: Session) -> list[Due]:
            return [
                replace(one, claimant=claim.claimant)
                for one in found
                if pushes.claim(session, one.sequence, now, claim)
            ]

        return await self._parts.store.write(job)

    async def _look_after(self) -> None:
        """Gauges at each look; now and then rows that are of no use."""
        parts, agency = self._parts, self._to.agency
        oldest = await parts.store.read(lambda s: pushes.oldest(s, agency))
        age = 0.0 if oldest is None else max(0.0, (parts.now() - oldest) / 1000)
        parts.metrics.push_waiting(agency, age, self._breaker.state)
        if time.monotonic() >= self._tidied + TIDY:
            self._tidied = time.monotonic()
            await parts.store.write(pushes.tidy)

    async def _work(self) -> None:
        while True:
            one = await self._queue.get()
            try:
                await self._push(one)
            except Unavailable:
                pass  # the row is unchanged: the scan finds it again
            finally:
                self._under_way.discard(one.sequence)
                if self._queue.empty():
                    self._bell.ring()

    async def _push(self, one: Due) -> None:
        parts = self._parts
        if one.claimant != parts.claims.name():
            return  # we slept through our lease: it is another's now
        try:
            opened = await self._mailbox.open(self._to.agency, one.message_id, [self._to.format])
            if opened.entry.sequence != one.sequence:
                await self._release(one)  # another sender chose the same identifier: that one goes first
                return
            body = await self._body(opened)
        except RefusedByUs as error:
            if error.code in _GONE:
                await parts.store.write(lambda s: pushes.forget(s, [one.sequence]))
                return
            body = None
        except RefusedByPeer:
            body = None
        if body is None:
            await self._put_off(one, Outcome.UNSENDABLE, None)
            return
        await self._ask(one, opened, body)

    async def _body(self, opened: OpenedMessage) -> Native | None:
        """What to send; None when it does not fit into a push of this kind: then it can only be pulled."""
        agency, message_id = self._to.agency, opened.entry.header.message_id
        if opened.native.media_type != push_body.JSON:
            fits = not opened.attachments and len(opened.native.body) <= self._to.most
            return opened.native if fits else None
        if sum(one.size for one in opened.attachments) * 4 > self._to.most * 3:  # in base64
            return None
        files = {}
        for info in opened.attachments:
            _, chunks = await self._mailbox.attachment(agency, message_id, info.index)
            files[info.index] = b"".join([piece async for piece in chunks])
        wanted = self._to.original and opened.original is not None
        original = await self._mailbox.original(agency, message_id) if wanted else None
        body = push_body.whole(opened, files, original)
        return body if len(body.body) <= self._to.most else None

    async def _ask(self, one: Due, opened: OpenedMessage, body: Native) -> None:
        begun = breaker.begin(self._breaker, _steady())
        if begun is None:
            await self._release(one)
            return
        self._breaker = begun
        outcome, retry_after = None, None
        try:
            answer = await self._client.post(self._headers(opened, body), body.body)
            outcome = pushing.judge(answer.status, duplicate=self._to.fhir and _says_duplicate(answer))
            retry_after = pushing.retry_after(answer.retry_after, self._parts.now())
        except NoAnswer as silence:
            outcome = Outcome.TIMED_OUT if silence.late else Outcome.UNREACHABLE
        finally:
            self._step(outcome)
        if outcome in DONE:
            self._parts.metrics.pushed(self._to.agency, outcome)
            await self._acknowledge(one)
        else:
            await self._put_off(one, outcome, retry_after)

    def _step(self, outcome: Outcome | None) -> None:
        """Tell the breaker; None: the attempt was broken off."""
        before = self._breaker.state
        if outcome is None:
            self._breaker = breaker.abandoned(self._breaker, _steady())
        elif outcome in BROKEN:
            self._breaker = breaker.failed(self._breaker, _steady())
        else:
            self._breaker = breaker.succeeded(self._breaker)
        if before is not self._breaker.state and self._breaker.state is breaker.State.OPEN:
            self._parts.log.warning("push-paused", agency=self._to.agency)

    def _headers(self, opened: OpenedMessage, body: Native) -> dict[str, str]:
        header = opened.entry.header
        headers = {"Content-Type": body.media_type, "User-Agent": "referral-gateway"}
        headers["Accept-Encoding"] = "identity"  # what comes back is read as it comes
        headers |= render.headers(opened.entry)
        if self._to.token is not None:
            headers["Authorization"] = f"Bearer {self._to.token.reveal().decode('ascii')}"
        if self._to.fhir:
            headers["Accept"] = "application/fhir+json"
            headers["X-Request-Id"] = pushing.request_id(header.message_id)
            headers["X-Correlation-Id"] = header.case
            return headers
        # The timestamp is that of the attempt: receivers refuse old ones (Standard Webhooks).
        timestamp = self._parts.now() // 1000
        headers["webhook-id"] = header.message_id
        headers["webhook-timestamp"] = str(timestamp)
        headers["webhook-signature"] = webhook.sign(self._to.secrets, header.message_id, timestamp, body.body)
        return headers

    async def _acknowledge(self, one: Due) -> None:
        """Their server has it: say so until the store has taken it, rather than send it again."""
        while True:
            try:
                await self._mailbox.ack(self._to.agency, [one.message_id])
                return
            except RefusedByUs:
                return  # expired or recalled while it was under way: the sender was told that
            except Unavailable:
                self._parts.log.warning("store-unavailable")
                await asyncio.sleep(SCAN)

    async def _put_off(self, one: Due, outcome: Outcome, retry_after: int | None) -> None:
        parts, attempts = self._parts, one.attempts + 1
        parts.metrics.pushed(self._to.agency, outcome)
        parts.log.warning(
            "push-deferred",
            message_id=one.message_id,
            agency=self._to.agency,
            code=outcome.value,
            attempt=attempts,
        )
        wait = pushing.wait(outcome, attempts, retry_after, random.random())  # noqa: S311 - jitter
        self._not_before = max(self._not_before, _steady() + wait.destination)
        due = parts.now() + wait.message
        await parts.store.write(lambda s: pushes.put_off(s, one.sequence, attempts=attempts, due=due))

    async def _release(self, one: Due) -> None:
        """Not now, and no attempt made."""
        if self._parts.claims.needed:
            now = self._parts.now()
            await self._parts.store.write(
                lambda s: pushes.put_off(s, one.sequence, attempts=one.attempts, due=now)
            )


def _steady() -> int:
    return time.monotonic_ns() // 1_000_000


def _says_duplicate(answer: Answer) -> bool:
    """Whether a FHIR OperationOutcome gives `duplicate` as the code of an issue."""
    if answer.status != 409:
        return False
    try:
        document = strict_json.loads(answer.body)
    except AdapterError:
        return False
    issues = document.get("issue") if isinstance(document, dict) else None
    return isinstance(issues, list) and any(
        isinstance(issue, dict) and issue.get("code") == "duplicate" for issue in issues
    )
