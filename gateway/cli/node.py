"""Commands that run: run, demo."""

from __future__ import annotations

import asyncio
import gc
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from gateway import config
from gateway.cli.common import Exit, Json, NodeFolder


class LogLevel(StrEnum):
    """From which level a node logs."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(run)
    app.command()(demo)


def run(
    node: NodeFolder,
    log_level: Annotated[LogLevel, typer.Option(help="What to log from.")] = LogLevel.INFO,
    port: Annotated[int | None, typer.Option(help="Port of the API, instead of the settings'.")] = None,
    admin_port: Annotated[
        int | None, typer.Option(help="Port for operators, instead of the settings'.")
    ] = None,
) -> None:
    """Run a node until it is asked to stop (SIGTERM, Ctrl-C). Logs are JSON lines on standard error.

    With PostgreSQL as its database, any number of processes may run the same node, each on its own ports.
    """
    from gateway.node import Node  # noqa: PLC0415 - the other commands start without loading a node
    from gateway.observability import logs  # noqa: PLC0415

    settings = config.load(node).with_ports(port, admin_port)
    logs.configure(sys.stderr, log_level.value)

    # What is loaded now stays for good: the collector need not look at it again, nor so often.
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)

    async def main() -> None:
        logs.install_loop_handler(asyncio.get_running_loop())
        await Node(settings).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def demo(
    broker: Annotated[
        str,
        typer.Option(
            help="Use this RabbitMQ (amqp://user@host/vhost, as guest without a user) instead of the spool."
        ),
    ] = "",
    broker_password_file: Annotated[
        Path | None, typer.Option(help="File that holds the broker password, unless it is guest's.")
    ] = None,
    shared: Annotated[
        Path, typer.Option(help="Folder with NHS England's own examples, used in addition when it exists.")
    ] = Path("../shared/data"),
    keep: Annotated[
        Path | None,
        typer.Option(help="Play in this new folder and leave it there, for a look at what each node holds."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Watch real referrals cross between five agencies: sealed, delivered, declined, refused, receipted."""
    from gateway.cli.broker import login  # noqa: PLC0415 - most demos have no broker
    from gateway.demo import run_demo  # noqa: PLC0415

    if broker:
        broker, _ = login(broker, broker_password_file, None, option="--broker")
    summary = asyncio.run(run_demo(broker=broker, shared=shared, quiet=as_json, keep=keep))
    if as_json:
        typer.echo(summary.to_json())
    if summary.lost or not summary.all_verified:
        raise typer.Exit(Exit.REFUSED)
