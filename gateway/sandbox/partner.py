"""The pretend partners: each looks into its inbox and answers as its name says, over the API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from importlib import resources
from typing import Any, Final

from gateway.http.client import ApiProblem, Client
from gateway.messages import FINAL_STAGES, AgencyId, Reason
from gateway.sandbox.exercises import (
    ACCEPTS,
    ASKS,
    DECLINES,
    REFERS,
    REJECTS,
    REPEATS,
    SILENT,
    SLOW,
    Progress,
)

LOOK: Final = 5
"""Seconds of a long poll."""
FOLLOW: Final = 0.5
"""Seconds between two looks at how far messages have come."""
_DECISIONS: Final = {
    ACCEPTS: "accepted",
    SLOW: "accepted",
    REPEATS: "accepted",
    DECLINES: "declined",
    ASKS: "more_information_needed",
}


class Partner:
    """One of them."""

    def __init__(
        self,
        agency: AgencyId,
        client: Client,
        you: AgencyId,
        progress: Progress,
        *,
        delay: float,
        now: Callable[[], str],
    ) -> None:
        """`delay`: seconds that the slow one lets pass."""
        self._agency, self._client, self._you = agency, client, you
        self._progress, self._delay, self._now = progress, delay, now
        self._seen: set[str] = set()

    async def run(self) -> None:
        """Answer whatever comes, until cancelled."""
        while True:
            page = await self._client.inbox(wait=LOOK)
            fresh = [one for one in page["messages"] if one["message_id"] not in self._seen]
            for entry in fresh:
                await self._answer(entry)
            if not fresh:
                await asyncio.sleep(FOLLOW)

    async def _answer(self, entry: dict[str, Any]) -> None:
        message_id = entry["message_id"]
        self._progress.arrived(message_id, self._agency, entry["in_reply_to"], self._now())
        self._seen.add(message_id)
        if self._agency == SILENT:
            return
        if self._agency == REJECTS:
            await self._client.reject(message_id, reason=Reason.NOT_ACCEPTED)
            return
        if self._agency == SLOW:
            await asyncio.sleep(self._delay)
        try:
            await self._client.ack([message_id])
        except ApiProblem:
            return  # it expired, or was recalled, meanwhile
        if self._agency in _DECISIONS and entry["type"] == "referral":
            copies = 2 if self._agency == REPEATS else 1
            for copy in range(copies):
                await self._send(entry, "decision", _DECISIONS[self._agency], f"{message_id}-{copy}")
        elif self._agency == REFERS and entry["type"] == "referral":
            await self._send(entry, "referral", "school_prevent_referral", f"{message_id}-referral")

    async def _send(self, entry: dict[str, Any], type_: str, example: str, key: str) -> None:
        folder = resources.files("gateway.schemas") / "examples" / type_
        document = json.loads((folder / f"{example}.json").read_bytes())
        sent = await self._client.send(
            json.dumps(document).encode(),
            media_type="application/json",
            to=[self._you],
            purpose=entry["purpose"],
            lawful_basis=entry["lawful_basis"],
            idempotency_key=key,
            case=entry["case"] if type_ == "decision" else None,
            in_reply_to=entry["message_id"] if type_ == "decision" else None,
        )
        self._progress.sent(sent["message_id"], self._agency, type_)


class Follower:
    """Sees what becomes of the messages both ways."""

    def __init__(
        self, you: Client, partners: dict[AgencyId, Client], progress: Progress, *, now: Callable[[], str]
    ) -> None:
        self._you, self._partners, self._progress, self._now = you, partners, progress, now

    async def run(self, on_change: Callable[[], None]) -> None:
        """Look again and again, until cancelled."""
        while True:
            before = len(self._progress.met)
            for message_id in list(self._progress.following):
                await self._look(self._you, message_id)
            for message_id, partner in list(self._progress.owed.items()):
                await self._look(self._partners[AgencyId(partner)], message_id)
            if len(self._progress.met) != before:
                on_change()
            await asyncio.sleep(FOLLOW)

    async def _look(self, client: Client, message_id: str) -> None:
        status = await client.status(message_id)
        for one in status["recipients"]:
            if one["stage"] in {stage.value for stage in FINAL_STAGES}:
                self._progress.reached(message_id, one["stage"], self._now())
