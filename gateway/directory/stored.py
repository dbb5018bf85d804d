"""What lies in a TUF repository's folder: published versions, what is staged, and the files they list.

Bytes are taken for what a version lists only if they are that; who signed the version is not looked at here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from gateway.crypto.proposal import MAX_PROPOSAL, ProposalInvalid, read_proposal
from gateway.directory.changes import MOST
from gateway.directory.model import LARGEST, DirectoryDocument, DirectoryInvalid, parse
from gateway.errors import StartupError

TARGET: Final = "directory.json"
"""The file that nodes read."""
PROPOSALS: Final = "proposals/"
"""Beside it, what agencies asked for in this version; each by the digest of what was signed."""
METADATA: Final = "metadata"
TARGETS: Final = "targets"
STAGED: Final = "staged"
OFFLINE: Final = (Root.type, Targets.type)
"""Roles that governance signs."""
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_PROPOSAL: Final = re.compile(rf"{PROPOSALS}[0-9a-f]{{64}}")
T = TypeVar("T", Root, Targets, Snapshot, Timestamp)


class Stored:
    """The files of the repository in a folder. What is not as it should be raises StartupError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """One command at a time changes the folder: of two that sign at once, one would undo the other."""
        try:
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise StartupError(f"cannot use {self._folder}: {error.strerror}") from None
        try:
            with contextlib.suppress(OSError):  # a share that knows no locks
                fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def begun(self, kind: type[Root | Targets] = Targets) -> bool:
        """Whether any version is published."""
        return bool(self._numbers(kind.type))

    def staged(self) -> list[Metadata[Any]]:
        """What waits for signatures."""
        files = [(self._folder / STAGED / f"{role.type}.json", role) for role in (Root, Targets)]
        return [read(file, role) for file, role in files if file.exists()]

    def published(self, kind: type[T]) -> Metadata[T]:
        """The newest version of a role."""
        if kind.type == Timestamp.type:
            return read(self._folder / METADATA / "timestamp.json", kind)
        versions = self._numbers(kind.type)
        if not versions:
            raise StartupError(f"nothing is published in {self._folder} yet")
        return self._version(kind, max(versions))

    def versions(self, kind: type[T]) -> dict[int, Metadata[T]]:
        """Every published version of root or targets that is still here, oldest first."""
        return {number: self._version(kind, number) for number in sorted(self._numbers(kind.type))}

    def _version(self, kind: type[T], number: int) -> Metadata[T]:
        file = self._folder / METADATA / f"{number}.{kind.type}.json"
        metadata = read(file, kind)
        # The name is anybody's; what was signed counts.
        if metadata.signed.version != number:
            raise StartupError(f"{file} is another version than its name says")
        return metadata

    def target(self, targets: Targets) -> bytes:
        """The directory that a version lists, as it lies there."""
        wanted = targets.targets.get(TARGET)
        if wanted is None:
            raise StartupError(f"the targets in {self._folder} list no directory")
        return self._listed(wanted, TARGET, LARGEST)

    def document(self, targets: Targets) -> DirectoryDocument:
        """The directory that a version lists."""
        try:
            return parse(self.target(targets)).document
        except DirectoryInvalid:
            raise StartupError(f"the directory in {self._folder} is not valid") from None

    def names(self, targets: Targets) -> list[str]:
        """The names of the proposals that a version lists."""
        names = sorted(targets.targets.keys() - {TARGET})
        # They become parts of files' names, and a staged file comes from others.
        if len(names) > MOST or not all(map(_PROPOSAL.fullmatch, names)):
            raise StartupError(f"the targets in {self._folder} list what is no proposal, or too many")
        return names

    def proposals(self, targets: Targets) -> dict[str, bytes]:
        """The proposals that a version lists, by name."""
        found = {
            name: self._listed(targets.targets[name], name, MAX_PROPOSAL) for name in self.names(targets)
        }
        for name, data in found.items():
            if name != proposal_name(data):
                raise StartupError(f"the targets in {self._folder} list a proposal under another's name")
        return found

    def granted(self) -> set[str]:
        """The names of all proposals of published versions."""
        return {name for one in self.versions(Targets).values() for name in self.names(one.signed)}

    def stage(self, metadata: Metadata[Any], files: Mapping[str, bytes] | None = None) -> None:
        """Let a version wait for signatures; with `files`, which it lists, instead of one before."""
        for name, data in (files or {}).items():
            _write(self._staged_file(name), data)
        _write(self._folder / STAGED / f"{metadata.signed.type}.json", metadata.to_bytes(JSONSerializer()))
        if files is not None:
            proposals = (self._folder / STAGED).glob(self._staged_file(PROPOSALS).name + "*")
            for stale in set(proposals) - set(map(self._staged_file, files)):
                stale.unlink()

    def publish(self, file: str, metadata: Metadata[Any]) -> None:
        """Publish a version, and what it lists before it."""
        if isinstance(metadata.signed, Targets):
            targets = metadata.signed
            for name, data in {TARGET: self.target(targets), **self.proposals(targets)}.items():
                _write(self._published_file(targets.targets[name], name), data)
        _write(self._folder / METADATA / file, metadata.to_bytes(JSONSerializer()))

    def clear(self) -> None:
        """Nothing is staged any more."""
        for file in sorted((self._folder / STAGED).glob("*")):
            file.unlink()

    def _listed(self, wanted: TargetFile, name: str, most: int) -> bytes:
        """The bytes that a version lists, staged or published; `most` is how many they may be."""
        for file in (self._staged_file(name), self._published_file(wanted, name)):
            try:
                # Looked at before it is read: staged files come from others, of any size.
                if file.stat().st_size != wanted.length or wanted.length > most:
                    continue
                data = file.read_bytes()
                wanted.verify_length_and_hashes(data)
            except (OSError, RepositoryError):
                continue
            return data
        raise StartupError(f"a file that {self._folder} lists is not there, or another one is")

    def _staged_file(self, name: str) -> Path:
        return self._folder / STAGED / name.replace("/", "-")

    def _published_file(self, wanted: TargetFile, name: str) -> Path:
        digest = wanted.hashes.get("sha256", "")
        # It becomes part of a file's name, and a staged file comes from others.
        if not _DIGEST.fullmatch(digest):
            raise StartupError(f"the targets in {self._folder} list no directory, or no digest of it")
        folder, _, last = name.rpartition("/")
        return self._folder / TARGETS / folder / f"{digest}.{last}"

    def _numbers(self, role: str) -> list[int]:
        names = (file.name.split(".")[0] for file in (self._folder / METADATA).glob(f"*.{role}.json"))
        return [int(name) for name in names if name.isdecimal()]


def proposal_name(data: bytes) -> str:
    """What a proposal is listed as: by the digest of what was signed, so that it can be found again."""
    try:
        return PROPOSALS + read_proposal(data).digest.hex()
    except ProposalInvalid as error:
        raise StartupError(str(error)) from None


def read(file: Path, kind: type[T]) -> Metadata[T]:
    """TUF metadata of this kind in a file. Raises StartupError."""
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(file.read_bytes())
        # What is inside says what it is, and by whose keys it is verified: the name of the file does not.
        if not isinstance(metadata.signed, kind):
            raise StartupError(f"{file} is not what its name says")
        # Made once here: JSON has numbers and text that the canonical form, which is signed, has not.
        _ = metadata.signed_bytes
        return metadata
    except OSError as error:
        raise StartupError(f"cannot read {file}: {error.strerror}") from None
    except (RepositoryError, ValueError):
        raise StartupError(f"{file} is not TUF metadata") from None


def _write(file: Path, data: bytes) -> None:
    if not file.parent.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        _sync(file.parent.parent)
    part = file.with_name(f".{file.name}.part")
    with part.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(part, file)
    _sync(file.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
