"""Readers of the directory, of what its mirror serves, and of what governors hand to each other."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.cli import governance as governance_commands
from gateway.crypto.audit_key import AuditKey
from gateway.crypto.proposal import Kind, Proposal, sign_proposal
from gateway.directory import file as directory_file
from gateway.directory import history, repository
from gateway.directory.changes import ChangeRefused, asked_for, base_of, canonical, differences
from gateway.directory.changes import parts as subjects
from gateway.directory.mirror import DirectoryMirror
from gateway.directory.model import DirectoryInvalid, parse, parse_agreement
from gateway.errors import StartupError
from tests.fuzz.kit import Reader
from tests.vectors import parts

NOW = 1_795_000_000_000
AUDIT_KEY = AuditKey(b"\x02" * 32)
"""Of the police, who sign the log."""


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def document() -> dict[str, Any]:
    """A directory that knows two agencies, one with an audit key."""

    def agency(name: str, *keys: tuple[str, str, bytes]) -> dict[str, Any]:
        rows = [
            {"use": use, "suite": suite, "public": b64(public), "starts": "2026-01-01T00:00:00Z"}
            for use, suite, public in keys
        ]
        accepts = [{"type": "referral", "versions": [1]}]
        return {"id": name, "name": name, "sector": "police", "keys": rows, "accepts": accepts}

    school, police = parts.SIGNING[parts.SCHOOL].public, parts.SIGNING[parts.POLICE].public
    return {
        "format": "referral-gateway-directory",
        "version": 1,
        "expires": "2036-01-01T00:00:00Z",
        "agencies": [
            agency(parts.SCHOOL, ("sign", "Ed25519", school.public_bytes)),
            agency(
                parts.POLICE,
                ("sign", "Ed25519", police.public_bytes),
                ("audit", "ML-DSA-65", AUDIT_KEY.public.public_bytes),
                ("seal", "HPKE-7-KE", parts.P256.public.public_bytes),
            ),
        ],
        "agreements": [
            {
                "id": "one",
                "senders": [parts.SCHOOL],
                "recipients": [parts.POLICE],
                "types": ["referral"],
                "purposes": ["prevent"],
                "lawful_bases": ["public-task"],
                "starts": "2026-01-01T00:00:00Z",
                "ends": "2036-01-01T00:00:00Z",
                "shares": None,
            }
        ],
    }


def by_file(folder: Path, name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """A reader of files as one of bytes."""
    file = folder / name
    file.touch(mode=0o600)

    def of(data: bytes) -> object:
        file.write_bytes(data)
        return read(file)

    return of


def directory(folder: Path) -> Reader:
    return Reader(
        by_file(folder, "directory.json", directory_file.load),
        StartupError,
        (json.dumps(document()).encode(),),
        "json",
    )


def governance_public_key(folder: Path) -> Reader:
    raw = parts.STRANGER.public.public_bytes
    example = json.dumps({"ed25519": base64.b64encode(raw).decode(), "keyid": "0"}).encode()
    return Reader(
        by_file(folder, "ann.pub", lambda file: governance_commands._public(repository, file)),
        StartupError,
        (example,),
        "json",
    )


def published(folder: Path) -> Path:
    """A repository with the directory above; its root is version 1."""
    made = repository.Repository(folder / "repo")
    governor, publisher = (parts.SIGNING[name]._key for name in (parts.SCHOOL, parts.POLICE))
    public = [
        repository.public(parts.SIGNING[name].public.public_bytes) for name in (parts.SCHOOL, parts.POLICE)
    ]
    now = repository.now()
    made.init([public[0]], 1, public[1], json.dumps(document()).encode(), now)
    made.sign(governor, now)
    made.publish(publisher, now)
    return folder / "repo"


def _mirrored(name: str) -> Callable[[Path], Reader]:
    """A file of the mirror: what is wrong with it is refused, and the node keeps what it has."""

    def make(folder: Path) -> Reader:
        repo = published(folder)
        root = folder / "root.json"
        root.write_bytes((repo / "metadata" / "1.root.json").read_bytes())
        node = DirectoryMirror(str(repo), root, folder / "cache")
        (file,) = repo.glob(f"*/{name}")
        original = file.read_bytes()
        cached = folder / "cache" / "directory.json"

        def read(data: bytes) -> None:
            for old in (folder / "cache").iterdir():  # so that it is fetched, not remembered
                if old.is_file() and old.name != "good.json":
                    old.unlink()
            file.write_bytes(data)
            before = node.current.document
            node.refresh()
            assert node.current.document == before
            assert not cached.exists() or json.loads(cached.read_bytes())

        return Reader(read, (), (original,), "json")

    return make


def trusted_root(folder: Path) -> Reader:
    repo = published(folder)
    example = (repo / "metadata" / "1.root.json").read_bytes()
    counter = iter(range(10**9))

    def read(file: Path) -> object:
        return DirectoryMirror(str(repo), file, folder / f"cache{next(counter)}")

    return Reader(by_file(folder, "root.json", read), StartupError, (example,), "json")


def last_good_copy(folder: Path) -> Reader:
    """The mirror is away, and the node's own copy is not what it was."""
    root = folder / "root.json"
    root.write_bytes((published(folder) / "metadata" / "1.root.json").read_bytes())
    cache = folder / "cache"
    cache.mkdir()
    example = json.dumps({"until": NOW, "directory": json.dumps(document())}).encode()
    return Reader(
        by_file(cache, "good.json", lambda _: DirectoryMirror(str(folder / "away"), root, cache)),
        StartupError,
        (example,),
        "json",
    )


