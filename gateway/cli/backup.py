"""Commands for the day a database is lost: backup, restore, reconcile (docs/backup.md)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway import __version__, config
from gateway.audit import log
from gateway.cli.common import Exit, Json, NodeFolder, fail, new_file, show, timestamp
from gateway.cli.database import in_database
from gateway.crypto import backup as sealed
from gateway.crypto.backup import BackupInvalid
from gateway.directory.opening import open_directory
from gateway.errors import StartupError
from gateway.hardening import Secret, read_secret, wiped
from gateway.messages import AgencyId
from gateway.store import audit, dump, reconciliations
from gateway.store.base import Session
from gateway.store.opening import create_store, snapshot

VERSION = 1
MARGIN = 10 * 60 * 1000
"""Milliseconds before the backup from which peers are asked: clocks differ."""
HOUR = 3_600_000
_LONGEST = 1024 * 1024
"""Bytes of a passphrase that are read."""

app = typer.Typer(no_args_is_help=True, help="After a restore or a broker's loss: ask the peers.")
PassphraseFile = Annotated[
    Path, typer.Option("--passphrase-file", "-p", help="File that holds the backup's passphrase.")
]


def register(root: typer.Typer) -> None:
    """Add these commands."""
    root.command()(backup)
    root.command()(restore)
    root.add_typer(app, name="reconcile")


def backup(
    file: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")],
    node: NodeFolder,
    passphrase_file: PassphraseFile,
) -> None:
    """Write an encrypted, consistent copy of a node's database, also while the node runs.

    Private keys are not in it, nor settings and tokens: keep a copy of those yourself, the keys apart from
    the backups (docs/backup.md says why).
    """
    settings = config.load(node)
    passphrase = _passphrase(passphrase_file)
    created = time.time_ns() // 1_000_000
    if file.exists():
        raise StartupError(f"{file} exists already: it is never overwritten")
    # Beforehand: no copy is made, not even a part of one, that is not on record.
    in_database(settings.database(), lambda s: audit.record(s, "backed-up", stated=created))
    with new_file(file) as output, wiped(passphrase), snapshot(settings.database()) as session:
        sealed.write(output, passphrase, _records(session, created))
    typer.echo(f"{file}: {file.stat().st_size} bytes, as of {timestamp(created)}.")


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `gateway backup` wrote.")],
    node: NodeFolder,
    passphrase_file: PassphraseFile,
) -> None:
    """Make a node's database anew from a backup. The node must be stopped and its old database moved away.

    The node then asks every peer what the two exchanged since. Until a peer has answered, what the copy
    holds of it is not handed over: it may have been, in the time that is missing.
    """
    settings = config.load(node)
    directory = open_directory(settings.directory()).current
    own = [AgencyId(agency) for agency in settings.node.agencies]
    peers = [agency for agency in sorted(directory.agencies) if agency not in own]
    passphrase = _passphrase(passphrase_file)
    _check(file, passphrase)  # whole, before anything is made
    database = settings.database()
    create_store(database)

    def job(session: Session) -> tuple[int, dict[str, int]]:
        if not dump.is_empty(session):
            raise StartupError("the database is not empty: restore into a new one")
        with file.open("rb") as source:
            records = sealed.read(source, passphrase)
            created = _head(next(records, None))
            counts = dump.put(session, _rows(records))
        for agency in own:
            for peer in peers:
                reconciliations.begin(session, agency, peer, since=created - MARGIN, hold=True, due=0)
        audit.record(session, "restored", stated=created)
        log.restart(session)
        return created, counts

    try:
        with wiped(passphrase):
            created, counts = in_database(database, job)
    except BaseException:
        if isinstance(database, Path):  # made a moment ago, by us, and of no use
            for name in (database.name, f"{database.name}-wal", f"{database.name}-shm"):
                database.with_name(name).unlink(missing_ok=True)
        raise
    typer.echo(
        f"restored {counts['outbound_envelopes']} envelopes sent and {counts['inbox']} received,"
        f" as of {timestamp(created)}."
    )
    typer.echo(f"Next: gateway run; it asks {len(peers)} peers what is missing (gateway reconcile show).")


@app.command("show")
def reconcile_show(node: NodeFolder, as_json: Json = False) -> None:
    """Show which peers have been asked and which have answered."""
    found = in_database(config.load(node).database(), reconciliations.every)
    if as_json:
        show(
            {
                "peers": [
                    {
                        "agency": one.agency,
                        "peer": one.peer,
                        "since": timestamp(one.since),
                        "asked": one.attempts,
                        "answered": None if one.answered is None else timestamp(one.answered),
                    }
                    for one in found
                ]
            }
        )
        return
    for one in found:
        state = "not answered" if one.answered is None else f"answered {timestamp(one.answered)}"
        typer.echo(f"{one.agency}  {one.peer}  since {timestamp(one.since)}  {state}")


@app.command("ask")
def reconcile_ask(
    node: NodeFolder,
    hours: Annotated[int, typer.Option(help="How far back.", min=1, max=24 * 60)] = 24,
) -> None:
    """Ask every peer what the two exchanged, for example after a broker lost its queues.

    Envelopes that never arrived are sent again; nothing is held back meanwhile.
    """
    settings = config.load(node)
    directory = open_directory(settings.directory()).current
    own = [AgencyId(agency) for agency in settings.node.agencies]
    since = time.time_ns() // 1_000_000 - hours * HOUR

    def job(session: Session) -> int:
        pairs = [(agency, peer) for agency in own for peer in sorted(directory.agencies) if peer not in own]
        for agency, peer in pairs:
            reconciliations.begin(session, agency, peer, since=since, hold=False, due=0)
        audit.record(session, "reconcile-asked", stated=since)
        return len(pairs)

    typer.echo(f"{in_database(settings.database(), job)} questions will be asked at the node's next tick.")


@app.command("release")
def reconcile_release(
    peer: Annotated[str, typer.Argument(help="The peer that does not answer.")], node: NodeFolder
) -> None:
    """Wait for this peer no longer: hand over what is held of it, though some may have been before."""
    settings = config.load(node)
    now = time.time_ns() // 1_000_000

    def job(session: Session) -> bool:
        closed = [
            reconciliations.close(session, AgencyId(agency), AgencyId(peer), at=now)
            for agency in settings.node.agencies
        ]
        if any(closed):
            audit.record(session, "reconcile-released", peer=peer)
        return any(closed)

    if not in_database(settings.database(), job):
        fail(f"nothing waits for {peer}", Exit.REFUSED)
    typer.echo(f"what was held of {peer} is handed over now.")


def _records(session: Session, created: int) -> Iterator[Any]:
    yield ["gateway-backup", VERSION, created, __version__]
    for table, row in dump.rows(session):
        yield [table, *row]
    yield ["end"]


def _head(record: Any) -> int:
    """When the backup was made. Raises StartupError."""
    if not isinstance(record, list) or len(record) != 4 or record[:2] != ["gateway-backup", VERSION]:
        raise StartupError("the backup is of a version this gateway cannot read")
    return int(record[2])


def _rows(records: Iterator[Any]) -> Iterator[tuple[str, list[Any]]]:
    for record in records:
        if record == ["end"]:
            return
        yield record[0], record[1:]
    raise BackupInvalid("the backup is cut off")


def _check(file: Path, passphrase: Secret) -> None:
    """Read a backup to its end. Raises StartupError."""
    try:
        with file.open("rb") as source:
            records = sealed.read(source, passphrase)
            _head(next(records, None))
            for _ in _rows(records):
                pass
    except OSError as error:
        raise StartupError(f"cannot read {file}: {error.strerror}") from None
    except (BackupInvalid, ValueError) as error:
        raise StartupError(f"cannot restore from {file}: {error}") from None


def _passphrase(file: Path) -> bytearray:
    try:
        with file.open("rb", buffering=0) as handle:
            passphrase = read_secret(handle, _LONGEST)
    except OSError as error:
        raise StartupError(f"cannot read the passphrase file {file}: {error.strerror}") from None
    if len(passphrase) < 16:
        raise StartupError("the passphrase must have 16 characters or more: `openssl rand -base64 32`")
    return passphrase
