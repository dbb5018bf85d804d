"""Commands for whoever connects a system: sandbox, sandbox report, sandbox verify."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.common import Exit, Json, fail, show
from gateway.crypto.labels import CONFORMANCE_CONTEXT
from gateway.crypto.statement import MAX_STATEMENT, StatementInvalid, read_statement
from gateway.errors import StartupError
from gateway.messages import AgencyId, Sector

sandbox_app = typer.Typer(help="A node and pretend partners on your own machine.")

Folder = Annotated[Path, typer.Option("--folder", help="Where it keeps everything; made if missing.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(sandbox_app, name="sandbox")


@sandbox_app.callback(invoke_without_command=True)
def sandbox(
    context: typer.Context,
    folder: Folder = Path("gateway-sandbox"),
    agency: Annotated[str, typer.Option(help="Your agency's identifier, on the first start.")] = "my-agency",
    sector: Annotated[Sector, typer.Option(help="Its sector, on the first start.")] = Sector.EDUCATION,
    port: Annotated[int, typer.Option(help="Port of your node's API; 0 takes any.", min=0, max=65535)] = 8080,
    delay: Annotated[float, typer.Option(help="Seconds that the slow partner lets pass.", min=0)] = 20.0,
) -> None:
    """Run a node for your system, with partners that accept, decline, ask, delay, repeat or reject.

    Until Ctrl-C. It keeps a signed report of what your system has been through.
    """
    if context.invoked_subcommand is not None:
        return
    from gateway.provisioning import NewAgency  # noqa: PLC0415 - the other commands start without it
    from gateway.sandbox import run_sandbox  # noqa: PLC0415

    you = NewAgency(AgencyId(agency), agency.replace("-", " ").capitalize(), sector)
    asyncio.run(run_sandbox(folder, you, port=port, delay=delay, say=typer.echo))


@sandbox_app.command("report")
def report(folder: Folder = Path("gateway-sandbox"), as_json: Json = False) -> None:
    """Show what your system has been through so far."""
    _show(folder / "report.json", as_json=as_json)


@sandbox_app.command("verify")
def verify(
    file: Annotated[Path, typer.Argument(help="A report.json.")],
    key: Annotated[str, typer.Option(help="The key id that must have signed it, or how it begins.")] = "",
    as_json: Json = False,
) -> None:
    """Check the signature of a report that somebody sends you. Exit 1 if it does not hold."""
    kid = _show(file, as_json=as_json)
    if not kid.startswith(key.lower()):
        fail(f"another key signed it: {kid}", Exit.REFUSED)


def _show(file: Path, *, as_json: bool) -> str:
    """Print a report that verifies; the id of the key that signed it."""
    try:
        if file.stat().st_size > MAX_STATEMENT:
            raise StartupError(f"{file} is too large to be a report")
        document = json.loads(file.read_bytes())
        found, kid = read_statement(document, CONFORMANCE_CONTEXT)
    except OSError as error:
        raise StartupError(f"cannot read {file}: {error.strerror}; `gateway sandbox` writes it") from None
    except (ValueError, RecursionError):
        raise StartupError(f"{file} is not JSON") from None
    except StatementInvalid as error:
        fail(str(error), Exit.REFUSED)
    if document.get("report") != found:
        fail("the report is not what was signed", Exit.REFUSED)
    if as_json:
        show(found | {"key": kid})
    else:
        try:
            lines = _lines(found, kid)
        except (KeyError, TypeError):
            fail("what was signed is not a report of the sandbox", Exit.REFUSED)
        typer.echo("\n".join(lines))
    return kid


def _lines(found: dict[str, Any], kid: str) -> list[str]:
    """A report for a person. Raises KeyError, TypeError when it is none."""
    head = f"{found['agency']}, {found['made']}, gateway {found['gateway']}; signed by key {kid[:16]}"
    lines = [head, *(f"  {'done' if one['met'] else 'left'}  {one['what']}" for one in found["exercises"])]
    # Somebody else's words: none of them may move the cursor of a terminal.
    return ["".join(c if c.isprintable() else "?" for c in line) for line in lines]
