"""Checks a repository from its files alone: who signed each version, and who asked for each change in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata, Root, Targets

from gateway.directory.changes import ChangeRefused, asked_for, explained
from gateway.directory.model import DirectoryDocument
from gateway.directory.stored import Stored, read
from gateway.errors import StartupError


class HistoryInvalid(Exception):
    """The repository's past does not hold. The text says which version, and why."""


def verify(folder: Path, trusted: Path | None, since: int = 1) -> Iterator[str]:
    """What came of each version from `since` on, a line each. Raises HistoryInvalid or StartupError.

    `trusted` is a root that was handed over in person; without one the oldest in the repository is believed.
    Times are those that the proposals name: when governance granted them is written nowhere.
    """
    files = Stored(folder)
    roots = _roots(files, trusted)
    versions = {number: one for number, one in files.versions(Targets).items() if number >= since}
    if not versions:
        raise StartupError(f"{folder} has no version {since} or later of the directory")
    used: set[str] = set()
    before: tuple[int, DirectoryDocument] | None = None
    for number, metadata in versions.items():
        # When a root took over is written nowhere: an older version may be signed under any of them.
        if not any(_is_signed(root, metadata) for root in (roots[-1:] if number == max(versions) else roots)):
            raise HistoryInvalid(f"version {number} is not signed by as many as must")
        try:
            proposals, document = files.proposals(metadata.signed), files.document(metadata.signed)
        except StartupError as error:
            raise HistoryInvalid(f"version {number}: {error}") from None
        if used & proposals.keys():
            raise HistoryInvalid(f"version {number} uses a proposal again")
        used |= proposals.keys()
        lines = ["the first that is looked at, governance vouches for all of it"]
        if before is not None:
            if number != before[0] + 1:
                raise HistoryInvalid(f"the version before version {number} is missing")
            try:
                changes = asked_for(before[1], [*proposals.values()], None)
                lines = explained(before[1], document, changes) or ["nothing changed"]
            except ChangeRefused as error:
                raise HistoryInvalid(f"version {number}: {error}") from None
        yield from (f"version {number}: {line}" for line in lines)
        before = number, document


def _roots(files: Stored, trusted: Path | None) -> list[Root]:
    """Every root from the trusted one on, each signed by itself and by the one before it (TUF 5.3.4)."""
    found = files.versions(Root)
    if trusted is not None:
        first = read(trusted, Root)
        number = first.signed.version
        found = {number: first} | {one: root for one, root in found.items() if one > number}
    chain: list[Root] = []
    for number, metadata in found.items():
        if chain and number != chain[-1].version + 1:
            raise HistoryInvalid(f"the root before root version {number} is missing")
        if not all(_is_signed(root, metadata) for root in (*chain[-1:], metadata.signed)):
            raise HistoryInvalid(f"root version {number} is not signed by as many as must")
        chain.append(metadata.signed)
    return chain


def _is_signed(root: Root, metadata: Metadata[Any]) -> bool:
    signed = metadata.signed
    return bool(
        root.get_verification_result(signed.type, metadata.signed_bytes, metadata.signatures).verified
    )
