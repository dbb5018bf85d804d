"""Sets the stage, plays the story, checks every receipt, and adds up."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gateway.crypto import proof
from gateway.demo.screen import Screen
from gateway.demo.search import traces
from gateway.demo.story import Sent, Story
from gateway.demo.world import STOP_TIMEOUT, World, five_agencies
from gateway.directory import file as directory_file
from gateway.errors import ReceiptInvalid, StartupError
from gateway.messages import Stage
from gateway.transport.tap import RabbitTap, Seen, SpoolTap


@dataclass(frozen=True, slots=True)
class Summary:
    """What `gateway demo --json` prints. `lost` counts messages accepted without a final stage."""

    accepted: int
    delivered: int
    rejected: int
    refused: int
    expired: int
    failed: int
    lost: int
    receipts_verified: int
    receipts_invalid: int
    why_rejected: dict[str, str]
    """Title -> reason code of the recipient's system."""
    why_refused: dict[str, str]
    """Title -> problem code of the sender's own node."""
    eavesdropper: dict[str, object] = field(default_factory=dict)

    @property
    def all_verified(self) -> bool:
        """Every receipt verified."""
        return self.receipts_invalid == 0

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self), indent=2)


async def run_demo(*, broker: str, shared: Path, quiet: bool, keep: Path | None = None) -> Summary:
    """Play the demo in `keep`, or in a temporary folder that is removed afterwards. Raises StartupError."""
    with _stage(keep) as folder:
        screen = Screen(quiet=quiet)
        screen.say(
            "Five agencies: keys, directory, sharing agreements, a node each, in a process of its own ..."
        )
        async with five_agencies(folder, broker) as world:
            tap = RabbitTap(broker, sorted(world.nodes)) if broker else SpoolTap(world.spool)
            async with _tapped(tap) as seen:
                story = Story(world, on_change=lambda: screen.table(story.book))
                with screen:
                    lost = await _play(story, shared)
            summary = _add_up(world, story, lost, seen)
        screen.summary(story.book, summary)
        return summary


async def _play(story: Story, shared: Path) -> int:
    """Play; how many messages were accepted and have no final stage (0 unless something is lost)."""
    with contextlib.suppress(TimeoutError):  # a step that never happens is what `lost` is for
        await story.play(shared)
    return sum(1 for sent in story.book if sent.message_id and not sent.final)


def _stage(keep: Path | None) -> contextlib.AbstractContextManager[Path]:
    if keep is None:
        return _temporary()
    try:
        keep.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise StartupError(f"{keep} exists: name a folder that does not") from None
    except OSError as error:
        raise StartupError(f"cannot make {keep}: {error.strerror}") from None
    return contextlib.nullcontext(keep)


@contextlib.contextmanager
def _temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gateway-demo-") as name:
        yield Path(name)


@contextlib.asynccontextmanager
async def _tapped(tap: SpoolTap | RabbitTap) -> AsyncIterator[Seen]:
    async with asyncio.TaskGroup() as group:
        listening = group.create_task(tap.run())
        await tap.ready.wait()
        try:
            yield tap.seen
        finally:
            listening.cancel()
            # Its goodbye to the broker needs the loop: not at the end, when everything is cancelled.
            await asyncio.wait({listening}, timeout=STOP_TIMEOUT)


def _add_up(world: World, story: Story, lost: int, seen: Seen) -> Summary:
    find = directory_file.load(world.directory).verify_key
    verified = invalid = 0
    for sent in story.book:
        for text in sent.receipts:
            try:
                proof.verify_receipt(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), find)
                verified += 1
            except ReceiptInvalid:
                invalid += 1

    def count(stage: Stage) -> int:
        return sum(1 for sent in story.book if sent.stage == stage)

    return Summary(
        accepted=sum(1 for sent in story.book if sent.message_id),
        delivered=count(Stage.DELIVERED),
        rejected=count(Stage.REJECTED),
        refused=sum(1 for sent in story.book if sent.refused),
        expired=count(Stage.EXPIRED),
        failed=count(Stage.FAILED),
        lost=lost,
        receipts_verified=verified,
        receipts_invalid=invalid,
        why_rejected=_why(story.book, "reason", Stage.REJECTED),
        why_refused=_why(story.book, "refused", "refused"),
        eavesdropper=_what_was_seen(story, seen),
    )


def _why(book: list[Sent], attribute: str, stage: str) -> dict[str, str]:
    return {sent.title: getattr(sent, attribute) for sent in book if sent.stage == stage}


def _what_was_seen(story: Story, seen: Seen) -> dict[str, object]:
    """Search everything that passed for everything that was written in the messages."""
    needles = traces(story.sent_bodies)
    return {
        "envelopes": len(seen.bodies),
        "bytes": sum(seen.sizes),
        "sizes": sorted(set(seen.sizes))[:8],
        "values_searched_for": len(needles),
        "values_found": sum(1 for needle in needles if seen.contains(needle)),
        "first_bytes": seen.bodies[0][:16].hex() if seen.bodies else "",
    }
