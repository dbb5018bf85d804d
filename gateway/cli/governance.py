"""Commands of those who govern the directory: to begin it, change it, sign, publish, and look at it."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import people
from gateway.cli.common import Exit, Json, fail, show
from gateway.cli.people import read_bytes as _bytes
from gateway.cli.proposals import bounded, write_new
from gateway.crypto.proposal import ProposalInvalid, read_proposal
from gateway.errors import StartupError

if TYPE_CHECKING:
    from gateway.directory.repository import Repository, Staged

Repo = Annotated[Path, typer.Argument(metavar="REPOSITORY", help="Folder of the repository.")]
KeyFile = Annotated[
    Path, typer.Option("--key", help="Your private key file, as `gateway directory key` made it.")
]
Passphrase = Annotated[Path, typer.Option(help="File that holds the key's passphrase.")]
NewFile = Annotated[Path, typer.Option("--directory", "-d", help="The directory file to distribute.")]


def register(directory_app: typer.Typer) -> None:
    """Add these commands to `gateway directory`."""
    for command in (key, init, propose, rotate, sign, publish, status, diff, copy, verify):
        directory_app.command()(command)


def key(
    file: Annotated[
        Path, typer.Argument(help="The private key goes here, the public one beside it as FILE.pub.")
    ],
    passphrase_file: Passphrase,
) -> None:
    """Make a key to govern, publish or break the glass with. Keep the file offline; hand out FILE.pub."""
    from gateway.directory import repository  # noqa: PLC0415 - tuf is loaded where it is used

    private, public = people.new_key(file, passphrase_file)
    keyid = repository.keyid(private)
    people.hand_out(file, {"keyid": keyid, "ed25519": public})
    typer.echo(f"key {keyid}")


def init(
    folder: Repo,
    directory: NewFile,
    root_key: Annotated[list[Path], typer.Option(help="Public key of one who governs; repeat for each.")],
    publisher_key: Annotated[Path, typer.Option(help="Public key of whoever publishes.")],
    threshold: Annotated[int, typer.Option(help="How many who govern must sign.", min=1)] = 2,
) -> None:
    """Begin a repository: stage its first root and directory, for governance to sign."""
    repository, made = _repository(folder)
    holders = [_public(made, one) for one in root_key]
    repository.init(holders, threshold, _public(made, publisher_key), _bytes(directory), made.now())
    _staged(repository.staged())


def propose(
    folder: Repo,
    proposal: Annotated[
        list[Path] | None, typer.Option("--proposal", "-p", help="An agency's proposal; repeat for several.")
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory",
            "-d",
            help="What governance changes itself: the published file (`gateway directory copy`), edited.",
        ),
    ] = None,
) -> None:
    """Stage a new version of the directory.

    It takes each agency's own proposal to change its entry, and the consent of all that an agreement names.
    Governance alone adds an agency, removes one, ends an agreement, removes or revokes a key.
    """
    repository, made = _repository(folder)
    asked = [_proposal(one) for one in proposal or ()]
    repository.propose(None if directory is None else _bytes(directory), asked, made.now())
    _show_change(repository, made)
    _staged(repository.staged())


def rotate(
    folder: Repo,
    add: Annotated[list[Path] | None, typer.Option(help="Public key that joins; repeat for several.")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="Key id that leaves; repeat for several.")] = None,
    threshold: Annotated[int | None, typer.Option(help="How many must sign from now on.", min=1)] = None,
    publisher_key: Annotated[
        Path | None, typer.Option(help="Public key of whoever publishes from now on.")
    ] = None,
) -> None:
    """Stage a root with other governance keys. As many of the old ones as must must sign it too."""
    repository, made = _repository(folder)
    repository.rotate(
        add=[_public(made, one) for one in add or ()],
        remove=remove or (),
        threshold=threshold,
        publisher=None if publisher_key is None else _public(made, publisher_key),
        now=made.now(),
    )
    _show_change(repository, made)
    _staged(repository.staged())


def sign(folder: Repo, key_file: KeyFile, passphrase_file: Passphrase) -> None:
    """Sign what is staged. Look at it first: `gateway directory diff`."""
    repository, made = _repository(folder)
    _staged(repository.sign(people.load_key(key_file, passphrase_file), made.now()))


def publish(folder: Repo, key_file: KeyFile, passphrase_file: Passphrase) -> None:
    """Publish what enough have signed, and renew the dates. Repeat it weekly: nodes refuse a stale mirror."""
    repository, made = _repository(folder)
    private = people.load_key(key_file, passphrase_file)
    typer.echo(f"version {repository.publish(private, made.now())} is published in {folder}.")


def status(folder: Repo, as_json: Json = False) -> None:
    """Print versions, dates, keys and what waits for signatures."""
    found = _repository(folder)[0].status()
    if as_json:
        show(found)
        return
    typer.echo(f"{found['threshold']} of {len(found['governance_keys'])} must sign:")
    for keyid in found["governance_keys"]:
        typer.echo(f"  {keyid}")
    for role, one in found["published"].items():
        typer.echo(f"{role:<10} version {one['version']}, expires {one['expires']}")
    for one in found["staged"]:
        signed = f"{one['signatures']} of {one['needed']} signatures"
        typer.echo(f"staged: {one['role']} version {one['version']}, {signed}")


def diff(folder: Repo) -> None:
    """Print what is staged changes (who governs, agencies, their keys, agreements), and who asked for it."""
    _show_change(*_repository(folder))


def copy(
    folder: Repo, out: Annotated[Path, typer.Argument(metavar="FILE", help="New file, not there yet.")]
) -> None:
    """Write the published directory to a file, to look at or to edit."""
    repository, _ = _repository(folder)
    write_new(out, (repository.directory().model_dump_json(indent=2) + "\n").encode())
    typer.echo(f"the published directory is in {out}.")


def verify(
    folder: Repo,
    root: Annotated[
        Path | None,
        typer.Option(help="Root that was handed over in person. [default: the repository's first]"),
    ] = None,
    since: Annotated[int, typer.Option(help="Version to begin with.", min=1)] = 1,
) -> None:
    """Check, from the files alone, who signed each version and who asked for each change in it."""
    from gateway.directory import history  # noqa: PLC0415 - tuf is loaded where it is used

    try:
        for line in history.verify(folder, root, since):
            typer.echo(line)
    except history.HistoryInvalid as error:
        fail(f"{folder} does not hold: {error}", Exit.REFUSED)
    typer.echo(
        "it holds: governance signed each version, and who must asked for what it may not change alone."
    )


def _proposal(file: Path) -> bytes:
    data = bounded(file)
    try:
        read_proposal(data)
    except ProposalInvalid:
        raise StartupError(f"{file} is not a proposal as `gateway` makes them for agencies") from None
    return data


def _show_change(repository: Repository, made: Any) -> None:
    for line in repository.changes():
        typer.echo(line)
    for line in repository.explain(made.now()):
        typer.echo(line)


def _repository(folder: Path) -> tuple[Repository, Any]:
    from gateway.directory import repository  # noqa: PLC0415 - tuf is loaded where it is used

    return repository.Repository(folder), repository


def _staged(found: Sequence[Staged]) -> None:
    for one in found:
        typer.echo(f"{one.role} version {one.version}: {one.signed} of {one.threshold} signatures")


def _public(made: Any, file: Path) -> Any:
    try:
        return made.public(base64.b64decode(json.loads(_bytes(file))["ed25519"], validate=True))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise StartupError(f"{file} is not a public key that `gateway directory key` made") from None
