"""Which kind of directory a node has: a file, or a TUF repository."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gateway.directory.file import DirectoryFile, DirectorySource
from gateway.errors import StartupError


@dataclass(frozen=True, slots=True)
class DirectoryPlace:
    """Where it is, from the settings."""

    file: Path
    mirror: str = ""
    """Of a TUF repository: a folder or a URL; empty: the file counts."""
    root: Path | None = None
    cache: Path = Path("directory-cache")


def open_directory(place: DirectoryPlace, on_refused: Callable[[], None] = lambda: None) -> DirectorySource:
    """The node's directory. Raises StartupError."""
    if not place.mirror:
        return DirectoryFile(place.file, on_refused)
    if place.root is None:
        raise StartupError(
            "node.directory_mirror needs node.directory_root: the root.json that governance hands out"
        )
    from gateway.directory.mirror import DirectoryMirror  # noqa: PLC0415 - tuf is loaded where it is used

    return DirectoryMirror(place.mirror, place.root, place.cache, on_refused)
