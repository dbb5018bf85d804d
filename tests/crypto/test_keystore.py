"""The key store: keys are made once, kept from others, and refused when they are not whole."""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.crypto.key_files import decode
from gateway.crypto.keys import OpeningKey
from gateway.crypto.keystore import FileKeyStore
from gateway.errors import StartupError
from gateway.messages import AgencyId

POLICE = AgencyId("northtown-police")
NOW = 1_795_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> FileKeyStore:
    return FileKeyStore(tmp_path / "keys")


@pytest.fixture
def file(store: FileKeyStore, tmp_path: Path) -> Path:
    """An agency's key file."""
    store.create(POLICE, NOW)
    return tmp_path / "keys" / "northtown-police.json"


def change(file: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(file.read_text("utf-8"))
    edit(document)
    file.write_text(json.dumps(document), "utf-8")


def test_what_was_made_is_loaded(store: FileKeyStore) -> None:
    made, loaded = store.create(POLICE, NOW), store.load(POLICE)
    assert (loaded.agency, loaded.created) == (POLICE, NOW)
    assert loaded.signing.kid == made.signing.kid
    assert list(loaded.opening) == [made.current_opening.kid] == [loaded.current_opening.kid]
    assert loaded.idempotency_secret == made.idempotency_secret
    assert len(made.idempotency_secret) == 32
    assert made.current_opening.suite == "HPKE-9-KE"


def test_agencies_have_keys_of_their_own(store: FileKeyStore) -> None:
    first, second = store.create(POLICE, NOW), store.create(AgencyId("northtown-academy"), NOW)
    assert first.signing.kid != second.signing.kid
    assert first.current_opening.kid != second.current_opening.kid
    assert first.idempotency_secret != second.idempotency_secret
    assert store.agencies() == ["northtown-academy", "northtown-police"]


def test_only_the_owner_can_read_it_whatever_the_umask(store: FileKeyStore, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store.create(POLICE, NOW)
    finally:
        os.umask(before)
    folder = tmp_path / "keys"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()] == [0o600]


def test_keys_are_never_overwritten(store: FileKeyStore, file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(StartupError, match="never overwritten"):
        store.create(POLICE, NOW)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_a_write_that_fails_leaves_nothing(
    store: FileKeyStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StartupError, match="No space left"):
        store.create(POLICE, NOW)
    monkeypatch.undo()
    assert list((tmp_path / "keys").iterdir()) == []
    assert store.create(POLICE, NOW).agency == POLICE


def test_durable_before_it_has_its_name(store: FileKeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, link = os.fsync, os.link

    def noted_fsync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def noted_link(source: Path, target: Path) -> None:
        steps.append("name")
        link(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "link", noted_link)
    store.create(POLICE, NOW)
    assert steps == ["file", "name", "folder"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_a_file_others_can_reach_is_refused(store: FileKeyStore, file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(StartupError, match="chmod 600"):
        store.load(POLICE)


def test_what_cannot_be_read_says_so(store: FileKeyStore, tmp_path: Path) -> None:
    (tmp_path / "keys" / "northtown-police.json").mkdir(parents=True, mode=0o700)
    with pytest.raises(StartupError, match="cannot read"):
        store.load(POLICE)


def test_missing_keys_say_how_to_make_them(store: FileKeyStore) -> None:
    with pytest.raises(StartupError, match="gateway init"):
        store.load(POLICE)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", "other"),
        ("version", 3),
        ("agency", "northtown-academy"),
        ("signing", "AAAA"),
        ("signing", "not base64!"),
        ("signing", 5),
        ("signing", None),
        ("opening", []),
        ("opening", {}),
        ("opening", ["text"]),
        ("idempotency_secret", "AAAA"),
        ("created", "yesterday"),
        ("created", True),
    ],
)
def test_a_damaged_field_is_refused(store: FileKeyStore, file: Path, name: str, value: object) -> None:
    change(file, lambda document: document.update({name: value}))
    with pytest.raises(StartupError, match="damaged: restore the file from a backup"):
        store.load(POLICE)


@pytest.mark.parametrize(("name", "value"), [("suite", "HPKE-0-KE"), ("secret", ""), ("created", None)])
def test_a_damaged_opening_key_is_refused(store: FileKeyStore, file: Path, name: str, value: object) -> None:
    change(file, lambda document: document["opening"][0].update({name: value}))
    with pytest.raises(StartupError, match="damaged"):
        store.load(POLICE)


@pytest.mark.parametrize("name", ["format", "signing", "opening", "idempotency_secret", "created"])
def test_a_missing_field_is_refused(store: FileKeyStore, file: Path, name: str) -> None:
    change(file, lambda document: document.pop(name))
    with pytest.raises(StartupError, match="damaged"):
        store.load(POLICE)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b'"text"', b"\xff", b"[" * 100_000])
def test_a_file_that_is_no_document_is_refused(store: FileKeyStore, file: Path, text: bytes) -> None:
    file.write_bytes(text)
    with pytest.raises(StartupError, match="damaged"):
        store.load(POLICE)


def test_a_file_cut_anywhere_is_refused(store: FileKeyStore, file: Path) -> None:
    whole = file.read_bytes().rstrip()
    for length in range(0, len(whole), 7):
        file.write_bytes(whole[:length])
        with pytest.raises(StartupError):
            store.load(POLICE)


def test_errors_are_one_line_without_secrets(store: FileKeyStore, file: Path) -> None:
    secret = json.loads(file.read_text("utf-8"))["signing"]
    change(file, lambda d: d.update(idempotency_secret="x"))
    with pytest.raises(StartupError) as refused:
        store.load(POLICE)
    assert secret not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.__suppress_context__


@pytest.mark.parametrize("agency", ["", "../x", "A", "a/b", "-a"])
def test_only_agencies_have_keys(store: FileKeyStore, tmp_path: Path, agency: str) -> None:
    with pytest.raises(StartupError, match="agency identifier"):
        store.create(AgencyId(agency), NOW)
    assert not (tmp_path / "keys").exists()


def test_older_keys_stay_usable(store: FileKeyStore, file: Path) -> None:
    older = store.load(POLICE).current_opening
    newer = OpeningKey.generate()
    secret = base64.urlsafe_b64encode(newer.secret).decode().rstrip("=")
    change(
        file,
        lambda d: d["opening"].append({"suite": newer.suite, "secret": secret, "created": NOW + 1}),
    )
    keys = store.load(POLICE)
    assert set(keys.opening) == {older.kid, newer.kid}
    assert keys.current_opening.kid == newer.kid

    sign, old, new = store.rows(POLICE, NOW + 1)
    assert (sign.use, sign.suite, sign.state) == ("sign", "Ed25519", "active")
    assert (old.kid, old.state, old.created, old.since) == (older.kid, "retiring", NOW, NOW + 1)
    assert (new.kid, new.state, new.created, new.since) == (newer.kid, "active", NOW + 1, NOW + 1)


def test_nothing_shown_holds_a_secret(store: FileKeyStore, file: Path) -> None:
    keys = store.load(POLICE)
    shown = repr(keys) + repr(store.rows(POLICE, NOW + 1)) + repr(keys.signing) + repr(keys.opening)
    written = json.loads(file.read_text("utf-8"))
    for text in (written["signing"], written["opening"][0]["secret"], written["idempotency_secret"]):
        secret = decode(text)
        assert len(secret) == 32
        assert text not in shown
        assert secret.hex() not in shown
        assert repr(secret) not in shown


def test_other_files_in_the_folder_are_none_of_its_business(store: FileKeyStore, file: Path) -> None:
    (file.parent / "README.json").write_text("{}", "utf-8")
    (file.parent / "northtown-police.1234.new").write_text("{", "utf-8")
    assert store.agencies() == [POLICE]
    assert len(store.rows(POLICE, NOW + 1)) == 2
