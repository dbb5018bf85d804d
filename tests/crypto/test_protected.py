"""Key files under a passphrase: they open under it alone, and say no in bounded time and memory."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from gateway import config
from gateway.crypto import protected
from gateway.crypto.keys import OpenFailed
from gateway.crypto.keystore import FileKeyStore
from gateway.errors import StartupError
from gateway.messages import AgencyId
from tests.command import app

POLICE = AgencyId("northtown-police")
NOW = 1_795_000_000_000
PASSPHRASE = b"correct horse battery staple"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protected, "_N", 1 << 10)
    monkeypatch.setattr(protected, "_LEAST", 1 << 10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def file(folder: Path) -> Path:
    FileKeyStore(folder, PASSPHRASE).create(POLICE, NOW)
    return folder / f"{POLICE}.json"


def test_nothing_secret_stands_in_the_file(folder: Path, file: Path) -> None:
    written = file.read_text("utf-8")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert set(json.loads(written)) == {"format", "version", "agency", "scrypt", "sealed"}
    assert FileKeyStore(folder, PASSPHRASE).load(POLICE).created == NOW


def test_another_passphrase_does_not_open_it(folder: Path, file: Path) -> None:
    with pytest.raises(StartupError, match="another passphrase") as refused:
        FileKeyStore(folder, PASSPHRASE + b"x").load(POLICE)
    assert PASSPHRASE.decode() not in str(refused.value)


def test_without_a_passphrase_it_says_what_to_do(folder: Path, file: Path) -> None:
    with pytest.raises(StartupError, match="keys_passphrase_file"):
        FileKeyStore(folder).load(POLICE)


def test_a_short_passphrase_is_refused(folder: Path) -> None:
    with pytest.raises(StartupError, match="12 characters"):
        FileKeyStore(folder, b"short")


def test_protecting_keeps_the_keys_and_happens_once(folder: Path) -> None:
    made = FileKeyStore(folder).create(POLICE, NOW)
    store = FileKeyStore(folder, PASSPHRASE)
    with pytest.raises(StartupError, match="not protected"):
        store.load(POLICE)
    assert store.protect(POLICE)
    kept = store.load(POLICE)
    assert (kept.signing.kid, kept.current_opening.kid, kept.idempotency_secret) == (
        made.signing.kid,
        made.current_opening.kid,
        made.idempotency_secret,
    )
    before = (folder / f"{POLICE}.json").read_bytes()
    assert not store.protect(POLICE)
    assert (folder / f"{POLICE}.json").read_bytes() == before
    assert [path.name for path in folder.iterdir()] == [f"{POLICE}.json"]


def test_protecting_leaves_no_plain_copy_that_a_crash_left(folder: Path) -> None:
    left = folder / f"{POLICE}.0123456789abcdef.new"
    FileKeyStore(folder).create(POLICE, 1)
    left.write_bytes((folder / f"{POLICE}.json").read_bytes())
    with left.open("rb") as kept:
        assert FileKeyStore(folder, PASSPHRASE).protect(POLICE)
        assert set(kept.read()) == {0}
    assert not left.exists()


def test_protecting_that_fails_leaves_the_old_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = FileKeyStore(folder).create(POLICE, NOW)

    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StartupError, match="No space left"):
        FileKeyStore(folder, PASSPHRASE).protect(POLICE)
    assert FileKeyStore(folder).load(POLICE).signing.kid == made.signing.kid
    assert len(list(folder.iterdir())) == 1


def test_each_write_has_a_salt_of_its_own() -> None:
    first, second = (protected.protect({"a": 1}, PASSPHRASE, POLICE) for _ in range(2))
    assert first["scrypt"]["salt"] != second["scrypt"]["salt"]
    assert first["sealed"] != second["sealed"]


@pytest.mark.parametrize(
    "costs",
    [
        *({"n": n} for n in (1 << 40, 1 << 19, 512, 1025, True, "1024")),
        *({"r": 1 << 20}, {"p": 1 << 20}, {"salt": "AAAA"}, {"salt": 5}, {"extra": 1}),
    ],
)
def test_costs_out_of_bounds_are_refused_before_any_work(
    monkeypatch: pytest.MonkeyPatch, costs: dict[str, Any]
) -> None:
    document = protected.protect({"a": 1}, PASSPHRASE, POLICE)
    document["scrypt"].update(costs)

    def no_work(*_: object, **__: object) -> None:
        pytest.fail("scrypt ran")

    monkeypatch.setattr(protected, "Scrypt", no_work)
    with pytest.raises(ValueError, match="not"):
        protected.reveal(document, PASSPHRASE, POLICE)


def test_what_is_real_is_within_the_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    document = protected.protect({"a": 1}, PASSPHRASE, POLICE)
    assert document["scrypt"]["n"] == 65536
    assert protected.reveal(document, PASSPHRASE, POLICE) == {"a": 1}


def test_a_file_does_not_open_as_another_agencys(folder: Path, file: Path) -> None:
    document = json.loads(file.read_text("utf-8"))
    other = AgencyId("southtown-police")
    document["agency"] = other
    with pytest.raises(OpenFailed):
        protected.reveal(document, PASSPHRASE, other)


@settings(max_examples=60, deadline=None)
@given(at=st.integers(min_value=0), byte=st.integers(0, 255))
def test_a_changed_byte_is_noticed_or_means_nothing(at: int, byte: int) -> None:
    cost, least = protected._N, protected._LEAST
    protected._N = protected._LEAST = 1 << 10
    try:
        whole = json.dumps(protected.protect({"a": 1}, PASSPHRASE, POLICE)).encode()
        at %= len(whole)
        changed = whole[:at] + bytes([byte]) + whole[at + 1 :]
        try:
            opened = protected.reveal(json.loads(changed), PASSPHRASE, POLICE)
        except (ValueError, OpenFailed):
            return
        assert opened == {"a": 1}
    finally:
        protected._N, protected._LEAST = cost, least


def settings_file(tmp_path: Path, line: str) -> config.Settings:
    text = f'[node]\nagencies = ["{POLICE}"]\n{line}\n[transport]\nkind = "embedded"\n'
    (tmp_path / "gateway.toml").write_text(text, "utf-8")
    return config.load(tmp_path)


def test_the_passphrase_comes_from_a_file_of_the_settings(tmp_path: Path) -> None:
    passphrase = tmp_path / "passphrase"
    passphrase.write_bytes(PASSPHRASE + b"\n")
    found = settings_file(tmp_path, 'keys_passphrase_file = "passphrase"')
    passphrase.chmod(0o640)
    with pytest.raises(StartupError, match="chmod 600"):
        found.key_store()
    passphrase.chmod(0o600)
    found.key_store().create(POLICE, NOW)
    assert FileKeyStore(tmp_path / "keys", PASSPHRASE).load(POLICE).created == NOW


def test_or_from_a_systemd_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings_file(tmp_path, 'keys_passphrase_credential = "gateway-keys"')
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(StartupError, match="systemd"):
        found.key_store()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "gateway-keys").write_bytes(PASSPHRASE)
    found.key_store().create(POLICE, NOW)
    assert FileKeyStore(tmp_path / "keys", PASSPHRASE).is_protected(POLICE)


def test_but_not_from_both(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="either"):
        settings_file(tmp_path, 'keys_passphrase_file = "a"\nkeys_passphrase_credential = "b"')


def test_the_command_protects_in_place_and_list_says_what_is_plain(tmp_path: Path) -> None:
    settings_file(tmp_path, "").key_store().create(POLICE, NOW)
    run = CliRunner().invoke
    assert "keys in plain" in run(app, ["keys", "list", "-n", str(tmp_path)]).stderr
    (tmp_path / "passphrase").write_bytes(PASSPHRASE)
    (tmp_path / "passphrase").chmod(0o600)
    settings_file(tmp_path, 'keys_passphrase_file = "passphrase"')
    assert run(app, ["keys", "protect", "-n", str(tmp_path)]).stdout == f"{POLICE}: protected\n"
    listed = run(app, ["keys", "list", "-n", str(tmp_path)])
    assert (listed.exit_code, listed.stderr) == (0, "")
