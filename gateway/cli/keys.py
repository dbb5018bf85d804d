"""Commands for a node's private keys: list, usage, protect, rotate, revoke. They print no secret."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from gateway import config, keycare, provisioning
from gateway.cli import key_requests
from gateway.cli.common import Json, NodeFolder, show, timestamp
from gateway.cli.database import enter, in_database
from gateway.cli.proposals import hand_over, open_desk
from gateway.crypto.key_rows import KeyRow, due
from gateway.directory import file as directory_file
from gateway.errors import StartupError
from gateway.messages import AgencyId
from gateway.store import key_usage
from gateway.store.base import Session
from gateway.store.key_usage import Usage

keys_app = typer.Typer(no_args_is_help=True, help="A node's keys.")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    key_requests.register(keys_app)
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
    """List a node's keys: which agency, which use, in which state since when. Never a secret."""
    settings, now = config.load(node), _now()
    store = settings.key_store()
    rows = [row for agency in store.agencies() for row in keycare.rows(settings, agency, now)]
    epoch = settings.times.keys_epoch * 1000
    waits = [one for agency in store.agencies() for one in due(_of(agency, rows), now, epoch)]
    plain = [agency for agency in store.agencies() if not store.is_protected(agency)]
    if as_json:
        what = {row.kid: one for row, one in waits}
        keys = [{**_shown(row), "due": what.get(row.kid)} for row in rows]
        show({"keys": keys, "unprotected": plain})
        return
    for row in rows:
        since = "" if row.since is None else timestamp(row.since)
        typer.echo(
            f"{row.agency}  {row.use:<4}  {row.suite:<9}  {row.state:<9}  {since:<24}"
            f"  made {timestamp(row.created)}  {row.kid.hex()}"
        )
    for row, action in waits:
        typer.echo(f"time to {action}: {row.agency}  {row.kid.hex()} (docs/keys.md)", err=True)
    if plain:
        typer.echo(
            f"keys in plain: {', '.join(plain)}. For real data run `gateway keys protect` (docs/keys.md).",
            err=True,
        )


def _of(agency: AgencyId, rows: Sequence[KeyRow]) -> list[KeyRow]:
    return [row for row in rows if row.agency == agency]


def _shown(row: KeyRow) -> dict[str, str | None]:
    return {
        "agency": row.agency,
        "use": row.use,
        "suite": row.suite,
        "kid": row.kid.hex(),
        "state": row.state,
        "since": None if row.since is None else timestamp(row.since),
        "created": timestamp(row.created),
        "starts": timestamp(row.starts),
    }


@keys_app.command()
def usage(node: NodeFolder, agency: Agency = "", as_json: Json = False) -> None:
    """Show which peers sealed to which opening key, how often and when last: who still uses an old one."""
    settings, now = config.load(node), _now()
    found: list[tuple[KeyRow, list[Usage]]] = []
    for one in _agencies(settings, agency):
        used = in_database(settings.database(), partial(key_usage.of_agency, agency=one))
        rows = [row for row in keycare.rows(settings, one, now) if row.use == "seal"]
        found += [(row, [use for use in used if use.kid == row.kid]) for row in rows]
    if as_json:
        show({"keys": [{**_shown(row), "peers": [_used(use) for use in used]} for row, used in found]})
        return
    for row, used in found:
        typer.echo(f"{row.agency}  {row.suite}  {row.state}  {row.kid.hex()}")
        for use in used:
            typer.echo(f"    {use.peer}  {use.uses} times, last {timestamp(use.latest)}")
        if not used:
            typer.echo("    nobody")


def _used(use: Usage) -> dict[str, str | int]:
    return {
        "peer": use.peer,
        "uses": use.uses,
        "first": timestamp(use.first),
        "last": timestamp(use.latest),
    }


@keys_app.command()
def protect(node: NodeFolder) -> None:
    """Seal the files of private keys under the passphrase that the settings name. Restart the node then."""
    settings = config.load(node)
    store = settings.key_store()
    for agency in settings.node.agencies:
        done = store.protect(AgencyId(agency))
        kids = list(store.load(AgencyId(agency)).dates)
        if done:
            enter(settings.database(), partial(_note_keys, "key-protected", AgencyId(agency), kids))
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
            max=366 * 24 * 3600,
        ),
    ] = 600,
    proposal: Proposal = None,
) -> None:
    """Make new keys. The old ones go on opening and verifying; a running node notices by itself.

    Where the directory comes from a mirror they are in use when governance has published the proposal.
    """
    settings = config.load(node)
    if file := _proposed(settings, proposal):
        desk = open_desk(node, agency, file)
        before = desk.kids()
        asked = desk.rotation(lead * 1000)
        _enter_made(settings, desk.agency, desk.kids() - before)
        hand_over(file, desk, asked)
        return
    store = settings.key_store()
    for one in _agencies(settings, agency):
        known = store.load(one).dates.keys()
        provisioning.rotate(settings, one, lead * 1000, _now())
        _enter_made(settings, one, store.load(one).dates.keys() - known)
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
    file = _proposed(settings, proposal)
    owner, wanted = keycare.owner_of(settings, kid, agency)
    if file:
        desk = open_desk(node, owner, file)
        hand_over(file, desk, desk.revocation(wanted))
        return
    file = settings.path(settings.node.directory)
    directory_file.revoke_key(file, owner, wanted, datetime.now(UTC))
    enter(settings.database(), partial(_note_keys, "key-revoked", owner, [wanted]))
    typer.echo(f"{owner}: {kid} is revoked in {file}")


def _enter_made(settings: config.Settings, agency: AgencyId, kids: Collection[bytes]) -> None:
    enter(settings.database(), partial(_note_keys, "key-made", agency, kids))


def _note_keys(kind: str, agency: AgencyId, kids: Collection[bytes], session: Session) -> None:
    keycare.note_keys(session, kind, agency, kids)


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
