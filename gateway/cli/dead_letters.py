"""Commands for what was refused on arrival: dead-letters list, replay, drop. Metadata only, never content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from gateway import config
from gateway.cli.common import Exit, Json, NodeFolder, fail, show, timestamp
from gateway.cli.database import in_database
from gateway.store import audit, dead_letters
from gateway.store.base import Session

T = TypeVar("T")
app = typer.Typer(no_args_is_help=True, help="Envelopes a node refused: look, replay, drop.")

Number = Annotated[int, typer.Argument(help="Its number, as `gateway dead-letters list` shows it.")]


def register(root: typer.Typer) -> None:
    """Add these commands."""
    root.add_typer(app, name="dead-letters")


@app.callback()
def _root() -> None:
    """Envelopes a node refused: look, replay, drop."""


@app.command("list")
def list_(
    node: NodeFolder,
    limit: Annotated[int, typer.Option(help="How many, newest first.", min=1, max=10_000)] = 100,
    as_json: Json = False,
) -> None:
    """List what was refused and why. Sealed bodies stay sealed; nothing here says whom a message is about."""
    found = _run(node, lambda s: dead_letters.newest(s, limit=limit))
    if as_json:
        show({"dead_letters": [_row(one) for one in found]})
        return
    for one in found:
        state = "to be replayed" if one.replay else "" if one.kept else "body not kept"
        typer.echo(
            f"{one.id}  {timestamp(one.at)}  {one.agency}  {one.lane}  {one.reason}"
            f"  envelope {one.envelope_id}  {one.size} bytes  {state}".rstrip()
        )


@app.command()
def replay(number: Number, node: NodeFolder) -> None:
    """Have a running node take it again, once its cause is removed (a key, an agreement, a newer version).

    What its sender was told is final: then it is not handed over, and the sender gets the same receipt again.
    """
    if not _run(
        node, lambda s: _noted(s, "dead-letter-replay", number, done=dead_letters.ask_replay(s, number))
    ):
        fail(f"there is no dead letter {number} whose body was kept", Exit.REFUSED)
    typer.echo(f"{number} will be taken again at the node's next tick.")


@app.command()
def drop(number: Number, node: NodeFolder) -> None:
    """Forget one for good."""
    if not _run(node, lambda s: _noted(s, "dead-letter-drop", number, done=dead_letters.drop(s, number))):
        fail(f"there is no dead letter {number}", Exit.REFUSED)
    typer.echo(f"{number} is dropped.")


def _row(one: dead_letters.DeadLetter) -> dict[str, Any]:
    return {
        "number": one.id,
        "at": timestamp(one.at),
        "agency": one.agency,
        "lane": one.lane,
        "reason": one.reason.value,
        "envelope_id": one.envelope_id,
        "expires": timestamp(one.expires),
        "bytes": one.size,
        "kept": one.kept,
        "replay": one.replay,
    }


def _noted(session: Session, kind: str, number: int, *, done: bool) -> bool:
    """An entry in the audit log for what an operator did; whether there was anything to do."""
    if done:
        audit.record(session, kind, number=number)
    return done


def _run(node: Path, job: Callable[[Session], T]) -> T:
    """Do one thing in the node's database, also while the node runs."""
    return in_database(config.load(node).database(), job)
