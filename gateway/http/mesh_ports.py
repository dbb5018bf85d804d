"""What the MESH face needs of the node beyond Sending and Receiving; `gateway.engine` implements it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway.http.ports import Submission, Upload
from gateway.messages import AgencyId, MessageId


@dataclass(frozen=True, slots=True)
class Sent:
    """What a MESH mailbox sent, as far as its node remembers. Local id, name and subject: never log them."""

    message_id: MessageId
    report_id: str
    """Of the REPORT, should the message come to nothing."""
    mailbox: str
    recipient: str
    workflow: str
    created: int
    local_id: str = field(default="", repr=False)
    file_name: str = field(default="", repr=False)
    subject: str = field(default="", repr=False)
    size: int = 0
    """Bytes as sealed; known once the message is accepted."""


class Records(Protocol):
    """What outlives a request. Every method raises Unavailable."""

    async def use(self, token: bytes, *, until: int) -> bool:
        """Note that a token was used; False when it had been. `until` is when it opens nothing any more."""
        ...

    async def free(self, token: bytes) -> None:
        """Nothing was done for the request that used this token: the same request may come again."""
        ...

    async def identify(self, agency: AgencyId, idempotency_key: str) -> MessageId:
        """The message that a submission under this key is, or would become."""
        ...

    async def note(self, agency: AgencyId, sent: Sent) -> None:
        """Note what is about to be submitted; it counts once it was accepted."""
        ...

    async def sent(self, agency: AgencyId, mailbox: str, identifier: str) -> Sent | None:
        """A message this mailbox sent, by its own identifier or its report's."""
        ...

    async def by_local_id(self, agency: AgencyId, mailbox: str, local_id: str) -> Sequence[Sent]:
        """The accepted messages sent under a local identifier; at most two."""
        ...

    async def reports(self, agency: AgencyId, mailbox: str, *, limit: int) -> Sequence[Sent]:
        """What came to nothing and whose report was not acknowledged, oldest first."""
        ...

    async def close(self, message_id: MessageId) -> None:
        """The report of this message was acknowledged."""
        ...

    async def waiting(self, agency: AgencyId) -> int:
        """How many messages wait in the agency's inbox, whatever their type."""
        ...


class Chunked(Protocol):
    """Messages that come in several requests: each chunk is sealed as it comes."""

    async def begin(self, submission: Submission, upload: Upload, total: int) -> MessageId:
        """Take the first of `total` chunks. Raises RefusedByUs or Unavailable."""
        ...

    async def add(
        self, agency: AgencyId, message_id: MessageId, number: int, total: int, upload: Upload
    ) -> None:
        """Take the next chunk; with the last one the message is accepted.

        A chunk that is repeated is compared and taken for the same. Raises RefusedByUs: not-found,
        already-final, or bad-request for a chunk out of its order.
        """
        ...

    def uploading(self, agency: AgencyId, message_id: str) -> bool:
        """Whether chunks of this message are still to come."""
        ...
