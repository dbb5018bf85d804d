"""Break-glass: who may have a message opened in an emergency, as a sharing agreement says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.messages import Emergency

LEAST: Final = 2
"""The lowest threshold: one person alone is no quorum."""
MAX_ROLES: Final = 10
"""Roles in one agreement: the approvals of all of them fit into one receipt."""


@dataclass(frozen=True, slots=True)
class BreakGlass:
    """The section of an agreement."""

    threshold: int
    """How many of the roles must approve."""
    roles: tuple[tuple[str, bytes], ...]
    """Name and Ed25519 public key of each, all different."""


def action(reason: Emergency) -> str:
    """What the roles sign: the action with its reason, so that nobody can give another one afterwards."""
    return f"break-glass/{reason.value}"


def reason_of(asked: str) -> Emergency | None:
    """The reason in an action; None when it is another action."""
    return next((one for one in Emergency if action(one) == asked), None)
