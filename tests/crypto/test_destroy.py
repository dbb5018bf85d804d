"""Destroying a key: its secret is in no file any more, whenever the process dies; a tombstone stays."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.crypto.key_document import AgencyKeys
from gateway.crypto.key_rows import Due, due
from gateway.crypto.keys import OpeningKey
from gateway.crypto.keystore import FileKeyStore, Kinds
from gateway.crypto.labels import SUITE_HYBRID, SUITE_P256
from gateway.errors import StartupError
from gateway.messages import AgencyId
from gateway.protocol.keys import KeyState

POLICE = AgencyId("police")
PASSPHRASE = b"correct horse battery staple"
NOW = 1_795_000_000_000
PARTLY = """
import os, sys
from pathlib import Path
from gateway.crypto.keystore import FileKeyStore
from gateway.messages import AgencyId

folder, kid, steps = Path(sys.argv[1]), bytes.fromhex(sys.argv[2]), int(sys.argv[3])

def dying(function):
    def step(*arguments, **options):
        global steps
        if steps == 0:
            os._exit(9)
        steps -= 1
        return function(*arguments, **options)
    return step

for name in ("open", "write", "fsync", "replace", "unlink", "fstat"):
    setattr(os, name, dying(getattr(os, name)))
FileKeyStore(folder).destroy(AgencyId("police"), kid, 1)
"""
"""Destroys a key, and dies at one of the calls that touch the disk: the last argument says at which."""


@pytest.fixture
def store(tmp_path: Path) -> FileKeyStore:
    made = FileKeyStore(tmp_path)
    made.create(POLICE, NOW)
    made.rotate(POLICE, NOW + 1, NOW + 2)
    return made


def secret_of(keys: AgencyKeys, kid: bytes) -> bytes:
    key = keys.opening[kid]
    assert isinstance(key, OpeningKey)
    return key.secret


def forms(secret: bytes) -> list[bytes]:
    """Every way a secret is ever written down."""
    whole = [secret, secret.hex().encode(), base64.b64encode(secret), base64.urlsafe_b64encode(secret)]
    return [one.rstrip(b"=") for one in whole]


def holding(folder: Path, secret: bytes) -> list[str]:
    """The files that hold a secret."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if any(form in path.read_bytes() for form in forms(secret))]


@pytest.mark.parametrize("use", ["sign", "seal"])
def test_a_tombstone_takes_the_keys_place(store: FileKeyStore, tmp_path: Path, use: str) -> None:
    before = store.load(POLICE)
    old = before.signing_keys[0].kid if use == "sign" else next(iter(before.opening))
    after = store.destroy(POLICE, old, NOW + 9)
    assert old not in after.dates
    assert after.knows(old)
    assert len(after.signing_keys) + len(after.opening) == 3
    assert after.idempotency_secret == before.idempotency_secret
    (stone,) = after.destroyed
    assert (stone.use, stone.public.kid, stone.dates, stone.destroyed) == (
        use,
        old,
        before.dates[old],
        NOW + 9,
    )
    (row,) = [one for one in store.rows(POLICE, NOW + 10) if one.kid == old]
    assert (row.state, row.since, row.use) == (KeyState.DESTROYED, NOW + 9, use)
    assert json.loads((tmp_path / "police.json").read_text("utf-8"))["version"] == 4
    for again in (store.destroy(POLICE, old, NOW + 20), store.rotate(POLICE, NOW + 30, NOW + 31)):
        assert [(one.public.kid, one.destroyed) for one in again.destroyed] == [(old, NOW + 9)]


def test_the_secret_is_in_no_file_and_the_old_file_is_overwritten(
    store: FileKeyStore, tmp_path: Path
) -> None:
    keys = store.load(POLICE)
    old = next(iter(keys.opening))
    secret = secret_of(keys, old)
    assert holding(tmp_path, secret) == ["police.json"]
    with (tmp_path / "police.json").open("rb") as file:
        store.destroy(POLICE, old, NOW + 9)
        assert set(file.read()) == {0}
    assert holding(tmp_path, secret) == []
    assert set(store.load(POLICE).opening) == set(keys.opening) - {old}


def test_of_a_protected_file_nothing_stays_either(tmp_path: Path) -> None:
    store = FileKeyStore(tmp_path, PASSPHRASE)
    store.create(POLICE, NOW)
    keys = store.rotate(POLICE, NOW + 1, NOW + 2)
    before = (tmp_path / "police.json").read_bytes()
    after = store.destroy(POLICE, next(iter(keys.opening)), NOW + 9)
    assert before not in [path.read_bytes() for path in tmp_path.iterdir()]
    assert len(after.opening) == 1
    assert store.is_protected(POLICE)


def test_a_copy_that_somebody_keeps_is_left_alone(store: FileKeyStore, tmp_path: Path) -> None:
    """A second name for the same file is a backup: not ours to destroy, and docs/keys.md says so."""
    os.link(tmp_path / "police.json", tmp_path / "copy")
    before = (tmp_path / "copy").read_bytes()
    store.destroy(POLICE, next(iter(store.load(POLICE).opening)), NOW + 9)
    assert (tmp_path / "copy").read_bytes() == before


def test_the_last_key_of_a_use_stays(tmp_path: Path) -> None:
    store = FileKeyStore(tmp_path)
    keys = store.create(POLICE, NOW)
    before = (tmp_path / "police.json").read_bytes()
    for kid in keys.dates:
        with pytest.raises(StartupError, match="no other key of this use: run `gateway keys rotate` first"):
            store.destroy(POLICE, kid, NOW)
        assert (tmp_path / "police.json").read_bytes() == before


