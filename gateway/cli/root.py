"""The command `gateway`: which module has which command, and what becomes of errors."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Final

import typer

from gateway import __version__, hardening
from gateway.cli.common import Exit
from gateway.errors import StartupError

COMMANDS: Final = {
    "setup": ("init", "token", "directory", "config"),
    "broker": ("broker",),
    "node": ("run", "demo"),
    "client": ("send", "inbox", "status", "recall", "example"),
    "inspect": ("receipts",),
    "keys": ("keys",),
    "operators": ("operator",),
    "dead_letters": ("dead-letters",),
    "break_glass": ("break-glass",),
    "backup": ("backup", "restore", "reconcile"),
    "audit": ("audit",),
    "evidence": ("evidence",),
    "conformance": ("conformance",),
    "sandbox": ("sandbox",),
}
"""The commands of each module, in the order of `gateway --help`."""


def build(wanted: str = "") -> typer.Typer:
    """Every command; with the name of one, only those of its module, which takes half the time to import."""
    app = typer.Typer(
        name="gateway",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="Referrals between agencies, sealed end to end, receipted at every step.",
    )
    app.callback()(_root)
    modules = [module for module, names in COMMANDS.items() if wanted in names] or list(COMMANDS)
    for module in modules:
        import_module(f"gateway.cli.{module}").register(app)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"referral-gateway {__version__}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Referrals between agencies, sealed end to end, receipted at every step."""


def main() -> None:
    """Run a command; whatever goes wrong is one clear line on standard error."""
    hardening.no_dumps()  # not a node alone has keys and messages in its memory
    try:
        build(next((one for one in sys.argv[1:] if not one.startswith("-")), ""))()
    except StartupError as error:
        print(f"gateway: {error}", file=sys.stderr)
        sys.exit(Exit.USAGE)
    except BrokenPipeError:
        sys.exit(Exit.REFUSED)
    except Exception as error:  # noqa: BLE001 - the last resort: a traceback could show what it must not
        from gateway.observability import logs  # noqa: PLC0415 - needed in a fault only

        logs.configure(sys.stderr)
        logs.get_logger().error("internal-error", part="command", exc=error)
        sys.exit(Exit.INTERNAL)
