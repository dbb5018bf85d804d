"""Whether an emergency opening has its quorum: checked before it, and by whoever is told of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.crypto.approval import ApprovalInvalid, Request, read_request, verify_approvals
from gateway.crypto.cbor import CborError
from gateway.crypto.fields import raw_id, read_id
from gateway.crypto.keys import VerifyKey
from gateway.messages import AgencyId, Emergency, MessageId, Receipt, Stage
from gateway.protocol.break_glass import MAX_ROLES, BreakGlass, reason_of

FindRule = Callable[[str, AgencyId, AgencyId, int], BreakGlass | None]
"""What a directory says under an agreement, between a sender and a recipient, at a time (`break_glass`)."""
NO_SECTION = "no agreement of that name between the two, in force then, has break-glass"


def read_opening(data: bytes) -> tuple[Request, Emergency, MessageId]:
    """What an approval asks to open, and why; not verified. Raises ApprovalInvalid."""
    request = read_request(data)
    reason = reason_of(request.action)
    try:
        if reason is not None:
            return request, reason, MessageId(read_id(request.subject))
    except CborError:
        pass  # a key's id, or no identifier of ours
    raise ApprovalInvalid("the request is for something else than opening a message")


def check_quorum(
    approvals: Sequence[bytes], rule: BreakGlass, agency: AgencyId, message_id: MessageId, at: int
) -> tuple[Request, Emergency, frozenset[str]]:
    """The request, its reason, and which roles approved it; `at` in milliseconds.

    Raises ApprovalInvalid unless enough roles of this agreement approved opening this message of this
    agency, all of them the same request, in its time.
    """
    if len(approvals) > MAX_ROLES:
        raise ApprovalInvalid("there are more approvals than an agreement has roles")
    keys = {role: VerifyKey.from_public(public) for role, public in rule.roles}
    request, roles = verify_approvals(approvals, keys, at)
    reason = reason_of(request.action)
    if reason is None or (request.agency, request.subject) != (agency, raw_id(message_id)):
        raise ApprovalInvalid("the request is not for opening this message")
    if len(roles) < rule.threshold:
        raise ApprovalInvalid(f"{len(roles)} of the {rule.threshold} approvals needed are there")
    return request, reason, roles


def confirm(receipt: Receipt, find: FindRule) -> frozenset[str]:
    """Which roles approved what an `opened` receipt tells of, as the directory of `find` has it.

    Raises ApprovalInvalid without a quorum.
    """
    quorum = receipt.quorum
    if receipt.stage is not Stage.OPENED or quorum is None:
        raise ApprovalInvalid("this tells of no emergency opening")
    rule = find(quorum.agreement, receipt.sender, receipt.recipient, receipt.at)
    if rule is None:
        raise ApprovalInvalid(NO_SECTION)
    _, reason, roles = check_quorum(quorum.approvals, rule, receipt.recipient, receipt.message_id, receipt.at)
    if reason is not receipt.reason:
        raise ApprovalInvalid("the reason stated is not the one that was approved")
    return roles
