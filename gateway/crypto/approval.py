"""Approvals: several people sign one request, each with a key of their own, before something grave is done.

A request names one action on one thing of one agency, once, for a short time. Every approval is a COSE_Sign1
over the same bytes, so that whoever signs second signs what the first one asked for. Who may approve what,
and how many must, is for the caller to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.crypto import cbor, cose
from gateway.crypto.cbor import CborError
from gateway.crypto.fields import raw_id, read_agency, read_id, read_number, read_text
from gateway.crypto.keys import SigningKey, VerifyKey
from gateway.crypto.labels import APPROVAL_CONTEXT, APPROVAL_VERSION
from gateway.messages import AgencyId

MAX_APPROVAL = 1024
"""Bytes of a signed approval."""
MAX_APPROVALS = 20
"""Approvals of one request."""
LONGEST = 7 * 24 * 3_600_000
"""Milliseconds a request may stay open."""
_VERSION, _REQUEST, _ACTION, _AGENCY, _SUBJECT, _ASKED, _UNTIL = range(1, 8)
_SUBJECT_LENGTHS = frozenset({16, 32})
_LABELS = frozenset(range(_VERSION, _UNTIL + 1))


class ApprovalInvalid(Exception):
    """An approval cannot be used. The text says why and names no value."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for."""

    request_id: str
    """A random identifier: the caller remembers it, so that a request is carried out once."""
    action: str
    """Such as `destroy-key`."""
    agency: AgencyId
    subject: bytes
    """What it is done to: a key id (32 bytes) or a message id (16 bytes)."""
    asked: int
    """Milliseconds since the epoch."""
    until: int
    """Milliseconds since the epoch: not carried out from then on."""


def approve(request: Request, key: SigningKey) -> bytes:
    """One person's approval, at most MAX_APPROVAL bytes. Raises ValueError if it could never be accepted."""
    if not _is_short(request) or len(request.subject) not in _SUBJECT_LENGTHS:
        raise ValueError("not a request")
    payload = {
        _VERSION: APPROVAL_VERSION,
        _REQUEST: raw_id(request.request_id),
        _ACTION: request.action,
        _AGENCY: str(request.agency),
        _SUBJECT: request.subject,
        _ASKED: request.asked,
        _UNTIL: request.until,
    }
    return cose.sign1(cbor.encode(payload), key, APPROVAL_CONTEXT)


def verify_approvals(
    approvals: Sequence[bytes], approvers: Mapping[str, VerifyKey], now: int
) -> tuple[Request, frozenset[str]]:
    """The request, and who of `approvers` (key by name) approved it; `now` in milliseconds.

    Two names with one key count as one person. Raises ApprovalInvalid when there is no approval, one is by
    somebody else, one does not verify, two ask for different things, or the time is over or has not come.
    """
    if not 0 < len(approvals) <= MAX_APPROVALS:
        raise ApprovalInvalid("there is no approval, or there are too many")
    names = {key.kid: name for name, key in approvers.items()}
    keys = {key.kid: key for key in approvers.values()}
    payloads, by = set(), set()
    for data in approvals:
        signed = _parse(data)
        if signed.kid not in keys:
            raise ApprovalInvalid("an approval is by somebody who may not approve this")
        if not signed.verify(keys[signed.kid], APPROVAL_CONTEXT):
            raise ApprovalInvalid("an approval does not verify: it was altered, or another key signed it")
        payloads.add(signed.payload)
        by.add(names[signed.kid])
    if len(payloads) != 1:
        raise ApprovalInvalid("the approvals are for different requests")
    request = _read(payloads.pop())
    if now >= request.until:
        raise ApprovalInvalid("the request has expired: ask anew")
    if now < request.asked:
        raise ApprovalInvalid("the request is dated in the future: check the clocks")
    return request, frozenset(by)


def read_request(data: bytes) -> Request:
    """What an approval asks for, not verified. Raises ApprovalInvalid."""
    return _read(_parse(data).payload)


def signer_of(data: bytes) -> bytes:
    """The id of the key an approval names, not verified. Raises ApprovalInvalid."""
    return _parse(data).kid


def _parse(data: bytes) -> cose.Signed:
    if len(data) > MAX_APPROVAL:
        raise ApprovalInvalid("this is not an approval")
    try:
        return cose.parse_sign1(data)
    except CborError:
        raise ApprovalInvalid("this is not an approval") from None


def _read(payload: bytes) -> Request:
    try:
        value = cbor.decode(payload)
        if not isinstance(value, dict) or value.keys() != _LABELS or value[_VERSION] != APPROVAL_VERSION:
            raise CborError("not an approval")
        subject = value[_SUBJECT]
        if not isinstance(subject, bytes) or len(subject) not in _SUBJECT_LENGTHS:
            raise CborError("not a subject")
        request = Request(
            read_id(value[_REQUEST]),
            read_text(value[_ACTION]),
            read_agency(value[_AGENCY]),
            subject,
            read_number(value[_ASKED]),
            read_number(value[_UNTIL]),
        )
    except CborError:
        raise ApprovalInvalid("this is not an approval") from None
    if not _is_short(request):
        raise ApprovalInvalid("a request stays open for a week at most")
    return request


def _is_short(request: Request) -> bool:
    return request.asked < request.until <= request.asked + LONGEST
