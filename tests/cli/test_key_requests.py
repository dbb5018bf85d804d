"""What takes two people: a refusal is one line and changes nothing; both are on record when it is done."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway import config, keycare, provisioning
from gateway.cli import key_requests, keys
from gateway.cli.database import in_database
from gateway.crypto import protected
from gateway.crypto.key_document import AgencyKeys
from gateway.crypto.keystore import FileKeyStore
from gateway.directory import file as directory_file
from gateway.errors import StartupError
from gateway.node import now_ms
from gateway.protocol.keys import OVERLAP
from gateway.store import audit, key_usage
from tests.cli.test_bad_situations import held
from tests.operators import SECRET, Operators, typed
from tests.world import POLICE, SCHOOL, World, provision

HOUR = 3_600_000


class Scene:
    """The police's node with a key that is retired, three operators, and a clock that can be set."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world: World = provision(folder / "world", (SCHOOL, POLICE))
        self.node = self.world.folder / POLICE
        self.people = Operators(folder / "people", "ada", "grace", "joan")
        self.people.install(self.node, "ada", "grace", "joan")
        self.request = folder / "people" / "ask.json"
        self.old = self.keys()
        provisioning.rotate(config.load(self.node), POLICE, 0, now_ms())
        self.now = now_ms() + OVERLAP + HOUR
        for module in (key_requests, keys):
            monkeypatch.setattr(module, "_now", lambda: self.now)

    @property
    def kid(self) -> bytes:
        """The retired opening key."""
        return self.old.current_opening.kid

    def keys(self) -> AgencyKeys:
        return config.load(self.node).key_store().load(POLICE)

    def run(self, *arguments: object, node: Path | None = None) -> tuple[int, str]:
        return typed("keys", *arguments, "-n", node or self.node)

    def ask(self, who: str = "ada", kid: bytes | None = None, *more: object) -> tuple[int, str]:
        about = ["destroy", (kid or self.kid).hex(), *self.people.by(who), "--request", self.request, *more]
        return self.run(*about)

    def confirm(self, who: str = "grace", *more: object, node: Path | None = None) -> tuple[int, str]:
        return self.run("confirm", self.request, *self.people.by(who), *more, node=node)

    def asked(self, who: str = "ada", kid: bytes | None = None, *more: object) -> None:
        code, said = self.ask(who, kid, *more)
        assert code == 0, said

    def approvals(self) -> list[str]:
        return list(json.loads(self.request.read_text("utf-8"))["approvals"])

    def put(self, approvals: list[str]) -> None:
        document = {"format": "referral-gateway-request", "version": 1, "approvals": approvals}
        self.request.write_text(json.dumps(document), "utf-8")

    def entries(self, *kinds: str) -> list[dict[str, Any]]:
        """The audit log's entries of these kinds."""
        found = in_database(config.load(self.node).database(), lambda s: audit.entries(s, 0, 10_000))
        every = [json.loads(entry.text) for entry in found]
        return [one for one in every if not kinds or one["kind"] in kinds]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(tmp_path, monkeypatch)


def things(scene: Scene) -> dict[str, bytes]:
    """All that a refusal must not change."""
    files = held(scene.world.folder)
    return {name: data for name, data in files.items() if ".db" not in name}


def refused(scene: Scene, job: Callable[[], tuple[int, str]], says: str) -> None:
    before, log = things(scene), len(scene.entries())
    code, said = job()
    assert code != 0
    assert says in said
    assert len(said.strip().splitlines()) == 1, said
    assert things(scene) == before
    assert len(scene.entries()) == log


# --- it works ---


def test_two_people_destroy_a_key_and_both_are_on_record(scene: Scene) -> None:
    scene.asked()
    code, said = scene.run("request", scene.request)
    assert code == 0
    assert f"destroy the opening key {scene.kid.hex()} of police for good" in said
    assert "retired since" in said
    assert "approved by ada; one of grace, joan must confirm" in said
    code, said = scene.confirm()
    assert code == 0, said
    assert f"key {scene.kid.hex()} of police is destroyed." in said

    assert scene.kid not in scene.keys().opening
    listed = json.loads(scene.run("list", "--json")[1])["keys"]
    (row,) = [one for one in listed if one["kid"] == scene.kid.hex()]
    assert row["state"] == "destroyed"
    directory = directory_file.load(scene.world.directory)
    (agency,) = [one for one in directory.document.agencies if one.id == POLICE]
    assert scene.kid not in [key.kid for key in agency.keys]
    (asked,) = scene.entries("approval-asked")
    (ada, grace), (gone,) = scene.entries("approval-given"), scene.entries("key-destroyed")
    assert (asked["operator"], asked["kid"], asked["code"]) == ("ada", scene.kid.hex(), "destroy-key")
    assert (ada["operator"], grace["operator"]) == ("ada", "grace")
    assert ada["digest"] != grace["digest"]  # which credentials those were
    assert {one["request"] for one in (asked, ada, grace, gone)} == {asked["request"]}
    assert gone["kid"] == scene.kid.hex()
    assert [one["index"] for one in (asked, ada, grace, gone)] == sorted(
        one["index"] for one in (asked, ada, grace, gone)
    )


