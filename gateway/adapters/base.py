"""What an adapter is: pure functions between a native format and the canonical message.

An adapter reads leniently (it checks only what the mapping needs) and writes strictly. What the
canonical model does not carry is not lost: the road seals the original bytes beside the canonical
document. Another package adds an adapter through the entry-point group `referral_gateway.adapters`
(docs/adapters.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from gateway.messages import Canonical, Header, Problem


class AdapterError(Exception):
    """The document cannot be read or written in this format. Problems name field and rule, never a value.

    `malformed` is true when the bytes are not even well-formed (not JSON, not XML, wrong encoding).
    """

    def __init__(self, problems: Sequence[Problem], *, malformed: bool = False) -> None:
        super().__init__("malformed" if malformed else "unmappable")
        self.problems = tuple(problems)
        self.malformed = malformed


@dataclass(frozen=True, slots=True)
class Native:
    """A document in a native format."""

    media_type: str
    body: bytes

    def __repr__(self) -> str:
        return f"Native({self.media_type!r}, <sensitive>)"


@runtime_checkable
class Adapter(Protocol):
    """One native format, both ways. Stateless; safe to call from several tasks."""

    @property
    def name(self) -> str:
        """Stable name used in the API, e.g. `fhir-bars`."""
        ...

    @property
    def media_types(self) -> tuple[str, ...]:
        """Media types it reads and writes, lower case without parameters; the first is preferred."""
        ...

    def to_canonical(self, native: Native) -> Canonical:
        """Read. Raises AdapterError."""
        ...

    def from_canonical(self, header: Header, message: Canonical, media_type: str) -> Native:
        """Write. Raises AdapterError when this type of message has no form in this format."""
        ...
