"""Commands for a node's private keys: list, protect, rotate, revoke. They print no secret."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from gateway import config, provisioning
from gateway.cli.common import Json, NodeFolder, show, timestamp
from gateway.cli.proposals import hand_over, open_desk
from gateway.directory import file as directory_file
from gateway.errors import StartupError
from gateway.messages import AgencyId

keys_app = typer.Typer(no_args_is_help=True, help="A node's keys.")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(keys_app, name="keys")


Agency = Annotated[
    str, typer.Option("--agency", "-a", help="Only this agency's; without it all of the node.")
]
Proposal = Annotated[
    Path | None,
    typer.Option(
        help="Where the directory comes from a mirror: the change goes into this file, for governance."
    ),
]


@keys_app.callback()
def _keys() -> None:
    """A node's keys."""


@keys_app.command("list")
def list_keys(node: NodeFolder, as_json: Json = False) -> None:
    """List a node's keys: which agency, which use, since when. Never a secret."""
    store = config.load(node).key_store()
    rows = store.describe(_now())
    plain = [agency for agency in store.agencies() if not store.is_protected(agency)]
    if as_json:
        show(
            {
                "keys": [{**row, "created": timestamp(int(row["created"]))} for row in rows],
                "unprotected": plain,
            }
        )
        return
    for row in rows:
        typer.echo(
            f"{row['agency']}  {row['use']:<4}  {row['suite']:<9}  {row['state']:<8}"
            f"  {timestamp(int(row['created']))}  {row['kid']}"
        )
    if plain:
        typer.echo(
            f"keys in plain: {', '.join(plain)}. For real data run `gateway keys protect` (docs/keys.md).",
            err=True,
        )


@keys_app.command()
def protect(node: NodeFolder) -> None:
    """Seal the files of private keys under the passphrase that the settings name. Restart the node then."""
    settings = config.load(node)
    store = settings.key_store()
    for agency in settings.node.agencies:
        done = store.protect(AgencyId(agency))
        typer.echo(f"{agency}: {'protected' if done else 'was protected already'}")


@keys_app.command()
def rotate(
    node: NodeFolder,
    agency: Agency = "",
    lead: Annotated[
        int,
        typer.Option(
            help="Seconds until the new keys are used: longer than any peer takes to see a new directory.",
            min=0,
        ),
    ] = 600,
    proposal: Proposal = None,
) -> None:
    """Make new keys. The old ones go on opening and verifying; a running node notices by itself.

    Where the directory comes from a mirror they are in use when governance has published the proposal.
    """
    settings = config.load(node)
    if file := _proposed(settings, proposal):
        hand_over(file, open_desk(node, agency, file).rotation(lead * 1000))
        return
    for one in _agencies(settings, agency):
        provisioning.rotate(settings, one, lead * 1000, _now())
        typer.echo(f"{one}: new keys are in the directory, in use in {lead} s")


@keys_app.command()
def revoke(
    kid: Annotated[str, typer.Argument(metavar="KID", help="The key's id, as `gateway keys list` shows it.")],
    node: NodeFolder,
    agency: Agency = "",
    proposal: Proposal = None,
) -> None:
    """Declare a key stolen: from the next look at the directory nobody seals to it or believes it.

    Where the directory comes from a mirror that is when governance has published the proposal. It can also
    revoke the key by itself: call them first.
    """
    settings = config.load(node)
    try:
        wanted = bytes.fromhex(kid)
    except ValueError:
        raise StartupError("a key id is hexadecimal: `gateway keys list` shows them") from None
    if file := _proposed(settings, proposal):
        hand_over(file, open_desk(node, agency, file).revocation(wanted))
        return
    owners = [one for one in _agencies(settings, agency) if wanted in settings.key_store().load(one).dates]
    if not owners:
        raise StartupError("no agency of this node has such a key: `gateway keys list` shows them")
    file = settings.path(settings.node.directory)
    directory_file.revoke_key(file, owners[0], wanted, datetime.now(UTC))
    typer.echo(f"{owners[0]}: {kid} is revoked in {file}")


def _proposed(settings: config.Settings, file: Path | None) -> Path | None:
    """The file for a proposal; None where the directory is a file that needs none. Raises StartupError."""
    if settings.node.directory_mirror and file is None:
        raise StartupError("the directory comes from a mirror: name a new file with --proposal FILE")
    if file is not None and not settings.node.directory_mirror:
        raise StartupError("this node's directory is a file, which is changed at once: leave --proposal out")
    return file


def _agencies(settings: config.Settings, wanted: str) -> list[AgencyId]:
    if wanted and wanted not in settings.node.agencies:
        raise StartupError(f"this node does not serve {wanted}")
    return [AgencyId(wanted)] if wanted else [AgencyId(one) for one in settings.node.agencies]


def _now() -> int:
    return time.time_ns() // 1_000_000
