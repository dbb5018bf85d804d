"""Governance's commands killed half way, two at once, and files that are not what their names say."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.directory import stored
from gateway.directory.mirror import DirectoryMirror
from tests.command import typed
from tests.directory.ground import Ground
from tests.world import COUNCIL, POLICE, SCHOOL, provision


@pytest.fixture
def fresh(tmp_path: Path) -> Ground:
    provision(tmp_path, (SCHOOL, POLICE, COUNCIL), agreements=False)
    return Ground(tmp_path)


@pytest.fixture
def ground(fresh: Ground) -> Ground:
    fresh.begin()
    return fresh


class Killed(BaseException):
    """As if the process was."""


class Killer:
    """Ends a command before its n-th change of a file."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.left = 0
        for name in ("replace", "unlink"):
            patch.setattr(os, name, self._counted(getattr(os, name)))
        patch.setattr(Path, "unlink", self._counted(Path.unlink))

    def _counted(self, change: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object, **more: object) -> object:
            self.left -= 1
            if self.left == 0:
                raise Killed
            return change(*arguments, **more)

        return counted


def is_killed(*arguments: object) -> bool:
    """Whether the command was killed; else it has done what it should."""
    try:
        done = typed("directory", *arguments)
    except Killed:
        return True
    assert done.exit_code == 0, (done.output, done.exception)
    return False


def holders(ground: Ground) -> tuple[object, ...]:
    governors = [
        part for name in ("ann", "bob", "cat") for part in ("--root-key", ground.folder / f"{name}.pub")
    ]
    return (*governors, "--publisher-key", ground.folder / "pub.pub")