def staged_metadata(folder: Path) -> Reader:
    """What governors hand to each other to sign."""
    repo = published(folder)
    made = repository.Repository(repo)
    made.propose(json.dumps(document()).encode(), [], repository.now())
    file = repo / "staged" / "targets.json"
    example = file.read_bytes()

    def read(data: bytes) -> None:
        file.write_bytes(data)
        made.staged()
        made.status()
        differences(made.directory(), made.directory(staged=True))
        made.explain(repository.now())

    return Reader(read, StartupError, (example,), "json")


PUBLISHED = parse(json.dumps(document()).encode()).document


def proposed(text: str, kind: Kind = Kind.ENTRY, subject: str = parts.SCHOOL) -> bytes:
    """As the school would ask for it."""
    base = base_of(subjects(PUBLISHED)["agency" if kind is Kind.ENTRY else "agreement", subject])
    proposal = Proposal(kind, parts.SCHOOL, subject, NOW, NOW + 1000, base, text)
    return sign_proposal(proposal, parts.SIGNING[parts.SCHOOL])


def proposal(folder: Path) -> Reader:
    """As governance reads it, beside what is published."""
    entry, _ = PUBLISHED.agencies
    examples = (
        proposed(canonical(entry)),
        proposed("", Kind.WITHDRAW, "one"),
    )
    return Reader(lambda data: asked_for(PUBLISHED, [data], NOW), ChangeRefused, examples, "cbor")


def proposed_entry(folder: Path) -> Reader:
    """The text that a proposal carries, under the right signature."""

    def read(data: bytes) -> None:
        asked_for(PUBLISHED, [proposed(data.decode(errors="replace"))], NOW)

    example = canonical(PUBLISHED.agencies[0]).encode()
    return Reader(read, (ChangeRefused, ValueError), (example,), "json", copies=2)


def proposed_agreement(folder: Path) -> Reader:
    example = canonical(PUBLISHED.agreements[0]).encode()
    return Reader(parse_agreement, DirectoryInvalid, (example,), "json")


def history_of_targets(folder: Path) -> Reader:
    repo = published(folder)
    file = repo / "metadata" / "1.targets.json"
    example = file.read_bytes()

    def read(data: bytes) -> None:
        file.write_bytes(data)
        assert len(list(history.verify(repo, None))) == 1

    return Reader(read, (StartupError, history.HistoryInvalid), (example,), "json")


READERS: dict[str, Callable[[Path], Reader]] = {
    made.__name__: made
    for made in (
        directory,
        governance_public_key,
        trusted_root,
        last_good_copy,
        staged_metadata,
        proposal,
        proposed_entry,
        proposed_agreement,
        history_of_targets,
    )
} | {
    f"mirror_{name.split('.')[-2].lstrip('*')}": _mirrored(name)
    for name in ("timestamp.json", "1.snapshot.json", "1.targets.json", "1.root.json", "*.directory.json")
}
