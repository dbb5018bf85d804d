"""Commands for a node's private keys: list, protect. They print key ids and never a secret."""

from __future__ import annotations

import typer

from gateway import config
from gateway.cli.common import Json, NodeFolder, show, timestamp
from gateway.messages import AgencyId

keys_app = typer.Typer(no_args_is_help=True, help="A node's keys.")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(keys_app, name="keys")


@keys_app.callback()
def _keys() -> None:
    """A node's keys."""


@keys_app.command("list")
def list_keys(node: NodeFolder, as_json: Json = False) -> None:
    """List a node's keys: which agency, which use, since when. Never a secret."""
    store = config.load(node).key_store()
    rows = store.describe()
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
