"""Commands of the audit log: list, export, verify, prove, peers (docs/audit.md)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway import config
from gateway.audit import export, merkle
from gateway.audit.export import LogInvalid, Verified
from gateway.audit.log import memory_reader
from gateway.cli.common import Exit, Json, NodeFolder, fail, new_file, show, timestamp
from gateway.crypto.note import MAX_NOTE, Note, NoteInvalid, NoteKeys, read_note
from gateway.directory import file as directory_file
from gateway.directory.opening import open_directory
from gateway.errors import StartupError
from gateway.messages import AgencyId
from gateway.store import audit
from gateway.store.opening import snapshot

app = typer.Typer(no_args_is_help=True, help="The log of everything that happened, which can only grow.")

LogFile = Annotated[Path, typer.Argument(help="A file that `gateway audit export` wrote.")]
Trusted = Annotated[
    Path | None,
    typer.Option("--directory", "-d", help="A directory file you trust: its keys count, not the file's own."),
]
Kept = Annotated[
    list[Path] | None,
    typer.Option("--checkpoint", "-c", help="A checkpoint that somebody else kept: the log must contain it."),
]


def register(root: typer.Typer) -> None:
    """Add these commands."""
    root.add_typer(app, name="audit")


@app.callback()
def _root() -> None:
    """The log of everything that happened, which can only grow."""


@app.command("list")
def list_(
    node: NodeFolder,
    limit: Annotated[int, typer.Option(help="How many, newest last.", min=1, max=10_000)] = 100,
    message: Annotated[str, typer.Option(help="Only those about this message.")] = "",
    as_json: Json = False,
) -> None:
    """Show the log's last entries. Identifiers only, never content."""
    with snapshot(config.load(node).database()) as session:
        if message:
            found = audit.of_message(session, message)[-limit:]
        else:
            size = audit.size(session)
            found = audit.entries(session, max(0, size - limit), size)
    rows = [json.loads(one.text) for one in found]
    if as_json:
        show({"entries": rows})
        return
    for row in rows:
        rest = "  ".join(f"{name} {row[name]}" for name in row if name not in {"index", "at", "kind"})
        typer.echo(f"{row['index']}  {timestamp(row['at'])}  {row['kind']}  {rest}".rstrip())


@app.command("export")
def export_(
    file: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")], node: NodeFolder
) -> None:
    """Write the whole log with its checkpoints and public keys, also while the node runs."""
    settings = config.load(node)
    keys = public_keys(settings)
    with snapshot(settings.database()) as session:
        size = audit.size(session)
        write_whole(file, (f"{line}\n".encode() for line in export.lines(session, keys)))
    typer.echo(f"{file}: {size} entries. Check it anywhere: gateway audit verify {file}")


@app.command()
def verify(file: LogFile, directory: Trusted = None, checkpoint: Kept = None, as_json: Json = False) -> None:
    """Verify an exported log offline: no entry changed, dropped, added or moved since it was signed."""
    try:
        found = _verified(file, directory, checkpoint)
    except LogInvalid as error:
        if as_json:
            show({"valid": False, "why": str(error)})
            raise typer.Exit(Exit.REFUSED) from None
        fail(f"{file}: {error}", Exit.REFUSED)
    signers = {agency: pairs[0].signing.kid.hex() for agency, pairs in found.keys.items()}
    if as_json:
        show(
            {
                "valid": True,
                "origin": found.origin,
                "entries": found.entries,
                "covered": found.covered,
                "checkpoints": found.checkpoints,
                "keys": signers,
            }
        )
        return
    typer.echo(
        f"valid: {found.covered} of {found.entries} entries stand under"
        f" {found.checkpoints} signed checkpoints."
    )
    for agency, kid in signers.items():
        trust = "listed in the directory" if directory else f"compare with the directory: {kid}"
        typer.echo(f"signed by {agency} ({trust})")


