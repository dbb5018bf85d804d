"""Requests that two operators must agree on: one asks, another confirms, each with a key of their own.

Who may approve what stands in the settings. What is done then is for the caller (keycare.py).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.config import Settings
from gateway.crypto import approval
from gateway.crypto.approval import ApprovalInvalid, Request
from gateway.crypto.keys import SigningKey, VerifyKey
from gateway.errors import StartupError
from gateway.messages import AgencyId

NEEDED: Final = 2
"""Operators who must agree."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A request whose approvals verify."""

    request: Request
    by: frozenset[str]
    """The operators who approved it."""

    @property
    def enough(self) -> bool:
        """Whether as many agree as must."""
        return len(self.by) >= NEEDED


def operators(settings: Settings, action: str) -> dict[str, VerifyKey]:
    """Who may approve it, by name."""
    return {one.id: one.key() for one in settings.operators if action in one.may}


def ask(
    settings: Settings,
    action: str,
    agency: AgencyId,
    subject: bytes,
    *,
    key: SigningKey,
    now: int,
    until: int,
) -> bytes:
    """A new request with its first approval, which others add theirs to. Raises StartupError."""
    request = Request(str(uuid.uuid4()), action, agency, subject, now, until)
    who = name_of(settings, action, key)
    if len(operators(settings, action)) < NEEDED:
        raise StartupError(f"nobody but {who} may approve {action}: name another in [[operators]]")
    return approval.approve(request, key)


def name_of(settings: Settings, action: str, key: SigningKey) -> str:
    """Whose key this is. Raises StartupError when it is of nobody who may approve this."""
    for name, public in operators(settings, action).items():
        if public.kid == key.kid:
            return name
    raise StartupError(
        f"this key is of no operator who may approve {action}: see [[operators]] in the settings"
    )


def judge(settings: Settings, approvals: Sequence[bytes], now: int) -> Judged:
    """Verify approvals. Raises StartupError."""
    try:
        action = approval.read_request(approvals[0]).action
        request, by = approval.verify_approvals(approvals, operators(settings, action), now)
    except ApprovalInvalid as error:
        raise StartupError(f"the request cannot be used: {error}") from None
    if request.agency not in settings.node.agencies:
        raise StartupError("the request cannot be used: it is for another node")
    return Judged(request, by)


def confirm(settings: Settings, approvals: Sequence[bytes], key: SigningKey, now: int) -> Judged:
    """Add an approval. Raises StartupError unless as many agree then as must."""
    request = judge(settings, approvals, now).request
    name = name_of(settings, request.action, key)
    judged = judge(settings, [*approvals, approval.approve(request, key)], now)
    if not judged.enough:
        raise StartupError(f"{name} asked for it: another operator must confirm")
    return judged
