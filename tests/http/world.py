"""A node in a few lines, for tests of HTTP alone: it keeps what it is given in memory and seals nothing."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from gateway.adapters.base import Native
from gateway.errors import RefusedByUs
from gateway.http.app import Server, make_app, serve
from gateway.http.client import Client
from gateway.http.fhir_routing import Addressing
from gateway.http.limits import Limits
from gateway.http.ports import (
    Answered,
    AttachmentInfo,
    InboxEntry,
    Ladder,
    MessageStatus,
    OpenedMessage,
    Permission,
    Principal,
    SignedReceipt,
    Submission,
    Upload,
)
from gateway.messages import (
    FINAL_STAGES,
    SYSTEM_REASONS,
    AgencyId,
    CaseId,
    Emergency,
    EnvelopeId,
    Header,
    MessageId,
    Problem,
    Reason,
    Stage,
    new_id,
)

SCHOOL, POLICE = AgencyId("school"), AgencyId("police")
NOW = 1_790_000_000_123
"""2026-09-21T14:13:20.123Z"""
ALL = frozenset(Permission)
TOKENS = {
    "school-token": Principal("1", SCHOOL, ALL),
    "police-token": Principal("2", POLICE, ALL),
    "only-sends": Principal("3", SCHOOL, frozenset({Permission.SEND})),
    "only-receives": Principal("4", SCHOOL, frozenset({Permission.RECEIVE})),
}
FHIR = "application/fhir+json"
DOCUMENT = b'{"type":"referral","version":1}'


@dataclass
class Item:
    """A message in the inbox."""

    entry: InboxEntry
    native: Native
    files: list[tuple[AttachmentInfo, bytes]] = field(default_factory=list)
    answer: Answered | None = None


class FakeNode:
    """Sending and Receiving, in memory. `fail` makes the next call raise."""

    def __init__(self) -> None:
        self.submissions: list[Submission] = []
        self.uploads: list[tuple[str, str, int, bytes]] = []
        """Name, media type, size and SHA-256 of each upload of accepted messages."""
        self.largest_piece = 0
        self.statuses: dict[MessageId, MessageStatus] = {}
        self.items: list[Item] = []
        self.fail: Exception | None = None
        self.polling = asyncio.Event()
        self.bell = asyncio.Event()
        self.closing = False
        self.hold: asyncio.Event | None = None
        """When set, `submit` waits for it before it answers."""
        self.break_attachment: Exception | None = None
        self.repeated = False
        """When true, `submit` answers as to a request that was accepted before."""

    def authenticate(self, token: str) -> Principal | None:
        return TOKENS.get(token)

    # Sending

    async def submit(self, submission: Submission, uploads: AsyncIterator[Upload]) -> MessageStatus:
        self._maybe_fail()
        read = [await self._read(upload) async for upload in uploads]
        if self.hold is not None:
            self.polling.set()
            await self.hold.wait()
        self.submissions.append(submission)
        self.uploads += read
        status = MessageStatus(
            message_id=MessageId(new_id()),
            case=submission.case or CaseId(new_id()),
            type="referral",
            version=1,
            sender=submission.sender,
            in_reply_to=submission.in_reply_to,
            created=NOW,
            expires=NOW + (submission.expires_in or 432_000) * 1000,
            purpose=submission.purpose,
            lawful_basis=submission.lawful_basis,
            recalled=None,
            warnings=(Problem("/subject/identifier/0/value", "nhs-number check digit"),),
            ladders=tuple(
                Ladder(
                    to, EnvelopeId(new_id()), Stage.ACCEPTED, (receipt(Stage.ACCEPTED, submission.sender),)
                )
                for to in submission.recipients
            ),
            repeated=self.repeated,
        )
        self.statuses[status.message_id] = replace(status, warnings=())
        return status

    async def _read(self, upload: Upload) -> tuple[str, str, int, bytes]:
        digest, size = hashlib.sha256(), 0
        async for piece in upload.chunks:
            self.largest_piece = max(self.largest_piece, len(piece))
            digest.update(piece)
            size += len(piece)
        if upload.sha256 is not None and upload.sha256 != digest.digest():
            raise RefusedByUs("attachment-mismatch")
        return upload.name, upload.media_type, size, digest.digest()

    async def status(self, agency: AgencyId, message_id: MessageId) -> MessageStatus:
        self._maybe_fail()
        status = self.statuses.get(message_id)
        if status is None or status.sender != agency:
            raise RefusedByUs("not-found")
        return status

    async def recall(self, agency: AgencyId, message_id: MessageId) -> MessageStatus:
        status = await self.status(agency, message_id)
        if status.ladders[0].stage in FINAL_STAGES:
            raise RefusedByUs("already-final")
        self.statuses[message_id] = replace(status, recalled=status.recalled or NOW)
        return self.statuses[message_id]

    # Receiving

    def arrive(self, body: bytes = DOCUMENT, files: Sequence[tuple[str, str, bytes]] = ()) -> MessageId:
        """A message for the police comes in."""
        message_id = MessageId(new_id())
        header = Header(
            message_id,
            EnvelopeId(new_id()),
            "referral",
            1,
            SCHOOL,
            POLICE,
            CaseId(new_id()),
            None,
            NOW,
            NOW + 432_000_000,
            "prevent",
            "public-task",
        )
        entry = InboxEntry(len(self.items) + 1, header, Stage.RECEIVED, NOW + 5)
        listed = [
            (AttachmentInfo(i, name, kind, len(data), hashlib.sha256(data).digest()), data)
            for i, (name, kind, data) in enumerate(files)
        ]
        self.items.append(Item(entry, Native("application/json", body), listed))
        self.bell.set()
        return message_id

    def close(self) -> None:
        """End every long poll."""
        self.closing = True
        self.bell.set()

    async def list(self, agency: AgencyId, *, after: int, limit: int, wait: float) -> Sequence[InboxEntry]:
        self._maybe_fail()
        while True:
            waiting = [one.entry for one in self.items if one.answer is None and agency == POLICE]
            found = [one for one in waiting if one.sequence > after][:limit]
            if found or not wait or self.closing:
                return found
            self.bell.clear()
            self.polling.set()
            await self.bell.wait()

    async def open(self, agency: AgencyId, message_id: MessageId, accept: Sequence[str]) -> OpenedMessage:
        item = self._item(agency, message_id)
        for media_type in accept or ["*/*"]:
            if media_type in {"application/json", "application/*", "*/*"}:
                native = item.native
                break
            if media_type == FHIR:
                native = Native(FHIR, b'{"resourceType":"Bundle"}')
                break
        else:
            raise RefusedByUs("not-acceptable")
        infos = tuple(info for info, _ in item.files)
        return OpenedMessage(item.entry, native, (Problem("/a", "a rule"),), infos, ("fhir-bars", FHIR))

    async def holds(self, agency: AgencyId, message_id: MessageId) -> bool:
        return agency == POLICE and any(item.entry.header.message_id == message_id for item in self.items)

    async def original(self, agency: AgencyId, message_id: MessageId) -> Native:
        self._item(agency, message_id)
        return Native("application/fhir+xml", b"<Bundle xmlns='http://hl7.org/fhir'/>")

    async def attachment(
        self, agency: AgencyId, message_id: MessageId, index: int
    ) -> tuple[AttachmentInfo, AsyncIterator[bytes]]:
        files = self._item(agency, message_id).files
        if index >= len(files):
            raise RefusedByUs("not-found")
        info, data = files[index]

        async def pieces() -> AsyncIterator[bytes]:
            yield data[: len(data) // 2]
            if self.break_attachment:
                raise self.break_attachment
            yield data[len(data) // 2 :]

        return info, pieces()

    async def ack(self, agency: AgencyId, message_ids: Sequence[MessageId]) -> Sequence[Answered]:
        items = [self._item(agency, message_id, answered=True) for message_id in message_ids]
        return [self._answer(item, Stage.DELIVERED, None) for item in items]

    async def reject(self, agency: AgencyId, message_id: MessageId, reason: Reason) -> Answered:
        if reason not in SYSTEM_REASONS:
            raise RefusedByUs("unknown-reason")
        return self._answer(self._item(agency, message_id, answered=True), Stage.REJECTED, reason)

    def _answer(self, item: Item, stage: Stage, reason: Reason | None) -> Answered:
        if item.answer is None:
            item.answer = Answered(item.entry.header.message_id, receipt(stage, POLICE, reason))
        if item.answer.receipt.stage is not stage:
            raise RefusedByUs("already-final")
        return item.answer

    def _item(self, agency: AgencyId, message_id: MessageId, *, answered: bool = False) -> Item:
        self._maybe_fail()
        for item in self.items:
            if item.entry.header.message_id == message_id and agency == POLICE:
                if item.answer is not None and not answered:
                    raise RefusedByUs("already-final")
                return item
        raise RefusedByUs("not-found")

    def _maybe_fail(self) -> None:
        if self.fail is not None:
            raise self.fail


def receipt(stage: Stage, issuer: AgencyId, reason: Reason | Emergency | None = None) -> SignedReceipt:
    """One that nobody verifies here."""
    return SignedReceipt(stage, issuer, NOW, reason, b"\xd2\x84receipt\xff")


@dataclass
class World:
    """A served node and a client for each of two agencies."""

    node: FakeNode
    server: Server
    school: Client
    police: Client
    observed: asyncio.Queue[tuple[str, str, int]]
    errors: list[Exception]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    async def next_observed(self) -> tuple[str, str, int]:
        """Method, route and status of the next request that was answered."""
        async with asyncio.timeout(20):
            return await self.observed.get()

    async def talk(self, raw: bytes, *, end: bool = False) -> bytes:
        """Send raw bytes, and the end of the connection if asked; the answer, or nothing if there is none."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        try:
            writer.write(raw)
            if end:
                writer.write_eof()
            return await read_answer(reader)
        finally:
            writer.close()


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    """One response with a Content-Length; empty when the connection ends first."""
    async with asyncio.timeout(20):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        found = re.search(rb"(?i)content-length: (\d+)", head)
        assert found, head
        return head + await reader.readexactly(int(found[1]))


@asynccontextmanager
async def serving(limits: Limits | None = None, fhir: Addressing | None = None) -> AsyncIterator[World]:
    """A world, closed at the end."""
    node = FakeNode()
    observed: asyncio.Queue[tuple[str, str, int]] = asyncio.Queue()
    errors: list[Exception] = []
    app = make_app(
        sending=node,
        receiving=node,
        authenticator=node,
        limits=limits or Limits(),
        observe=lambda method, route, status, seconds: observed.put_nowait((method, route, status)),
        on_error=errors.append,
        fhir=fhir,
    )
    server = await serve(app, "127.0.0.1", 0, shutdown=5)
    url = f"http://127.0.0.1:{server.port}"
    world = World(node, server, Client(url, "school-token"), Client(url, "police-token"), observed, errors)
    try:
        yield world
    finally:
        node.close()
        await world.school.close()
        await world.police.close()
        await server.close()
