"""What the HTTP layer needs of the node, as an interface: `http` never imports the store or the engine.

`gateway.engine` implements it; `gateway.node` plugs it in. Every method raises GatewayError (RefusedByUs,
Unavailable) and nothing else on purpose.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from gateway.adapters.base import Native
from gateway.messages import (
    AgencyId,
    CaseId,
    Emergency,
    EnvelopeId,
    Header,
    MessageId,
    Problem,
    Reason,
    Stage,
)


class Permission(StrEnum):
    """What a token may do."""

    SEND = "send"
    RECEIVE = "receive"


@dataclass(frozen=True, slots=True)
class Principal:
    """A local system, authenticated by its token."""

    token_id: str
    agency: AgencyId
    permissions: frozenset[Permission]


@dataclass(frozen=True, slots=True)
class Upload:
    """One attachment as it streams in. `chunks` yields bytes of any size; `sha256` is announced or None."""

    name: str = field(repr=False)
    media_type: str
    sha256: bytes | None
    chunks: AsyncIterator[bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Submission:
    """One POST /v1/messages."""

    sender: AgencyId
    idempotency_key: str = field(repr=False)
    body: Native
    adapter: str | None
    recipients: tuple[AgencyId, ...]
    purpose: str
    lawful_basis: str
    case: CaseId | None
    in_reply_to: MessageId | None
    expires_in: int | None
    """Seconds from now, or None for the node's default."""
    message_id: MessageId | None = None
    """The identifier it shall have if none is known under its key; None: the node chooses."""


@dataclass(frozen=True, slots=True)
class SignedReceipt:
    """A receipt with the fields a reader wants beside its signed form."""

    stage: Stage
    issuer: AgencyId
    at: int
    reason: Reason | Emergency | None
    cose: bytes = field(repr=False)
    """COSE_Sign1, what `gateway receipts verify` checks."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """How far one envelope of a message has come: one for each recipient."""

    recipient: AgencyId
    envelope_id: EnvelopeId
    stage: Stage
    receipts: tuple[SignedReceipt, ...]
    view: tuple[str, ...] | None = None
    """The field groups the recipient was sent; None: everything."""

    @property
    def steps(self) -> tuple[SignedReceipt, ...]:
        """The receipts but for those of emergency openings, which are no steps."""
        return tuple(one for one in self.receipts if one.stage is not Stage.OPENED)


@dataclass(frozen=True, slots=True)
class MessageStatus:
    """What a sender sees of a message."""

    message_id: MessageId
    case: CaseId
    type: str
    version: int
    sender: AgencyId
    in_reply_to: MessageId | None
    created: int
    expires: int
    purpose: str
    lawful_basis: str
    recalled: int | None
    """When the sender asked for it back; the receipts say what came of that."""
    warnings: tuple[Problem, ...]
    """Only in the answer to POST; a status read later has none (they travel sealed)."""
    ladders: tuple[Ladder, ...]
    repeated: bool = False
    """In the answer to POST: this very request was accepted before, and this is the first answer again."""


@dataclass(frozen=True, slots=True)
class AttachmentInfo:
    """An attachment as the inbox lists it."""

    index: int
    name: str = field(repr=False)
    media_type: str
    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class InboxEntry:
    """One message in an inbox. Metadata only."""

    sequence: int
    """Grows by arrival within a node; the paging cursor."""
    header: Header
    stage: Stage
    received: int


@dataclass(frozen=True, slots=True)
class OpenedMessage:
    """One message, opened in memory for its recipient's own system."""

    entry: InboxEntry
    native: Native
    """The content in the format asked for."""
    warnings: tuple[Problem, ...]
    attachments: tuple[AttachmentInfo, ...]
    original: tuple[str, str] | None
    """(adapter, media type) of the original, when it was not canonical JSON."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The outcome of ack or reject for one message."""

    message_id: MessageId
    receipt: SignedReceipt


class Sending(Protocol):
    """Intake and tracking."""

    async def submit(self, submission: Submission, uploads: AsyncIterator[Upload]) -> MessageStatus:
        """Take responsibility for a message: returns only when it is durable (then answer 202).

        `uploads` is consumed in order, each upload's chunks before the next upload.
        """
        ...

    async def status(self, agency: AgencyId, message_id: MessageId) -> MessageStatus:
        """The ladder so far. Raises not-found unless `agency` sent it."""
        ...

    async def recall(self, agency: AgencyId, message_id: MessageId) -> MessageStatus:
        """Ask for a message back; repeating it changes nothing. Raises already-final, not-found."""
        ...


class Receiving(Protocol):
    """The inbox of one agency."""

    async def list(self, agency: AgencyId, *, after: int, limit: int, wait: float) -> Sequence[InboxEntry]:
        """Messages waiting (stage `received`), oldest first, with sequence > `after`.

        When there are none, waits up to `wait` seconds for one (long poll). Ends early at shutdown.
        """
        ...

    async def open(self, agency: AgencyId, message_id: MessageId, accept: Sequence[str]) -> OpenedMessage:
        """Open one, in the first media type of `accept` an adapter can write. Raises not-acceptable.

        `*/*` and an empty `accept` mean canonical JSON (application/json).
        """
        ...

    async def holds(self, agency: AgencyId, message_id: MessageId) -> bool:
        """Whether this message came for `agency`, whatever became of it."""
        ...

    async def original(self, agency: AgencyId, message_id: MessageId) -> Native:
        """What the sender's system wrote, byte for byte."""
        ...

    async def attachment(
        self, agency: AgencyId, message_id: MessageId, index: int
    ) -> tuple[AttachmentInfo, AsyncIterator[bytes]]:
        """Stream an attachment, opened chunk by chunk."""
        ...

    async def ack(self, agency: AgencyId, message_ids: Sequence[MessageId]) -> Sequence[Answered]:
        """Make messages `delivered`. Repeating it gives the same answer. All or none."""
        ...

    async def reject(self, agency: AgencyId, message_id: MessageId, reason: Reason) -> Answered:
        """Make a message `rejected`. Repeating it with the same reason gives the same answer."""
        ...


class Health(Protocol):
    """What the admin port asks."""

    def ready(self) -> tuple[bool, dict[str, bool]]:
        """Whether the node can accept now, and each part by name."""
        ...

    def metrics(self) -> tuple[bytes, str]:
        """Prometheus exposition and its content type."""
        ...


class Authenticator(Protocol):
    """Looks a bearer token up by its hash."""

    def authenticate(self, token: str) -> Principal | None: ...
