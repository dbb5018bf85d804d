"""How a system's own exports fare with an adapter: refused or not, how complete, what is not carried. Pure.

Nothing here repeats a value of the document: the answer can be put into a ticket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from gateway import schemas
from gateway.adapters.base import Adapter, AdapterError, Native
from gateway.adapters.leaves import leaves
from gateway.messages import Canonical, Problem

MAX_LEAVES: Final = 5_000
"""Values of one document that are looked at."""

WANTED: Final[Mapping[str, str]] = {
    "reference": "to name the case when somebody calls",
    "writtenAt": "to know how old it is",
    "person.identifier": "to find the person in the recipient's system",
    "person.dateOfBirth": "to tell two people of one name apart",
    "person.address": "to visit",
    "person.contact": "to call",
    "concern.narrative": "to understand what happened",
    "consent.status": "to know whether the person agreed",
    "immediateDanger": "to know whether somebody must go now",
    "referrer.name": "to ask",
    "referrer.organisation": "to know who asks",
    "referrer.contact": "to answer",
    "request": "to know what is asked for",
}
"""What a recipient misses in a referral that has no such field, and why."""
_NOT_SAID: Final = {"consent.status": "not-recorded", "immediateDanger": "not-known"}


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found about one document."""

    type: str = ""
    """Of the message it became; empty when it was refused before that."""
    version: int = 0
    refused: tuple[Problem, ...] = ()
    """Why it would not be accepted; in the native document, or the canonical one if `type` is set."""
    warnings: tuple[Problem, ...] = ()
    missing: tuple[str, ...] = ()
    """Fields of WANTED that it does not fill."""
    values: int = 0
    """How many values the document has, MAX_LEAVES at most."""
    not_carried: tuple[str, ...] | None = None
    """Where values stand that the canonical message does not hold; None: not looked at, or not known how."""

    @property
    def accepted(self) -> bool:
        """Whether a node would take it, an agreement given."""
        return not self.refused


def examine(adapter: Adapter, native: Native) -> Examined:
    """Read one document as a node would."""
    try:
        message = adapter.to_canonical(native)
    except AdapterError as error:
        return Examined(refused=error.problems)
    problems = schemas.validate(message.type, message.version, message.document)
    if problems:
        return Examined(message.type, message.version, tuple(problems))
    values, not_carried = _not_carried(adapter, native, message)
    return Examined(
        message.type,
        message.version,
        warnings=tuple(schemas.warnings(message.type, message.version, message.document)),
        missing=tuple(path for path in WANTED if not _says(message.document, path))
        if message.type == "referral"
        else (),
        values=values,
        not_carried=not_carried,
    )


def _says(document: Mapping[str, Any], path: str) -> bool:
    value: Any = document
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return value not in (None, [], {}, _NOT_SAID.get(path))


def _not_carried(adapter: Adapter, native: Native, message: Canonical) -> tuple[int, tuple[str, ...] | None]:
    """How many values there are, and where those stand that make no difference to the message."""
    found = leaves(native)
    if found is None:
        return 0, None
    count, places = 0, []
    for leaf in islice(found, MAX_LEAVES):
        count += 1
        bodies = (leaf.without, leaf.altered)
        if all(_same(adapter, Native(native.media_type, body), message) for body in bodies):
            places.append(leaf.where)
    return count, tuple(places)


def _same(adapter: Adapter, native: Native, message: Canonical) -> bool:
    try:
        return adapter.to_canonical(native) == message
    except AdapterError:
        return False
