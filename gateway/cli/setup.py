"""Commands that set a node up: init, token, directory, config."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from gateway import config, keycare, provisioning
from gateway.cli import governance, people, proposals
from gateway.cli.common import Json, NodeFolder, printable, show
from gateway.cli.database import enter
from gateway.config import page
from gateway.config.secrets import split_password
from gateway.crypto.labels import SUITE_ESP256, SUITE_P256
from gateway.directory import file as directory_file
from gateway.directory.break_glass import BreakGlassEntry
from gateway.errors import StartupError
from gateway.http import auth
from gateway.http.ports import Permission
from gateway.messages import AgencyId, LawfulBasis, Purpose, Sector
from gateway.protocol import views
from gateway.protocol.break_glass import BreakGlass
from gateway.store import audit
from gateway.store.base import Session

token_app = typer.Typer(no_args_is_help=True, help="Access tokens of local systems.")
directory_app = typer.Typer(no_args_is_help=True, help="The directory of agencies and sharing agreements.")
config_app = typer.Typer(no_args_is_help=True, help="The settings file.")

Directory = Annotated[Path, typer.Option("--directory", "-d", help="The directory file.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(init)
    app.add_typer(token_app, name="token")
    governance.register(directory_app)
    proposals.register(directory_app)
    app.add_typer(directory_app, name="directory")
    app.add_typer(config_app, name="config")


def init(  # noqa: PLR0913 - each is an option a person may type
    folder: Annotated[Path, typer.Argument(help="Folder to make for the node.")],
    agency: Annotated[str, typer.Option(help="The agency's identifier, e.g. northtown-academy.")],
    name: Annotated[str, typer.Option(help="The agency's name.")],
    sector: Annotated[Sector, typer.Option(help="The agency's sector.")],
    directory: Annotated[
        Path,
        typer.Option("--directory", "-d", help="Directory file to enter the agency in; made if missing."),
    ],
    spool: Annotated[
        Path | None, typer.Option(help="Spool folder shared by nodes on this machine (embedded transport).")
    ] = None,
    broker: Annotated[str, typer.Option(help="amqp:// or amqps:// URL without a password (RabbitMQ).")] = "",
    broker_password_file: Annotated[
        Path | None, typer.Option(help="File that holds the broker password.")
    ] = None,
    database: Annotated[
        str, typer.Option(help="postgresql:// URL without a password, instead of a SQLite file.")
    ] = "",
    database_password_file: Annotated[
        Path | None, typer.Option(help="File that holds the database's password.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port of the API.")] = 8080,
    admin_port: Annotated[int, typer.Option(help="Port of /metrics, /healthz and /readyz.")] = 9090,
    signing_suite: Annotated[
        str, typer.Option(help="What its signing keys are for: Ed25519 or ESP256. [default: Ed25519]")
    ] = "",
    opening_suite: Annotated[
        list[str] | None,
        typer.Option(
            help="Suite of its opening keys: HPKE-9-KE or HPKE-7-KE; repeat for both. [default: HPKE-9-KE]"
        ),
    ] = None,
    token_module: Annotated[
        Path | None, typer.Option(help="PKCS#11 module of a token that will hold the keys (docs/keys.md).")
    ] = None,
    token_label: Annotated[str, typer.Option(help="That token's label.")] = "",
    token_pin_file: Annotated[Path | None, typer.Option(help="File that holds its user PIN.")] = None,
) -> None:
    """Make a node: keys, database, settings, and its entry in the directory.

    Run it again on the same folder with another --agency to let one node serve both; its settings stay.
    """
    if (folder / config.FILE_NAME).exists():
        if spool or broker or database or signing_suite or opening_suite or token_module:
            raise StartupError(
                f"the node in {folder} is set up: leave --spool, --broker, --database, token and suites out"
            )
    elif bool(spool) == bool(broker):
        raise StartupError("give either --spool (nodes on one machine) or --broker (RabbitMQ)")
    if split_password(broker)[1]:
        raise StartupError("--broker takes no password, others could see it: use --broker-password-file")
    if split_password(database)[1]:
        raise StartupError("--database takes no password, others could see it: use --database-password-file")
    token = None
    if token_module:
        if not token_label or not token_pin_file:
            raise StartupError("--token-module needs --token-label and --token-pin-file")
        token = provisioning.NewToken(str(token_module.resolve()), token_label, token_pin_file)
    provisioning.init_node(
        folder,
        provisioning.NewAgency(AgencyId(agency), name, sector),
        directory=directory,
        spool=spool,
        broker=broker,
        broker_password_file=broker_password_file,
        database=database,
        database_password_file=database_password_file,
        port=port,
        admin_port=admin_port,
        signing_suite=signing_suite or (SUITE_ESP256 if token else ""),
        opening_suites=opening_suite or ((SUITE_P256,) if token else ()),
        token=token,
    )
    settings = config.load(folder)
    kids = settings.key_store().load(AgencyId(agency)).dates
    enter(settings.database(), lambda s: keycare.note_keys(s, "key-made", AgencyId(agency), kids))
    typer.echo(
        f"{agency} is ready in {folder}: keys, database and {config.FILE_NAME} made, entered in {directory}."
    )
    typer.echo("Next: gateway token create, gateway directory agree, gateway run (README.md, five minutes).")


@token_app.command("create")
def token_create(
    node: NodeFolder,
    agency: Annotated[str, typer.Option(help="The agency the token acts for.")],
    may: Annotated[
        str, typer.Option(help="What it may do: send, receive, or both with a comma.")
    ] = "send,receive",
) -> None:
    """Make an access token and print it, once: the node keeps only its hash."""
    settings = config.load(node)
    if agency not in settings.node.agencies:
        raise StartupError(f"this node does not serve {agency}")
    try:
        permissions = frozenset(Permission(part.strip()) for part in may.split(","))
    except ValueError:
        raise StartupError("--may takes send, receive, or send,receive") from None
    now = int(datetime.now(UTC).timestamp() * 1000)
    file = settings.path(settings.node.tokens)
    made = auth.create_token(file, AgencyId(agency), permissions, now)
    known = auth.TokenFile(file).authenticate(made)
    typer.echo(made)
    enter(settings.database(), partial(_note_token, "token-made", known.token_id if known else ""))


@token_app.command("list")
def token_list(node: NodeFolder, as_json: Json = False) -> None:
    """List tokens: whose, what they may do, since when. The tokens themselves are not kept."""
    settings = config.load(node)
    tokens = auth.list_tokens(settings.path(settings.node.tokens))
    if as_json:
        show({"tokens": tokens})
        return
    for one in tokens:
        made = datetime.fromtimestamp(one["created"] / 1000, UTC)
        typer.echo(f"{one['id']}  {one['agency']}  {','.join(one['may'])}  {made:%Y-%m-%d %H:%M}Z")


@token_app.command("revoke")
def token_revoke(
    token_id: Annotated[str, typer.Argument(help="Its id, as `gateway token list` shows it.")],
    node: NodeFolder,
) -> None:
    """Make a token worthless, at once, also at a running node."""
    settings = config.load(node)
    auth.revoke_token(settings.path(settings.node.tokens), token_id)
    enter(settings.database(), partial(_note_token, "token-revoked", token_id))
    typer.echo(f"token {token_id} is revoked.")


def _note_token(kind: str, token_id: str, session: Session) -> None:
    audit.record(session, kind, token=token_id)


@directory_app.command("agree")
def directory_agree(  # noqa: PLR0913 - each is an option a person may type
    sender: Annotated[list[str], typer.Option("--from", help="Sending agency; repeat for several.")],
    recipient: Annotated[list[str], typer.Option("--to", help="Receiving agency; repeat for several.")],
    purpose: Annotated[list[Purpose], typer.Option(help="Purpose; repeat for several.")],
    lawful_basis: Annotated[list[LawfulBasis], typer.Option(help="Lawful basis; repeat for several.")],
    message_type: Annotated[
        list[str] | None, typer.Option("--type", help="Message type; repeat for several. [default: referral]")
    ] = None,
    agreement: Annotated[str, typer.Option("--id", help="The agreement's identifier.")] = "",
    days: Annotated[int, typer.Option(help="How many days it is in force, from today.")] = 365,
    both_ways: Annotated[bool, typer.Option(help="Also let decisions travel back.")] = True,
    share: Annotated[
        list[str] | None,
        typer.Option(help="Field group the recipients are shown; repeat for several. [default: everything]"),
    ] = None,
    break_glass: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE=FILE.pub",
            help="Role that may approve an emergency opening, and its public key; repeat for several.",
        ),
    ] = None,
    threshold: Annotated[
        int, typer.Option(help="How many of these roles must approve an emergency opening.", min=2)
    ] = 2,
    weakest_suite: Annotated[
        str | None,
        typer.Option(
            help="Weakest suite messages may be sealed with: HPKE-9-KE or HPKE-7-KE. [default: any]"
        ),
    ] = None,
    directory: Annotated[
        Path | None, typer.Option("--directory", "-d", help="The directory file to enter it in.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Or write it to this file, for each agency's `gateway directory consent`."
        ),
    ] = None,
) -> None:
    """Enter a sharing agreement, or write one down. Without one, nothing is shared.

    With --share the recipients are sent those field groups of a referral only, and the group core always:
    docs/views.md lists them. With --break-glass so many of the roles as --threshold says, together, may have
    a message opened before the recipient's system collects it: docs/break-glass.md.
    """
    starts = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if (directory is None) == (out is None):
        raise StartupError("name either the directory file (--directory) or a new file (--out)")
    chosen = agreement or f"{sender[0]}-to-{recipient[0]}"[:63].rstrip("-")
    new = provisioning.NewAgreement(
        id=chosen,
        senders=tuple(map(AgencyId, sender)),
        recipients=tuple(map(AgencyId, recipient)),
        types=tuple(message_type or ["referral"]),
        purposes=tuple(purpose),
        lawful_bases=tuple(lawful_basis),
        starts=starts,
        ends=starts + timedelta(days=days),
        shares=tuple(share) if share is not None else None,
        break_glass=BreakGlass(threshold, tuple(map(_role, break_glass))) if break_glass else None,
        weakest_suite=weakest_suite,
    )
    if directory is not None:
        provisioning.agree(directory, new, replies=both_ways)
        typer.echo(f"agreement {chosen} is in {directory}; running nodes take it up within seconds.")
    elif out is not None:
        for entry in provisioning.agreements(new, replies=both_ways):
            file = out if entry.id == chosen else out.with_stem(f"{out.stem}-replies")
            proposals.write_new(file, (entry.model_dump_json(indent=2) + "\n").encode())
            typer.echo(f"agreement {entry.id} is in {file}: every agency it names must consent.")


def _role(text: str) -> tuple[str, bytes]:
    role, given, file = text.partition("=")
    if not given:
        raise StartupError("--break-glass takes ROLE=FILE, the public key that `gateway directory key` made")
    return role, people.public_key(Path(file))


@directory_app.command("show")
def directory_show(directory: Directory, as_json: Json = False) -> None:
    """Print who is in the directory and which agreements stand."""
    document = directory_file.load(directory).document
    if as_json:
        show(document.model_dump(mode="json"))
        return
    typer.echo(f"expires {document.expires.date()}")
    for agency in document.agencies:
        accepts = ", ".join(f"{a.type}/{max(a.versions)}" for a in agency.accepts)
        typer.echo(f"agency     {agency.id}  {printable(agency.name)} ({agency.sector})  accepts {accepts}")
    for entry in document.agreements:
        typer.echo(
            f"agreement  {entry.id}  {', '.join(entry.senders)} -> {', '.join(entry.recipients)}"
            f"  {printable(', '.join(entry.types))}  for {', '.join(entry.purposes)}"
            f"  under {', '.join(entry.lawful_bases)}  until {entry.ends.date()}"
            + ("" if entry.shares is None else f"  shares {', '.join(views.in_order(entry.shares))}")
            + (f"  break-glass {_of(entry.break_glass)}" if entry.break_glass else "")
            + (f"  sealed with {entry.weakest_suite} or stronger" if entry.weakest_suite else "")
        )


def _of(entry: BreakGlassEntry) -> str:
    return f"{entry.threshold} of {', '.join(one.role for one in entry.roles)}"


@config_app.command("describe")
def config_describe() -> None:
    """Print every setting with its default and meaning (docs/config.md)."""
    typer.echo(page.describe(), nl=False)
