"""Commands for whoever connects a system: conformance."""

from __future__ import annotations

import mimetypes
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway import conformance
from gateway.adapters import Registry
from gateway.adapters.base import Adapter, Native
from gateway.cli.common import Exit, Json, show
from gateway.conformance import Examined
from gateway.errors import RefusedByUs, StartupError
from gateway.messages import Problem

LARGEST = 16 * 1024 * 1024
"""Bytes of a file."""


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("conformance")(check)


def check(
    name: Annotated[str, typer.Argument(metavar="FORMAT", help="The adapter's name: docs/adapters.md.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Your system's own exports.")],
    media_type: Annotated[
        str, typer.Option(help="Their media type. [default: by the file's suffix, else the format's first]")
    ] = "",
    each: Annotated[bool, typer.Option("--each", help="Name each value that is not carried.")] = False,
    as_json: Json = False,
) -> None:
    """Read your system's exports as a node would: what is refused, what is lost, how complete each is.

    Sends nothing and shows no value of a document. Exit 1 if one would be refused.
    """
    try:
        adapter = Registry.load().by_name(name)
    except RefusedByUs as error:
        raise StartupError(f"there is no format {name}: {error.problems[0].rule}") from None
    found = {path: conformance.examine(adapter, _read(adapter, path, media_type)) for path in files}
    if as_json:
        show({"format": name, "files": [{"file": str(path)} | _as_json(one) for path, one in found.items()]})
    else:
        for path, one in found.items():
            _print(path, one, each=each)
        taken = sum(one.accepted for one in found.values())
        typer.echo(f"{taken} of {len(found)} would be accepted.")
    if not all(one.accepted for one in found.values()):
        raise typer.Exit(Exit.REFUSED)


def _read(adapter: Adapter, path: Path, media_type: str) -> Native:
    try:
        if path.stat().st_size > LARGEST:
            raise StartupError(f"{path} is larger than {LARGEST} bytes")
        body = path.read_bytes()
    except OSError as error:
        raise StartupError(f"cannot read {path}: {error.strerror}") from None
    return Native(media_type or _media_type(adapter, path), body)


def _media_type(adapter: Adapter, path: Path) -> str:
    suffix = path.suffix.lstrip(".").lower()
    fitting = [one for one in adapter.media_types if re.search(rf"[+/]{re.escape(suffix)}$", one)]
    guessed = mimetypes.guess_type(path.name)[0]
    if guessed in adapter.media_types:
        fitting.append(guessed)
    return (fitting or list(adapter.media_types))[0]


def _as_json(one: Examined) -> dict[str, Any]:
    return {
        "accepted": one.accepted,
        "type": one.type or None,
        "version": one.version or None,
        "refused": _problems(one.refused),
        "warnings": _problems(one.warnings),
        "missing": list(one.missing),
        "values": one.values,
        "not_carried": None if one.not_carried is None else list(one.not_carried),
    }


def _problems(problems: tuple[Problem, ...]) -> list[dict[str, str]]:
    return [{"pointer": one.pointer, "rule": one.rule} for one in problems]


def _print(path: Path, one: Examined, *, each: bool) -> None:
    if not one.accepted:
        typer.echo(f"{path}: would be refused")
        where = "in the canonical message" if one.type else "in the document"
        for problem in one.refused:
            typer.echo(f"  refused      {problem.pointer or '/'} {where}: {problem.rule}")
        return
    typer.echo(f"{path}: would be accepted as {one.type} {one.version}")
    if one.type == "referral":
        wanted = conformance.WANTED
        typer.echo(
            f"  complete     {len(wanted) - len(one.missing)} of {len(wanted)} fields that recipients need"
        )
    for name in one.missing:
        typer.echo(f"  missing      {name}, {conformance.WANTED[name]}")
    for problem in one.warnings:
        typer.echo(f"  warning      {problem.pointer or '/'}: {problem.rule}")
    if one.not_carried is None:
        typer.echo("  not carried  cannot be told for this form")
    elif one.not_carried:
        count = f"{len(one.not_carried)} of {one.values} values make no difference to the message"
        typer.echo(
            f"  not carried  {count}; they travel in the original only" + (":" if each else " (--each)")
        )
    for place in one.not_carried or () if each else ():
        typer.echo(f"               {place}")
