"""The credential of an operator, who approves what takes two people: operator key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import people

app = typer.Typer(no_args_is_help=True, help="People who approve what takes two.")


def register(root: typer.Typer) -> None:
    """Add these commands."""
    root.add_typer(app, name="operator")


@app.callback()
def _root() -> None:
    """People who approve what takes two."""


@app.command()
def key(
    file: Annotated[
        Path, typer.Argument(help="The private key goes here, the public one beside it as FILE.pub.")
    ],
    passphrase_file: Annotated[Path, typer.Option(help="File that holds the key's passphrase.")],
) -> None:
    """Make an operator's key. Each person makes and keeps their own; the node knows the public half."""
    _, public = people.new_key(file, passphrase_file)
    people.hand_out(file, {"ed25519": public})
    typer.echo("# For gateway.toml; write the person's name and what they may approve:")
    typer.echo(f'[[operators]]\nid = ""\npublic = "{public}"\nmay = ["destroy-key", "export-key"]')