def test_killed_before_any_write_a_command_is_given_again_and_nodes_follow(
    fresh: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first version over a change to one in which a governor and the publisher are replaced."""
    repo, by_publisher = fresh.repo, fresh.by("pub")
    fresh.typed("key", fresh.folder / "next", "--passphrase-file", fresh.folder / "passphrase")
    file = fresh.agreement("one", "--no-both-ways")
    steps: list[tuple[object, ...]] = [
        ("init", repo, "-d", fresh.file, *holders(fresh)),
        *(("sign", repo, *fresh.by(name)) for name in ("ann", "bob")),
        ("publish", repo, *by_publisher),
        ("propose",),
        *(("sign", repo, *fresh.by(name)) for name in ("bob", "cat")),
        ("publish", repo, *by_publisher),
        ("rotate", repo, "--add", fresh.folder / "dan.pub", "--remove", fresh.keyid("bob"),
         "--publisher-key", fresh.folder / "next.pub"),
        *(("sign", repo, *fresh.by(name)) for name in ("ann", "cat")),
        ("publish", repo, *fresh.by("next")),
    ]  # fmt: skip
    mirror: DirectoryMirror | None = None
    for step in steps:
        command = step
        if step == ("propose",):
            for settings in fresh.folder.glob("*/gateway.toml"):
                place = f'[node]\ndirectory_mirror = "{repo}"\ndirectory_root = "{fresh.root()}"'
                settings.write_text(settings.read_text().replace("[node]", place, 1))
            consents = [fresh.made("consent", agency, file) for agency in (SCHOOL, POLICE)]
            command = ("propose", repo, *(part for one in consents for part in ("-p", one)))
        at = 0
        while True:
            at += 1
            with monkeypatch.context() as patch:
                Killer(patch).left = at
                if not is_killed(*command):
                    break
            assert at < 30
        assert at > 1, "it was killed at least once"
        if step[0] == "publish":
            mirror = mirror or fresh.mirror()
            mirror.refresh()
            assert not list((repo / "staged").iterdir())
    assert mirror is not None
    assert [one.id for one in mirror.current.document.agreements] == ["one"]
    assert fresh.refused == 0
    assert fresh.mirror(cache="another").current.document == mirror.current.document
    assert "version 2: agreement one: proposed by police, school" in fresh.typed("verify", repo)


def test_a_list_that_is_not_good_under_the_new_root_is_not_published(ground: Ground) -> None:
    ground.typed("rotate", ground.repo, "--add", ground.folder / "dan.pub", "--remove", ground.keyid("ann"))
    (ground.repo / "staged" / "targets.json").unlink()
    for name in ("bob", "cat"):
        ground.typed("sign", ground.repo, *ground.by(name))
    ground.typed("publish", ground.repo, *ground.by("pub"), fails="targets version 1 has 1 of 2 signatures")


def test_a_root_is_looked_at_before_it_is_signed(ground: Ground) -> None:
    ground.typed("propose", ground.repo)
    ground.typed("rotate", ground.repo, "--add", ground.folder / "dan.pub", "--threshold", 1)
    shown = ground.typed("diff", ground.repo).splitlines()
    dan = ground.keyid("dan")
    assert [line for line in shown if "expires" not in line] == [
        f"+ root key {dan}",
        "~ root takes 1 of 4 keys",
        f"+ targets key {dan}",
        "~ targets takes 1 of 4 keys",
    ]


def test_the_first_root_too(fresh: Ground) -> None:
    fresh.typed("init", fresh.repo, "-d", fresh.file, *holders(fresh))
    shown = fresh.typed("diff", fresh.repo)
    for name in ("ann", "bob", "cat"):
        assert f"+ root key {fresh.keyid(name)}\n" in shown
    assert f"+ timestamp key {fresh.keyid('pub')}\n" in shown
    assert "~ targets takes 2 of 3 keys\n" in shown
    assert "+ agency school\n" in shown


def test_a_publisher_whose_key_is_lost_or_stolen_is_replaced(ground: Ground) -> None:
    mirror = ground.mirror()
    for _ in range(3):  # whoever stole it publishes versions far ahead
        ground.typed("publish", ground.repo, *ground.by("pub"))
    mirror.refresh()
    shown = ground.typed("rotate", ground.repo, "--publisher-key", ground.folder / "dan.pub")
    assert f"- timestamp key {ground.keyid('pub')}\n+" not in shown
    for role in ("snapshot", "timestamp"):
        assert f"+ {role} key {ground.keyid('dan')}\n" in shown
        assert f"- {role} key {ground.keyid('pub')}\n" in shown
    for name in ("ann", "bob"):
        ground.typed("sign", ground.repo, *ground.by(name))
    ground.typed("publish", ground.repo, *ground.by("pub"), fails="not the publisher's key")
    ground.typed("publish", ground.repo, *ground.by("dan"))
    mirror.refresh()
    followed = (ground.folder / "cache" / "timestamp.json").read_bytes()
    assert followed == (ground.repo / "metadata" / "timestamp.json").read_bytes()
    ground.typed("publish", ground.repo, *ground.by("pub"), fails="not the publisher's key")
    assert ground.refused == 0
    assert set(ground.mirror(cache="another").current.agencies) == {SCHOOL, POLICE, COUNCIL}


def test_two_who_sign_at_once_both_have_signed(ground: Ground) -> None:
    ground.typed("propose", ground.repo)
    command = [sys.executable, "-m", "gateway", "directory", "sign", ground.repo]
    both = [subprocess.Popen([*map(str, (*command, *ground.by(name)))]) for name in ("ann", "bob")]
    assert [one.wait() for one in both] == [0, 0]
    assert "2 of 2 signatures" in ground.typed("status", ground.repo)


def test_it_waits_for_another_command(ground: Ground) -> None:
    """Made sure of, where the test above may be lucky."""
    ground.typed("propose", ground.repo)
    command = [sys.executable, "-m", "gateway", "directory", "sign", ground.repo, *ground.by("ann")]
    with stored.Stored(ground.repo).alone():
        started = subprocess.Popen([*map(str, command)])
        with pytest.raises(subprocess.TimeoutExpired):
            started.wait(4)
        assert "0 of 2 signatures" in ground.typed("status", ground.repo)
    assert started.wait() == 0
    assert "1 of 2 signatures" in ground.typed("status", ground.repo)


def an_old_list_under_a_new_name(metadata: Path) -> None:
    shutil.copy(metadata / "1.targets.json", metadata / "3.targets.json")


def a_timestamp_as_root(metadata: Path) -> None:
    shutil.copy(metadata / "timestamp.json", metadata / "2.root.json")


def a_snapshot_as_list(metadata: Path) -> None:
    shutil.copy(metadata / "1.snapshot.json", metadata / "3.targets.json")


def a_root_of_another_version(metadata: Path) -> None:
    shutil.copy(metadata / "1.root.json", metadata / "2.root.json")


@pytest.mark.parametrize(
    "damage",
    [an_old_list_under_a_new_name, a_timestamp_as_root, a_snapshot_as_list, a_root_of_another_version],
)
def test_what_is_not_what_its_name_says_is_refused(ground: Ground, damage: Callable[[Path], None]) -> None:
    """The publisher's key signs some kinds, and whoever serves the files names them."""
    ground.change("one")
    damage(ground.repo / "metadata")
    for command in ("verify", "status", "propose"):
        ground.typed(command, ground.repo, fails="than its name says" if "name" in damage.__name__ or
                     "another" in damage.__name__ else "is not what its name says")  # fmt: skip


def test_a_root_in_place_of_the_list_is_not_signed(ground: Ground) -> None:
    """A staged file comes from others."""
    ground.typed("propose", ground.repo)
    shutil.copy(ground.repo / "metadata" / "1.root.json", ground.repo / "staged" / "targets.json")
    ground.typed("sign", ground.repo, *ground.by("ann"), fails="is not what its name says")
    assert json.loads((ground.repo / "staged" / "targets.json").read_text())["signatures"]
