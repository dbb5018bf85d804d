"""Files in folders that other programs use too: looked at, written and moved so that a crash loses nothing.

File names may be personal data: they are never logged.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.errors import RefusedByUs

MODE: Final = 0o660
"""Of files we write; the process's umask decides who may read them."""
MOST: Final = 1000
"""Files looked at in one round."""
_UNFINISHED: Final = (".tmp", ".part")


@dataclass(frozen=True, slots=True)
class Look:
    """What a file was like at one look; a file that is still being written is like that only once."""

    name: str = field(repr=False)
    size: int
    changed: int
    """Nanoseconds."""
    inode: int


class Changed(Exception):
    """The file is not what it was at the last look."""


class FolderLock:
    """Held while this process serves a folder; the system lets go of it when the process dies."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".lock"
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Whether this process holds it; another may. Raises OSError."""
        if self._descriptor is not None:
            return True
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let another process have it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def look(folder: Path) -> list[Look]:
    """The finished files of a folder, by age. Raises OSError.

    Folders, links, dotfiles, *.tmp and *.part are none.
    """
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name.lower().endswith(_UNFINISHED):
                continue
            try:
                if entry.is_file(follow_symlinks=False):
                    found.append(_look(entry.name, entry.stat(follow_symlinks=False)))
            except FileNotFoundError:
                continue  # gone since the listing
            if len(found) >= MOST:
                break
    return sorted(found, key=lambda one: (one.changed, one.name))


def read(folder: Path, seen: Look, most: int) -> bytes:
    """A file's content, whole. Raises Changed, RefusedByUs (body-too-large), OSError."""
    if seen.size > most:
        raise RefusedByUs("body-too-large")
    descriptor = os.open(folder / seen.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        body = file.read(most + 1)
        if _look(seen.name, os.fstat(file.fileno())) != seen or len(body) != seen.size:
            raise Changed
    return body


def _look(name: str, stat: os.stat_result) -> Look:
    return Look(name, stat.st_size, stat.st_mtime_ns, stat.st_ino)


def write(path: Path, body: bytes) -> None:
    """Make or replace a file: whole and durable, or not at all. Raises OSError."""
    temporary = path.with_name(f".{path.name}.tmp")
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, MODE
    )
    with os.fdopen(descriptor, "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync(path.parent)


def move(source: Path, target: Path) -> None:
    """Rename durably, within one file system. Raises OSError."""
    os.replace(source, target)
    sync(target.parent)
    sync(source.parent)


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it, if it is there. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    sync(path.parent)


def make(folder: Path) -> None:
    """Make a folder unless it is there. Raises OSError."""
    if not folder.is_dir():
        folder.mkdir(mode=0o770, exist_ok=True)
        sync(folder.parent)


def sync(folder: Path) -> None:
    """Make what was renamed into or out of a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def extension(media_type: str) -> str:
    """What files of a format are called by."""
    for word in ("json", "xml", "csv"):
        if media_type.endswith((f"/{word}", f"+{word}")):
            return word
    return "txt" if media_type == "text/plain" else "bin"
