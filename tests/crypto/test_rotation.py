"""Rotating the keys in a file: the old ones stay, and no two changes undo each other."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from gateway.crypto import keystore
from gateway.crypto.keystore import FileKeyStore
from gateway.errors import StartupError
from gateway.messages import AgencyId

POLICE = AgencyId("northtown-police")
NOW = 1_795_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> FileKeyStore:
    store = FileKeyStore(tmp_path / "keys")
    store.create(POLICE, NOW)
    return store


def test_old_keys_stay_and_new_ones_come_last(store: FileKeyStore, tmp_path: Path) -> None:
    before = store.load(POLICE)
    after = store.rotate(POLICE, NOW + 1, NOW + 10)
    assert [key.kid for key in after.signing_keys][:-1] == [before.signing.kid]
    assert list(after.opening)[:-1] == list(before.opening)
    assert after.idempotency_secret == before.idempotency_secret
    assert after.dates[after.signing.kid].starts == NOW + 10
    assert json.loads((tmp_path / "keys" / f"{POLICE}.json").read_text("utf-8"))["version"] == 2
    again = store.rotate(POLICE, NOW + 10, NOW + 20)
    assert len(again.signing_keys) == len(again.opening) == 3


def test_of_two_rotations_at_once_one_is_refused(store: FileKeyStore) -> None:
    outcomes: list[str] = []

    def rotate() -> None:
        try:
            store.rotate(POLICE, NOW, NOW + 10)
            outcomes.append("done")
        except StartupError:
            outcomes.append("refused")

    threads = [threading.Thread(target=rotate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["done", "refused", "refused", "refused"]
    assert len(store.load(POLICE).opening) == 2


@pytest.mark.parametrize("passphrase", [None, b"correct horse battery staple"])
def test_a_file_that_could_not_be_read_again_is_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passphrase: bytes | None
) -> None:
    store = FileKeyStore(tmp_path, passphrase)
    store.create(POLICE, NOW)
    file = tmp_path / f"{POLICE}.json"
    monkeypatch.setattr(keystore, "LARGEST", file.stat().st_size + 100)
    before = file.read_bytes()
    with pytest.raises(StartupError, match="larger than any key file: nothing is changed"):
        store.rotate(POLICE, NOW + 1, NOW + 2)
    assert file.read_bytes() == before
    assert len(store.load(POLICE).dates) == 2
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_keys_may_change_every_day_for_years(tmp_path: Path) -> None:
    store = FileKeyStore(tmp_path)
    store.create(POLICE, NOW)
    keys = store.rotate(POLICE, NOW + 1, NOW + 2)
    before = (tmp_path / f"{POLICE}.json").stat().st_size
    store.rotate(POLICE, NOW + 3, NOW + 4)
    for kid in (keys.signing_keys[0].kid, next(iter(keys.opening))):
        store.destroy(POLICE, kid, NOW + 5)
    each = (tmp_path / f"{POLICE}.json").stat().st_size - before
    assert 10 * 365 * each * 4 // 3 < keystore.LARGEST  # in base64, where it is protected


def test_another_users_file_is_not_replaced(store: FileKeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(StartupError, match="another user's"):
        store.rotate(POLICE, NOW, NOW)
