"""Governance's side of the directory: a TUF repository in a folder (The Update Framework, version 1.0).

Root and targets are signed offline by a threshold of governance keys; snapshot and timestamp by the
publisher's key, which can neither change the list nor the keys. A change is staged, signed by enough people
on whatever machines they like, and then published. Nothing here needs a network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from securesystemslib.signer import CryptoSigner, Key, SSlibKey
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, Snapshot, TargetFile, Targets, Timestamp

from gateway.crypto import governance
from gateway.directory.changes import ChangeRefused, asked_for, differences, explained, granted
from gateway.directory.file import LIFETIME
from gateway.directory.model import DirectoryDocument, DirectoryInvalid, parse, to_ms
from gateway.directory.stored import METADATA, OFFLINE, STAGED, TARGET, Stored, proposal_name
from gateway.errors import StartupError

LIFETIMES: Final[Mapping[str, timedelta]] = {
    Root.type: timedelta(days=365),
    Targets.type: timedelta(days=90),
    Snapshot.type: timedelta(days=14),
    Timestamp.type: timedelta(days=14),
}
"""How long each is good for: a mirror that is frozen is found out after a fortnight."""
P = ParamSpec("P")
R = TypeVar("R")


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


def _alone(change: Callable[Concatenate[Repository, P], R]) -> Callable[Concatenate[Repository, P], R]:
    def alone(self: Repository, /, *arguments: P.args, **more: P.kwargs) -> R:
        with self._files.alone():
            return change(self, *arguments, **more)

    return alone


class Repository:
    """The repository in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = Stored(folder)

    def init(
        self, holders: Sequence[Key], threshold: int, publisher: Key, directory: bytes, now: datetime
    ) -> None:
        """Stage the first root and the first directory. Raises StartupError if there is a repository."""
        # The root is staged last: without one, an attempt before this broke off.
        if (self._folder / METADATA).exists() or (self._folder / STAGED / "root.json").exists():
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
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StartupError(f"cannot make {self._folder}: {error.strerror}") from None
        with self._files.alone():
            self._stage_directory(1, directory, now)
            self._files.stage(Metadata(root))

    @_alone
    def propose(self, edited: bytes | None, proposals: Sequence[bytes], now: datetime) -> None:
        """Stage a new directory: what agencies propose, and what governance changed by hand in `edited`.

        With neither, the same directory for longer. Raises StartupError for what may not be changed so.
        """
        published = self.directory()
        if edited is None:
            edited = _bytes(published.model_copy(update={"expires": now + LIFETIME}))
        document = _check(edited)
        names = {proposal_name(data): data for data in proposals}
        try:
            changes = asked_for(published, proposals, _ms(now))
            if changes:
                edited = _bytes(granted(published, document, changes))
                document = _check(edited)
            explained(published, document, changes)
        except ChangeRefused as error:
            raise StartupError(str(error)) from None
        if names.keys() & self._files.granted():
            raise StartupError("a proposal was granted before: it counts once")
        self._stage_directory(self._files.published(Targets).signed.version + 1, edited, now, names)

    def explain(self, now: datetime) -> list[str]:
        """Who each difference of the staged directory comes from. Raises StartupError for a forbidden one."""
        staged = next((one.signed for one in self._files.staged() if one.signed.type == Targets.type), None)
        if staged is None or not self._files.begun():
            return []
        proposals = self._files.proposals(staged)
        if proposals.keys() & self._files.granted():
            raise StartupError("a proposal was granted before: it counts once")
        published, document = self.directory(), self._files.document(staged)
        try:
            return explained(published, document, asked_for(published, [*proposals.values()], _ms(now)))
        except ChangeRefused as error:
            raise StartupError(f"what is staged may not be signed: {error}") from None

    @_alone
    def rotate(
        self,
        *,
        add: Sequence[Key] = (),
        remove: Sequence[str] = (),
        threshold: int | None = None,
        publisher: Key | None = None,
        now: datetime,
    ) -> None:
        """Stage a root with other governance keys, or another publisher's instead of the one before.

        As many of the old governance keys as must sign it too. Raises StartupError.
        """
        root = self._files.published(Root).signed
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
        if publisher is not None:
            _hand_over(root, publisher)
        root.version += 1
        root.expires = now + LIFETIMES[Root.type]
        # Whoever left may have signed the list: it is signed again by those who stay.
        targets = self._files.published(Targets).signed
        if not (self._folder / STAGED / "targets.json").exists():
            self._stage_directory(targets.version + 1, self._files.target(targets), now)
        self._files.stage(Metadata(root))

    def changes(self) -> list[str]:
        """What is staged changes, a line each: who governs and publishes, agencies, keys, agreements."""
        staged = next((one.signed for one in self._files.staged() if one.signed.type == Root.type), None)
        new = self.directory(staged=True)
        if not self._files.begun():
            return [*_governors(None, staged), *differences(DirectoryDocument(expires=new.expires), new)]
        return [
            *_governors(self._files.published(Root).signed, staged),
            *differences(self.directory(), new),
        ]

    @_alone
    def sign(self, private: Any, now: datetime) -> list[Staged]:
        """Add a governance key's signature to all that is staged for it.

        Raises StartupError if there is nothing, or a change that nobody has asked for who must: each who
        signs checks that, not only who staged it.
        """
        self.explain(now)
        signer = CryptoSigner(private)
        keyid = signer.public_key.keyid
        found = []
        for metadata in self._files.staged():
            role = metadata.signed.type
            if any(keyid in root.roles[role].keyids for root in self._roots()):
                metadata.sign(signer, append=True)
                self._files.stage(metadata)
                found.append(metadata)
        if not found:
            raise StartupError("nothing is staged that this key may sign")
        return self.staged()

    def staged(self) -> list[Staged]:
        """What waits, and how far it is."""
        return [self._progress(metadata) for metadata in self._files.staged()]

    @_alone
    def publish(self, private: Any, now: datetime) -> int:
        """Make what is staged and signed the published state; renew snapshot and timestamp. Its version.

        Raises StartupError when signatures are missing; then nothing changes.
        """
        staged = {one.signed.type: one for one in self._files.staged()}
        root = staged.get(Root.type) or self._files.published(Root)
        targets = staged.get(Targets.type) or self._files.published(Targets)
        # Also of a list that is published already: nodes judge it by the new root.
        for one in (*map(self._progress, staged.values()), self._progress(targets)):
            if not one.complete:
                raise StartupError(
                    f"{one.role} version {one.version} has {one.signed} of {one.threshold} signatures"
                )
        signer = CryptoSigner(private)
        if signer.public_key.keyid not in root.signed.roles[Timestamp.type].keyids:
            raise StartupError("this is not the publisher's key")
        version = 1
        if (self._folder / METADATA / "timestamp.json").exists():
            version = self._files.published(Timestamp).signed.version + 1
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
        # The timestamp comes last: until it stands, clients see the state before. But they follow a new root
        # at once, and the state before may not be good under it: no more than the timestamp is left then.
        self._files.publish(f"{targets.signed.version}.targets.json", targets)
        self._files.publish(f"{version}.snapshot.json", snapshot)
        self._files.publish(f"{root.signed.version}.root.json", root)
        self._files.publish("timestamp.json", timestamp)
        self._files.clear()
        return version

    def directory(self, *, staged: bool = False) -> DirectoryDocument:
        """The published or the staged directory. Raises StartupError."""
        metadata = (
            next((one for one in self._files.staged() if one.signed.type == Targets.type), None)
            if staged
            else None
        )
        return self._files.document((metadata or self._files.published(Targets)).signed)

    def status(self) -> dict[str, Any]:
        """Versions, dates, key ids and thresholds, for a person or a program."""
        root = self._files.published(Root).signed
        published: list[Signed] = [
            root,
            self._files.published(Targets).signed,
            self._files.published(Snapshot).signed,
            self._files.published(Timestamp).signed,
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

    def _stage_directory(
        self, version: int, data: bytes, now: datetime, proposals: Mapping[str, bytes] | None = None
    ) -> None:
        files = {TARGET: data, **(proposals or {})}
        listed = {name: TargetFile.from_data(name, one, ["sha256"]) for name, one in files.items()}
        self._files.stage(
            Metadata(Targets(version, expires=now + LIFETIMES[Targets.type], targets=listed)), files
        )

    def _roots(self) -> Iterator[Root]:
        """The published root and the staged one: a new root needs the signatures of both (TUF 5.3.4)."""
        if self._files.begun(Root):
            yield self._files.published(Root).signed
        yield from (one.signed for one in self._files.staged() if one.signed.type == Root.type)

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


def _hand_over(root: Root, publisher: Key) -> None:
    for role in (Snapshot.type, Timestamp.type):
        for keyid in list(root.roles[role].keyids):
            root.revoke_key(keyid, role)
        root.add_key(publisher, role)


def _governors(old: Root | None, new: Root | None) -> Iterator[str]:
    """What a new root changes, a line each: whose keys count for what, and how many must sign."""
    for role, now in new.roles.items() if new is not None else ():
        was = old.roles[role] if old is not None else None
        before, after = set(was.keyids) if was is not None else set(), set(now.keyids)
        yield from (f"+ {role} key {keyid}" for keyid in sorted(after - before))
        yield from (f"- {role} key {keyid}" for keyid in sorted(before - after))
        if was is None or was.threshold != now.threshold:
            yield f"~ {role} takes {now.threshold} of {len(after)} keys"


def public(raw: bytes) -> Key:
    """A governance key as TUF lists it, from 32 bytes. Raises StartupError."""
    return SSlibKey.from_crypto(governance.public_key(raw))


def keyid(private: Any) -> str:
    """The id by which TUF lists this key."""
    return str(CryptoSigner(private).public_key.keyid)


def now() -> datetime:
    """The time, as TUF wants it: whole seconds, UTC."""
    return datetime.now(UTC).replace(microsecond=0)


def _check(directory: bytes) -> DirectoryDocument:
    try:
        return parse(directory).document
    except DirectoryInvalid as error:
        first = error.problems[0]
        raise StartupError(f"the directory is not valid: {first.pointer}: {first.rule}") from None


def _bytes(document: DirectoryDocument) -> bytes:
    return document.model_dump_json(indent=2).encode() + b"\n"


def _ms(moment: datetime) -> int:
    """The last millisecond of this second: an agency's clock is finer than TUF's."""
    return to_ms(moment) + 999
