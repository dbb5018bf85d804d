"""Files of a system that can only export: each is claimed, submitted as over HTTP, its receipts kept.

    in_dir/NAME -> work/NAME -> done/MESSAGE/receipts.json, and NAME if it is to be kept
                             or quarantine/KEY/NAME and problem.json

Whatever stands in work/ is submitted again after a crash, under the same key: the intake knows it. See
docs/folders.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.adapters.base import Native
from gateway.engine import folder_files
from gateway.engine.folder_files import Changed, FolderLock, Look
from gateway.engine.parts import Parts
from gateway.engine.tasks import Tasks
from gateway.errors import GatewayError, RefusedByUs, Unavailable
from gateway.http import problems, render
from gateway.http.ports import MessageStatus, Sending, Submission, Upload
from gateway.messages import FINAL_STAGES, UUID4, AgencyId, MessageId

PATIENCE: Final = 3
"""Times a file may make the node fail before it is put into quarantine."""
_OURS: Final = frozenset({"receipts.json", "problem.json"})
FOLLOWED: Final = 50
"""Messages whose receipts are looked at in one round."""


@dataclass(frozen=True, slots=True)
class InSettings:
    """A folder of exports, and what is said of each file in it."""

    agency: AgencyId
    folder: Path
    media_type: str
    adapter: str | None
    to: tuple[AgencyId, ...]
    purpose: str
    lawful_basis: str
    expires_in: int | None
    interval: float
    """Seconds between looks."""
    keep: bool
    """Whether files stay in done/ after they were accepted."""
    most: int
    """Bytes of a file."""


class InFolder:
    """Serves one folder."""

    def __init__(self, parts: Parts, sending: Sending, settings: InSettings) -> None:
        self._parts = parts
        self._sending = sending
        self._is = settings
        self._lock = FolderLock(settings.folder)
        self._looks: dict[Path, Look] = {}
        self._since: dict[str, float] = {}
        """When a file was first seen, by a steady clock."""
        self._failures: dict[str, int] = {}
        self._open: dict[MessageId, object] | None = None
        """Messages whose last word is not in yet, with what their receipts file says; None: not read yet."""
        parts.metrics.add_folder(settings.agency)

    @property
    def _work(self) -> Path:
        return self._is.folder / "work"

    @property
    def _done(self) -> Path:
        return self._is.folder / "done"

    def start(self, tasks: Tasks) -> None:
        """Start looking."""
        tasks.spawn(self._look_forever, "folder-in")

    def close(self) -> None:
        """Let another process serve it."""
        self._lock.release()

    async def _look_forever(self) -> None:
        while True:
            try:
                if await asyncio.to_thread(self._ready):
                    await self._round()
            except OSError as error:
                self._parts.log.warning("folder-unusable", agency=self._is.agency, exc=error)
            except Unavailable as error:
                self._parts.log.warning("folder-deferred", agency=self._is.agency, code=error.code)
            await asyncio.sleep(self._is.interval)

    def _ready(self) -> bool:
        """Whether it is ours to serve. It is never made itself: it may be a share that is not mounted."""
        if not self._lock.take():
            return False
        for folder in (self._work, self._done, self._is.folder / "quarantine"):
            folder_files.make(folder)
        if self._open is None:
            self._open = {MessageId(path.name): None for path in self._done.iterdir() if _is_open(path)}
        return True

    async def _round(self) -> None:
        claimed = await asyncio.to_thread(folder_files.look, self._work)
        waiting = await asyncio.to_thread(folder_files.look, self._is.folder)
        self._forget_all_but(claimed, waiting)
        for one in claimed:
            if self._is_steady(self._work / one.name, one) and not await self._take(one):
                break
        else:
            names = {one.name for one in claimed}
            for one in waiting:
                if not self._is_steady(self._is.folder / one.name, one) or one.name in names:
                    continue
                if await asyncio.to_thread(self._claim, one) and not await self._take(one):
                    break
        await self._follow()

    def _forget_all_but(self, claimed: list[Look], waiting: list[Look]) -> None:
        paths = {self._work / one.name for one in claimed} | {self._is.folder / one.name for one in waiting}
        self._looks = {path: seen for path, seen in self._looks.items() if path in paths}
        now, names = time.monotonic(), [one.name for one in (*claimed, *waiting)]
        self._since = {name: self._since.get(name, now) for name in names}
        age = now - min(self._since.values(), default=now)
        self._parts.metrics.folder_waiting(self._is.agency, age)

    def _is_steady(self, path: Path, seen: Look) -> bool:
        """Whether the file was the same at the look before."""
        before, self._looks[path] = self._looks.get(path), seen
        return before == seen

    def _claim(self, one: Look) -> bool:
        """Make a file ours, at once or not at all; False when it is gone."""
        try:
            folder_files.move(self._is.folder / one.name, self._work / one.name)
        except FileNotFoundError:
            return False
        self._looks[self._work / one.name] = one
        return True

    async def _take(self, one: Look) -> bool:
        """Submit a claimed file; False when nothing can be taken now."""
        try:
            body = await asyncio.to_thread(folder_files.read, self._work, one, self._is.most)
        except (Changed, FileNotFoundError):
            return True  # somebody writes to it still, or took it back: the next look tells
        except RefusedByUs as error:
            await self._quarantine(one, error)
            return True
        except OSError as error:
            self._parts.log.warning("folder-unusable", agency=self._is.agency, exc=error)
            return True  # not readable: it stays, and its age shows
        try:
            status = await self._sending.submit(self._submission(one, body), _no_files())
        except RefusedByUs as error:
            await self._quarantine(one, error)
            return True
        except Unavailable as error:
            self._count("deferred")
            self._parts.log.warning("folder-deferred", agency=self._is.agency, code=error.code)
            return False
        except Exception as error:  # noqa: BLE001 - one file must not stop the others for ever
            self._failures[one.name] = self._failures.get(one.name, 0) + 1
            self._parts.log.error("internal-error", part="folder-in", exc=error)
            if self._failures[one.name] >= PATIENCE:
                await self._quarantine(one, RefusedByUs("internal-error"))
            return True
        await asyncio.to_thread(self._keep, one, status)
        self._failures.pop(one.name, None)
        self._count("taken")
        if self._open is not None:
            self._open[status.message_id] = None
        return True

    def _submission(self, one: Look, body: bytes) -> Submission:
        settings = self._is
        return Submission(
            sender=settings.agency,
            idempotency_key=_key(one.name, body),
            body=Native(settings.media_type, body),
            adapter=settings.adapter,
            recipients=settings.to,
            purpose=settings.purpose,
            lawful_basis=settings.lawful_basis,
            case=None,
            in_reply_to=None,
            expires_in=settings.expires_in,
        )

    def _keep(self, one: Look, status: MessageStatus) -> None:
        """The receipts first: until they are there, the file is submitted again after a crash."""
        place = self._done / status.message_id
        folder_files.make(place)
        _write_receipts(place, one.name, status)
        if self._is.keep:
            folder_files.move(self._work / one.name, _beside(place, one.name))
        else:
            folder_files.remove(self._work / one.name)

    async def _quarantine(self, one: Look, error: GatewayError) -> None:
        self._count("quarantined")
        self._parts.log.warning("folder-refused", agency=self._is.agency, code=error.code)
        self._failures.pop(one.name, None)
        await asyncio.to_thread(self._set_aside, one, problems.document(error))

    def _set_aside(self, one: Look, document: Mapping[str, Any]) -> None:
        name = hashlib.sha256(os.fsencode(one.name) + b"\0%d.%d" % (one.size, one.changed)).hexdigest()[:16]
        place = self._is.folder / "quarantine" / name
        folder_files.make(place)
        folder_files.write(place / "problem.json", _json({"file": one.name, **document}))
        folder_files.move(self._work / one.name, _beside(place, one.name))

    async def _follow(self) -> None:
        """Bring receipts files up to date, some in each round; those that are final are left alone then."""
        followed = self._open if self._open is not None else {}
        for message_id in list(followed)[:FOLLOWED]:
            before = followed.pop(message_id)
            try:
                status = await self._sending.status(self._is.agency, message_id)
            except RefusedByUs:
                continue  # not known any more, after a restore: the file says what was known
            now = [(ladder.stage, len(ladder.receipts)) for ladder in status.ladders]
            if now != before and not await asyncio.to_thread(self._rewrite, status):
                continue
            if not _is_final(status):
                followed[message_id] = now  # at the end: each has its turn

    def _rewrite(self, status: MessageStatus) -> bool:
        """False when somebody has cleared it away."""
        place = self._done / status.message_id
        try:
            name = json.loads((place / "receipts.json").read_bytes())["file"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return False
        _write_receipts(place, name, status)
        return True

    def _count(self, outcome: str) -> None:
        self._parts.metrics.folder_file(self._is.agency, outcome)


def _beside(place: Path, name: str) -> Path:
    """Where a file goes in a folder that holds a file of ours."""
    return place / (f"file-{name}" if name in _OURS else name)


def _key(name: str, body: bytes) -> str:
    """The same file is the same request: its name and its content."""
    encoded = os.fsencode(name)
    return hashlib.sha256(len(encoded).to_bytes(8, "big") + encoded + body).hexdigest()


def _write_receipts(place: Path, name: str, status: MessageStatus) -> None:
    document = {"file": name, "final": _is_final(status), **render.status(status)}
    folder_files.write(place / "receipts.json", _json(document))


def _is_final(status: MessageStatus) -> bool:
    return all(ladder.stage in FINAL_STAGES for ladder in status.ladders)


def _is_open(place: Path) -> bool:
    """Whether a folder of done/ is of a message whose last word is not in yet."""
    if not UUID4.fullmatch(place.name):
        return False
    try:
        return json.loads((place / "receipts.json").read_bytes())["final"] is False
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=2).encode() + b"\n"


async def _no_files() -> AsyncIterator[Upload]:
    return
    yield
