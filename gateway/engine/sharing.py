"""What of a message goes into one recipient's envelope: all of it, or the view its agreement names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway import schemas
from gateway.adapters import json_native
from gateway.messages import Canonical, Content, Original, Problem, Sensitive
from gateway.protocol import views


@dataclass(frozen=True, slots=True)
class Shared:
    """The parts of one envelope's content that depend on the view."""

    document: Sensitive
    warnings: tuple[Problem, ...]
    original: Original | None
    groups: tuple[str, ...] | None
    """The field groups that the view shows; None: everything."""

    @property
    def attachments(self) -> bool:
        """Whether attachments go with it."""
        return self.groups is None or views.ATTACHMENTS in self.groups


def cut(
    message: Canonical, whole: Shared, groups: tuple[str, ...] | None, cache: dict[tuple[str, ...], Shared]
) -> Shared:
    """What a recipient is sent under an agreement that shares these groups. `cache` spares repeated work.

    The original is left out of a view: nobody knows what its bytes hold.
    """
    if groups is None:
        return whole
    shown = views.in_order(groups)
    if shown not in cache:
        cache[shown] = _reduced(message.type, message.version, message.document, shown)
    return cache[shown]


def is_within(content: Content, document: Mapping[str, Any], groups: tuple[str, ...]) -> bool:
    """Whether what arrived shows no more than these groups: the recipient's side of the same rule."""
    return (
        views.reduced(document, groups) == document
        and content.original is None
        and (not content.attachments or views.ATTACHMENTS in groups)
    )


def _reduced(type_: str, version: int, document: Mapping[str, Any], shown: tuple[str, ...]) -> Shared:
    reduced = views.reduced(document, shown)
    rule = f"the agreement leaves out: {', '.join(views.left_out(shown))}"
    warnings = (Problem("", rule), *schemas.warnings(type_, version, reduced))
    return Shared(Sensitive(json_native.dumps(reduced)), warnings, None, shown)
