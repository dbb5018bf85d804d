"""What the commands share: exit codes, output, reading a token."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from gateway.errors import StartupError
from gateway.messages import Receipt, moment


class Exit(IntEnum):
    """Exit codes, the same for every command."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    UNAVAILABLE = 3
    INTERNAL = 4


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for a program to read.")]
NodeFolder = Annotated[
    Path, typer.Option("--node", "-n", help="The node's folder (or its gateway.toml).", envvar="GATEWAY_NODE")
]
Url = Annotated[str, typer.Option("--url", help="The node's API.", envvar="GATEWAY_URL")]
TokenFile = Annotated[
    Path,
    typer.Option("--token-file", "-t", help="File that holds the access token.", envvar="GATEWAY_TOKEN_FILE"),
]


def read_token(path: Path) -> str:
    """The access token in a file. Raises StartupError."""
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise StartupError(
            f"cannot read the token file {path}; `gateway token create` makes a token"
        ) from None


def timestamp(at: int) -> str:
    """Milliseconds since the epoch as RFC 3339, UTC."""
    return moment(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def show(value: Any) -> None:
    """Print a value as JSON."""
    typer.echo(json.dumps(value, indent=2))


def printable(text: str) -> str:
    """Somebody else's words for a terminal: nothing in them begins a line, or hides what is shown."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def approved(receipt: Receipt, roles: Collection[str] | None) -> str:
    """Who approved an emergency opening, for the line of its receipt; nothing for any other."""
    if receipt.quorum is None:
        return ""
    by = f"approved by {', '.join(sorted(roles))}" if roles else "NO QUORUM that the directory confirms"
    return f"  {by}  (agreement {receipt.quorum.agreement})"


def fail(message: str, code: Exit) -> NoReturn:
    """One line on standard error, and the exit code."""
    print(f"gateway: {message}", file=sys.stderr)
    raise typer.Exit(code)
