"""Private keys in a PKCS#11 token: SoftHSM, a real token in software."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pkcs11
import pytest
from pkcs11 import Attribute, ObjectClass
from pkcs11.exceptions import AttributeSensitive

from gateway.crypto import key_document, key_files, keystore
from gateway.crypto.keys import OpenFailed, OpeningKey, SealingKey, SigningKey
from gateway.crypto.keystore import FileKeyStore, Kinds
from gateway.crypto.labels import SUITE_ED25519, SUITE_ESP256, SUITE_HYBRID, SUITE_P256
from gateway.crypto.token import Token
from gateway.errors import StartupError, Unavailable
from gateway.messages import AgencyId
from tests import softhsm

pytestmark = softhsm.NEEDED


@pytest.fixture(scope="module")
def soft(tmp_path_factory: pytest.TempPathFactory) -> Iterator[softhsm.SoftToken]:
    made = softhsm.SoftToken(tmp_path_factory.mktemp("token") / "hsm")
    made.add("other")
    with made.here():
        yield made


@pytest.fixture
def token(soft: softhsm.SoftToken) -> Iterator[Token]:
    made = Token(soft.module, soft.label, softhsm.PIN.encode())
    yield made
    made.close()


@pytest.mark.parametrize("suite", [SUITE_ED25519, SUITE_ESP256])
def test_it_signs_as_any_other_key(token: Token, suite: str) -> None:
    key_id, key = token.make_signing(suite)
    again = token.signing(key_id, key.public)
    assert again.kid == key.kid
    assert key.public.suite == suite
    for data in (b"", b"one", bytes(100_000)):
        assert key.public.verify(again.sign(data), data)
        assert not key.public.verify(again.sign(data), data + b"x")


def test_it_opens_what_is_sealed_to_it(token: Token) -> None:
    key_id, key = token.make_opening(SUITE_P256)
    enc, sealed = key.public.seal(b"content key", b"info")
    assert token.opening(key_id, key.public).open(enc, sealed, b"info") == b"content key"
    for bad in ((enc, sealed, b"other"), (enc, sealed[:-1], b"info"), (bytes(65), sealed, b"info")):
        with pytest.raises(OpenFailed):
            key.open(*bad)
    other_enc, _ = OpeningKey.generate(SUITE_P256).public.seal(b"x", b"")
    with pytest.raises(OpenFailed):
        key.open(other_enc, sealed, b"info")
    assert token.usable  # a bad envelope is no fault of the token


def test_the_secret_cannot_be_had(token: Token, soft: softhsm.SoftToken) -> None:
    key_id, _ = token.make_signing(SUITE_ESP256)
    found = pkcs11.lib(str(soft.module)).get_token(token_label=soft.label)
    with found.open() as session:
        kept = session.get_key(object_class=ObjectClass.PRIVATE_KEY, id=key_id)
        assert kept[Attribute.NEVER_EXTRACTABLE]
        assert kept[Attribute.LOCAL]
        with pytest.raises(AttributeSensitive):
            _ = kept[Attribute.VALUE]


def test_a_key_that_could_leave_is_refused(token: Token, soft: softhsm.SoftToken) -> None:
    key_id, key = os.urandom(16), SigningKey.generate(SUITE_ESP256)
    found = pkcs11.lib(str(soft.module)).get_token(token_label=soft.label)
    with found.open(rw=True) as session:
        curve = session.create_domain_parameters(
            pkcs11.KeyType.EC, {Attribute.EC_PARAMS: bytes.fromhex("06082a8648ce3d030107")}, local=True
        )
        curve.generate_keypair(id=key_id, store=True, private_template={Attribute.EXTRACTABLE: True})
    with pytest.raises(StartupError, match="can leave"):
        token.signing(key_id, key.public)


def test_the_hybrid_suite_is_not_for_tokens(token: Token) -> None:
    with pytest.raises(StartupError, match="HPKE-7-KE"):
        token.make_opening(SUITE_HYBRID)


def test_another_key_under_that_id_is_refused(token: Token) -> None:
    signing_id, _ = token.make_signing(SUITE_ESP256)
    opening_id, _ = token.make_opening(SUITE_P256)
    with pytest.raises(StartupError, match="not the one"):
        token.signing(signing_id, SigningKey.generate(SUITE_ESP256).public)
    with pytest.raises(StartupError, match="not the one"):
        token.opening(opening_id, OpeningKey.generate(SUITE_P256).public)
    with pytest.raises(StartupError, match="no key"):
        token.signing(os.urandom(16), SigningKey.generate().public)


def test_a_destroyed_key_is_gone(token: Token) -> None:
    key_id, key = token.make_opening(SUITE_P256)
    enc, sealed = key.public.seal(b"content key", b"")
    token.destroy(key_id)
    token.destroy(key_id)  # again is no fault
    with pytest.raises(Unavailable):
        key.open(enc, sealed, b"")
    assert not token.usable


def test_a_session_that_ended_is_begun_anew(token: Token) -> None:
    _, key = token.make_signing(SUITE_ESP256)
    token._session.close()  # type: ignore[union-attr]
    assert key.public.verify(key.sign(b"data"), b"data")
    assert token.usable


def test_a_key_of_another_use_is_refused(token: Token) -> None:
    """A key file in which one row names another's key."""
    signing_id, signing = token.make_signing(SUITE_ESP256)
    opening_id, opening = token.make_opening(SUITE_P256)
    with pytest.raises(StartupError, match=f"no key {signing_id.hex()}"):
        token.opening(signing_id, opening.public)
    with pytest.raises(StartupError, match=opening_id.hex()):
        token.signing(opening_id, signing.public)


