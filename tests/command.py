"""The command `gateway` with everything it can do, for tests that call it in their own process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from typer.testing import CliRunner, Result

from gateway.cli.root import build

app = build()


def typed(*arguments: object) -> Result:
    """What the command does, in a thread: it begins a loop of its own, and the test may run in one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(CliRunner().invoke, app, [*map(str, arguments)]).result()
