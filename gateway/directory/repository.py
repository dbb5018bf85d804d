"""Governance's side of the directory: a TUF repository in a folder (The Update Framework, version 1.0).

Root and targets are signed offline by a threshold of governance keys; snapshot and timestamp by the
publisher's key, which can neither change the list nor the keys. A change is staged, signed by enough people
on whatever machines they like, and then published. Nothing here needs a network.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from securesystemslib.signer import CryptoSigner, Key, SSlibKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from gateway.crypto import governance
from gateway.directory.model import DirectoryDocument, DirectoryInvalid, parse
from gateway.errors import StartupError

TARGET: Final = "directory.json"
"""The one file that is distributed."""
METADATA: Final = "metadata"
TARGETS: Final = "targets"
STAGED: Final = "staged"
OFFLINE: Final = (Root.type, Targets.type)
"""Roles that governance signs."""
LIFETIMES: Final[Mapping[str, timedelta]] = {
    Root.type: timedelta(days=365),
    Targets.type: timedelta(days=90),
    Snapshot.type: timedelta(days=14),
    Timestamp.type: timedelta(days=14),
}
"""How long each is good for: a mirror that is frozen is found out after a fortnight."""

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
T = TypeVar("T", Root, Targets, Snapshot, Timestamp)


@dataclass(frozen=True, slots=True)
class Staged:
    """A change that waits for signatures."""

    role: str
    version: int
    signed: int
    """Valid signatures so far."""
    threshold: int

    @property
    def complete(self) -> bool:
        """Enough people have signed."""
        return self.signed >= self.threshold


class Repository:
    """The repository in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def init(
        self, holders: Sequence[Key], threshold: int, publisher: Key, directory: bytes, now: datetime
    ) -> None:
        """Stage the first root and the first directory. Raises StartupError if there is a repository."""
        if (self._folder / METADATA).exists() or (self._folder / STAGED).exists():
            raise StartupError(f"{self._folder} is a repository already")
        if not 1 <= threshold <= len({one.keyid for one in holders}):
            raise StartupError("the threshold is between 1 and the number of different governance keys")
        root = Root(version=1, expires=now + LIFETIMES[Root.type], consistent_snapshot=True)
        for holder in holders:
            for role in OFFLINE:
                root.add_key(holder, role)
        for role in OFFLINE:
            root.roles[role].threshold = threshold
        for role in (Snapshot.type, Timestamp.type):
            root.add_key(publisher, role)
        _check(directory)
        self._stage(Metadata(root))
        self._stage_directory(1, directory, now)

    def propose(self, directory: bytes, now: datetime) -> None:
        """Stage a new directory. Raises StartupError."""
        _check(directory)
        self._stage_directory(self._published(Targets).signed.version + 1, directory, now)

    def rotate(
        self, *, add: Sequence[Key], remove: Sequence[str], threshold: int | None, now: datetime
    ) -> None:
        """Stage a root with other governance keys. The old ones must sign it too. Raises StartupError."""
        root = self._published(Root).signed
        for holder in add:
            for role in OFFLINE:
                root.add_key(holder, role)
        for keyid in remove:
            if keyid not in root.roles[Root.type].keyids:
                raise StartupError("no governance key has that id: see `gateway directory status`")
            for role in OFFLINE:
                root.revoke_key(keyid, role)
        for role in OFFLINE:
            root.roles[role].threshold = threshold or root.roles[role].threshold
            if root.roles[role].threshold > len(root.roles[role].keyids):
                raise StartupError("there would be fewer governance keys than must sign")
        root.version += 1
        root.expires = now + LIFETIMES[Root.type]
        self._stage(Metadata(root))
        # Whoever left may have signed the list: it is signed again by those who stay.
        targets = self._published(Targets).signed
        if not (self._folder / STAGED / "targets.json").exists():
            self._stage_directory(targets.version + 1, self._target(targets), now)

    def sign(self, private: Any) -> list[Staged]:
        """Add a governance key's signature to all that is staged for it. Raises StartupError for nothing."""
        signer = CryptoSigner(private)
        keyid = signer.public_key.keyid
        found = []
        for metadata in self._staged():
            role = metadata.signed.type
            if any(keyid in root.roles[role].keyids for root in self._roots()):
                metadata.sign(signer, append=True)
                self._stage(metadata)
                found.append(metadata)
        if not found:
            raise StartupError("nothing is staged that this key may sign")
        return self.staged()

    def staged(self) -> list[Staged]:
        """What waits, and how far it is."""
        return [self._progress(metadata) for metadata in self._staged()]

    def publish(self, private: Any, now: datetime) -> int:
        """Make what is staged and signed the published state; renew snapshot and timestamp. Its version.

        Raises StartupError when signatures are missing; then nothing changes.
        """
        for one in self.staged():
            if not one.complete:
                raise StartupError(
                    f"{one.role} version {one.version} has {one.signed} of {one.threshold} signatures"
                )
        staged = {one.signed.type: one for one in self._staged()}
        root = staged.get(Root.type) or self._published(Root)
        targets = staged.get(Targets.type) or self._published(Targets)
        signer = CryptoSigner(private)
        if signer.public_key.keyid not in root.signed.roles[Timestamp.type].keyids:
            raise StartupError("this is not the publisher's key")
        version = 1
        if (self._folder / METADATA / "timestamp.json").exists():
            version = self._published(Timestamp).signed.version + 1
        snapshot = Metadata(
            Snapshot(
                version,
                expires=now + LIFETIMES[Snapshot.type],
                meta={"targets.json": MetaFile(targets.signed.version)},
            )
        )
        timestamp = Metadata(
            Timestamp(version, expires=now + LIFETIMES[Timestamp.type], snapshot_meta=MetaFile(version))
        )
        for metadata in (snapshot, timestamp):
            metadata.sign(signer)
        data = self._target(targets.signed)
        digest = targets.signed.targets[TARGET].hashes["sha256"]
        # The timestamp comes last: until it stands, clients see the state before.
        _write(self._folder / TARGETS / f"{digest}.{TARGET}", data)
        self._write(f"{root.signed.version}.root.json", root)
        self._write(f"{targets.signed.version}.targets.json", targets)
        self._write(f"{version}.snapshot.json", snapshot)
        self._write("timestamp.json", timestamp)
        for file in sorted((self._folder / STAGED).glob("*")):
            file.unlink()
        return version

    def directory(self, *, staged: bool = False) -> DirectoryDocument:
        """The published or the staged directory. Raises StartupError."""
        metadata = (
            next((one for one in self._staged() if one.signed.type == Targets.type), None) if staged else None
        )
        data = self._target((metadata or self._published(Targets)).signed)
        try:
            return parse(data).document
        except DirectoryInvalid:
            raise StartupError(f"the directory in {self._folder} is not valid") from None

    def status(self) -> dict[str, Any]:
        """Versions, dates, key ids and thresholds, for a person or a program."""
        root = self._published(Root).signed
        published: list[Signed] = [
            root,
            self._published(Targets).signed,
            self._published(Snapshot).signed,
            self._published(Timestamp).signed,
        ]
        return {
            "governance_keys": list(root.roles[Root.type].keyids),
            "threshold": root.roles[Root.type].threshold,
            "publisher_keys": list(root.roles[Timestamp.type].keyids),
            "published": {
                one.type: {"version": one.version, "expires": one.expires.isoformat()} for one in published
            },
            "staged": [
                {"role": one.role, "version": one.version, "signatures": one.signed, "needed": one.threshold}
                for one in self.staged()
            ],
        }

    def _stage_directory(self, version: int, data: bytes, now: datetime) -> None:
        target = TargetFile.from_data(TARGET, data, ["sha256"])
        _write(self._folder / STAGED / TARGET, data)
        targets = Targets(version, expires=now + LIFETIMES[Targets.type], targets={TARGET: target})
        self._stage(Metadata(targets))

    def _stage(self, metadata: Metadata[Any]) -> None:
        _write(self._folder / STAGED / f"{metadata.signed.type}.json", metadata.to_bytes(JSONSerializer()))

    def _staged(self) -> list[Metadata[Any]]:
        files = [self._folder / STAGED / f"{role}.json" for role in OFFLINE]
        return [_read(file) for file in files if file.exists()]

    def _published(self, kind: type[T]) -> Metadata[T]:
        folder = self._folder / METADATA
        if kind.type == Timestamp.type:
            return _read(folder / "timestamp.json")
        versions = [int(file.name.split(".")[0]) for file in folder.glob(f"*.{kind.type}.json")]
        if not versions:
            raise StartupError(f"nothing is published in {self._folder} yet")
        return _read(folder / f"{max(versions)}.{kind.type}.json")

    def _roots(self) -> Iterator[Root]:
        """The published root and the staged one: a new root needs the signatures of both (TUF 5.3.4)."""
        if (self._folder / METADATA).exists():
            yield self._published(Root).signed
        yield from (one.signed for one in self._staged() if one.signed.type == Root.type)

    def _progress(self, metadata: Metadata[Any]) -> Staged:
        role = metadata.signed.type
        roots = list(self._roots())
        if role == Targets.type:
            roots = roots[-1:]
        results = [
            root.get_verification_result(role, metadata.signed_bytes, metadata.signatures) for root in roots
        ]
        least = min(results, key=lambda one: len(one.signed) - one.threshold)
        return Staged(role, metadata.signed.version, len(least.signed), least.threshold)

    def _target(self, targets: Targets) -> bytes:
        wanted = targets.targets.get(TARGET)
        digest = wanted.hashes.get("sha256", "") if wanted else ""
        # It becomes part of a file's name, and a staged file comes from others.
        if wanted is None or not _DIGEST.fullmatch(digest):
            raise StartupError(f"the targets in {self._folder} list no directory")
        for file in (self._folder / STAGED / TARGET, self._folder / TARGETS / f"{digest}.{TARGET}"):
            if file.exists():
                data = file.read_bytes()
                try:
                    wanted.verify_length_and_hashes(data)
                except RepositoryError:
                    continue
                return data
        raise StartupError(f"the directory that {self._folder} lists is not there, or another one is")

    def _write(self, name: str, metadata: Metadata[Any]) -> None:
        _write(self._folder / METADATA / name, metadata.to_bytes(JSONSerializer()))


