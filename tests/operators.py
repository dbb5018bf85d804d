"""Operators of a node: people with keys of their own outside every node's folder, named in its settings."""

from __future__ import annotations

import base64
from pathlib import Path

from typer.testing import CliRunner

from gateway import config
from gateway.crypto import governance
from tests.command import app

SECRET = b"a passphrase of many words"
ALL = ("destroy-key", "destroy-key-and-messages", "export-key")


class Operators:
    """A folder with their keys, and what they type."""

    def __init__(self, folder: Path, *names: str) -> None:
        folder.mkdir()
        self.folder, self.publics = folder, dict[str, str]()
        (folder / "passphrase").write_bytes(SECRET)
        for name in (*names, "stranger"):
            pem, key = governance.new_key(SECRET)
            (folder / name).touch(0o600)
            (folder / name).write_bytes(pem)
            self.publics[name] = base64.b64encode(governance.raw(key.public_key())).decode()

    def sections(self, *names: str, may: tuple[str, ...] = ALL) -> str:
        """What the settings say of them."""
        return "".join(
            f'\n[[operators]]\nid = "{name}"\npublic = "{self.publics[name]}"\nmay = {list(may)}\n'
            for name in names
        )

    def install(self, node: Path, *names: str, may: tuple[str, ...] = ALL) -> None:
        """Name them in a node's settings."""
        with (node / config.FILE_NAME).open("a", encoding="utf-8") as file:
            file.write(self.sections(*names, may=may))

    def by(self, name: str) -> list[object]:
        """Options that sign as this person."""
        return ["--by", self.folder / name, "--passphrase-file", self.folder / "passphrase"]


def typed(*arguments: object) -> tuple[int, str]:
    """A command in this process: its exit code, and all that it says."""
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    # What the program's own entry point prints as its one line.
    said = f"{done.output}{done.exception}" if done.exit_code and done.exception else done.output
    return done.exit_code, said
