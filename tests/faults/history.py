"""What happened, as the two agencies' systems saw it, and whether that keeps the promises."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class History:
    """Everything a run observed from outside the nodes."""

    accepted: dict[str, set[str]] = field(default_factory=dict)
    """Idempotency key -> the message ids that 202 answers gave for it."""
    listed_after_ack: Counter[str] = field(default_factory=Counter)
    """Messages the inbox showed although their acknowledgement had been answered."""
    acknowledged: Counter[str] = field(default_factory=Counter)
    """Messages by how often they became `delivered` for the recipient's system for the first time."""
    final: dict[str, str] = field(default_factory=dict)
    """Message id -> the stage its ladder ended in, as the sender's system sees it."""
    unverified: int = 0
    """Receipts that do not verify."""

    def answered(self, key: str, message_id: str) -> None:
        """A 202."""
        self.accepted.setdefault(key, set()).add(message_id)


@dataclass(frozen=True)
class Findings:
    """What broke a promise. All empty is what is wanted."""

    lost: frozenset[str]
    duplicated: frozenset[str]
    unexplained: frozenset[str]

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not (self.lost or self.duplicated or self.unexplained)

    def __str__(self) -> str:
        return (
            f"lost {len(self.lost)}, duplicated {len(self.duplicated)}, unexplained {len(self.unexplained)}"
        )


def check(history: History) -> Findings:
    """Hold a finished run to promises 1, 2 and 5."""
    known = set().union(*history.accepted.values()) if history.accepted else set()
    delivered = set(history.acknowledged)
    lost = {one for one in known if one not in delivered or history.final.get(one) != "delivered"}
    duplicated = {one for ids in history.accepted.values() if len(ids) > 1 for one in ids}
    duplicated |= {one for one, times in history.acknowledged.items() if times > 1}
    duplicated |= set(history.listed_after_ack)
    unexplained = delivered - known
    if history.unverified:
        unexplained |= {"receipts that do not verify"}
    return Findings(frozenset(lost), frozenset(duplicated), frozenset(unexplained))
