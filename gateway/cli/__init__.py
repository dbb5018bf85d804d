"""Every command a person types. No logic: each command calls one thing and prints what came of it.

Exit codes: 0 done; 1 the answer is no (refused, not verified, lost); 2 wrong usage or settings;
3 could not be reached or is not ready, worth trying again; 4 a fault of ours, one JSON line says where.
"""

from __future__ import annotations

import sys

import typer

from gateway import __version__
from gateway.cli import (
    audit,
    backup,
    broker,
    client,
    conformance,
    dead_letters,
    evidence,
    governance,
    inspect,
    keys,
    node,
    proposals,
    sandbox,
    setup,
)
from gateway.cli.common import Exit
from gateway.errors import StartupError
from gateway.observability import logs

app = typer.Typer(
    name="gateway",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Referrals between agencies, sealed end to end, receipted at every step.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"referral-gateway {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Referrals between agencies, sealed end to end, receipted at every step."""


setup.register(app)
governance.register(setup.directory_app)
proposals.register(setup.directory_app)
broker.register(app)
node.register(app)
client.register(app)
inspect.register(app)
keys.register(app)
dead_letters.register(app)
backup.register(app)
audit.register(app)
evidence.register(app)
conformance.register(app)
sandbox.register(app)


def main() -> None:
    """Run a command; whatever goes wrong is one clear line on standard error."""
    try:
        app()
    except StartupError as error:
        print(f"gateway: {error}", file=sys.stderr)
        sys.exit(Exit.USAGE)
    except BrokenPipeError:
        sys.exit(Exit.REFUSED)
    except Exception as error:  # noqa: BLE001 - the last resort: a traceback could show what it must not
        logs.configure(sys.stderr)
        logs.get_logger().error("internal-error", part="command", exc=error)
        sys.exit(Exit.INTERNAL)
