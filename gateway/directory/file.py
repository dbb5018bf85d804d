"""A directory kept in one file: read at start, read again when the file changes; the last good copy stays.

Also the few edits a small set-up needs (`gateway init`, `gateway directory agree`), each an atomic rename
so that a running node never reads half a file, one at a time so that none undoes another.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from gateway.directory.model import (
    AgencyEntry,
    AgreementEntry,
    Directory,
    DirectoryDocument,
    DirectoryInvalid,
    KeyEntry,
    parse,
)
from gateway.errors import StartupError
from gateway.messages import AgencyId
from gateway.protocol.suites import at_least

LIFETIME = timedelta(days=365)
"""How long a directory written here is good for; every edit renews it."""


class DirectorySource(Protocol):
    """Where a node gets its directory from."""

    @property
    def current(self) -> Directory:
        """The last good copy."""
        ...

    def refresh(self) -> bool:
        """Look for a newer copy; True when there is one. Never raises: a bad copy is not taken."""
        ...


class DirectoryFile:
    """A DirectorySource over one file."""

    def __init__(self, path: Path, on_refused: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._on_refused = on_refused
        self._seen = self._refused = self._stamp()
        self._current = load(path)

    @property
    def current(self) -> Directory:
        """The last good copy."""
        return self._current

    def refresh(self) -> bool:
        """Read the file again if it changed. A file that is gone or not valid is refused and reported once.

        It is tried again at each look: what kept us from reading it may pass by itself.
        """
        stamp, refused = self._stamp(), self._refused
        self._refused = stamp
        if stamp == self._seen:
            return False
        try:
            self._current = load(self._path)
        except StartupError:
            if stamp != refused:
                self._on_refused()
            return False
        self._seen = stamp
        return True

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


def load(path: Path) -> Directory:
    """Read and check a directory file. Raises StartupError with one line for a person."""
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise StartupError(f"cannot read the directory {path}: {error.strerror}") from None
    except DirectoryInvalid as error:
        first = error.problems[0]
        raise StartupError(f"the directory {path} is not valid: {first.pointer}: {first.rule}") from None


def _save(path: Path, document: DirectoryDocument) -> None:
    Directory(document)  # refuse to write what no node would read
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(document.model_dump_json(indent=2, exclude_defaults=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.chmod(name, 0o644)
    os.replace(name, path)


def _edit(path: Path, change: Callable[[DirectoryDocument], dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # The folder is locked, not the file: each edit replaces the file, and with it any lock on it.
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        document = load(path).document if path.exists() else DirectoryDocument(expires=_renewed())
        _save(path, document.model_copy(update={**change(document), "expires": _renewed()}))
        os.fsync(folder)
    finally:
        os.close(folder)


def _renewed() -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + LIFETIME


def put_agency(path: Path, entry: AgencyEntry) -> None:
    """Add an agency or replace its entry; makes the file when there is none. Raises StartupError."""
    _edit(path, lambda d: {"agencies": (*(a for a in d.agencies if a.id != entry.id), entry)})


def put_keys(
    path: Path, agency: AgencyId, keys: Sequence[KeyEntry], *, end: Collection[str] = (), at: datetime
) -> None:
    """Add public keys to an agency's entry, as `with_keys` does. Raises StartupError."""
    _edit_entry(path, agency, lambda entry: with_keys(entry, keys, end=end, at=at))


def with_keys(
    entry: AgencyEntry, keys: Sequence[KeyEntry], *, end: Collection[str] = (), at: datetime
) -> AgencyEntry:
    """An entry with public keys more; those that stand there stay as they are.

    But opening keys of the suites in `end` are sealed to no longer than until `at`.
    """
    known = {key.public for key in entry.keys}
    more = (key for key in keys if key.public not in known)
    return entry.model_copy(update={"keys": (*ended(entry.keys, end, at), *more)})


def ended(keys: Iterable[KeyEntry], suites: Collection[str], at: datetime) -> Iterator[KeyEntry]:
    """These keys; opening keys of these suites end at `at`, if not before."""
    for key in keys:
        over = key.use != "seal" or key.suite not in suites or (key.ends is not None and key.ends <= at)
        yield key if over else key.model_copy(update={"ends": at})


