"""Where private keys live: one file an agency, readable by its owner alone, never printed.

The interface is what a hardware store will implement too. A file that others can read, or that is not
whole, is refused rather than used.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from gateway.crypto.audit_key import AuditKey
from gateway.crypto.keys import OpeningKey, SigningKey
from gateway.errors import StartupError
from gateway.messages import AGENCY_ID, AgencyId

FORMAT = "referral-gateway-keys"
VERSION = 1
SECRET_LENGTH = 32
"""Bytes of the HMAC secret: as long as SHA-256's output."""
_DAMAGED = "are damaged: restore the file from a backup"


@dataclass(frozen=True, slots=True)
class AgencyKeys:
    """The private keys of one agency, ready for use."""

    agency: AgencyId
    signing: SigningKey = field(repr=False)
    opening: Mapping[bytes, OpeningKey] = field(repr=False)
    """By key id, older ones included: what was sealed to them still opens."""
    current_opening: OpeningKey = field(repr=False)
    idempotency_secret: bytes = field(repr=False)
    created: int
    """Milliseconds since the epoch: when the agency's file was made."""
    opening_created: Mapping[bytes, int]
    """The same for each opening key, by key id."""

    def audit_key(self) -> AuditKey:
        """The key that signs audit checkpoints beside the signing key."""
        return AuditKey(self.idempotency_secret)


class KeyStore(Protocol):
    """Holds private keys."""

    def load(self, agency: AgencyId) -> AgencyKeys:
        """The keys of an agency. Raises StartupError."""
        ...


class FileKeyStore:
    """Keys in files of mode 0600 in one folder."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def create(self, agency: AgencyId, now: int) -> AgencyKeys:
        """Make an agency's keys. Raises StartupError rather than overwrite any."""
        if not AGENCY_ID.fullmatch(agency):
            raise StartupError("an agency identifier is lower-case letters, digits and hyphens")
        signing, opening = SigningKey.generate(), OpeningKey.generate()
        document = {
            "format": FORMAT,
            "version": VERSION,
            "agency": agency,
            "created": now,
            "signing": _b64(signing.seed),
            "opening": [{"suite": opening.suite, "secret": _b64(opening.secret), "created": now}],
            "idempotency_secret": _b64(os.urandom(SECRET_LENGTH)),
        }
        path = self._path(agency)
        # Random, so that what a crash left behind is never in the way; no `.json`, so that it is never read.
        temporary = path.with_suffix(f".{os.urandom(8).hex()}.new")
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_private(temporary, json.dumps(document, indent=2) + "\n")
            os.link(temporary, path)  # atomic, and fails if the name is taken, where a rename would overwrite
            _sync_folder(self._directory)
        except FileExistsError:
            raise StartupError(
                f"{path} exists already and keys are never overwritten: to start anew, move it away first"
            ) from None
        except OSError as error:
            raise StartupError(
                f"cannot write keys to {path} ({error.strerror}): check the folder's owner and free space"
            ) from None
        finally:
            temporary.unlink(missing_ok=True)
        return self.load(agency)

    def load(self, agency: AgencyId) -> AgencyKeys:
        """See KeyStore.load."""
        document = self._read(agency)
        try:
            opening = [OpeningKey(one["suite"], _bytes(one["secret"])) for one in document["opening"]]
            times = [one["created"] for one in document["opening"]]
            secret, created = _bytes(document["idempotency_secret"]), document["created"]
            if len(secret) != SECRET_LENGTH or not all(type(time) is int for time in (created, *times)):
                raise ValueError
            return AgencyKeys(
                agency,
                SigningKey.from_seed(_bytes(document["signing"])),
                {key.kid: key for key in opening},
                opening[-1],
                secret,
                created,
                {key.kid: time for key, time in zip(opening, times, strict=True)},
            )
        except (KeyError, IndexError, TypeError, ValueError):
            raise StartupError(f"the keys {self._path(agency)} {_DAMAGED}") from None

    def _read(self, agency: AgencyId) -> Any:
        """The file's document, of our format and this agency's. Raises StartupError."""
        path = self._path(agency)
        try:
            with path.open("rb") as file:
                # Of the open file, not the name: nobody can exchange one for the other in between.
                if os.fstat(file.fileno()).st_mode & 0o077:
                    raise StartupError(
                        f"{path} can be read by others: make new keys if anybody may have, else chmod 600 it"
                    )
                document = json.load(file)
            if (document["format"], document["version"], document["agency"]) != (FORMAT, VERSION, agency):
                raise ValueError
        except FileNotFoundError:
            raise StartupError(f"no keys of {agency} at {path}: make them with `gateway init`") from None
        except OSError as error:
            raise StartupError(
                f"cannot read the keys {path} ({error.strerror}): run as the user who owns the file"
            ) from None
        except (KeyError, TypeError, ValueError, RecursionError):
            raise StartupError(f"the keys {path} {_DAMAGED}") from None
        return document

    def agencies(self) -> list[AgencyId]:
        """Whose keys are here, sorted."""
        names = sorted(path.stem for path in self._directory.glob("*.json"))
        return [AgencyId(name) for name in names if AGENCY_ID.fullmatch(name)]

    def describe(self) -> list[dict[str, str]]:
        """A row for each key, for `gateway keys list`; no secrets. Raises StartupError."""
        rows = []
        for agency in self.agencies():
            keys = self.load(agency)
            rows.append(_row(agency, "sign", "Ed25519", keys.signing.kid, "active", keys.created))
            for key in keys.opening.values():
                state = "active" if key is keys.current_opening else "retiring"
                rows.append(_row(agency, "seal", key.suite, key.kid, state, keys.opening_created[key.kid]))
        return rows

    def _path(self, agency: AgencyId) -> Path:
        return self._directory / f"{agency}.json"


def _row(agency: AgencyId, use: str, suite: str, kid: bytes, state: str, created: int) -> dict[str, str]:
    return {
        "agency": agency,
        "use": use,
        "suite": suite,
        "kid": kid.hex(),
        "state": state,
        "created": str(created),
    }


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise ValueError from None


def _write_private(path: Path, text: str) -> None:
    """Create a file for its owner alone, durably."""
    # O_EXCL and a mode from the start: at no moment can anybody else open it.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
