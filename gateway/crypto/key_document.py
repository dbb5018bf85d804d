"""The document in an agency's key file: what it says of each key, in all its versions.

1: one Ed25519 key and opening keys, no dates. 2: lists of keys that have dates. 3: as 2, and a key may be in
a token. 4: as 3, and keys that were destroyed leave a tombstone. A file keeps the lowest version that says it
all, so that an earlier gateway still reads it or refuses it, and never misreads it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.crypto.audit_key import AuditKey
from gateway.crypto.holders import IN_TOKEN, KeyHolder, Row
from gateway.crypto.key_files import decode, encode
from gateway.crypto.keys import Opener, SealingKey, Signer, VerifyKey
from gateway.crypto.labels import SUITE_ED25519
from gateway.messages import AgencyId

FORMAT: Final = "referral-gateway-keys"
_FIRST, _DATED, _WITH_TOKEN, _WITH_DESTROYED = 1, 2, 3, 4
SECRET_LENGTH: Final = 32
"""Bytes of the HMAC secret: as long as SHA-256's output."""
_STONE: Final = {"use", "suite", "public", "created", "starts", "destroyed"}
"""The fields of a tombstone. One of a key that was in a token names it still: should a crash have left it
there, it can be destroyed again."""


@dataclass(frozen=True, slots=True)
class KeyDates:
    """Milliseconds since the epoch: when a key was made, and from when on it is used."""

    created: int
    starts: int


@dataclass(frozen=True, slots=True)
class DestroyedKey:
    """What stays of a key."""

    use: str
    """`sign` or `seal`."""
    public: VerifyKey | SealingKey
    dates: KeyDates
    destroyed: int
    """Milliseconds since the epoch."""


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
    destroyed: tuple[DestroyedKey, ...] = ()

    def knows(self, kid: bytes) -> bool:
        """Whether this is a key of the agency, or was."""
        return kid in self.dates or any(one.public.kid == kid for one in self.destroyed)

    def verify_keys(self) -> list[VerifyKey]:
        """The public halves of all signing keys it ever had, the newest first."""
        gone = [one.public for one in self.destroyed if isinstance(one.public, VerifyKey)]
        return [*(key.public for key in reversed(self.signing_keys)), *reversed(gone)]

    def digest(self) -> bytes:
        """SHA-256 over the ids of the keys that can be used: another once one is made or destroyed."""
        return hashlib.sha256(b"".join(sorted(self.dates))).digest()

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


def destroy(document: Any, keys: AgencyKeys, kid: bytes, now: int) -> dict[str, Any]:
    """The document with a tombstone in place of one of its keys; `keys` is what `read` made of it."""
    dated = _dated(document)
    uses: tuple[tuple[str, str, list[VerifyKey | SealingKey]], ...] = (
        ("sign", "signing", [key.public for key in keys.signing_keys]),
        ("seal", "opening", [key.public for key in keys.opening.values()]),
    )
    left: dict[str, list[Row]] = {}
    stones = [*dated.get("destroyed", ())]
    for use, name, public in uses:
        pairs = list(zip(dated[name], public, strict=True))
        left[name] = [row for row, key in pairs if key.kid != kid]
        stones += [_stone(use, row, key, now) for row, key in pairs if key.kid == kid]
    return _versioned({**dated, **left, "destroyed": stones})


def _stone(use: str, row: Row, key: VerifyKey | SealingKey, now: int) -> Row:
    kept = {name: row[name] for name in ("created", "starts", IN_TOKEN) if name in row}
    return {
        "use": use,
        "suite": key.suite,
        "public": encode(key.public_bytes),
        **kept,
        "destroyed": now,
    }


def tombstones(document: Any) -> Iterator[tuple[bytes, Row]]:
    """Each destroyed key's id and row. Raises KeyError, TypeError or ValueError when damaged."""
    for row in document.get("destroyed", ()):
        yield _public(row).kid, row


def made(document: Any) -> list[Row]:
    """The rows of its keys, as their holders made them. Raises KeyError, TypeError when damaged."""
    return [
        {name: value for name, value in row.items() if name not in {"created", "starts"}}
        for row in _rows(_dated(document))
    ]


def in_token(document: Any) -> bool:
    """Whether a secret is somewhere else than in this document."""
    return any(IN_TOKEN in row for row in _rows(_dated(document)))


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
    destroyed = tuple(_destroyed(row) for row in document.get("destroyed", ()))
    secret, created = decode(document["idempotency_secret"]), document["created"]
    dates = (*times, *(one.dates for one in destroyed))
    all_times = (created, *(one.destroyed for one in destroyed))
    all_times += tuple(time for one in dates for time in (one.created, one.starts))
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
        destroyed,
    )


def _destroyed(row: Row) -> DestroyedKey:
    if row.keys() - {IN_TOKEN} != _STONE or row["use"] not in {"sign", "seal"}:
        raise ValueError("not a tombstone")
    return DestroyedKey(row["use"], _public(row), KeyDates(row["created"], row["starts"]), row["destroyed"])


def _public(row: Row) -> VerifyKey | SealingKey:
    public = decode(row["public"])
    if row["use"] == "seal":
        return SealingKey.from_public(row["suite"], public)
    key = VerifyKey.from_public(public)
    if key.suite != row["suite"]:
        raise ValueError("not a key of this suite")
    return key


def _rows(document: Any) -> Iterator[Row]:
    yield from document["signing"]
    yield from document["opening"]


def _version_of(document: Any) -> int:
    if "destroyed" in document:
        return _WITH_DESTROYED
    return _WITH_TOKEN if any(IN_TOKEN in row for row in _rows(document)) else _DATED


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
