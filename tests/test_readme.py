"""The README's five minutes, typed as a newcomer would: every command in it, with ports of our own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.ports import free_port

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def commands(step: str) -> list[str]:
    """The shell blocks that follow a `<!-- quickstart: step -->` mark, up to the next text."""
    after = README.split(f"<!-- quickstart: {step} -->\n", 1)[1]
    blocks = re.match(r"(?:```sh\n.*?```\n)+", after, re.DOTALL)
    assert blocks, step
    return re.findall(r"```sh\n(.*?)```", blocks[0], re.DOTALL)


class Terminal:
    """Runs blocks of the README in a folder, with the ports replaced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ports = {port: str(free_port()) for port in ("8081", "8082", "9081", "9082")}
        self._background: list[subprocess.Popen[bytes]] = []
        (folder / ".venv").mkdir()
        (folder / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
        self._environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def _script(self, block: str) -> str:
        for written, ours in self._ports.items():
            block = block.replace(written, ours)
        return "set -euo pipefail\n" + block

    def run(self, step: str, *, where: str = ".") -> str:
        """Run a step; its output. Fails with it when a command fails."""
        script = "\n".join(commands(step))
        done = subprocess.run(
            ["bash", "-c", self._script(script)],
            cwd=self.folder / where,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, step: str, *, where: str) -> None:
        """Start each block of a step in a terminal of its own."""
        for block in commands(step):
            self._background.append(
                subprocess.Popen(
                    ["bash", "-c", "exec " + block.strip()],
                    cwd=self.folder / where,
                    env=self._environment,
                    stderr=subprocess.DEVNULL,
                )
            )
        for port in ("8081", "8082"):
            self._until_listening(int(self._ports[port]))

    @staticmethod
    def _until_listening(port: int) -> None:
        ends = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                assert time.monotonic() < ends, "the node does not listen"
                time.sleep(0.05)
            else:
                return

    def close(self) -> None:
        """Stop what was started."""
        for process in self._background:
            process.send_signal(signal.SIGTERM)
        for process in self._background:
            assert process.wait(30) == 0, "a node stops in good order"


def test_the_five_minutes_work_as_written(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    terminal.run("setup")
    terminal.start("run", where="trial")
    try:
        accepted = json.loads(terminal.run("send"))
        assert accepted["recipients"][0]["stage"] == "accepted"
        received = terminal.run("receive", where="trial")
        assert '"stage":"delivered"' in received
        assert '"resourceType":' in received.replace(" ", "")
        terminal._environment["ID"] = accepted["message_id"]
        verified = terminal.run("verify", where="trial")
        assert re.findall(r"^valid +(\w+)", verified, re.MULTILINE) == ["accepted", "received", "delivered"]
    finally:
        terminal.close()


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`gateway ([a-z]+(?: [a-z]+)?)[ `]", README))))
def test_every_command_that_the_readme_names_has_help(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gateway", *command.split(), "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
