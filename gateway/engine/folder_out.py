"""What arrives for an agency as files, for systems that can only import: written, durable, then acknowledged.

A message's files are made in .work/MESSAGE, then `ready` says that all are there, then they are renamed into
place, the message itself last. After a crash what stands there says how far it had come: the message is
handed over once. See docs/folders.md.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.engine import folder_files
from gateway.engine.folder_files import FolderLock
from gateway.engine.parts import Parts
from gateway.engine.tasks import Tasks
from gateway.errors import RefusedByPeer, RefusedByUs, Unavailable
from gateway.http import render
from gateway.http.ports import InboxEntry, OpenedMessage, Receiving
from gateway.messages import AgencyId, MessageId

JSON: Final = "application/json"
PAGE: Final = 50
AGAIN: Final = 60.0
"""Seconds until a message that could not be written is tried again."""
_GONE: Final = {"not-found", "already-final", "expired"}


@dataclass(frozen=True, slots=True)
class OutSettings:
    """Where an agency's messages are written, and in which format."""

    agency: AgencyId
    folder: Path
    media_type: str
    interval: float
    """Seconds between looks."""


class OutFolder:
    """Serves one folder."""

    def __init__(self, parts: Parts, receiving: Receiving, settings: OutSettings) -> None:
        self._parts = parts
        self._receiving = receiving
        self._is = settings
        self._lock = FolderLock(settings.folder)
        self._later: dict[MessageId, float] = {}
        """When to try a message again that could not be written, by a steady clock."""
        parts.metrics.add_folder(settings.agency)

    @property
    def _work(self) -> Path:
        return self._is.folder / ".work"

    def start(self, tasks: Tasks) -> None:
        """Start looking."""
        tasks.spawn(self._look_forever, "folder-out")

    def close(self) -> None:
        """Let another process serve it."""
        self._lock.release()

    async def _look_forever(self) -> None:
        while True:
            try:
                if await asyncio.to_thread(self._lock.take):
                    await self._round()
            except OSError as error:
                self._parts.log.warning("folder-unusable", agency=self._is.agency, exc=error)
            except Unavailable as error:
                self._parts.log.warning("folder-deferred", agency=self._is.agency, code=error.code)
            await asyncio.sleep(self._is.interval)

    async def _round(self) -> None:
        await asyncio.to_thread(folder_files.make, self._work)
        for place in await asyncio.to_thread(lambda: sorted(self._work.iterdir())):
            await self._resume(place)
        now, after = time.monotonic(), 0
        self._later = {one: due for one, due in self._later.items() if due > now}
        while page := await self._receiving.list(self._is.agency, after=after, limit=PAGE, wait=0):
            for entry in page:
                if entry.header.message_id not in self._later:
                    await self._hand_over(entry)
            after = page[-1].sequence

    async def _resume(self, place: Path) -> None:
        """Bring to an end what an earlier process, or an earlier round, had in hand."""
        try:
            plan = json.loads(await asyncio.to_thread((place / "ready").read_bytes))
            files, sequence = [str(name) for name in plan["files"]], int(plan["sequence"])
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
            await asyncio.to_thread(folder_files.remove, place)  # nobody has seen any of it
            return
        if (place / files[-1]).exists():
            # Not handed over, and by now it may have been recalled: as if it had never been begun.
            await asyncio.to_thread(self._undo, place, files)
            return
        await self._acknowledge(MessageId(place.name), sequence, place)

    def _undo(self, place: Path, files: list[str]) -> None:
        for name in files:
            if not (place / name).exists():
                folder_files.remove(self._is.folder / Path(name).name)
        folder_files.remove(place)

    async def _hand_over(self, entry: InboxEntry) -> None:
        agency, message_id = self._is.agency, entry.header.message_id
        try:
            opened = await self._receiving.open(agency, message_id, [self._is.media_type, JSON])
            if opened.entry.sequence != entry.sequence:
                return  # another sender chose the same identifier: each has its turn
            place = self._work / message_id
            await asyncio.to_thread(folder_files.remove, place)
            await asyncio.to_thread(folder_files.make, place)
            files = await self._prepare(opened, place)
        except (Unavailable, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - one message must not stop the others for ever
            if isinstance(error, RefusedByUs) and error.code in _GONE:
                return  # answered by another, or expired, since the page was read
            if not isinstance(error, RefusedByUs | RefusedByPeer):
                self._parts.log.error("internal-error", part="folder-out", exc=error)
            self._later[message_id] = time.monotonic() + AGAIN
            self._parts.metrics.folder_file(agency, "unwritable")
            self._parts.log.warning(
                "folder-deferred", message_id=message_id, agency=agency, code="unwritable"
            )
            return
        plan = json.dumps({"files": files, "sequence": entry.sequence}).encode()
        await asyncio.to_thread(folder_files.write, place / "ready", plan)
        for name in files:
            await asyncio.to_thread(folder_files.move, place / name, self._is.folder / name)
        await self._acknowledge(message_id, entry.sequence, place)

    async def _acknowledge(self, message_id: MessageId, sequence: int, place: Path) -> None:
        """The agency has it. Raises Unavailable; then the next round does it."""
        try:
            opened = await self._receiving.open(self._is.agency, message_id, [JSON])
            if opened.entry.sequence == sequence:
                await self._receiving.ack(self._is.agency, [message_id])
                self._parts.metrics.folder_file(self._is.agency, "written")
        except RefusedByUs:
            pass  # acknowledged before the crash, or expired meanwhile: the sender was told that
        await asyncio.to_thread(folder_files.remove, place)

    async def _prepare(self, opened: OpenedMessage, place: Path) -> list[str]:
        """Make a message's files; their names, its own last. Names that senders chose are never paths."""
        header = opened.entry.header
        stem = self._stem(opened)
        about: dict[str, Any] = {"message": render.entry(opened.entry), **render.opened(opened)}
        files = []
        for one in about["attachments"]:
            del one["href"]
            one["file"] = f"{stem}.attachment-{one['index']}.bin"
            _, pieces = await self._receiving.attachment(self._is.agency, header.message_id, one["index"])
            await _stream(place / one["file"], pieces)
            files.append(one["file"])
        if about["original"]:
            del about["original"]["href"]
            native = await self._receiving.original(self._is.agency, header.message_id)
            about["original"]["file"] = f"{stem}.original.{folder_files.extension(native.media_type)}"
            await asyncio.to_thread(folder_files.write, place / about["original"]["file"], native.body)
            files.append(about["original"]["file"])
        name = f"{stem}.{folder_files.extension(opened.native.media_type)}"
        about = {"file": name, "media_type": opened.native.media_type, **about}
        meta = json.dumps(about, indent=2, ensure_ascii=False).encode()
        await asyncio.to_thread(folder_files.write, place / f"{stem}.meta.json", meta)
        await asyncio.to_thread(folder_files.write, place / name, opened.native.body)
        return [*files, f"{stem}.meta.json", name]

    def _stem(self, opened: OpenedMessage) -> str:
        """The message's identifier; with a number when another sender's message has that name already."""
        message_id = opened.entry.header.message_id
        taken = (self._is.folder / f"{message_id}.meta.json").exists()
        return f"{message_id}-{opened.entry.sequence}" if taken else message_id


async def _stream(path: Path, pieces: AsyncIterator[bytes]) -> None:
    """Write a file of any size, durably. Raises RefusedByPeer when it is not what was signed for."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, folder_files.MODE), "wb") as file:
        async for piece in pieces:
            await asyncio.to_thread(file.write, piece)
        file.flush()
        await asyncio.to_thread(os.fsync, file.fileno())
