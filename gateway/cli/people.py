"""Key files of people: those who govern the directory, and operators who approve. Each under a passphrase."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

from gateway.crypto import governance
from gateway.errors import StartupError


def new_key(file: Path, passphrase_file: Path) -> tuple[Any, str]:
    """Make a private key in a new file: the key, and its public half in base64. Raises StartupError."""
    if file.exists():
        raise StartupError(f"{file} exists already: it is never overwritten")
    pem, private = governance.new_key(_passphrase(passphrase_file))
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(pem)
    return private, base64.b64encode(governance.raw(private.public_key())).decode()


def load_key(file: Path, passphrase_file: Path) -> Any:
    """The private key in a file. Raises StartupError."""
    return governance.load_key(read_bytes(file), _passphrase(passphrase_file))


def read_bytes(file: Path) -> bytes:
    """A file. Raises StartupError."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise StartupError(f"cannot read {file}: {error.strerror}") from None


def _passphrase(file: Path) -> bytes:
    return read_bytes(file).strip()
