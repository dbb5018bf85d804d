"""What a system should have been through before it meets real partners, and what it has been through. Pure.

Each exercise is about one pretend partner, whose name says what it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.messages import AgencyId

ACCEPTS: Final = AgencyId("sandbox-accepts")
DECLINES: Final = AgencyId("sandbox-declines")
ASKS: Final = AgencyId("sandbox-asks")
SLOW: Final = AgencyId("sandbox-slow")
REPEATS: Final = AgencyId("sandbox-repeats")
REJECTS: Final = AgencyId("sandbox-rejects")
SILENT: Final = AgencyId("sandbox-silent")
REFERS: Final = AgencyId("sandbox-refers")
STRANGER: Final = AgencyId("sandbox-stranger")

PARTNERS: Final[Mapping[AgencyId, str]] = {
    ACCEPTS: "collects your referral and sends the decision `accepted`",
    DECLINES: "collects it and sends the decision `declined`, with a reason",
    ASKS: "collects it and asks questions before it decides",
    SLOW: "collects it after a while, then accepts",
    REPEATS: "accepts, and sends the same decision twice, as two messages",
    REJECTS: "its system rejects the message: the receipt says `not-accepted`",
    SILENT: "never collects: the message expires (send it with a short `expires_in`)",
    REFERS: "collects it and sends you a referral of its own",
    STRANGER: "no agreement allows you to send to it: the answer is a problem document",
}
"""Every pretend partner and what it does."""

EXERCISES: Final[Mapping[str, str]] = {
    "sent": "sent a referral that was delivered",
    "collected-accepted": "collected and acknowledged a decision: accepted",
    "collected-declined": "collected and acknowledged a decision: declined",
    "collected-questions": "collected and acknowledged a decision: more information needed",
    "waited": "collected the decision of a slow partner",
    "repeated": "acknowledged both copies of a decision that came twice",
    "rejected": "sent a message that the partner's system rejected",
    "expired": "sent a message that nobody collected, until it expired",
    "received": "collected and acknowledged a referral",
    "answered": "answered that referral with a decision in reply to it",
}
"""Every exercise and what was done when it is met."""

_BY_DECISION: Final = {
    ACCEPTS: "collected-accepted",
    DECLINES: "collected-declined",
    ASKS: "collected-questions",
    SLOW: "waited",
    REFERS: "received",
}
_BY_STAGE: Final = {"delivered": "sent", "rejected": "rejected", "expired": "expired"}


@dataclass(slots=True)
class Progress:
    """What was seen so far; times are RFC 3339."""

    met: dict[str, str] = field(default_factory=dict)
    """Exercise -> when it was first met."""
    following: dict[str, str] = field(default_factory=dict)
    """Message of the developer's -> its recipient, until its stage is final."""
    owed: dict[str, str] = field(default_factory=dict)
    """Message to the developer -> the partner that sent it, until it is delivered."""
    copies: int = 0
    """Copies of a repeated decision that were acknowledged."""
    referrals: list[str] = field(default_factory=list)
    """Referrals sent to the developer, for a decision to name."""

    def arrived(self, message_id: str, recipient: str, in_reply_to: str | None, now: str) -> None:
        """A message of the developer's waits at a partner."""
        self.following[message_id] = recipient
        if in_reply_to in self.referrals:
            self.met.setdefault("answered", now)

    def sent(self, message_id: str, partner: AgencyId, type_: str) -> None:
        """A partner sent the developer a message."""
        self.owed[message_id] = partner
        if type_ == "referral":
            self.referrals.append(message_id)

    def reached(self, message_id: str, stage: str, now: str) -> None:
        """A message either way has come to a final stage."""
        if message_id in self.following:
            del self.following[message_id]
            if stage in _BY_STAGE:
                self.met.setdefault(_BY_STAGE[stage], now)
        elif (partner := self.owed.pop(message_id, None)) and stage == "delivered":
            self._collected(AgencyId(partner), now)

    def _collected(self, partner: AgencyId, now: str) -> None:
        if partner in _BY_DECISION:
            self.met.setdefault(_BY_DECISION[partner], now)
        if partner == REPEATS:
            self.copies += 1
            if self.copies >= 2:
                self.met.setdefault("repeated", now)

    @property
    def left(self) -> list[str]:
        """Exercises not met yet, in order."""
        return [name for name in EXERCISES if name not in self.met]

    def report(self, agency: str, version: str, now: str) -> dict[str, Any]:
        """What is signed."""
        return {
            "format": "referral-gateway-conformance-report",
            "version": 1,
            "gateway": version,
            "agency": agency,
            "made": now,
            "complete": not self.left,
            "exercises": [
                {"name": name, "what": what, "met": self.met.get(name)} for name, what in EXERCISES.items()
            ],
        }
