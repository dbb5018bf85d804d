"""Promise 3 at the faces that work by themselves: content, file names and answers are in no log or store."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web

from gateway.observability import logs
from tests.e2e import test_folders as folders
from tests.e2e import test_push as push
from tests.leaks.canaries import canary, plant_json, search
from tests.road import referral, send
from tests.world import POLICE, QUICK, SCHOOL, provision, running, until


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    written = io.StringIO()
    logs.configure(written, "info")
    yield written
    logs.configure(sys.stderr, "error")


async def test_nothing_of_a_pushed_message_or_of_the_answer_is_written(
    tmp_path: Path, log: io.StringIO
) -> None:
    document, words = plant_json(referral())
    answers = [canary() for _ in range(2)]
    refusal = web.Response(status=422, headers={"Retry-After": answers[0]}, body=answers[1] * 100)
    async with push.pushing(tmp_path, web.Response(status=503, body=answers[1]), refusal) as (world, _):
        await send(world.clients[SCHOOL], document)
        await until(lambda: push.attempts(world, "refused") == 1, "it is refused")
        outputs = {"log": log.getvalue().encode(), "metrics": world.nodes[POLICE].metrics()[0]}
        assert "push-deferred" in log.getvalue()
        assert push.TOKEN not in log.getvalue()
        assert search([tmp_path / POLICE, tmp_path / SCHOOL], [*words, *answers], outputs) == []


async def test_nothing_of_a_file_or_its_name_is_written_but_in_its_folder(
    tmp_path: Path, log: io.StringIO
) -> None:
    document, words = plant_json(referral())
    name, wrong = canary(), canary()
    world = provision(tmp_path / "world", (SCHOOL, POLICE), extra=QUICK)
    given = tmp_path / "given"
    folders.configure(world.folder / SCHOOL, SCHOOL, **folders.sending(given))
    async with running(world):
        folders.drop(given, json.dumps(document).encode(), f"{name}.json")
        folders.drop(given, json.dumps({**referral(), wrong: wrong}).encode(), f"{name} {wrong}.json")
        sample = 'gateway_folder_files_total{agency="school",outcome='
        for outcome in ("taken", "quarantined"):
            await until(partial(folders.has_count, world, f'{sample}"{outcome}"}}', 1), outcome)
        outputs = {"log": log.getvalue().encode(), "metrics": world.nodes[SCHOOL].metrics()[0]}
        reasons = [json.loads(path.read_bytes()) for path in given.glob("quarantine/*/problem.json")]
        outputs["reasons"] = json.dumps([{**one, "file": ""} for one in reasons]).encode()
        assert search([world.folder], [*words, name, wrong], outputs) == []
        assert search([given / "done"], words, {}) == []