def public(raw: bytes) -> Key:
    """A governance key as TUF lists it, from 32 bytes. Raises StartupError."""
    return SSlibKey.from_crypto(governance.public_key(raw))


def keyid(private: Any) -> str:
    """The id by which TUF lists this key."""
    return str(CryptoSigner(private).public_key.keyid)


def differences(old: DirectoryDocument, new: DirectoryDocument) -> list[str]:
    """What a new directory adds, changes and removes, a line each."""
    lines = []
    for kind, before, after in (
        ("agency", {one.id: one for one in old.agencies}, {one.id: one for one in new.agencies}),
        ("agreement", {one.id: one for one in old.agreements}, {one.id: one for one in new.agreements}),
    ):
        lines += [f"+ {kind} {name}" for name in after if name not in before]
        lines += [f"- {kind} {name}" for name in before if name not in after]
        for name in after.keys() & before.keys():
            was, now = before[name].model_dump(mode="json"), after[name].model_dump(mode="json")
            fields = {**was, **now}  # what is gone counts too
            lines += [f"~ {kind} {name}: {field}" for field in fields if was.get(field) != now.get(field)]
    if old.expires != new.expires:
        lines.append(f"~ expires {new.expires.date()}")
    return sorted(lines, key=lambda line: line[2:])


def now() -> datetime:
    """The time, as TUF wants it: whole seconds, UTC."""
    return datetime.now(UTC).replace(microsecond=0)


def _check(directory: bytes) -> None:
    try:
        parse(directory)
    except DirectoryInvalid as error:
        first = error.problems[0]
        raise StartupError(f"the directory is not valid: {first.pointer}: {first.rule}") from None


def _read(file: Path) -> Metadata[Any]:
    try:
        metadata = Metadata.from_bytes(file.read_bytes())
        # Made once here: JSON has numbers and text that the canonical form, which is signed, has not.
        _ = metadata.signed_bytes
        return metadata
    except OSError as error:
        raise StartupError(f"cannot read {file}: {error.strerror}") from None
    except (RepositoryError, ValueError):
        raise StartupError(f"{file} is not TUF metadata") from None


def _write(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    with part.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(part, file)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
