"""What may go wrong around keys, directory and log: one clear refusal, and every file as it was.

A token that is away: tests/e2e/test_token.py. A restore with another passphrase: tests/e2e/test_restore.py.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway import config
from gateway.crypto import protected
from gateway.crypto.keystore import FileKeyStore
from gateway.directory import repository
from gateway.directory.mirror import DirectoryMirror
from gateway.directory.repository import Repository
from gateway.errors import StartupError
from gateway.messages import AgencyId
from tests.command import app
from tests.fuzz import directories, files
from tests.vectors import parts
from tests.world import POLICE, SCHOOL, provision

PASSPHRASE = b"correct horse battery staple"
NOW = 1_795_000_000_000


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protected, "_N", 1 << 10)
    monkeypatch.setattr(protected, "_LEAST", 1 << 10)


def held(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def refused(*arguments: object) -> str:
    """What a command that refuses says: one line."""
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exit_code != 0
    said = str(done.exception) if isinstance(done.exception, StartupError) else done.stderr
    assert len(said.strip().splitlines()) == 1, done.exception
    return said


@pytest.mark.usefixtures("cheap")
def test_another_passphrase_changes_nothing(tmp_path: Path) -> None:
    world = provision(tmp_path, (SCHOOL, POLICE))
    node = world.folder / POLICE
    settings = (node / config.FILE_NAME).read_text("utf-8")
    named = settings.replace("[node]", '[node]\nkeys_passphrase_file = "passphrase"', 1)
    (node / config.FILE_NAME).write_text(named, "utf-8")
    (node / "passphrase").write_bytes(PASSPHRASE)
    (node / "passphrase").chmod(0o600)
    assert CliRunner().invoke(app, ["keys", "protect", "-n", str(node)]).exit_code == 0
    (node / "passphrase").write_bytes(b"another horse altogether")
    before = held(tmp_path)
    for command in (["keys", "list"], ["keys", "rotate"], ["keys", "protect"], ["audit", "export", "log"]):
        said = refused(*command, "-n", node)
        assert "another passphrase" in said
        assert "horse" not in said
        assert held(tmp_path) == before
    (node / "passphrase").write_bytes(PASSPHRASE)
    assert CliRunner().invoke(app, ["keys", "list", "-n", str(node)]).exit_code == 0


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("passphrase", [None, PASSPHRASE], ids=["plain", "protected"])
def test_half_a_key_file_is_refused_wherever_it_ends(tmp_path: Path, passphrase: bytes | None) -> None:
    store, agency = FileKeyStore(tmp_path, passphrase), AgencyId("school")
    store.create(agency, NOW)
    file = tmp_path / "school.json"
    whole = file.read_bytes()
    for length in range(len(whole.rstrip())):
        file.write_bytes(whole[:length])
        for use in (store.load, lambda one: store.rotate(one, NOW, NOW)):
            with pytest.raises(StartupError, match="damaged: restore the file from a backup"):
                use(agency)
        assert held(tmp_path) == {"school.json": whole[:length]}
    with pytest.raises(StartupError, match="never overwritten"):
        store.create(agency, NOW)
    file.write_bytes(whole)
    assert store.load(agency).created == NOW


def test_half_a_new_key_file_beside_the_old_one_is_never_read(tmp_path: Path) -> None:
    """Where a process died while it wrote: the new file has no name yet that is looked for."""
    store, agency = FileKeyStore(tmp_path), AgencyId("school")
    made = store.create(agency, NOW)
    (tmp_path / "school.0123456789abcdef.new").write_bytes(b'{"format"')
    before = held(tmp_path)
    assert store.load(agency).signing.kid == made.signing.kid
    assert store.agencies() == [agency]
    assert held(tmp_path) == before
    assert len(store.rotate(agency, NOW, NOW).signing_keys) == 2


class Mirrored:
    """A repository, and a node that has taken version 2 of its directory."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.repo, self.cache = folder, directories.published(folder), folder / "cache"
        self.root = folder / "root.json"
        shutil.copy(self.repo / "metadata" / "1.root.json", self.root)
        shutil.copytree(self.repo, folder / "old")
        self.publish(directories.document() | {"agreements": []})
        assert self.node().current.document.agreements == ()

    def publish(self, document: object) -> None:
        made = Repository(self.repo)
        made.propose(json.dumps(document).encode(), [], repository.now())
        made.sign(parts.SIGNING[parts.SCHOOL]._key, repository.now())
        made.publish(parts.SIGNING[parts.POLICE]._key, repository.now())

    def node(self) -> DirectoryMirror:
        """As it starts: with no memory but its folder."""
        self.refusals = 0
        return DirectoryMirror(str(self.repo), self.root, self.cache, self._refuse)

    def _refuse(self) -> None:
        self.refusals += 1

    def kept(self) -> dict[str, bytes]:
        return {name: data for name, data in held(self.cache).items() if name.endswith("good.json")}


def test_a_directory_of_the_past_is_refused_after_a_restart_too(tmp_path: Path) -> None:
    ground = Mirrored(tmp_path)
    before = held(ground.cache)
    shutil.rmtree(ground.repo)
    (tmp_path / "old").rename(ground.repo)
    node = ground.node()
    assert ground.refusals == 1
    assert node.current.document.agreements == (), "what was known before the restart still counts"
    assert held(ground.cache) == before


def test_a_directory_of_a_later_format_is_refused_and_the_last_good_copy_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground = Mirrored(tmp_path)
    before = ground.kept()
    published = Repository(ground.repo).directory()
    with monkeypatch.context() as newer:  # gateways, that governance has
        newer.setattr(repository, "_check", lambda _: published)
        newer.setattr(Repository, "explain", lambda *_: [])
        ground.publish(directories.document() | {"version": 2})
    node = ground.node()
    assert ground.refusals == 1
    assert node.current.document.version == 1
    assert ground.kept() == before
    with pytest.raises(StartupError, match="no last good copy"):
        DirectoryMirror(str(ground.repo), ground.root, tmp_path / "new")


def test_of_two_histories_only_the_one_a_peer_kept_verifies(tmp_path: Path) -> None:
    """Both are whole, and signed by the same keys."""
    for name in ("honest", "forged"):
        lines, note = files.exported(name)
        (tmp_path / name).write_text("\n".join(lines), "utf-8")
        (tmp_path / f"{name}.note").write_text(note, "utf-8")
        assert CliRunner().invoke(app, ["audit", "verify", str(tmp_path / name)]).exit_code == 0
    before = held(tmp_path)

    def verify(log: str, kept: str) -> str:
        return refused("audit", "verify", tmp_path / log, "--checkpoint", tmp_path / kept)

    assert "not those of the checkpoint that was kept elsewhere: the log was rewritten" in verify(
        "forged", "honest.note"
    )
    assert "rewritten" in verify("honest", "forged.note")
    assert "is not a checkpoint" in verify("honest", "honest")
    arguments = ["audit", "verify", str(tmp_path / "honest"), "-c", str(tmp_path / "honest.note")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert held(tmp_path) == before
