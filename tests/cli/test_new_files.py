"""Files that commands write: whole or not at all, over nothing that is there, for their owner alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.audit import write_whole
from gateway.errors import StartupError
from tests.command import typed


def test_two_commands_at_once_do_not_write_into_one_file(tmp_path: Path) -> None:
    file = tmp_path / "backup"

    def pieces() -> Iterator[bytes]:
        yield b"the slow one, "
        write_whole(file, [b"the quick one"])
        yield b"which comes too late"

    with pytest.raises(StartupError, match="exists already"):
        write_whole(file, pieces())
    assert file.read_bytes() == b"the quick one"
    assert [path.name for path in tmp_path.iterdir()] == ["backup"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["{}", ".{}.partial"])
def test_a_link_that_somebody_laid_is_not_followed(tmp_path: Path, name: str) -> None:
    other, file = tmp_path / "other", tmp_path / "export"
    other.write_bytes(b"what is there")
    (tmp_path / name.format(file.name)).symlink_to(other)
    try:
        write_whole(file, [b"new"])
    except StartupError:
        assert file.is_symlink()
    assert other.read_bytes() == b"what is there"


@pytest.mark.parametrize("name", ["", ".", "/", "absent/file"])
def test_what_is_no_name_of_a_new_file_is_a_clear_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StartupError, match=r"exists already|cannot write"):
        write_whole(Path(name), [b"new"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["directory", "operator"])
def test_a_new_key_replaces_no_public_half(tmp_path: Path, command: str) -> None:
    """The private key may be where it belongs, in a safe."""
    key, passphrase = tmp_path / "lead.key", tmp_path / "passphrase"
    passphrase.write_bytes(b"correct horse battery")
    assert typed(command, "key", key, "--passphrase-file", passphrase).exit_code == 0
    public = (tmp_path / "lead.key.pub").read_bytes()
    key.unlink()
    done = typed(command, "key", key, "--passphrase-file", passphrase)
    assert "exists already" in str(done.exception)
    assert (tmp_path / "lead.key.pub").read_bytes() == public
    assert not key.exists()


def test_a_key_that_does_not_fit_on_the_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, passphrase = tmp_path / "lead.key", tmp_path / "passphrase"
    passphrase.write_bytes(b"correct horse battery")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        done = typed("operator", "key", key, "--passphrase-file", passphrase)
    assert "No space left" in str(done.exception)
    assert not key.exists()
    assert typed("operator", "key", key, "--passphrase-file", passphrase).exit_code == 0
