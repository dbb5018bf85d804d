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
from typing import Protocol

from gateway.crypto.keys import OpeningKey, SigningKey
from gateway.errors import StartupError
from gateway.messages import AGENCY_ID, AgencyId

FORMAT = "referral-gateway-keys"
VERSION = 1


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
            "idempotency_secret": _b64(os.urandom(32)),
        }
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(agency)
        temporary = path.with_suffix(f".{os.getpid()}.new")
        try:
            # O_EXCL and a mode from the start: at no moment can anybody else open it.
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(document, file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)  # fails if the name is taken, where a rename would overwrite
        except FileExistsError:
            raise StartupError(f"{path} exists already: keys are never overwritten") from None
        except OSError as error:
            raise StartupError(f"cannot write keys to {path}: {error.strerror}") from None
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(self._directory)
        return self.load(agency)

    def load(self, agency: AgencyId) -> AgencyKeys:
        """See KeyStore.load."""
        path = self._path(agency)
        try:
            if path.stat().st_mode & 0o077:
                raise StartupError(f"{path} can be read by others: chmod 600 it, and consider its keys known")
            document = json.loads(path.read_text("utf-8"))
        except OSError as error:
            raise StartupError(f"cannot read the keys {path}: {error.strerror}") from None
        except ValueError:
            raise StartupError(f"the keys {path} are damaged: restore the file from a backup") from None
        try:
            if (document["format"], document["version"], document["agency"]) != (FORMAT, VERSION, agency):
                raise ValueError
            opening = [OpeningKey(one["suite"], _bytes(one["secret"])) for one in document["opening"]]
            return AgencyKeys(
                agency,
                SigningKey.from_seed(_bytes(document["signing"])),
                {key.kid: key for key in opening},
                opening[-1],
                _bytes(document["idempotency_secret"]),
                int(document["created"]),
            )
        except (KeyError, IndexError, TypeError, ValueError):
            raise StartupError(f"the keys {path} are damaged: restore the file from a backup") from None

    def agencies(self) -> list[AgencyId]:
        """Whose keys are here."""
        return sorted(AgencyId(path.stem) for path in self._directory.glob("*.json"))

    def describe(self) -> list[dict[str, str]]:
        """A row for each key, for `gateway keys list`; no secrets. Raises StartupError."""
        rows = []
        for agency in self.agencies():
            keys = self.load(agency)
            created = str(keys.created)
            rows.append(_row(agency, "sign", "Ed25519", keys.signing.kid, "active", created))
            for key in keys.opening.values():
                state = "active" if key is keys.current_opening else "retiring"
                rows.append(_row(agency, "seal", key.suite, key.kid, state, created))
        return rows

    def _path(self, agency: AgencyId) -> Path:
        return self._directory / f"{agency}.json"


def _row(agency: AgencyId, use: str, suite: str, kid: bytes, state: str, created: str) -> dict[str, str]:
    return {"agency": agency, "use": use, "suite": suite, "kid": kid.hex(), "state": state, "created": created}


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise ValueError from None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
