"""Commands by which an agency proposes changes to a directory that others govern."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from gateway import config, schemas
from gateway.cli.common import NodeFolder
from gateway.cli.database import enter
from gateway.crypto.proposal import MAX_PROPOSAL
from gateway.directory.model import DirectoryInvalid, parse_agreement
from gateway.errors import StartupError
from gateway.messages import AgencyId, Sector
from gateway.selfservice import Desk

Agency = Annotated[
    str, typer.Option("--agency", "-a", help="Which agency, where the node serves more than one.")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="The proposal goes into this file, not there yet.")]


def register(directory_app: typer.Typer) -> None:
    """Add these commands to `gateway directory`."""
    for command in (change, consent, withdraw):
        directory_app.command()(command)


def change(
    node: NodeFolder,
    out: Out,
    agency: Agency = "",
    accept: Annotated[
        list[str] | None,
        typer.Option(help="Message type the agency accepts from now on, such as referral or referral/1."),
    ] = None,
    decline: Annotated[
        list[str] | None, typer.Option(help="Message type it accepts no longer; repeat for several.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The agency's new name.")] = None,
    sector: Annotated[Sector | None, typer.Option(help="The agency's new sector.")] = None,
) -> None:
    """Propose a change of the agency's own entry. For keys: `gateway keys rotate --proposal`."""
    accepted: dict[str, frozenset[int]] = {}
    for one in accept or ():
        kind, slash, version = one.partition("/")
        if slash and not version.isdecimal():
            raise StartupError("--accept takes a type, or a type and a version as in referral/1")
        known = schemas.TYPES.get(kind, frozenset())
        wanted = frozenset({int(version[:9])}) if slash else known
        if not wanted or not wanted <= known:
            raise StartupError("this gateway cannot read such messages: docs/messages.md has those it can")
        accepted[kind] = accepted.get(kind, frozenset()) | wanted
    desk = open_desk(node, agency, out)
    hand_over(out, desk, desk.change(name=name, sector=sector, accept=accepted, decline=decline or ()))


def consent(
    agreement: Annotated[
        Path, typer.Argument(metavar="AGREEMENT", help="As `gateway directory agree --out` wrote it.")
    ],
    node: NodeFolder,
    out: Out,
    agency: Agency = "",
) -> None:
    """Consent to an agreement, word for word. It counts when every agency it names consents."""
    try:
        wanted = parse_agreement(bounded(agreement))
    except DirectoryInvalid as error:
        first = error.problems[0]
        raise StartupError(f"{agreement} is not an agreement: {first.pointer}: {first.rule}") from None
    desk = open_desk(node, agency, out)
    hand_over(out, desk, desk.consent(wanted))


def withdraw(
    agreement: Annotated[str, typer.Argument(metavar="ID", help="The agreement's identifier.")],
    node: NodeFolder,
    out: Out,
    agency: Agency = "",
) -> None:
    """Propose that an agreement ends. It takes one of the agencies that it names."""
    desk = open_desk(node, agency, out)
    hand_over(out, desk, desk.withdrawal(agreement))


def open_desk(node: Path, agency: str, out: Path) -> Desk:
    """Who proposes. Raises StartupError, also when the proposal could not be written."""
    settings = config.load(node)
    served = settings.node.agencies
    if not agency and len(served) > 1:
        raise StartupError(f"this node serves {', '.join(served)}: name one with --agency")
    if agency and agency not in served:
        raise StartupError(f"this node does not serve {agency}")
    if out.exists():
        raise StartupError(f"{out} exists already: it is never overwritten")
    return Desk(settings, AgencyId(agency or served[0]), time.time_ns() // 1_000_000)


def hand_over(out: Path, desk: Desk, proposal: bytes) -> None:
    """Enter a proposal in the audit log, write it, and say what to do with it."""
    # In this order: one that could not be written harms nobody, one that no log knows of might.
    enter(desk.settings.database(), desk.enter(proposal))
    write_new(out, proposal)
    typer.echo(f"the proposal is in {out}, good for 30 days: give it to those who govern the directory.")


def write_new(file: Path, data: bytes) -> None:
    """Write a file that is not there yet. Raises StartupError."""
    try:
        with file.open("xb") as handle:
            handle.write(data)
    except FileExistsError:
        raise StartupError(f"{file} exists already: it is never overwritten") from None
    except OSError as error:
        raise StartupError(f"cannot write {file}: {error.strerror}") from None


def bounded(file: Path) -> bytes:
    """A proposal, or the agreement for one: no more bytes than one may have. Raises StartupError."""
    try:
        with file.open("rb") as handle:
            return handle.read(MAX_PROPOSAL + 1)
    except OSError as error:
        raise StartupError(f"cannot read {file}: {error.strerror}") from None
