"""Access tokens of local systems: kept as hashes, each bound to an agency and to what it may do.

A token is 256 random bits, so a plain SHA-256 is enough: there is no dictionary to try (a slow hash is for
secrets that people choose).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.errors import StartupError
from gateway.http.ports import Permission, Principal
from gateway.messages import AgencyId, new_id

PREFIX = "rgt_"
"""Lets secret scanners recognise a token."""


class TokenFile:
    """An Authenticator over a file that `gateway token create` writes; taken up again when it changes."""

    def __init__(self, path: Path) -> None:
        """Raises StartupError when the file is there and cannot be used."""
        self._path = path
        self._seen = self._stamp()
        self._tokens = _principals(_load(path))

    def authenticate(self, token: str) -> Principal | None:
        """See Authenticator.authenticate.

        The look-up is by hash: how long it takes says nothing about the token itself.
        """
        self._refresh()
        return self._tokens.get(_hash(token))

    def _refresh(self) -> None:
        stamp = self._stamp()
        if stamp != self._seen:
            try:
                self._tokens = _principals(_load(self._path))
            except StartupError:
                return  # half-written or damaged: the last good copy stays until the next change
            self._seen = stamp

    def _stamp(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino


def create_token(path: Path, agency: AgencyId, permissions: frozenset[Permission], now: int) -> str:
    """Make a token, store its hash, return it; it cannot be had again. Raises StartupError."""
    token = PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    entry = {
        "id": new_id(),
        "sha256": _hash(token),
        "agency": agency,
        "may": sorted(permission.value for permission in permissions),
        "created": now,
    }
    _edit(path, lambda entries: [*entries, entry])
    return token


def list_tokens(path: Path) -> list[dict[str, Any]]:
    """What is known of each token; not the token. Raises StartupError."""
    return [{key: one[key] for key in ("id", "agency", "may", "created")} for one in _load(path)]


def revoke_token(path: Path, token_id: str) -> None:
    """Make a token worthless, at once. Raises StartupError when there is none of this id."""
    if all(entry["id"] != token_id for entry in _load(path)):
        raise StartupError("there is no token of this id: `gateway token list` shows them")
    _edit(path, lambda entries: [entry for entry in entries if entry["id"] != token_id])


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _principals(entries: list[dict[str, Any]]) -> dict[str, Principal]:
    return {
        entry["sha256"]: Principal(
            entry["id"], AgencyId(entry["agency"]), frozenset(Permission(one) for one in entry["may"])
        )
        for entry in entries
    }


def _load(path: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(path.read_text("utf-8"))["tokens"]
        _principals(entries)
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise StartupError(f"the tokens {path} cannot be read or are damaged") from None
    return list(entries)


def _edit(path: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    entries = change(_load(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"tokens": entries}, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