def test_a_key_that_peers_gave_up_later_than_the_key_file_says_stays_as_long_after_that(scene: Scene) -> None:
    """A rotation that stopped half way was run again weeks later, or governance took its time."""
    began = scene.now - OVERLAP + HOUR
    document = json.loads(scene.world.directory.read_text("utf-8"))
    (entry,) = [one for one in document["agencies"] if one["id"] == POLICE]
    newest = [key for key in entry["keys"] if key["use"] == "seal"][-1]
    newest["starts"] = datetime.fromtimestamp(began / 1000, UTC).isoformat()
    scene.world.directory.write_text(json.dumps(document), "utf-8")
    refused(scene, scene.ask, "by the directory peers sealed to this key")
    scene.now = began + OVERLAP
    scene.asked()
    assert scene.confirm()[0] == 0


def test_a_signing_key_stays_in_the_directory_so_that_what_it_signed_still_verifies(scene: Scene) -> None:
    kid = scene.old.signing.kid
    scene.asked("grace", kid)
    assert scene.confirm("ada")[0] == 0
    assert kid not in [key.kid for key in scene.keys().signing_keys]
    directory = directory_file.load(scene.world.directory)
    assert directory.verify_key(POLICE, kid) is not None
    assert directory.verify_key(POLICE, kid, scene.now + 1000) is None


def test_a_revoked_key_can_go_at_once(scene: Scene) -> None:
    scene.now = now_ms()
    refused(scene, scene.ask, "the key is retiring: only retired and revoked ones are destroyed")
    assert scene.run("revoke", scene.kid.hex())[0] == 0
    scene.asked()
    assert scene.confirm()[0] == 0
    assert scene.kid not in scene.keys().opening
    kinds = [one["kind"] for one in scene.entries() if one.get("kid") == scene.kid.hex()]
    assert kinds == ["key-revoked", "approval-asked", "approval-given", "approval-given", "key-destroyed"]


def test_usage_and_the_request_say_who_still_uses_a_key(scene: Scene) -> None:
    database = config.load(scene.node).database()
    for at in (1_795_000_000_000, 1_795_000_060_000):
        in_database(
            database,
            partial(key_usage.note, agency=POLICE, kid=scene.kid, peer=SCHOOL, now=at),
        )
    code, said = scene.run("usage")
    assert code == 0
    assert "school  2 times, last 2026-11-18T11:07:40" in said
    assert "nobody" in said  # uses the new one
    used = json.loads(scene.run("usage", "--json")[1])["keys"]
    assert [(one["state"], len(one["peers"])) for one in used] == [("retired", 1), ("active", 0)]
    scene.asked()
    assert "school last sealed to it 2026-11-18" in scene.run("request", scene.request)[1]


def test_list_says_what_it_is_time_for(scene: Scene) -> None:
    code, said = scene.run("list")
    assert code == 0
    assert f"time to destroy: police  {scene.kid.hex()}" in said
    assert f"time to rotate: police  {scene.keys().current_opening.kid.hex()}" in said
    scene.now = now_ms()
    assert "time to" not in scene.run("list")[1]


def test_what_operator_key_prints_is_all_the_settings_need(scene: Scene) -> None:
    file, passphrase = scene.people.folder / "mary", scene.people.folder / "passphrase"
    code, section = typed("operator", "key", file, "--passphrase-file", passphrase)
    assert code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(Path(f"{file}.pub").read_text("utf-8"))["ed25519"] in section
    with (scene.node / config.FILE_NAME).open("a", encoding="utf-8") as settings:
        settings.write("\n" + section.replace('id = ""', 'id = "mary"'))
    scene.asked("mary")
    assert scene.confirm()[0] == 0
    before = file.read_bytes()
    code, said = typed("operator", "key", file, "--passphrase-file", passphrase)
    assert code != 0
    assert "never overwritten" in said
    assert file.read_bytes() == before
    code, said = typed("operator", "key", file.parent / "no" / "key", "--passphrase-file", passphrase)
    assert code != 0
    assert "cannot write" in said