def test_a_token_that_is_away_is_unavailable_and_comes_back(soft: softhsm.SoftToken) -> None:
    token = Token(soft.module, "other", softhsm.PIN.encode())
    _, signing = token.make_signing(SUITE_ESP256)
    _, opening = token.make_opening(SUITE_P256)
    enc, sealed = opening.public.seal(b"content key", b"")
    with soft.away():
        with pytest.raises(Unavailable):
            signing.sign(b"data")
        with pytest.raises(Unavailable):
            opening.open(enc, sealed, b"")  # never OpenFailed: the message would be lost
        token.check()
        assert not token.usable
    token.check()
    assert token.usable
    assert signing.public.verify(signing.sign(b"data"), b"data")
    assert opening.open(enc, sealed, b"") == b"content key"


@pytest.mark.parametrize(
    ("label", "pin", "why"),
    [("nowhere", softhsm.PIN, "no token"), ("test", "00000000", "refuses the PIN"), ("test", "", "refuses")],
)
def test_a_wrong_token_or_pin_is_a_clear_refusal(
    soft: softhsm.SoftToken, label: str, pin: str, why: str
) -> None:
    with pytest.raises(StartupError, match=why) as caught:
        Token(soft.module, label, pin.encode())
    assert not pin or pin not in str(caught.value)


def test_a_module_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "module.so").write_bytes(b"nothing")
    for file in (tmp_path / "module.so", tmp_path / "absent.so"):
        with pytest.raises(StartupError, match=r"PKCS#11 module"):
            Token(file, "test", b"1234")


def test_a_refused_pin_is_not_tried_again(soft: softhsm.SoftToken, monkeypatch: pytest.MonkeyPatch) -> None:
    token = Token(soft.module, soft.label, softhsm.PIN.encode())
    _, key = token.make_signing(SUITE_ESP256)
    monkeypatch.setattr(token, "_pin", b"00000000")
    tries = 0
    for _ in range(5):
        token.close()
        try:
            key.sign(b"data")
        except Unavailable:
            tries += 1
    assert tries == 5
    with pkcs11.lib(str(soft.module)).get_token(token_label=soft.label).open(user_pin=softhsm.PIN):
        pass  # not locked


def test_a_destroyed_key_is_in_the_token_no_more(soft: softhsm.SoftToken, tmp_path: Path) -> None:
    agency = AgencyId("police")

    def store() -> FileKeyStore:
        kinds = Kinds(SUITE_ESP256, (SUITE_P256,))
        return FileKeyStore(
            tmp_path, new=kinds, open_token=lambda: Token(soft.module, soft.label, softhsm.PIN.encode())
        )

    def objects(kid: bytes) -> int:
        row = json.loads((tmp_path / "police.json").read_text("utf-8"))
        rows = [*row["opening"], *row.get("destroyed", ())]
        (found,) = [one for one in rows if SealingKey.from_public(SUITE_P256, _raw(one["public"])).kid == kid]
        token = pkcs11.lib(str(soft.module)).get_token(token_label=soft.label)
        with token.open() as session:  # this process is logged in already
            return len(list(session.get_objects({Attribute.ID: bytes.fromhex(found["token"])})))

    first = store().create(agency, 1)
    kid = first.current_opening.kid
    enc, sealed = first.current_opening.public.seal(b"content key", b"info")
    assert first.current_opening.open(enc, sealed, b"info") == b"content key"
    store().rotate(agency, 2, 3)
    assert objects(kid) == 2  # the private and the public half
    # As if it had died between the file and the token: the tombstone is written, the key is still there.
    document = json.loads((tmp_path / "police.json").read_text("utf-8"))
    dead = key_document.destroy(document, store().load(agency), kid, 4)
    (tmp_path / "police.json").write_text(json.dumps(dead), "utf-8")
    assert objects(kid) == 2
    assert set(store().load(agency).opening).isdisjoint({kid})

    after = store().destroy(agency, kid, 5)
    assert objects(kid) == 0
    assert [(one.public.kid, one.destroyed) for one in after.destroyed] == [(kid, 4)]
    with pytest.raises((OpenFailed, StartupError, Unavailable)):
        first.current_opening.open(enc, sealed, b"info")
    assert len(store().load(agency).opening) == 1


@pytest.mark.parametrize("late", [True, False])
def test_a_rotation_that_fails_destroys_only_what_no_file_names(
    soft: softhsm.SoftToken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """Ctrl-C while the new file is in its place already, or before."""
    agency, kinds = AgencyId("police"), Kinds(SUITE_ESP256, (SUITE_P256,))
    token = Token(soft.module, soft.label, softhsm.PIN.encode())
    store = FileKeyStore(tmp_path, new=kinds, open_token=lambda: token)
    before = store.create(agency, 1)
    replace, made = key_files.replace_and_wipe, list[bytes]()
    make = token._make

    def making(*arguments: Any) -> tuple[bytes, bytes]:
        made.append((pair := make(*arguments))[0])
        return pair

    def stopped(new: Path, path: Path) -> None:
        if late:
            replace(new, path)
        raise KeyboardInterrupt

    monkeypatch.setattr(keystore, "replace_and_wipe", stopped)
    monkeypatch.setattr(token, "_make", making)
    with pytest.raises(KeyboardInterrupt):
        store.rotate(agency, 2, 3)
    after = store.load(agency)
    assert len(after.dates) == len(before.dates) + (2 if late else 0)
    assert len(made) == 2
    session = token._session
    assert session is not None
    left = [len(list(session.get_objects({Attribute.ID: one}))) for one in made]
    assert left == ([2, 2] if late else [0, 0])
    token.close()


def _raw(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
