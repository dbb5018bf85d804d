"""Small things that files of keys need: base64url, and a write that is private and durable."""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path
from typing import Any


def encode(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: Any) -> bytes:
    """What base64url text stands for. Raises ValueError, also for what is not text."""
    if not isinstance(text, str):
        raise ValueError("not text")  # noqa: TRY004 - one kind of error for whatever a file holds
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise ValueError("not base64url") from None


def write_private(path: Path, text: str) -> None:
    """Create a file for its owner alone, durably."""
    # O_EXCL and a mode from the start: at no moment can anybody else open it.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def replace_and_wipe(new: Path, path: Path) -> None:
    """Put a file in another's place and write zeros over what the old one held.

    A file system that copies on write, or a drive that moves blocks, keeps the old bytes all the same.
    """
    with path.open("r+b") as old:
        os.replace(new, path)
        # Until the new name is durable, a crash may bring the old file back: it must be whole then.
        sync_folder(path.parent)
        status = os.fstat(old.fileno())
        if status.st_nlink == 0:  # otherwise somebody keeps it under another name
            old.write(bytes(status.st_size))
            old.flush()
            os.fsync(old.fileno())


def sweep(folder: Path, stem: str) -> None:
    """Write zeros over new files that a crash left half way, and remove them. Raises OSError.

    For whoever holds the lock under which they are made.
    """
    for path in folder.glob(f"{stem}.*.new"):
        with path.open("r+b") as file:
            file.write(bytes(os.fstat(file.fileno()).st_size))
            file.flush()
            os.fsync(file.fileno())
        path.unlink()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
