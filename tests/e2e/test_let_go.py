"""Since when peers seal to another key, as a node remembers it, whatever its clock, twin and past did."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest

from gateway import config, provisioning
from gateway.cli.database import in_database
from gateway.directory import file as directory_file
from gateway.directory.model import Directory
from gateway.engine.keylives import COMPARE, KeyLives
from gateway.engine.parts import Parts
from gateway.node import now_ms
from gateway.protocol.keys import OVERLAP
from gateway.protocol.suites import STRONGEST_FIRST
from gateway.store import key_usage
from gateway.store.base import Session
from tests.world import POLICE, SCHOOL, provision

T = TypeVar("T")
DAY = 24 * 3_600_000


class Node:
    """What of a node looks at its keys, with a clock and a directory that can be set."""

    def __init__(self, folder: Path, time: int, directory: Directory) -> None:
        self.folder, self.time, self.directory = folder, time, directory
        self.again()

    def again(self) -> None:
        """As after a start."""
        self._lives = KeyLives(cast(Parts, self))

    async def look(self, after: int = 0) -> None:
        """Look once, so many milliseconds later."""
        self.time += after
        await self._lives.look()

    def now(self) -> int:
        return self.time

    @property
    def keys(self) -> Any:
        return {POLICE: config.load(self.folder).key_store().load(POLICE)}

    rules = SimpleNamespace(keys_retire=OVERLAP, keys_epoch=30 * DAY, opening_suites=STRONGEST_FIRST[:1])
    metrics = SimpleNamespace(keys_due=lambda *_: None)

    def clock_believed(self) -> bool:
        return True

    @property
    def store(self) -> Any:
        async def write(job: Callable[[Session], T]) -> T:
            return await self._in_database(job)

        return SimpleNamespace(write=write)

    async def let_go(self, kid: bytes) -> int | None:
        return await self._in_database(lambda s: key_usage.let_go(s, POLICE, kid))

    async def _in_database(self, job: Callable[[Session], T]) -> T:
        return await asyncio.to_thread(in_database, config.load(self.folder).database(), job)


class Scene:
    """The police rotate their keys; the directory of before, and of after."""

    def __init__(self, folder: Path) -> None:
        world = provision(folder, (SCHOOL, POLICE))
        self.node = folder / POLICE
        settings = config.load(self.node)
        self.start = now_ms()
        self.old = settings.key_store().load(POLICE).current_opening.kid
        self.before = directory_file.load(world.directory)
        provisioning.rotate(settings, POLICE, DAY, self.start)
        self.after = directory_file.load(world.directory)
        (self.new,) = settings.key_store().load(POLICE).opening.keys() - {self.old}


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def test_it_begins_when_the_directory_names_another_whenever_that_was_granted(scene: Scene) -> None:
    node = Node(scene.node, scene.start, scene.before)
    await node.look()
    assert (await node.let_go(scene.old), await node.let_go(scene.new)) == (None, None)
    await node.look(after=20 * DAY)  # by the key file the new one took over long ago; nobody has granted it
    assert (await node.let_go(scene.old), await node.let_go(scene.new)) == (None, None)
    node.directory = scene.after
    await node.look()
    granted = scene.start + 20 * DAY
    assert await node.let_go(scene.old) == granted
    node.again()
    await node.look(after=DAY)
    assert (await node.let_go(scene.old), await node.let_go(scene.new)) == (granted, None)
    node.directory = scene.before  # it was taken back
    await node.look()
    assert await node.let_go(scene.old) is None


async def test_a_key_that_waits_to_be_granted_was_not_let_go(scene: Scene) -> None:
    """Otherwise a node that was off, or restored, while the key was in use would have waited long enough."""
    node = Node(scene.node, scene.start, scene.before)
    await node.look()
    provisioning.rotate(config.load(scene.node), POLICE, 0, scene.start + 60 * DAY)
    node.directory = directory_file.load(scene.node.parent / "directory.json")
    await node.look(after=60 * DAY)
    assert await node.let_go(scene.new) == scene.start + 60 * DAY


async def test_a_clock_that_ran_ahead_holds_nothing_up(scene: Scene) -> None:
    node = Node(scene.node, scene.start + 3_000 * DAY, scene.after)
    await node.look()
    node.again()
    node.time = scene.start + 2 * DAY
    await node.look()
    assert await node.let_go(scene.old) == scene.start + 2 * DAY


async def test_what_a_twin_saw_last_does_not_stand_for_ever(scene: Scene) -> None:
    node = Node(scene.node, scene.start + 2 * DAY, scene.after)
    twin = Node(scene.node, scene.start + 2 * DAY, scene.before)
    await node.look()
    await twin.look()
    assert await node.let_go(scene.old) is None
    await node.look(after=COMPARE)
    assert await node.let_go(scene.old) == scene.start + 2 * DAY + COMPARE
