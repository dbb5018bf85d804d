"""Commands for whoever operates the broker: broker apply, check, dead-letters."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from gateway.cli.common import Exit, Json, fail, show
from gateway.config.secrets import url_parts, with_password
from gateway.directory import file as directory_file
from gateway.errors import StartupError
from gateway.messages import AgencyId
from gateway.tls import broker_context, need_tls
from gateway.transport import definitions, drift, graveyard, topology
from gateway.transport.base import TransportError
from gateway.transport.management import Management, ManagementRefused

broker_app = typer.Typer(no_args_is_help=True, help="Queues, accounts and permissions on RabbitMQ.")

Directory = Annotated[Path, typer.Option("--directory", "-d", help="The directory file.")]
ManagementUrl = Annotated[
    str, typer.Option("--management", help="Management API: https://operator@broker:15671, no password.")
]
PasswordFile = Annotated[
    Path | None, typer.Option("--management-password-file", help="File that holds that account's password.")
]
Ca = Annotated[
    Path | None,
    typer.Option("--ca", help="The broker's authority, PEM. [default: the machine's]"),
]
Vhost = Annotated[str, typer.Option(help="The virtual host.")]
Hosted = Annotated[
    list[str] | None,
    typer.Option("--account", help="A node that serves several agencies: NAME=agency,agency. Repeat."),
]
Passwords = Annotated[
    Path | None,
    typer.Option(help="Folder with a file for each account that logs in with a password, of its name."),
]

T = TypeVar("T")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(broker_app, name="broker")


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the broker should hold, and how to ask it."""

    management: Management
    accounts: list[definitions.Account] = field(repr=False)
    wanted: definitions.Document = field(repr=False)
    vhost: str

    async def apply(self) -> list[str]:
        """Import, and tell what is different still."""
        async with self.management:
            await self.management.apply(self.wanted)
            return await self._differences()

    async def check(self) -> list[str]:
        """Tell what is different."""
        async with self.management:
            return await self._differences()

    async def _differences(self) -> list[str]:
        live = await self.management.read(self.vhost)
        return drift.differences(self.wanted, live, self.accounts)


@broker_app.command("apply")
def broker_apply(
    directory: Directory,
    url: Annotated[
        str, typer.Option(help="amqp:// or amqps:// URL without a password: queues only, no accounts.")
    ] = "",
    password_file: Annotated[Path | None, typer.Option(help="File that holds the broker password.")] = None,
    management: ManagementUrl = "",
    management_password_file: PasswordFile = None,
    ca: Ca = None,
    vhost: Vhost = definitions.VHOST,
    account: Hosted = None,
    passwords: Passwords = None,
) -> None:
    """Set the broker up for every agency in the directory. Safe to repeat; it removes nothing.

    With --management: exchanges, queues, an account for each agency, permissions and limits. Exit 1 if
    something differs that it cannot change. With --url: exchanges and queues only.
    """
    if bool(url) == bool(management):
        raise StartupError("give either --management (accounts and all) or --url (queues only)")
    if url:
        _declare(directory, url, password_file, ca)
        return
    plan = _plan(directory, management, management_password_file, ca, vhost, account, passwords)
    left = _run(plan.apply())
    served = sum(len(one.agencies) for one in plan.accounts)
    typer.echo(f"{len(plan.accounts)} accounts and the queues of {served} agencies are set up.")
    _report(left)


@broker_app.command("check")
def broker_check(
    directory: Directory,
    management: ManagementUrl,
    management_password_file: PasswordFile = None,
    ca: Ca = None,
    vhost: Vhost = definitions.VHOST,
    account: Hosted = None,
    passwords: Passwords = None,
) -> None:
    """Compare the broker with what `apply` would set up: a line for each difference, and exit 1 if any."""
    plan = _plan(directory, management, management_password_file, ca, vhost, account, passwords)
    _report(_run(plan.check()))
    typer.echo(f"the broker is as it should be: {len(plan.accounts)} accounts.")


