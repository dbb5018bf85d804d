"""The sandbox as a developer's system meets it: every partner, the report, and a restart in between."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.cli.common import Exit
from gateway.crypto.labels import CONFORMANCE_CONTEXT
from gateway.crypto.statement import read_statement
from gateway.http.client import ApiProblem, Client
from gateway.messages import AgencyId, Sector
from gateway.provisioning import NewAgency
from gateway.sandbox import run_sandbox
from gateway.sandbox.exercises import (
    ACCEPTS,
    ASKS,
    DECLINES,
    EXERCISES,
    PARTNERS,
    REFERS,
    REJECTS,
    REPEATS,
    SILENT,
    SLOW,
    STRANGER,
)
from tests.command import app
from tests.road import referral
from tests.world import until

YOU = NewAgency(AgencyId("my-school"), "My School", Sector.EDUCATION)


@asynccontextmanager
async def sandbox(folder: Path) -> AsyncIterator[Client]:
    """It runs, and this is your system."""
    said: list[str] = []
    stop = asyncio.Event()
    running = asyncio.ensure_future(run_sandbox(folder, YOU, port=0, delay=0.1, say=said.append, stop=stop))
    try:
        await until(lambda: running.done() or any("Ctrl-C" in line for line in said), "it runs")
        if running.done():
            await running
        url = re.findall(r"http://127\.0\.0\.1:[0-9]+", said[0])[0]
        client = Client(url, (folder / "token").read_text().strip())
        yield client
        await client.close()
    finally:
        stop.set()
        await running


async def send(client: Client, to: AgencyId, **more: Any) -> str:
    sent = await client.send(
        json.dumps(more.pop("document", None) or referral()).encode(),
        media_type="application/json",
        to=[to],
        purpose="early-help",
        lawful_basis="public-task",
        idempotency_key=f"{to}-{more.get('in_reply_to', '')}",
        **more,
    )
    return str(sent["message_id"])


async def collect(client: Client, count: int) -> list[dict[str, Any]]:
    """Everything that has come, acknowledged, until there were so many."""
    found: list[dict[str, Any]] = []

    async def enough() -> bool:
        messages = (await client.inbox(content=True))["messages"]
        found.extend(messages)
        if messages:
            await client.ack([one["message_id"] for one in messages])
        return len(found) >= count

    await until(enough, f"{count} messages come")
    return found


def report(folder: Path) -> dict[str, Any]:
    document = json.loads((folder / "report.json").read_text())
    return read_statement(document, CONFORMANCE_CONTEXT)[0]


def met(folder: Path) -> set[str]:
    return {one["name"] for one in report(folder)["exercises"] if one["met"]}


def typed(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["sandbox", *map(str, arguments)])


async def test_a_system_goes_through_every_exercise_and_gets_a_signed_report(tmp_path: Path) -> None:
    folder = tmp_path / "sandbox"
    async with sandbox(folder) as client:
        for partner in (ACCEPTS, DECLINES, ASKS, SLOW, REPEATS, REJECTS):
            await send(client, partner)
        await send(client, SILENT, expires_in=1)
        decisions = await collect(client, 6)
        outcomes = sorted(one["content"]["outcome"] for one in decisions)
        assert outcomes == ["accepted"] * 4 + ["declined", "more-information-needed"]
        with pytest.raises(ApiProblem, match="no-agreement"):
            await send(client, STRANGER)
        await until(lambda: len(met(folder)) == 8, "eight are met")
        assert {"received", "answered"} == EXERCISES.keys() - met(folder)

    # What was set up and seen survives a restart; the token too.
    async with sandbox(folder) as client:
        await send(client, REFERS)
        (theirs,) = await collect(client, 1)
        assert theirs["type"] == "referral"
        answer = {
            "type": "decision",
            "version": 1,
            "outcome": "accepted",
            "decidedBy": {"role": ["Safeguarding lead"]},
        }
        await send(client, REFERS, document=answer, in_reply_to=theirs["message_id"], case=theirs["case"])
        await until(lambda: report(folder)["complete"], "all are met")

    shown = await asyncio.to_thread(typed, "report", "--folder", folder)
    assert (shown.exit_code, shown.stdout.count("  done  ")) == (0, len(EXERCISES))
    (kid,) = re.findall(r"signed by key ([0-9a-f]{16})", shown.stdout)
    verified = await asyncio.to_thread(typed, "verify", folder / "report.json", "--key", kid, "--json")
    assert json.loads(verified.stdout)["complete"] is True

    document = json.loads((folder / "report.json").read_text())
    document["report"]["agency"] = "another"
    (folder / "forged.json").write_text(json.dumps(document))
    for arguments in ((folder / "forged.json",), (folder / "report.json", "--key", "00")):
        refused = await asyncio.to_thread(typed, "verify", *arguments)
        assert refused.exit_code == Exit.REFUSED


def test_a_report_that_is_none(tmp_path: Path) -> None:
    for text in ("{}", "[]", '{"key": "AAAA", "signed": "AAAA"}', '{"key": 7}'):
        (tmp_path / "report.json").write_text(text)
        assert typed("verify", tmp_path / "report.json").exit_code == Exit.REFUSED
    for text in ("", "nothing"):
        (tmp_path / "report.json").write_text(text)
        assert "is not JSON" in str(typed("verify", tmp_path / "report.json").exception)


def test_the_guide_names_every_partner() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "connecting.md").read_text("utf-8")
    for partner, what in PARTNERS.items():
        assert f"| `{partner}` | {what} |" in guide
