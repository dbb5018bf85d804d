"""Commands for a node's private keys: list, usage, protect, rotate, revoke. They print no secret."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import typer

from gateway import config, keycare, provisioning
from gateway.cli import key_requests
from gateway.cli.common import Json, NodeFolder, show, timestamp
from gateway.cli.database import enter, in_database
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
        ),
    ] = 600,
) -> None:
    """Make new keys. The old ones go on opening and verifying; a running node notices by itself."""
    settings = config.load(node)
    store = settings.key_store()
    for one in _agencies(settings, agency):
        before = store.load(one).dates
        entries = provisioning.rotate(settings, one, lead * 1000, _now())
        made = [kid for kid in store.load(one).dates if kid not in before]
        enter(settings.database(), partial(_note_keys, "key-made", one, made))
        if not entries:
            typer.echo(f"{one}: new keys are in the directory, in use in {lead} s")
            continue
        typer.echo(f"{one}: hand these to whoever keeps the directory, to publish within {lead} s:", err=True)
        show([entry.model_dump(mode="json") for entry in entries])


@keys_app.command()
def revoke(
    kid: Annotated[str, typer.Argument(metavar="KID", help="The key's id, as `gateway keys list` shows it.")],
    node: NodeFolder,
    agency: Agency = "",
) -> None:
    """Declare a key stolen: from the next look at the directory nobody seals to it or believes it."""
    settings = config.load(node)
    if settings.node.directory_mirror:
        raise StartupError("tell whoever keeps the directory to set `revoked` on this key, and publish")
    owner, wanted = keycare.owner_of(settings, kid, agency)
    file = settings.path(settings.node.directory)
    directory_file.revoke_key(file, owner, wanted, datetime.now(UTC))
    enter(settings.database(), partial(_note_keys, "key-revoked", owner, [wanted]))
    typer.echo(f"{owner}: {kid} is revoked in {file}")


def _note_keys(kind: str, agency: AgencyId, kids: Sequence[bytes], session: Session) -> None:
    keycare.note_keys(session, kind, agency, kids)


def _agencies(settings: config.Settings, wanted: str) -> list[AgencyId]:
    if wanted and wanted not in settings.node.agencies:
        raise StartupError(f"this node does not serve {wanted}")
    return [AgencyId(wanted)] if wanted else [AgencyId(one) for one in settings.node.agencies]


def _now() -> int:
    return time.time_ns() // 1_000_000
