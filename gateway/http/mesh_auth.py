"""NHSMESH authorization: who asks, proved by an HMAC over the mailbox's password, each token good for once.

MESH API, "MESH Authorization header": `NHSMESH mailbox:nonce:nonce_count:yyyyMMddHHmm:hash`, where the hash
is HMAC-SHA-256 under the shared key of `mailbox:nonce:nonce_count:password:timestamp`.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from gateway.errors import StartupError
from gateway.http.mesh_errors import MeshRefusal
from gateway.http.mesh_ports import Records

WINDOW = 2 * 3600 * 1000
"""Milliseconds that a token's timestamp may be away from our clock."""
MINUTE = 60_000
"""A timestamp means any moment of its minute."""
_TOKEN = re.compile(
    r"NHSMESH ([A-Za-z0-9_-]{1,100}):([A-Za-z0-9_.{}-]{1,100}):([0-9]{1,10}):([0-9]{12}):([0-9a-f]{64})"
)


class MeshAuth:
    """Checks tokens against the passwords of the mailboxes served here."""

    def __init__(
        self,
        passwords: Mapping[str, str],
        shared_key: bytes,
        records: Records,
        now: Callable[[], int],
    ) -> None:
        """`now` is the wall clock, milliseconds since the epoch."""
        self._passwords = passwords
        self._shared_key = shared_key
        self._records = records
        self._now = now

    async def authenticate(self, header: str | None, mailbox: str | None) -> tuple[str, bytes]:
        """The mailbox that asks, and the token it used up; it must be `mailbox`, if given.

        Raises MeshRefusal or Unavailable.
        """
        found = _TOKEN.fullmatch(header or "")
        if found is None:
            raise MeshRefusal("authentication")
        claimed, nonce, count, stamp, given = found.groups()
        password = self._passwords.get(claimed)
        # An unknown mailbox takes as long as a wrong password: nobody learns which mailboxes there are.
        signed = ":".join((claimed, nonce, count, password or "", stamp)).encode()
        expected = hmac.new(self._shared_key, signed, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, given) or password is None:
            raise MeshRefusal("authentication")
        at = _moment(stamp)
        if at is None or not at - WINDOW - MINUTE < self._now() < at + WINDOW + MINUTE:
            raise MeshRefusal("authentication")
        if mailbox is not None and claimed != mailbox:
            raise MeshRefusal("mailbox-mismatch")
        token = hashlib.sha256(f"{claimed}:{nonce}:{int(count)}".encode()).digest()
        if not await self._records.use(token, until=at + WINDOW + MINUTE):
            raise MeshRefusal("replayed")
        return claimed, token


def _moment(stamp: str) -> int | None:
    """Milliseconds since the epoch."""
    try:
        return int(datetime.strptime(stamp, "%Y%m%d%H%M").replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError:
        return None


def read_secret(path: Path) -> str:
    """A password or key that stands alone in a file of its owner. Raises StartupError."""
    try:
        with path.open("rb") as file:
            # Of the open file, not the name: nobody can exchange one for the other in between.
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise StartupError(f"{path} can be read by others: change the secret, then chmod 600 it")
            secret = file.read().decode("utf-8").strip()
    except OSError as error:
        raise StartupError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        secret = ""
    if not secret:
        raise StartupError(f"{path} holds no secret: one line of text is expected")
    return secret