def signed_until(entry: AgencyEntry, at: datetime) -> AgencyEntry:
    """An entry whose signing keys end at `at`, if not before."""

    def change(key: KeyEntry) -> KeyEntry:
        over = key.use != "sign" or (key.ends is not None and key.ends <= at)
        return key if over else key.model_copy(update={"ends": at})

    return entry.model_copy(update={"keys": tuple(map(change, entry.keys))})


def without_destroyed(entry: AgencyEntry, held: Collection[str], now: datetime) -> AgencyEntry:
    """An entry without opening keys that ended, and of which its node does not hold the secret any more.

    Nothing is checked with them, and they are large. Revoked ones stay: they must not be asked for again.
    """

    def stays(key: KeyEntry) -> bool:
        over = key.ends is not None and key.ends <= now
        return key.use != "seal" or key.revoked is not None or key.public in held or not over

    return entry.model_copy(update={"keys": tuple(filter(stays, entry.keys))})


def revoke_key(path: Path, agency: AgencyId, kid: bytes, now: datetime) -> None:
    """Mark a key as not to be trusted. Raises StartupError for an unknown one, or the last of its use."""
    _edit_entry(path, agency, lambda entry: without_key(entry, kid, now))


def without_key(entry: AgencyEntry, kid: bytes, now: datetime) -> AgencyEntry:
    """An entry with this key revoked. Raises StartupError for an unknown one, or the last of its use."""
    found = [key for key in entry.keys if key.kid == kid]
    if not found:
        raise StartupError(f"{entry.id} has no such key in the directory: `gateway keys list` shows them")
    left = [key for key in entry.keys if key.use == found[0].use and key.kid != kid]
    if found[0].use == "seal" and found[0].ends is None:
        # With a weaker one left, revoking would quietly make all that follows easier to read.
        left = [key for key in left if key.suite in at_least(found[0].suite)]
    if not any(is_in_force(key, now) for key in left):
        raise StartupError(
            f"no other key of {entry.id} is in force for this: run `gateway keys rotate --lead 0` first"
        )
    keys = tuple(
        key.model_copy(update={"revoked": key.revoked or now.replace(microsecond=0)})
        if key.kid == kid
        else key
        for key in entry.keys
    )
    return entry.model_copy(update={"keys": keys})


def end_key(path: Path, agency: AgencyId, kid: bytes, now: datetime) -> None:
    """No peer uses this key from now on; what it signed still verifies. Raises StartupError."""
    end = now.replace(microsecond=0)

    def change(entry: AgencyEntry) -> Iterator[KeyEntry]:
        for key in entry.keys:
            over = key.kid != kid or (key.ends is not None and key.ends <= now)
            yield key if over else key.model_copy(update={"ends": end})

    _edit_entry(path, agency, lambda entry: entry.model_copy(update={"keys": tuple(change(entry))}))


def drop_sealing_key(path: Path, agency: AgencyId, kid: bytes) -> None:
    """Take out the entry of an opening key that is destroyed: nothing is checked with it ever again.

    Not before it is destroyed: whoever makes up for missing entries would put it back. Raises StartupError.
    """

    def change(entry: AgencyEntry) -> AgencyEntry:
        left = tuple(key for key in entry.keys if key.kid != kid or key.use != "seal")
        return entry.model_copy(update={"keys": left})

    _edit_entry(path, agency, change)


def is_in_force(key: KeyEntry, now: datetime) -> bool:
    """Whether peers use this key."""
    return not key.revoked and key.starts <= now and (key.ends is None or now < key.ends)


def _edit_entry(path: Path, agency: AgencyId, change: Callable[[AgencyEntry], AgencyEntry]) -> None:
    def changed(document: DirectoryDocument) -> dict[str, object]:
        if agency not in {entry.id for entry in document.agencies}:
            raise StartupError(f"{agency} is not in the directory: add it first with `gateway init`")
        return {
            "agencies": tuple(change(entry) if entry.id == agency else entry for entry in document.agencies)
        }

    _edit(path, changed)


def put_agreement(path: Path, entry: AgreementEntry) -> None:
    """Add a sharing agreement or replace the one of the same id. Raises StartupError."""

    def change(document: DirectoryDocument) -> dict[str, object]:
        known = {agency.id for agency in document.agencies}
        for agency in (*entry.senders, *entry.recipients):
            if agency not in known:
                raise StartupError(f"{agency} is not in the directory: add it first with `gateway init`")
        return {"agreements": (*(a for a in document.agreements if a.id != entry.id), entry)}

    _edit(path, change)