@app.command()
def prove(
    file: LogFile,
    wanted: Annotated[str, typer.Argument(help="An entry's index, or a message's identifier.")],
    directory: Trusted = None,
) -> None:
    """Print, as JSON, proof that entries stand in the log: each with its path to the signed root."""
    try:
        found = _verified(file, directory, None, keep_leaves=True, want=wanted)
    except LogInvalid as error:
        fail(f"{file}: {error}", Exit.REFUSED)
    covered = [(index, text) for index, text in found.wanted if index < found.covered]
    if not covered:
        fail(f"no entry {wanted} stands under a checkpoint of {file}", Exit.REFUSED)
    read = memory_reader(found.leaves)
    show(
        {
            "format": "referral-gateway-audit-proof",
            "version": 1,
            "checkpoint": found.last,
            "entries": [
                {
                    "index": index,
                    "entry": text,
                    "proof": [one.hex() for one in merkle.inclusion_proof(index, found.covered, read)],
                }
                for index, text in covered
            ],
        }
    )


@app.command()
def peers(node: NodeFolder, as_json: Json = False) -> None:
    """Show the checkpoints this node keeps of its peers' logs, and any that contradict each other."""
    with snapshot(config.load(node).database()) as session:
        found = audit.peer_checkpoints(session)
    if as_json:
        show(
            {
                "checkpoints": [
                    {"peer": peer, "size": one.size, "at": timestamp(one.at), "fork": fork, "note": one.note}
                    for peer, one, fork in found
                ]
            }
        )
        return
    for peer, one, fork in found:
        state = "FORK: contradicts what it showed before" if fork else ""
        typer.echo(f"{peer}  {one.size} entries  {timestamp(one.at)}  {one.origin}  {state}".rstrip())


def public_keys(settings: config.Settings) -> dict[str, list[NoteKeys]]:
    """Every pair of keys the node's checkpoints may be signed with. Raises StartupError."""
    store = settings.key_store()
    directory = open_directory(settings.directory()).current
    found: dict[str, list[NoteKeys]] = {}
    for agency in map(AgencyId, settings.node.agencies):
        own = store.load(agency)
        pairs = [NoteKeys(public, own.audit_key().public) for public in own.verify_keys()]
        known = {pair.signing.kid for pair in pairs}
        listed = [*directory.note_keys(agency), *directory.revoked_note_keys(agency)]
        found[agency] = [*pairs, *(pair for pair in listed if pair.signing.kid not in known)]
    return found


def write_whole(file: Path, pieces: Iterable[bytes]) -> None:
    """Write a new file, whole or not at all. Raises StartupError."""
    with new_file(file) as output:
        for piece in pieces:
            output.write(piece)


def _verified(
    file: Path,
    directory: Path | None,
    kept: list[Path] | None,
    *,
    keep_leaves: bool = False,
    want: str | None = None,
) -> Verified:
    """Check a file. Raises LogInvalid, StartupError."""
    trusted: dict[str, Any] | None = None
    revoked: dict[str, Any] | None = None
    if directory is not None:
        known = directory_file.load(directory)
        trusted = {agency: pairs for agency in known.agencies if (pairs := known.note_keys(agency))}
        revoked = {agency: known.revoked_note_keys(agency) for agency in known.agencies}
    notes = [_kept(path) for path in kept or ()]
    try:
        return export.verify(
            _lines(file), trusted=trusted, revoked=revoked, kept=notes, keep_leaves=keep_leaves, want=want
        )
    except OSError as error:
        raise StartupError(f"cannot read {file}: {error.strerror}") from None


def _lines(file: Path) -> Iterator[str]:
    with file.open("rb") as source:
        while line := source.readline(export.MAX_LINE + 2):
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError:
                raise LogInvalid("the file is not an audit log: it is not UTF-8") from None


def _kept(path: Path) -> Note:
    try:
        return read_note(path.read_bytes()[: MAX_NOTE + 1].decode("utf-8"))
    except OSError as error:
        raise StartupError(f"cannot read {path}: {error.strerror}") from None
    except (NoteInvalid, UnicodeDecodeError):
        raise StartupError(f"{path} is not a checkpoint") from None
