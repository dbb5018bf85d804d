"""Commands for what takes two people: keys destroy, export, request, confirm (docs/keys.md section 7)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from gateway import config, keycare, two_people
from gateway.cli import people
from gateway.cli.common import NodeFolder, timestamp
from gateway.cli.database import in_database
from gateway.cli.people import By, PassphraseFile, RequestFile
from gateway.config import Settings
from gateway.config.secrets import private_bytes
from gateway.crypto.approval import Request
from gateway.crypto.keys import SigningKey
from gateway.errors import StartupError
from gateway.keycare import Database
from gateway.messages import AgencyId
from gateway.store import key_usage
from gateway.store.base import Session
from gateway.two_people import Judged

T = TypeVar("T")
HOUR = 3_600_000
Kid = Annotated[str, typer.Argument(metavar="KID", help="The key's id, as `gateway keys list` shows it.")]
NewRequest = Annotated[Path, typer.Option("--request", help="The file to write the request to.")]
Hours = Annotated[int, typer.Option(help="Hours the request is good for.", min=1, max=7 * 24)]


def register(keys_app: typer.Typer) -> None:
    """Add these commands to `gateway keys`."""
    for command in (destroy, export, request, confirm):
        keys_app.command()(command)


def destroy(
    kid: Kid,
    node: NodeFolder,
    by: By,
    passphrase_file: PassphraseFile,
    request: NewRequest,
    hours: Hours = 24,
    with_messages: Annotated[
        bool, typer.Option("--with-messages", help="Also while messages wait for it: they are rejected.")
    ] = False,
) -> None:
    """Ask to destroy a retired or revoked key: what was sealed to it never opens again. Another confirms."""
    settings, now = config.load(node), _now()
    agency, wanted = keycare.owner_of(settings, kid)
    row = keycare.check_destroyable(settings, agency, wanted, now)
    in_database(settings.database(), lambda s: keycare.check_let_go(s, settings, row, now))
    if not with_messages:
        in_database(settings.database(), lambda s: keycare.check_waiting(s, agency, wanted))
    action = keycare.DESTROY_WITH_MESSAGES if with_messages else keycare.DESTROY
    _ask(settings, action, agency, wanted, people.own_key(by, passphrase_file), request, hours)


def export(
    node: NodeFolder,
    agency: Annotated[str, typer.Option("--agency", "-a", help="Whose keys.")],
    by: By,
    passphrase_file: PassphraseFile,
    request: NewRequest,
    hours: Hours = 24,
) -> None:
    """Ask to let an agency's keys out, into a file under another passphrase. Another person confirms."""
    settings = config.load(node)
    if agency not in settings.node.agencies:
        raise StartupError(f"this node does not serve {agency}")
    digest = settings.key_store().load(AgencyId(agency)).digest()
    _ask(
        settings,
        keycare.EXPORT,
        AgencyId(agency),
        digest,
        people.own_key(by, passphrase_file),
        request,
        hours,
    )


def request(file: RequestFile, node: NodeFolder) -> None:
    """Print what a request asks for, and who approved it."""
    settings = config.load(node)
    judged = two_people.judge(settings, people.read_request(file), _now())
    _print(settings, judged)


def confirm(
    file: RequestFile,
    node: NodeFolder,
    by: By,
    passphrase_file: PassphraseFile,
    to: Annotated[Path | None, typer.Option(help="For an export: the file to write.")] = None,
    to_passphrase_file: Annotated[
        Path | None, typer.Option(help="For an export: file that holds the passphrase of that file.")
    ] = None,
) -> None:
    """Approve what another operator asked for, and carry it out. Look at it first: `gateway keys request`."""
    settings, now = config.load(node), _now()
    approvals = people.read_request(file)
    judged = two_people.confirm(settings, approvals, people.own_key(by, passphrase_file), now)
    wanted, database = judged.request, _database(settings)
    if wanted.action != keycare.EXPORT:
        keycare.destroy(settings, judged, database, now)
        typer.echo(f"key {wanted.subject.hex()} of {wanted.agency} is destroyed.")
        typer.echo("Copies of the key file still hold it: destroy those too, and make a new copy.")
        return
    if to is None or to_passphrase_file is None:
        raise StartupError("an export needs --to and --to-passphrase-file")
    passphrase = private_bytes(to_passphrase_file, private=True)
    keycare.export(settings, judged, database, to, passphrase)
    typer.echo(f"the keys of {wanted.agency} are in {to}, under that passphrase.")


def _ask(
    settings: Settings, action: str, agency: AgencyId, subject: bytes, key: SigningKey, file: Path, hours: int
) -> None:
    """Write a request, enter that it was asked for, say what is next."""
    now = _now()
    first = two_people.ask(settings, action, agency, subject, key=key, now=now, until=now + hours * HOUR)
    people.new_request(file, first)
    judged = two_people.judge(settings, people.read_request(file), now)
    name = two_people.name_of(settings, action, key)
    in_database(settings.database(), lambda s: keycare.note_asked(s, judged.request, name))
    _print(settings, judged)
    typer.echo("Next: another operator looks at it (gateway keys request) and runs gateway keys confirm.")


def _print(settings: Settings, judged: Judged) -> None:
    """A request in words."""
    asked = judged.request
    others = sorted(set(two_people.operators(settings, asked.action)) - judged.by)
    for line in _words(settings, asked):
        typer.echo(line)
    typer.echo(f"approved by {', '.join(sorted(judged.by))}; one of {', '.join(others)} must confirm")
    typer.echo(f"asked {timestamp(asked.asked)}, good until {timestamp(asked.until)}")


def _words(settings: Settings, asked: Request) -> list[str]:
    if asked.action == keycare.EXPORT:
        return [f"let all private keys of {asked.agency} out, into a file under another passphrase"]
    rows = keycare.rows(settings, asked.agency, _now())
    row = next((one for one in rows if one.kid == asked.subject), None)
    if row is None:
        return [f"destroy key {asked.subject.hex()} of {asked.agency}, which is not there"]
    since = "" if row.since is None else f" since {timestamp(row.since)}"
    use = "signing" if row.use == "sign" else "opening"
    lines = [
        f"destroy the {use} key {row.kid.hex()} of {row.agency} for good",
        f"{row.suite}, made {timestamp(row.created)}, {row.state}{since}",
    ]
    used = in_database(settings.database(), lambda s: key_usage.of_agency(s, row.agency))
    lines += [f"{one.peer} last sealed to it {timestamp(one.latest)}" for one in used if one.kid == row.kid]
    if asked.action == keycare.DESTROY_WITH_MESSAGES:
        wait = in_database(
            settings.database(), lambda s: sum(1 for _ in keycare.waiting(s, row.agency, row.kid))
        )
        lines.append(f"messages that wait for it and would be rejected: {wait}")
    return lines


def _database(settings: Settings) -> Database:
    def run(job: Callable[[Session], T]) -> T:
        return in_database(settings.database(), job)

    return run


def _now() -> int:
    return time.time_ns() // 1_000_000
