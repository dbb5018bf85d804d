"""The directory file: read strictly, the last good copy kept, edits that never undo one another."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.crypto.keys import OpeningKey, SigningKey
from gateway.directory.changes import current_key
from gateway.directory.file import DirectoryFile, load, put_agency, put_agreement
from gateway.directory.model import (
    AgencyEntry,
    Directory,
    DirectoryDocument,
    DirectoryInvalid,
    make_agreement,
)
from gateway.errors import StartupError
from gateway.messages import AgencyId, Sector

NOW = datetime(2026, 6, 1, tzinfo=UTC)
MS = int(NOW.timestamp() * 1000)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def key(use: str, suite: str, public: bytes, *, days: int = 0, ends: int | None = None) -> dict[str, Any]:
    return {
        "use": use,
        "suite": suite,
        "public": b64(public),
        "starts": (NOW + timedelta(days=days)).isoformat(),
        "ends": None if ends is None else (NOW + timedelta(days=ends)).isoformat(),
    }


SIGNING = SigningKey.generate()
SIGNING_P256 = SigningKey.generate("ESP256")
OPENING = OpeningKey.generate("HPKE-7-KE")


def agency(name: str = "school", **change: Any) -> AgencyEntry:
    fields = {
        "id": name,
        "name": "A school",
        "sector": Sector.EDUCATION,
        "keys": [
            key("sign", "Ed25519", SIGNING.public.public_bytes),
            key("seal", "HPKE-7-KE", OPENING.public.public_bytes),
        ],
        "accepts": [{"type": "referral", "versions": [1]}],
    }
    return AgencyEntry.model_validate_json(json.dumps(fields | change))


def agreement(**change: Any) -> Any:
    fields: dict[str, Any] = {
        "id": "one",
        "senders": ["school"],
        "recipients": ["police"],
        "types": ["referral"],
        "purposes": ["prevent"],
        "lawful_bases": ["public-task"],
        "starts": NOW,
        "ends": NOW + timedelta(days=10),
    }
    return make_agreement(**(fields | change))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "directory.json"
    put_agency(file, agency())
    return file


def test_an_agency_is_added_once_and_then_replaced(path: Path) -> None:
    put_agency(path, agency("police"))
    put_agency(path, agency(name="school", sector=Sector.POLICE))
    found = load(path).agencies
    assert set(found) == {"school", "police"}
    assert found[AgencyId("school")].sector is Sector.POLICE


def test_edits_at_the_same_time_all_count(path: Path) -> None:
    names = [f"agency-{number}" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: put_agency(path, agency(name)), names))
    assert set(load(path).agencies) == {"school", *names}
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_an_agreement_needs_agencies_the_directory_knows(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(StartupError, match="police is not in the directory"):
        put_agreement(path, agreement())
    assert path.read_bytes() == before
    put_agency(path, agency("police"))
    put_agreement(path, agreement())
    put_agreement(path, agreement(purposes=["homelessness"]))
    assert [entry.purposes for entry in load(path).document.agreements] == [("homelessness",)]


def test_a_running_node_takes_up_a_new_directory(path: Path) -> None:
    source = DirectoryFile(path)
    assert not source.refresh()
    put_agency(path, agency("police"))
    assert source.refresh()
    assert AgencyId("police") in source.current.agencies
    assert not source.refresh()


@pytest.mark.parametrize("damage", ["gone", "half", "other"])
def test_a_bad_directory_is_refused_once_and_the_last_good_copy_stays(path: Path, damage: str) -> None:
    refused: list[int] = []
    source = DirectoryFile(path, on_refused=lambda: refused.append(1))
    good = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(good[: len(good) // 2] if damage == "half" else b'{"format": "something-else"}')
    assert not source.refresh()
    assert not source.refresh()
    assert refused == [1]
    assert AgencyId("school") in source.current.agencies
    path.write_bytes(good)
    assert source.refresh()


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"version": 2}, "/version"),
        ({"surprise": 1}, "/surprise"),
        ({"agencies": 1}, "/agencies"),
        ({"expires": "soon"}, "/expires"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_a_directory_names_field_and_rule(
    path: Path, change: dict[str, Any], pointer: str
) -> None:
    path.write_text(json.dumps(json.loads(path.read_bytes()) | change))
    with pytest.raises(StartupError, match=f"is not valid: {pointer}: "):
        load(path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"keys": [key("sign", "HPKE-7-KE", OPENING.public.public_bytes)]},
        {"keys": [key("seal", "Ed25519", SIGNING.public.public_bytes)]},
        {"keys": [key("sign", "Ed25519", b"short")]},
        {"keys": [key("sign", "ESP256", SIGNING.public.public_bytes)]},
        {"keys": [key("sign", "Ed25519", SIGNING_P256.public.public_bytes)]},
        {"keys": [key("seal", "ESP256", SIGNING_P256.public.public_bytes)]},
        {"keys": [key("seal", "HPKE-9-KE", bytes(7))]},
    ],
    ids=[
        "a sealing key signs",
        "a signing key seals",
        "a short key",
        "Ed25519 as P-256",
        "P-256 as Ed25519",
        "P-256 seals",
        "a short hybrid key",
    ],
)
def test_a_key_must_fit_its_use_and_suite(path: Path, wrong: dict[str, Any]) -> None:
    document = json.loads(path.read_bytes())
    document["agencies"][0] |= wrong
    path.write_text(json.dumps(document))
    with pytest.raises(StartupError, match="/agencies/0/keys/0: a public key that fits"):
        load(path)


def test_an_agency_is_listed_once(path: Path) -> None:
    document = json.loads(path.read_bytes())
    document["agencies"] *= 2
    path.write_text(json.dumps(document))
    with pytest.raises(StartupError, match="each agency is listed once"):
        load(path)


def test_a_p256_key_has_one_use(path: Path) -> None:
    public = SIGNING_P256.public.public_bytes
    document = json.loads(path.read_bytes())
    document["agencies"][0]["keys"] = [key("sign", "ESP256", public), key("seal", "HPKE-7-KE", public)]
    path.write_text(json.dumps(document))
    with pytest.raises(StartupError, match="/agencies/0/keys/1: a public key that fits"):
        load(path)


def test_the_strongest_suite_counts_before_the_newest_key(path: Path) -> None:
    hybrid, newer = OpeningKey.generate("HPKE-9-KE"), OpeningKey.generate("HPKE-9-KE")
    put_agency(
        path,
        agency(
            keys=[
                key("seal", "HPKE-9-KE", newer.public.public_bytes, days=1),
                key("seal", "HPKE-9-KE", hybrid.public.public_bytes),
                key("seal", "HPKE-7-KE", OPENING.public.public_bytes, days=2),
            ]
        ),
    )
    directory, school, later = load(path), AgencyId("school"), MS + 3 * 86_400_000

    def chosen(*suites: str) -> bytes | None:
        found = (
            directory.sealing_key(school, later, suites) if suites else directory.sealing_key(school, later)
        )
        return found.kid if found else None

    assert chosen() == chosen("HPKE-7-KE", "HPKE-9-KE") == newer.kid
    assert chosen("HPKE-7-KE") == OPENING.kid
    assert chosen("HPKE-0-KE") is None


def test_a_p256_key_signs_beside_another(path: Path) -> None:
    pair = [
        key("sign", "Ed25519", SIGNING.public.public_bytes),
        key("sign", "ESP256", SIGNING_P256.public.public_bytes),
    ]
    put_agency(path, agency(keys=pair))
    directory = load(path)
    found = [directory.verify_key(AgencyId("school"), one.kid) for one in (SIGNING, SIGNING_P256)]
    assert [one and one.suite for one in found] == ["Ed25519", "ESP256"]


def test_keys_count_only_in_their_time(path: Path) -> None:
    old, new = OpeningKey.generate("HPKE-7-KE"), OpeningKey.generate("HPKE-9-KE")
    put_agency(
        path,
        agency(
            keys=[
                key("sign", "Ed25519", SIGNING.public.public_bytes, ends=20),
                key("seal", "HPKE-7-KE", old.public.public_bytes, ends=20),
                key("seal", "HPKE-9-KE", new.public.public_bytes, days=10, ends=30),
            ]
        ),
    )
    directory, school, day = load(path), AgencyId("school"), 86_400_000
    sealing = [directory.sealing_key(school, MS + days * day) for days in (-1, 0, 10, 25, 30)]
    assert [found and found.suite for found in sealing] == [None, "HPKE-7-KE", "HPKE-9-KE", "HPKE-9-KE", None]
    kid = SIGNING.public.kid
    assert directory.verify_key(school, kid, MS + 19 * day) is not None
    assert directory.verify_key(school, kid, MS + 20 * day) is None
    assert directory.verify_key(school, kid) is not None, "old evidence stays verifiable"
    assert directory.verify_key(AgencyId("police"), kid) is None


def section(*names: str, threshold: int = 2, **roles: bytes) -> dict[str, Any]:
    keys = {name: SigningKey.generate().public.public_bytes for name in names} | roles
    return {
        "threshold": threshold,
        "roles": [{"role": name, "public": b64(public)} for name, public in keys.items()],
    }


def test_an_agreement_may_say_who_breaks_the_glass(path: Path) -> None:
    put_agency(path, agency("police"))
    put_agreement(path, agreement())
    assert "break_glass" not in path.read_text("utf-8"), "nodes of earlier versions would refuse it"
    known = load(path).document.model_dump_json()
    assert "break_glass" not in known
    put_agreement(path, agreement(break_glass=section("duty-lead", "chief", "head")))
    directory = load(path)
    school, police, day = AgencyId("school"), AgencyId("police"), 24 * 3_600_000
    rule = directory.break_glass("one", school, police, MS)
    assert rule is not None
    assert (rule.threshold, [role for role, _ in rule.roles]) == (2, ["duty-lead", "chief", "head"])
    for agreed, sender, recipient, at in (
        ("two", school, police, MS),
        ("one", police, school, MS),
        ("one", school, school, MS),
        ("one", school, police, MS - 1),
        ("one", school, police, MS + 10 * day),
    ):
        assert directory.break_glass(agreed, sender, recipient, at) is None
    put_agreement(path, agreement())
    assert "break_glass" not in path.read_text("utf-8")


SAME = SigningKey.generate().public.public_bytes


@pytest.mark.parametrize(
    "wrong",
    [
        section("duty-lead", "chief", threshold=1),
        section("duty-lead", "chief", threshold=3),
        section("duty-lead", threshold=2),
        section(*(f"role-{n}" for n in range(11))),
        section(lead=SAME, chief=SAME),
        section("Duty Lead", "chief"),
        section("chief", lead=b"short"),
        section("duty-lead", "chief") | {"more": 1},
        {**section("a", "b"), "roles": section("a")["roles"] + section("a")["roles"]},
        {"threshold": 2},
    ],
)
def test_a_quorum_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DirectoryInvalid):
        agreement(break_glass=wrong)


@pytest.mark.parametrize("order", [1, -1])
def test_a_key_that_is_listed_beside_its_revocation_is_revoked(order: int) -> None:
    """Somebody adds the line that revokes a key, and leaves the line that lists it."""
    once = agency()
    twice = [one.model_copy(update={"revoked": NOW}) for one in once.keys]
    held, gone = (
        Directory(DirectoryDocument(expires=NOW, agencies=(entry,)))
        for entry in (once, once.model_copy(update={"keys": (*once.keys, *twice)[::order]}))
    )
    school = AgencyId("school")
    assert held.verify_key(school, SIGNING.kid) is not None
    assert held.sealing_key(school, MS) is not None
    assert current_key(held.document.agencies[0], MS) is not None
    assert gone.verify_key(school, SIGNING.kid) is None
    assert gone.sealing_key(school, MS) is None
    assert current_key(gone.document.agencies[0], MS) is None
    assert not gone.note_keys(school)
    assert gone.revoked_note_keys(school)
