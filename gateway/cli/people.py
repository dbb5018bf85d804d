"""People's keys, and the file in which several of them approve one request."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.crypto import governance
from gateway.crypto.approval import MAX_APPROVALS
from gateway.crypto.keys import SigningKey
from gateway.errors import StartupError

FORMAT: Final = "referral-gateway-request"
VERSION: Final = 1
LARGEST: Final = 64 * 1024
"""Bytes of a request's file."""

By = Annotated[
    Path,
    typer.Option(
        "--by", help="Your private key file, as `gateway directory key` or `gateway operator key` made it."
    ),
]
PassphraseFile = Annotated[Path, typer.Option(help="File that holds your key's passphrase.")]
RequestFile = Annotated[Path, typer.Argument(metavar="FILE", help="The request's file.")]


def new_key(file: Path, passphrase_file: Path) -> tuple[Any, str]:
    """Make a private key in a new file: the key, and its public half in base64. Raises StartupError."""
    if file.exists():
        raise StartupError(f"{file} exists already: it is never overwritten")
    pem, private = governance.new_key(_passphrase(passphrase_file))
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(pem)
    except OSError as error:
        raise StartupError(f"cannot write {file}: {error.strerror}") from None
    return private, base64.b64encode(governance.raw(private.public_key())).decode()


def load_key(file: Path, passphrase_file: Path) -> Any:
    """The private key in a file. Raises StartupError."""
    return governance.load_key(read_bytes(file), _passphrase(passphrase_file))


def own_key(file: Path, passphrase_file: Path) -> SigningKey:
    """A person's key, to approve with. Raises StartupError."""
    return SigningKey(load_key(file, passphrase_file))


def public_key(file: Path) -> bytes:
    """The 32 bytes of a public key that `gateway directory key` wrote. Raises StartupError."""
    try:
        raw = base64.b64decode(json.loads(read_bytes(file))["ed25519"], validate=True)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise StartupError(f"{file} is not a public key that `gateway directory key` made") from None
    return governance.raw(governance.public_key(raw))


def new_request(file: Path, approval: bytes) -> None:
    """Make the file of a request with its first approval. Raises StartupError."""
    try:
        with file.open("x", encoding="utf-8") as handle:
            handle.write(_text([approval]))
    except FileExistsError:
        raise StartupError(f"{file} exists already: it is never overwritten") from None
    except OSError as error:
        raise StartupError(f"cannot write {file}: {error.strerror}") from None


def read_request(file: Path) -> list[bytes]:
    """The approvals in the file of a request, not verified. Raises StartupError."""
    try:
        with file.open("rb") as handle:
            value = json.loads(handle.read(LARGEST))
        if (value.pop("format"), value.pop("version")) != (FORMAT, VERSION):
            raise ValueError
        approvals = [base64.b64decode(one, validate=True) for one in value.pop("approvals")]
        if value or not 0 < len(approvals) <= MAX_APPROVALS:
            raise ValueError
    except OSError as error:
        raise StartupError(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise StartupError(f"{file} is not a request of this version") from None
    return approvals


def write_request(file: Path, approvals: Sequence[bytes]) -> None:
    """Replace the approvals in a file, whole or not at all. Raises StartupError."""
    temporary = file.with_name(f".{file.name}.{os.urandom(8).hex()}.tmp")
    try:
        temporary.write_text(_text(approvals), "utf-8")
        os.replace(temporary, file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StartupError(f"cannot write {file}: {error.strerror}") from None


def _text(approvals: Sequence[bytes]) -> str:
    document = {
        "format": FORMAT,
        "version": VERSION,
        "approvals": [base64.b64encode(one).decode() for one in approvals],
    }
    return json.dumps(document, indent=1) + "\n"


def read_bytes(file: Path) -> bytes:
    """A file. Raises StartupError."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise StartupError(f"cannot read {file}: {error.strerror}") from None


def _passphrase(file: Path) -> bytes:
    return read_bytes(file).strip()
