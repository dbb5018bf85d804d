"""Proposals: an agency asks, signed with its own key, for a change of the directory.

A COSE_Sign1 over what it wants (`text`), until when, and the state it is meant for (`base`), so that it
undoes nothing that was changed in between. Whether it may be granted: gateway/directory/changes.py.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from gateway.crypto import cbor, cose
from gateway.crypto.cbor import CborError
from gateway.crypto.fields import read_agency, read_bytes, read_number, read_text
from gateway.crypto.keys import Signer, VerifyKey
from gateway.crypto.labels import PROPOSAL_CONTEXT, PROPOSAL_VERSION
from gateway.messages import AgencyId

LARGEST_TEXT: Final = 256 * 1024
"""Bytes: an entry with as many keys as it may have is half of that."""
MAX_PROPOSAL: Final = LARGEST_TEXT + 1024
"""Bytes of a signed proposal."""
LONGEST: Final = 30 * 24 * 3_600_000
"""Milliseconds a proposal may stand."""
NOTHING: Final = bytes(32)
"""The base of what is not in the directory yet."""
_VERSION, _KIND, _AGENCY, _SUBJECT, _CREATED, _EXPIRES, _BASE, _TEXT = range(1, 9)
_LABELS: Final = frozenset(range(_VERSION, _TEXT + 1))
_NOT_ONE: Final = "this is not a proposal"


class ProposalInvalid(Exception):
    """These bytes are no proposal. The text says why and names no value."""


class Kind(StrEnum):
    """What is asked for."""

    ENTRY = "entry"
    """That the agency's own entry becomes `text`."""
    AGREEMENT = "agreement"
    """That the agreement becomes `text`, or is entered: one agency's consent."""
    WITHDRAW = "withdraw"
    """That the agreement ends; there is no text."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What an agency asks for."""

    kind: Kind
    agency: AgencyId
    """Who asks."""
    subject: str
    """What would change: the agency's own identifier, or the agreement's."""
    created: int
    """Milliseconds since the epoch."""
    expires: int
    """Milliseconds since the epoch: not granted from then on."""
    base: bytes
    """SHA-256 of the canonical form that stands in the directory now; NOTHING when there is none."""
    text: str
    """The canonical form of what shall stand there."""


@dataclass(frozen=True, slots=True)
class SignedProposal:
    """A proposal that was read, not yet verified."""

    proposal: Proposal
    kid: bytes
    """The id of the key that is said to have signed it."""
    digest: bytes
    """SHA-256 of what was signed. Not of the signature: ECDSA has two for each statement."""
    signed: cose.Signed

    def verify(self, key: VerifyKey) -> bool:
        """Whether `key` signed it."""
        return self.signed.verify(key, PROPOSAL_CONTEXT)


def sign_proposal(proposal: Proposal, signer: Signer) -> bytes:
    """At most MAX_PROPOSAL bytes. Raises ValueError if it could never be granted."""
    if not _is_whole(proposal):
        raise ValueError("not a proposal")
    payload = {
        _VERSION: PROPOSAL_VERSION,
        _KIND: str(proposal.kind),
        _AGENCY: str(proposal.agency),
        _SUBJECT: str(proposal.subject),
        _CREATED: proposal.created,
        _EXPIRES: proposal.expires,
        _BASE: proposal.base,
        _TEXT: proposal.text,
    }
    return cose.sign1(cbor.encode(payload), signer, PROPOSAL_CONTEXT)


def read_proposal(data: bytes) -> SignedProposal:
    """What is asked for; nothing is verified yet. Raises ProposalInvalid."""
    if len(data) > MAX_PROPOSAL:
        raise ProposalInvalid(_NOT_ONE)
    try:
        signed = cose.parse_sign1(data)
        proposal = _read(cbor.decode(signed.payload))
    except CborError:
        raise ProposalInvalid(_NOT_ONE) from None
    return SignedProposal(proposal, signed.kid, hashlib.sha256(signed.payload).digest(), signed)


def _read(value: Any) -> Proposal:
    if not isinstance(value, dict) or value.keys() != _LABELS or value[_VERSION] != PROPOSAL_VERSION:
        raise CborError(_NOT_ONE)
    kind, text = read_text(value[_KIND]), value[_TEXT]
    if kind not in set(Kind) or not isinstance(text, str):
        raise CborError(_NOT_ONE)
    proposal = Proposal(
        Kind(kind),
        read_agency(value[_AGENCY]),
        str(read_agency(value[_SUBJECT])),  # an agreement's identifier has the same form
        read_number(value[_CREATED]),
        read_number(value[_EXPIRES]),
        read_bytes(value[_BASE], len(NOTHING)),
        text,
    )
    if not _is_whole(proposal):
        raise CborError(_NOT_ONE)
    return proposal


def _is_whole(proposal: Proposal) -> bool:
    """Whether the fields fit each other. An agency that is not listed yet has no key to ask with."""
    own = proposal.kind is not Kind.ENTRY or proposal.subject == proposal.agency
    stands = proposal.kind is Kind.AGREEMENT or proposal.base != NOTHING
    worded = (proposal.kind is Kind.WITHDRAW) == (proposal.text == "")
    short = proposal.created < proposal.expires <= proposal.created + LONGEST
    return own and stands and worded and short and len(proposal.text.encode()) <= LARGEST_TEXT
