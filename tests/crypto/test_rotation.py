"""Rotating the keys in a file: the old ones stay, and no two changes undo each other."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

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


def test_another_users_file_is_not_replaced(store: FileKeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(StartupError, match="another user's"):
        store.rotate(POLICE, NOW, NOW)