# --- refusals ---


def test_nobody_confirms_what_they_asked_for(scene: Scene) -> None:
    scene.asked()
    refused(scene, lambda: scene.confirm("ada"), "ada asked for it: another operator must confirm")
    scene.put(scene.approvals() * 2)
    refused(scene, lambda: scene.confirm("ada"), "ada asked for it: another operator must confirm")


def test_a_stranger_neither_asks_nor_confirms(scene: Scene) -> None:
    refused(scene, lambda: scene.ask("stranger"), "of no operator who may approve destroy-key")
    assert not scene.request.exists()
    scene.asked()
    refused(
        scene, lambda: scene.confirm("stranger"), "this key is of no operator who may approve destroy-key"
    )


def test_a_request_that_a_stranger_signed_first_is_not_confirmed(scene: Scene) -> None:
    with (scene.node / config.FILE_NAME).open("a", encoding="utf-8") as file:
        file.write(scene.people.sections("stranger"))
    scene.asked("stranger")
    settings = scene.node / config.FILE_NAME
    settings.write_text(settings.read_text("utf-8").replace(scene.people.sections("stranger"), ""), "utf-8")
    refused(scene, scene.confirm, "an approval is by somebody who may not approve this")


def test_an_operator_does_only_what_they_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(tmp_path, monkeypatch)
    settings = scene.node / config.FILE_NAME
    text = settings.read_text("utf-8")
    settings.write_text(text[: text.index("\n[[operators]]")], "utf-8")
    scene.people.install(scene.node, "ada", "joan", may=("destroy-key",))
    scene.people.install(scene.node, "grace", may=("export-key",))
    refused(scene, lambda: scene.ask("grace"), "of no operator who may approve destroy-key")
    refused(scene, lambda: scene.ask("ada", None, "--with-messages"), "destroy-key-and-messages")
    scene.asked()
    refused(scene, scene.confirm, "of no operator who may approve destroy-key")
    assert scene.confirm("joan")[0] == 0


def test_one_operator_alone_cannot_even_ask(scene: Scene) -> None:
    settings = scene.node / config.FILE_NAME
    text = settings.read_text("utf-8")
    settings.write_text(text[: text.index("\n[[operators]]")], "utf-8")
    refused(scene, scene.ask, "see [[operators]] in the settings")
    scene.people.install(scene.node, "ada")
    refused(scene, scene.ask, "nobody but ada may approve destroy-key: name another in [[operators]]")


def test_a_request_expires(scene: Scene) -> None:
    scene.asked("ada", None, "--hours", "2")
    scene.now += 2 * HOUR
    refused(scene, scene.confirm, "the request has expired: ask anew")
    scene.now -= 3 * HOUR
    refused(scene, scene.confirm, "dated in the future: check the clocks")


def test_a_request_that_was_tampered_with_is_refused_whatever_was_changed(scene: Scene) -> None:
    scene.asked()
    whole = base64.b64decode(scene.approvals()[0])
    for position in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[position] ^= 0x20
        scene.put([base64.b64encode(changed).decode()])
        code, said = scene.confirm()
        assert code != 0
        assert "the request cannot be used: " in said
        assert len(said.strip().splitlines()) == 1
    assert scene.kid in scene.keys().opening
    assert scene.entries("approval-given", "key-destroyed") == []


def test_an_approval_for_one_key_is_none_for_another(scene: Scene) -> None:
    scene.asked()
    one = scene.approvals()
    scene.request.unlink()
    scene.asked("grace", scene.old.signing.kid)
    scene.put([*one, *scene.approvals()])
    refused(scene, lambda: scene.confirm("joan"), "the approvals are for different requests")


def test_a_request_of_another_node_is_refused(scene: Scene) -> None:
    scene.asked()
    school = scene.world.folder / SCHOOL
    scene.people.install(school, "ada", "grace")
    refused(scene, lambda: scene.confirm(node=school), "it is for another node")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"format": "referral-gateway-request", "version": 2}']
)
def test_what_is_no_request_is_refused(scene: Scene, text: str) -> None:
    scene.request.write_text(text, "utf-8")
    refused(scene, scene.confirm, "is not a request of this version")


def test_a_request_is_carried_out_once(scene: Scene) -> None:
    scene.asked()
    assert scene.confirm()[0] == 0
    refused(scene, scene.confirm, "this request was carried out already: ask anew")
    scene.request.unlink()
    refused(scene, scene.ask, "police has no such key, or it is destroyed")