@broker_app.command("dead-letters")
def broker_dead_letters(
    url: Annotated[str, typer.Option(help="amqp:// or amqps:// URL without a password.")],
    password_file: Annotated[Path | None, typer.Option(help="File that holds the broker password.")] = None,
    ca: Ca = None,
    limit: Annotated[int, typer.Option(help="How many, oldest first.", min=1, max=10_000)] = 100,
    replay: Annotated[str, typer.Option(help="Put the letter of this envelope back into its queue.")] = "",
    as_json: Json = False,
) -> None:
    """List what died on the broker itself: expired in its queue, or killed its consumer. Metadata only.

    What a node refused is in its own list as well: `gateway dead-letters`. The account gateway-operator may
    do both, look and replay.
    """
    full, tls = login(url, password_file, ca)
    if replay:
        if not _run(graveyard.send_again(full, tls, replay, limit=limit)):
            fail(f"there is no such envelope among the oldest {limit} dead letters", Exit.REFUSED)
        typer.echo(f"{replay} is back in its queue.")
        return
    letters = _run(graveyard.look(full, tls, limit=limit))
    rows = [
        {
            "envelope_id": one.envelope_id,
            "queue": one.queue,
            "reason": one.reason,
            "died": one.died.isoformat().replace("+00:00", "Z") if one.died else None,
            "bytes": one.size,
        }
        for one in letters
    ]
    if as_json:
        show({"dead_letters": rows})
        return
    for row in rows:
        typer.echo("  ".join(str(value) for value in row.values()))


def login(
    url: str, password_file: Path | None, ca: Path | None, *, option: str = "--url"
) -> tuple[str, ssl.SSLContext | None]:
    """The URL that an option gives, with its password, and how to speak TLS. Raises StartupError."""
    need_tls(option, url)
    try:
        parts = url_parts(url)
    except ValueError as error:
        raise StartupError(f"{option} is {error}") from None
    if parts.scheme not in {"amqp", "amqps"} or not parts.hostname:
        raise StartupError(f"{option} must begin with amqp:// or amqps://, and name the broker")
    if parts.password:
        more = "--password-file" if option == "--url" else f"{option}-password-file"
        raise StartupError(f"{option} takes no password, others could see it: use {more}")
    full = with_password(url, password_file) if password_file else url
    return full, broker_context(ca) if parts.scheme == "amqps" else None


def _declare(directory: Path, url: str, password_file: Path | None, ca: Path | None) -> None:
    full, tls = login(url, password_file, ca)
    agencies = sorted(directory_file.load(directory).agencies)
    _run(topology.declare(full, agencies, tls=tls))
    typer.echo(f"queues of {len(agencies)} agencies are declared.")


def _plan(
    directory: Path,
    management: str,
    password_file: Path | None,
    ca: Path | None,
    vhost: str,
    hosted: list[str] | None,
    passwords: Path | None,
) -> _Plan:
    if password_file is None:
        raise StartupError("--management needs --management-password-file")
    need_tls("--management", management)
    tls = broker_context(ca) if management.startswith("https://") else None
    client = Management(management, _read(password_file), tls)
    accounts = definitions.accounts(
        sorted(directory_file.load(directory).agencies), _hosted(hosted or []), _passwords(passwords)
    )
    salts = {account.name: os.urandom(4) for account in accounts if account.password}
    return _Plan(client, accounts, definitions.document(accounts, vhost, salts), vhost)


def _hosted(options: list[str]) -> dict[str, list[AgencyId]]:
    hosted: dict[str, list[AgencyId]] = {}
    for option in options:
        name, equals, agencies = option.partition("=")
        if not (name and equals and agencies):
            raise StartupError("--account takes NAME=agency,agency")
        hosted.setdefault(name, []).extend(AgencyId(one.strip()) for one in agencies.split(","))
    return hosted


def _passwords(folder: Path | None) -> dict[str, str]:
    if folder is None:
        return {}
    if not folder.is_dir():
        raise StartupError(f"there is no folder of passwords at {folder}")
    return {file.name: _read(file) for file in sorted(folder.iterdir()) if not file.name.startswith(".")}


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8").strip()
    except OSError as error:
        raise StartupError(f"cannot read the password file {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise StartupError(f"the password file {file} is not text") from None


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except ManagementRefused as error:
        fail(str(error), Exit.REFUSED)
    except TransportError as error:
        fail(str(error), Exit.UNAVAILABLE)


def _report(differences: list[str]) -> None:
    for line in differences:
        typer.echo(line)
    if differences:
        raise typer.Exit(Exit.REFUSED)
