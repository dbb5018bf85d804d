"""The list of which module has which command is right: a command that it forgets would not be found."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer

from gateway.cli.root import COMMANDS, build


def names(app: typer.Typer) -> set[str]:
    return set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("module", "listed"), COMMANDS.items())
def test_each_module_has_the_commands_that_are_listed(module: str, listed: tuple[str, ...]) -> None:
    for one in listed:
        assert names(build(one)) == set(listed)


def test_an_unknown_command_and_no_command_know_them_all() -> None:
    everything = {one for listed in COMMANDS.values() for one in listed}
    assert names(build()) == names(build("nonsense")) == everything


def test_a_command_imports_what_it_needs_only() -> None:
    script = "import sys; from gateway.cli.root import build; build('keys'); print('aiohttp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