def test_keys_that_are_needed_are_not_destroyed(scene: Scene) -> None:
    new = scene.keys()
    for kid in (new.current_opening.kid, new.signing.kid):
        refused(scene, partial(scene.ask, "ada", kid), "the key is active")
    refused(scene, lambda: scene.ask("ada", bytes(32)), "no agency of this node has such a key")
    refused(
        scene,
        lambda: scene.run("destroy", "xyz", *scene.people.by("ada"), "--request", scene.request),
        "a key id is hexadecimal",
    )
    # By the directory the newer one is gone: what is asked of people follows what peers do.
    file = scene.world.directory
    directory_file.end_key(file, POLICE, new.current_opening.kid, datetime.now(UTC))
    refused(scene, scene.ask, "peers still seal to this key: a newer one must be listed")


def test_a_key_that_came_back_into_use_since_it_was_asked_for_stays(scene: Scene) -> None:
    scene.asked()
    new = scene.keys()
    directory_file.end_key(scene.world.directory, POLICE, new.current_opening.kid, datetime.now(UTC))
    refused(scene, scene.confirm, "peers still seal to this key: a newer one must be listed")


def test_with_a_mirror_whoever_keeps_the_directory_takes_the_key_out_first(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = scene.node / config.FILE_NAME
    mirror = '[node]\ndirectory_mirror = "../mirror"\ndirectory_root = "root.json"'
    settings.write_text(settings.read_text("utf-8").replace("[node]", mirror), "utf-8")
    file = scene.world.directory
    monkeypatch.setattr(
        keycare, "open_directory", lambda _: SimpleNamespace(current=directory_file.load(file))
    )
    refused(scene, scene.ask, "the directory still lists this key as in force")
    directory_file.drop_sealing_key(file, POLICE, scene.kid)
    listed = file.read_bytes()
    # Its dates may be of a proposal that was granted weeks later: what counts is what the node has seen.
    database = config.load(scene.node).database()

    def seen(listed: bool, at: int) -> None:
        in_database(database, lambda s: key_usage.note_listed(s, POLICE, scene.kid, listed, at))

    not_seen, too_early = "has not run yet with a directory by which", "too short a time: ask again after"
    refused(scene, scene.ask, not_seen)
    seen(True, scene.now - 2 * OVERLAP)
    refused(scene, scene.ask, not_seen)
    seen(False, scene.now - OVERLAP + 1)
    seen(False, scene.now)  # since when, not when it looked last
    refused(scene, scene.ask, too_early)
    scene.now += 1
    scene.asked()
    seen(True, scene.now)
    refused(scene, scene.confirm, not_seen)
    seen(False, scene.now - OVERLAP)
    assert scene.confirm()[0] == 0
    assert scene.kid not in scene.keys().opening
    assert file.read_bytes() == listed


def test_a_persons_key_that_others_can_read_is_refused(scene: Scene) -> None:
    (scene.people.folder / "ada").chmod(0o640)
    refused(scene, scene.ask, "ada can be read by others: chmod 600 it")


def test_a_wrong_passphrase_is_one_line(scene: Scene) -> None:
    (scene.people.folder / "passphrase").write_bytes(b"not what it was at all")
    code, said = scene.ask()
    assert code != 0
    assert len(said.strip().splitlines()) == 1
    assert "not what" not in said
    assert not scene.request.exists()


def test_two_names_with_one_key_are_refused_in_the_settings(scene: Scene) -> None:
    same = scene.people.sections("ada").replace('"ada"', '"someone-else"')
    with (scene.node / config.FILE_NAME).open("a", encoding="utf-8") as file:
        file.write(same)
    with pytest.raises(StartupError, match="each has an id and a key of their own"):
        config.load(scene.node)


# --- a crash in the middle ---


class Crash(BaseException):
    """Stands for the end of the process: nothing handles it."""


STEPS = ["begin", "end_key", "destroy", "drop_sealing_key", "end"]


@pytest.mark.parametrize("before", STEPS)
def test_a_destruction_that_died_is_finished_by_confirming_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    scene.asked()

    def die(*_: object, **__: object) -> None:
        raise Crash

    with monkeypatch.context() as patched:
        if before in {"begin", "end"}:
            calls = iter([before == "begin", before == "end"])

            def database(place: Path | str, job: Callable[[Any], Any]) -> Any:
                if job.__name__ in {"begin", "end"} and next(calls):
                    raise Crash
                return in_database(place, job)

            patched.setattr(key_requests, "in_database", database)
        elif before == "destroy":
            patched.setattr(FileKeyStore, "destroy", die)
        else:
            patched.setattr(directory_file, before, die)
        with pytest.raises(Crash):
            key_requests.confirm(
                scene.request, scene.node, scene.people.folder / "grace", scene.people.folder / "passphrase"
            )
    gone = before in {"drop_sealing_key", "end"}
    assert (scene.kid not in scene.keys().opening) == gone
    assert len(scene.entries("approval-given")) == (0 if before == "begin" else 2)
    assert scene.entries("key-destroyed") == []

    # A rotation in between does not put back what is on its way out.
    assert scene.run("rotate")[0] == 0
    code, said = scene.confirm()
    assert code == 0, said
    assert scene.kid not in scene.keys().opening
    assert len(scene.entries("approval-given")) == 2
    assert len(scene.entries("key-destroyed")) == 1
    directory = directory_file.load(scene.world.directory)
    (agency,) = [one for one in directory.document.agencies if one.id == POLICE]
    assert scene.kid not in [key.kid for key in agency.keys]


def test_from_the_first_step_on_nothing_is_taken_in_for_the_key(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.asked()

    def die(*_: object) -> None:
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(FileKeyStore, "destroy", die)
        with pytest.raises(Crash):
            key_requests.confirm(
                scene.request, scene.node, scene.people.folder / "grace", scene.people.folder / "passphrase"
            )
    database = config.load(scene.node).database()
    assert in_database(database, lambda s: key_usage.is_closed(s, POLICE, scene.kid))
    assert not in_database(database, lambda s: key_usage.is_closed(s, POLICE, bytes(32)))


# --- exporting ---


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protected, "_N", 1 << 10)
    monkeypatch.setattr(protected, "_LEAST", 1 << 10)


def export(scene: Scene, who: str = "ada") -> tuple[int, str]:
    return scene.run("export", "-a", POLICE, *scene.people.by(who), "--request", scene.request)


def passphrase_file(scene: Scene) -> Path:
    file = scene.people.folder / "of-the-export"
    file.touch(0o600)
    file.write_bytes(SECRET)
    return file


@pytest.mark.usefixtures("cheap")
def test_two_people_let_the_keys_out_under_another_passphrase(scene: Scene) -> None:
    code, said = export(scene)
    assert code == 0, said
    assert "let all private keys of police out" in scene.run("request", scene.request)[1]
    out = scene.people.folder / "police.json"
    to = ["--to", out, "--to-passphrase-file", passphrase_file(scene)]
    refused(scene, lambda: scene.confirm("ada", *to), "another operator must confirm")
    assert not out.exists()
    code, said = scene.confirm("grace", *to)
    assert code == 0, said
    assert out.stat().st_mode & 0o777 == 0o600
    again = FileKeyStore(scene.people.folder, SECRET).load(POLICE)
    assert set(again.dates) == set(scene.keys().dates)
    assert [one["operator"] for one in scene.entries("approval-given")] == ["ada", "grace"]
    assert [one["agency"] for one in scene.entries("key-exported")] == [POLICE]
    out.unlink()
    refused(scene, lambda: scene.confirm("grace", *to), "carried out already")
    assert not out.exists()


@pytest.mark.usefixtures("cheap")
def test_an_export_is_refused_where_it_is_not_what_was_agreed(scene: Scene) -> None:
    assert export(scene)[0] == 0
    out = scene.people.folder / "police.json"
    to = ["--to", out, "--to-passphrase-file", passphrase_file(scene)]
    refused(scene, scene.confirm, "an export needs --to and --to-passphrase-file")
    out.write_bytes(b"mine")
    refused(scene, lambda: scene.confirm("grace", *to), "exists already")
    assert out.read_bytes() == b"mine"
    out.unlink()
    short = scene.people.folder / "short"
    short.touch(0o600)
    short.write_bytes(b"short")
    refused(
        scene,
        lambda: scene.confirm("grace", "--to", out, "--to-passphrase-file", short),
        "passphrase",
    )
    assert scene.run("rotate")[0] == 0
    refused(scene, lambda: scene.confirm("grace", *to), "have changed since it was asked for: ask anew")
    assert not out.exists()


def test_a_rotation_is_entered_in_the_audit_log(scene: Scene) -> None:
    before = set(scene.keys().dates)
    assert scene.run("rotate")[0] == 0
    made = [one["kid"] for one in scene.entries("key-made")]
    assert sorted(made) == sorted(kid.hex() for kid in scene.keys().dates if kid not in before)
    assert len(made) == 2
