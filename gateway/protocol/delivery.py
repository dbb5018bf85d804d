"""How far an envelope has come, as tables. Everything that affects a stage change lives in this file.

A missing entry is an illegal transition; `opened` stands in no table, because it is no step. Receipts may
overtake each other on the road, so a sender may learn of `delivered` before `received`; a late `received` is
kept as evidence and changes nothing.
"""

from __future__ import annotations

from gateway.messages import Stage

OUTBOUND: dict[Stage, dict[Stage, Stage]] = {
    Stage.ACCEPTED: {
        Stage.RECEIVED: Stage.RECEIVED,
        Stage.DELIVERED: Stage.DELIVERED,
        Stage.REJECTED: Stage.REJECTED,
        Stage.EXPIRED: Stage.EXPIRED,
        Stage.FAILED: Stage.FAILED,
    },
    Stage.RECEIVED: {
        Stage.RECEIVED: Stage.RECEIVED,
        Stage.DELIVERED: Stage.DELIVERED,
        Stage.REJECTED: Stage.REJECTED,
        Stage.EXPIRED: Stage.EXPIRED,
    },
    Stage.DELIVERED: {Stage.RECEIVED: Stage.DELIVERED, Stage.DELIVERED: Stage.DELIVERED},
    Stage.REJECTED: {Stage.RECEIVED: Stage.REJECTED, Stage.REJECTED: Stage.REJECTED},
    Stage.EXPIRED: {Stage.RECEIVED: Stage.EXPIRED, Stage.EXPIRED: Stage.EXPIRED},
    Stage.FAILED: {},
}
"""What a sender knows of an envelope: stage now -> stage a receipt states -> stage afterwards."""

PRESUMED: dict[Stage, dict[Stage, Stage]] = {
    presumed: {
        Stage.RECEIVED: presumed,
        Stage.DELIVERED: Stage.DELIVERED,
        Stage.REJECTED: Stage.REJECTED,
        Stage.EXPIRED: Stage.EXPIRED,
    }
    for presumed in (Stage.EXPIRED, Stage.FAILED)
}
"""The same when the sender's own node concluded `expired` or `failed` for want of an answer: the
recipient is the one who knows, so its signed final word, however late, replaces the presumption."""

INBOUND: dict[Stage, dict[Stage, Stage]] = {
    Stage.RECEIVED: {
        Stage.DELIVERED: Stage.DELIVERED,
        Stage.REJECTED: Stage.REJECTED,
        Stage.EXPIRED: Stage.EXPIRED,
    },
    Stage.DELIVERED: {Stage.DELIVERED: Stage.DELIVERED},
    Stage.REJECTED: {Stage.REJECTED: Stage.REJECTED},
    Stage.EXPIRED: {Stage.EXPIRED: Stage.EXPIRED},
}
"""What a recipient's node does with a message it holds."""


class IllegalTransition(Exception):
    """The stage does not follow from the present one."""


def advance_outbound(now: Stage, stated: Stage, *, presumed: bool) -> Stage:
    """The stage at the sender after a verified receipt. Raises IllegalTransition.

    `presumed`: the present stage is the sender's own conclusion (PRESUMED), not the recipient's word.
    """
    if stated is Stage.OPENED:
        return now  # news of an emergency, never out of place: an opening that was refused would be hidden
    table = PRESUMED if presumed and now in PRESUMED else OUTBOUND
    try:
        return table[now][stated]
    except KeyError:
        raise IllegalTransition from None


def advance_inbound(now: Stage, wanted: Stage) -> Stage:
    """The stage at the recipient after its system or clock acts. Raises IllegalTransition."""
    try:
        return INBOUND[now][wanted]
    except KeyError:
        raise IllegalTransition from None


def overdue(*, sent: bool) -> Stage:
    """What the sender concludes when an envelope's time is long over and no final receipt came.

    One that never left the node has `failed`; one that did leave was not collected: `expired`.
    """
    return Stage.EXPIRED if sent else Stage.FAILED
