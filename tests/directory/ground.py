"""Three who govern a directory, one who publishes it, and nodes that take it from there."""

from __future__ import annotations

import json
from pathlib import Path

from gateway.directory.mirror import DirectoryMirror
from tests.command import typed
from tests.world import POLICE, SCHOOL

PASSPHRASE = "correct horse battery staple"


class Ground:
    """Three who govern, one who publishes, and a repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repo, self.file = folder / "repo", folder / "directory.json"
        (folder / "passphrase").write_text(f"{PASSPHRASE}\n")
        for name in ("ann", "bob", "cat", "dan", "pub"):
            self.typed("key", folder / name, "--passphrase-file", folder / "passphrase")

    def typed(self, *arguments: object, fails: str = "") -> str:
        done = typed("directory", *arguments)
        if fails:
            assert fails in str(done.exception), done.output
            return str(done.exception)
        assert done.exit_code == 0, (done.output, done.exception)
        return done.stdout

    def by(self, name: str) -> tuple[object, ...]:
        return ("--key", self.folder / name, "--passphrase-file", self.folder / "passphrase")

    def keyid(self, name: str) -> str:
        return str(json.loads((self.folder / f"{name}.pub").read_text())["keyid"])

    def begin(self) -> None:
        holders = [
            part for name in ("ann", "bob", "cat") for part in ("--root-key", self.folder / f"{name}.pub")
        ]
        publisher = ("--publisher-key", self.folder / "pub.pub")
        self.typed("init", self.repo, "-d", self.file, *holders, *publisher)
        self.sign_and_publish("ann", "bob")
        for settings in self.folder.glob("*/gateway.toml"):
            mirror = f'[node]\ndirectory_mirror = "{self.repo}"\ndirectory_root = "{self.root()}"'
            settings.write_text(settings.read_text().replace("[node]", mirror, 1))

    def sign_and_publish(self, *names: str) -> None:
        for name in names:
            self.typed("sign", self.repo, *self.by(name))
        self.typed("publish", self.repo, *self.by("pub"))

    def agreement(self, name: str, *more: object) -> Path:
        """An agreement of the school and the police, written down."""
        file = self.folder / f"{name}-{len(list(self.folder.glob('*.json')))}.json"
        self.typed(
            *("agree", "--out", file, "--id", name, "--from", SCHOOL, "--to", POLICE, "--days", 9),
            *("--purpose", "prevent", "--lawful-basis", "public-task", *more),
        )
        return file

    def made(self, command: str, agency: str, *arguments: object) -> Path:
        """A proposal that an agency makes."""
        out = self.folder / f"{agency}-{len(list(self.folder.glob('*.proposal')))}.proposal"
        self.typed(command, *arguments, "-n", self.folder / agency, "--out", out)
        return out

    def propose(self, *proposals: Path, fails: str = "", directory: Path | None = None) -> str:
        """Stage a new version."""
        file = () if directory is None else ("-d", directory)
        asked = [part for proposal in proposals for part in ("--proposal", proposal)]
        return self.typed("propose", self.repo, *file, *asked, fails=fails)

    def change(self, agreement: str, *signers: str) -> None:
        """An agreement more, published."""
        file = self.agreement(agreement, "--no-both-ways")
        self.propose(*(self.made("consent", agency, file) for agency in (SCHOOL, POLICE)))
        self.sign_and_publish(*(signers or ("bob", "cat")))

    def root(self) -> Path:
        return self.repo / "metadata" / "1.root.json"

    def mirror(self, where: str | Path | None = None, cache: str = "cache") -> DirectoryMirror:
        self.refused = 0
        return DirectoryMirror(str(where or self.repo), self.root(), self.folder / cache, self._refuse)

    def _refuse(self) -> None:
        self.refused += 1
