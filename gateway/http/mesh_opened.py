"""Messages of the inbox as MESH sees them: in which mailbox, under which workflow, in how many chunks.

What a `file` says of itself stands sealed in it; a message that no MESH mailbox sent is shown under the
workflow that its type, purpose and lawful basis belong to.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import RefusedByUs
from gateway.http.mesh_errors import MeshRefusal
from gateway.http.mesh_headers import OCTETS
from gateway.http.mesh_tables import FILE, Mailbox, Tables
from gateway.http.ports import InboxEntry, OpenedMessage, Receiving
from gateway.messages import AgencyId, MessageId

JSON = "application/json"
REMEMBERED = 10_000
"""Messages whose place is kept in memory: mailbox and workflow, nothing else."""
_GONE = {"not-found", "already-final", "expired", "not-readable"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message is shown."""

    mailbox: str
    """Empty: in no mailbox; it is for the node's own API."""
    workflow: str


_NOWHERE = Place("", "")


@dataclass(frozen=True, slots=True)
class Shown:
    """A message opened for its mailbox."""

    entry: InboxEntry
    place: Place
    sender: str
    fields: Mapping[str, Any] = field(repr=False)
    """The document of a `file`; empty for others."""
    chunks: int
    media_type: str
    opened: OpenedMessage = field(repr=False)


class Opener:
    """Opens messages and remembers where they belong."""

    def __init__(self, tables: Tables, receiving: Receiving) -> None:
        self._tables = tables
        self._receiving = receiving
        self._places: OrderedDict[MessageId, Place] = OrderedDict()

    def known(self, entry: InboxEntry) -> Place | None:
        """Where a message is shown, if that takes no opening."""
        if entry.header.type != FILE and self._tables.workflow_of(entry.header) is None:
            return _NOWHERE
        return self._places.get(entry.header.message_id)

    async def place(self, agency: AgencyId, entry: InboxEntry) -> Place:
        """Where a message is shown."""
        known = self.known(entry)
        if known is not None:
            return known
        try:
            shown = await self._show(agency, entry.header.message_id)
        except RefusedByUs as error:
            if error.code in _GONE:
                return _NOWHERE  # answered by another request, or expired, since the page was read
            raise
        return shown.place

    async def show(self, mailbox: Mailbox, message_id: str) -> Shown:
        """Open a message of this mailbox. Raises MeshRefusal or RefusedByUs."""
        shown = await self._show(mailbox.agency, MessageId(message_id))
        if shown.place.mailbox != mailbox.id:
            raise MeshRefusal("no-message")
        return shown

    async def _show(self, agency: AgencyId, message_id: MessageId) -> Shown:
        opened = await self._receiving.open(agency, message_id, [JSON])
        header, tables = opened.entry.header, self._tables
        if header.type == FILE:
            fields: dict[str, Any] = json.loads(opened.native.body)
            place = Place(tables.own_of(agency, fields.get("recipientMailbox")), fields["workflow"])
            chunks, media_type = max(1, len(opened.attachments)), fields.get("mediaType", OCTETS)
        else:
            workflow, fields, chunks = tables.workflow_of(header), {}, 1
            # An attachment has no place in a single file: such a message is left to the node's own API.
            if workflow is None or opened.attachments:
                place, media_type = _NOWHERE, JSON
            else:
                place, media_type = Place(tables.own_of(agency, None), workflow.id), workflow.media_type
        self._places[message_id] = place
        if len(self._places) > REMEMBERED:
            self._places.popitem(last=False)
        sender = tables.mailbox_of(header.sender, fields.get("senderMailbox"))
        return Shown(opened.entry, place, sender, fields, chunks, media_type, opened)

    async def body(
        self, mailbox: Mailbox, shown: Shown, number: int
    ) -> tuple[int, AsyncIterator[bytes], str]:
        """Chunk `number` of a message, from 1: its size, its bytes, an entity tag."""
        agency, message_id = mailbox.agency, shown.entry.header.message_id
        if shown.entry.header.type == FILE:
            if not shown.opened.attachments:
                return 0, _one(b""), ""
            info, pieces = await self._receiving.attachment(agency, message_id, number - 1)
            return info.size, pieces, info.sha256.hex()[:40]
        original = shown.opened.original
        if original is not None and original[1] == shown.media_type:
            native = await self._receiving.original(agency, message_id)  # byte for byte as it was sent
        else:
            native = (await self._receiving.open(agency, message_id, [shown.media_type, JSON])).native
        return len(native.body), _one(native.body), ""


async def _one(body: bytes) -> AsyncIterator[bytes]:
    yield body