def test_whenever_it_dies_the_keys_load_and_the_next_try_ends_it(tmp_path: Path) -> None:
    """kill -9 at every call that touches the disk, one after the other."""
    for steps in range(100):
        folder = tmp_path / str(steps)
        store = FileKeyStore(folder)
        store.create(POLICE, NOW)
        keys = store.rotate(POLICE, NOW + 1, NOW + 2)
        old, new = keys.opening
        command = [sys.executable, "-c", PARTLY, str(folder), old.hex(), str(steps)]
        code = subprocess.run(command, check=False, timeout=60).returncode
        half = store.load(POLICE)
        assert set(half.opening) in ({old, new}, {new})
        done = store.destroy(POLICE, old, NOW + 9)
        assert set(done.opening) == {new}
        assert len(done.destroyed) == 1
        assert holding(folder, secret_of(keys, old)) == []
        assert [path.name for path in folder.iterdir()] == ["police.json"]
        if code == 0:
            assert steps > 5
            return
        assert code == 9
    raise AssertionError("it never ended")


def test_what_a_crash_left_of_another_change_goes_too(store: FileKeyStore, tmp_path: Path) -> None:
    keys = store.load(POLICE)
    old = next(iter(keys.opening))
    left, others = tmp_path / "police.0123456789abcdef.new", tmp_path / "police-two.0123456789abcdef.new"
    for path in (left, others):
        path.write_bytes((tmp_path / "police.json").read_bytes())
    store.destroy(POLICE, old, NOW + 9)
    assert not left.exists()
    assert others.exists()  # it is of another agency


def test_a_file_behind_a_link_is_not_changed(store: FileKeyStore, tmp_path: Path) -> None:
    """The link would be replaced by the new file, and the old one stay where it is, with all its keys."""
    keys = store.load(POLICE)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "police.json").rename(tmp_path / "elsewhere" / "police.json")
    (tmp_path / "police.json").symlink_to(tmp_path / "elsewhere" / "police.json")
    sealing = FileKeyStore(tmp_path, PASSPHRASE)
    for change in (
        lambda: store.destroy(POLICE, next(iter(keys.opening)), NOW + 9),
        lambda: store.rotate(POLICE, NOW + 9, NOW + 9),
        lambda: sealing.protect(POLICE),
    ):
        with pytest.raises(StartupError, match="are a link"):
            change()
    assert store.load(POLICE).dates == keys.dates
    assert (tmp_path / "police.json").is_symlink()


def test_nothing_shown_of_a_tombstone_is_a_secret(store: FileKeyStore, tmp_path: Path) -> None:
    keys = store.load(POLICE)
    old = next(iter(keys.opening))
    after = store.destroy(POLICE, old, NOW + 9)
    shown = repr(after) + repr(store.rows(POLICE, NOW + 10))
    assert not any(form.decode("latin-1") in shown for form in forms(secret_of(keys, old)))


def test_an_opening_key_is_due_for_rotation_and_then_for_destruction(tmp_path: Path) -> None:
    store = FileKeyStore(tmp_path)
    first = store.create(POLICE, NOW)
    epoch, overlap = 1000, 500

    def waits(now: int) -> list[tuple[bytes, Due]]:
        return [(row.kid, what) for row, what in due(store.rows(POLICE, now, overlap), now, epoch)]

    seal, sign = first.current_opening.kid, first.signing.kid
    assert waits(NOW + epoch - 1) == []
    assert waits(NOW + epoch) == [(seal, Due.ROTATE)]
    store.rotate(POLICE, NOW + epoch, NOW + epoch + 10)
    assert waits(NOW + epoch) == []  # the next one is there already
    over = NOW + epoch + 10 + overlap
    assert waits(over - 1) == []
    assert sorted(waits(over)) == sorted([(sign, Due.DESTROY), (seal, Due.DESTROY)])


def test_a_key_of_one_suite_does_not_retire_that_of_another(tmp_path: Path) -> None:
    FileKeyStore(tmp_path, new=Kinds(opening=(SUITE_HYBRID,))).create(POLICE, NOW)
    both = FileKeyStore(tmp_path, new=Kinds(opening=(SUITE_HYBRID, SUITE_P256)))
    both.rotate(POLICE, NOW + 1, NOW + 2)
    both.rotate(POLICE, NOW + 3, NOW + 4)
    found = [(row.suite, str(row.state)) for row in both.rows(POLICE, NOW + 5, 1) if row.use == "seal"]
    assert sorted(found) == sorted(
        [
            (SUITE_HYBRID, "retired"),
            (SUITE_HYBRID, "retired"),
            (SUITE_HYBRID, "active"),
            (SUITE_P256, "retired"),
            (SUITE_P256, "active"),
        ]
    )
    alone = FileKeyStore(tmp_path, new=Kinds(opening=(SUITE_HYBRID,)))  # P-256 is given up
    alone.rotate(POLICE, NOW + 5, NOW + 6)
    found = [(row.suite, str(row.state)) for row in alone.rows(POLICE, NOW + 9, 1) if row.use == "seal"]
    assert found.count((SUITE_P256, "retired")) == 2
    assert found.count((SUITE_HYBRID, "active")) == 1
