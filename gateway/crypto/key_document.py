"""The document in an agency's key file: what it says of each key, in all its versions.

1: one Ed25519 key and opening keys, no dates. 2: lists of keys that have dates. 3: as 2, and a key may be in
a token. A file keeps the lowest version that says it all, so that an earlier gateway still reads it or
refuses it, and never misreads it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.crypto.audit_key import AuditKey
from gateway.crypto.holders import IN_TOKEN, KeyHolder, Row
from gateway.crypto.key_files import decode, encode
from gateway.crypto.keys import Opener, Signer
from gateway.crypto.labels import SUITE_ED25519
from gateway.messages import AgencyId

FORMAT: Final = "referral-gateway-keys"
_FIRST, _DATED, _LATEST = 1, 2, 3
SECRET_LENGTH: Final = 32
"""Bytes of the HMAC secret: as long as SHA-256's output."""


@dataclass(frozen=True, slots=True)
class KeyDates:
    """Milliseconds since the epoch: when a key was made, and from when on it is used."""

    created: int
    starts: int


@dataclass(frozen=True, slots=True)
class AgencyKeys:
    """The private keys of one agency, ready for use."""

    agency: AgencyId
    signing: Signer = field(repr=False)
    """The newest, unless the directory says otherwise (engine/keyring.py)."""
    signing_keys: tuple[Signer, ...] = field(repr=False)
    """Oldest first."""
    opening: Mapping[bytes, Opener] = field(repr=False)
    """By key id, older ones included: what was sealed to them still opens."""
    current_opening: Opener = field(repr=False)
    """The newest; of several made at once the one of the strongest suite."""
    idempotency_secret: bytes = field(repr=False)
    created: int
    """Milliseconds since the epoch: when the agency's file was made."""
    dates: Mapping[bytes, KeyDates]
    """Of each key, by key id."""

    def audit_key(self) -> AuditKey:
        """The key that signs audit checkpoints beside the signing key."""
        return AuditKey(self.idempotency_secret)


def new(agency: AgencyId, now: int, signing: Row, opening: Sequence[Row]) -> dict[str, Any]:
    """The document of an agency's first keys; `now` in milliseconds."""
    dates = {"created": now, "starts": now}
    document = {
        "format": FORMAT,
        "version": _DATED,
        "agency": agency,
        "created": now,
        "signing": [{**signing, **dates}],
        "opening": [{**row, **dates} for row in opening],
        "idempotency_secret": encode(os.urandom(SECRET_LENGTH)),
    }
    if signing["suite"] != SUITE_ED25519 or _version_of(document) != _DATED:
        return _versioned(document)
    return {
        **document,
        "version": _FIRST,
        "signing": signing["secret"],
        "opening": [{**row, "created": now} for row in opening],
    }


def add(document: Any, signing: Row, opening: Sequence[Row], *, now: int, starts: int) -> dict[str, Any]:
    """The document with keys more. Raises KeyError, TypeError when it is damaged."""
    dated, dates = _dated(document), {"created": now, "starts": starts}
    return _versioned(
        {
            **dated,
            "signing": [*dated["signing"], {**signing, **dates}],
            "opening": [*dated["opening"], *({**row, **dates} for row in opening)],
        }
    )


def read(document: Any, agency: AgencyId, holder_of: Callable[[Row], KeyHolder]) -> AgencyKeys:
    """The keys. Raises KeyError, IndexError, TypeError or ValueError when damaged, and what holders raise."""
    document = _dated(document)
    if document["format"] != FORMAT or document["agency"] != agency:
        raise ValueError("not this agency's keys")
    if document["version"] != _version_of(document):
        raise ValueError("not a version known here")
    signing = [holder_of(row).signer(row) for row in document["signing"]]
    opening = [holder_of(row).opener(row) for row in document["opening"]]
    kids = [*(key.kid for key in signing), *(key.kid for key in opening)]
    times = [KeyDates(row["created"], row["starts"]) for row in _rows(document)]
    secret, created = decode(document["idempotency_secret"]), document["created"]
    all_times = (created, *(time for one in times for time in (one.created, one.starts)))
    if len(secret) != SECRET_LENGTH or not all(type(time) is int for time in all_times):
        raise ValueError("not what the fields are for")
    return AgencyKeys(
        agency,
        signing[-1],
        tuple(signing),
        {key.kid: key for key in opening},
        opening[-1],
        secret,
        created,
        dict(zip(kids, times, strict=True)),
    )


def _rows(document: Any) -> Iterator[Row]:
    yield from document["signing"]
    yield from document["opening"]


def _version_of(document: Any) -> int:
    return _LATEST if any(IN_TOKEN in row for row in _rows(document)) else _DATED


def _versioned(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "version": _version_of(document)}


def _dated(document: Any) -> Any:
    """A document of version 1 as one of version 2; any other as it is. Raises KeyError, TypeError."""
    if document["version"] != _FIRST:
        return document
    created = document["created"]
    return {
        **document,
        "version": _DATED,
        "signing": [{"secret": document["signing"], "created": created, "starts": created}],
        "opening": [{**one, "starts": one["created"]} for one in document["opening"]],
    }
