"""A node whose private keys are in a PKCS#11 token, beside one whose keys are in a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway import config, provisioning
from gateway.crypto.labels import SUITE_ESP256, SUITE_HYBRID, SUITE_P256
from gateway.errors import StartupError
from gateway.messages import Sector
from gateway.node import now_ms
from tests import softhsm
from tests.command import app
from tests.road import arrived, reached, refusal, send, wait_for_arrival
from tests.world import POLICE, SCHOOL, World, provision, running, until

pytestmark = softhsm.NEEDED
RUNNER = CliRunner()


@pytest.fixture
def soft(tmp_path: Path) -> Iterator[softhsm.SoftToken]:
    made = softhsm.SoftToken(tmp_path / "hsm")
    with made.here():
        yield made


def with_token(world: World, soft: softhsm.SoftToken) -> None:
    """Move the police node's keys into the token, as docs/keys.md says: a section, and a rotation."""
    file = world.folder / POLICE / config.FILE_NAME
    section = f'[token]\nmodule = "{soft.module}"\nlabel = "{soft.label}"\npin_file = "{soft.pin_file}"\n'
    suites = f'signing_suite = "{SUITE_ESP256}"\nopening_suites = ["{SUITE_P256}"]'
    node = f"[node]\ndirectory_refresh = 0.1\n{suites}"
    file.write_text(file.read_text("utf-8").replace("[node]", node) + "\n" + section, "utf-8")
    provisioning.rotate(config.load(file), POLICE, 0, now_ms())


async def test_messages_and_receipts_cross_between_a_token_and_a_file(
    tmp_path: Path, soft: softhsm.SoftToken
) -> None:
    world = provision(tmp_path, (SCHOOL, POLICE))
    with_token(world, soft)
    async with running(world):
        message_id = (await send(world.clients[SCHOOL]))["message_id"]
        await wait_for_arrival(world, message_id)
        assert json.loads((await world.clients[POLICE].open(message_id)).body)["message"]["sender"] == SCHOOL
        await world.clients[POLICE].ack([message_id])
        await reached(world, message_id, "delivered")
        keys = world.nodes[POLICE].parts.keys[POLICE]
        assert keys.signing.public.suite == SUITE_ESP256
        assert keys.current_opening.suite == SUITE_P256
        assert {key.suite for key in keys.opening.values()} == {SUITE_HYBRID, SUITE_P256}
        sealing = world.nodes[SCHOOL].parts.directory.sealing_key(POLICE, now_ms())
        assert sealing is not None
        assert sealing.kid == keys.current_opening.kid
    document = json.loads((tmp_path / POLICE / "keys" / f"{POLICE}.json").read_text())
    assert document["version"] == 3
    assert "secret" not in document["signing"][-1]


async def test_while_the_token_is_away_nothing_is_lost(tmp_path: Path, soft: softhsm.SoftToken) -> None:
    world = provision(tmp_path, (SCHOOL, POLICE))
    with_token(world, soft)
    async with running(world):
        police = world.nodes[POLICE]
        with soft.away():
            message_id = (await send(world.clients[SCHOOL]))["message_id"]
            await until(lambda: not police.ready()[1]["keys"], "the node says that its keys are away")
            assert not await arrived(world.clients[POLICE], message_id)
        await until(lambda: police.ready()[1]["keys"], "the keys are back")
        await wait_for_arrival(world, message_id)
        await world.clients[POLICE].ack([message_id])
        await reached(world, message_id, "delivered")


async def test_a_sender_whose_token_is_away_is_refused_and_can_repeat(
    tmp_path: Path, soft: softhsm.SoftToken
) -> None:
    world = provision(tmp_path, (SCHOOL, POLICE))
    with_token(world, soft)
    async with running(world):
        with soft.away():
            problem = await refusal(world.clients[POLICE], to=[SCHOOL])
            assert (problem.status, problem.code) == (503, "key-token-unavailable")


def test_init_begins_in_a_token(tmp_path: Path, soft: softhsm.SoftToken) -> None:
    command = [
        "init",
        str(tmp_path / "node"),
        "--agency",
        "a",
        "--name",
        "A",
        "--sector",
        Sector.HEALTH.value,
    ]
    command += ["-d", str(tmp_path / "directory.json"), "--spool", str(tmp_path / "spool")]
    command += ["--token-module", str(soft.module), "--token-label", soft.label]
    assert "--token-label and --token-pin-file" in str(RUNNER.invoke(app, command).exception)
    made = RUNNER.invoke(app, [*command, "--token-pin-file", str(soft.pin_file)])
    assert made.exit_code == 0, made.output
    keys = json.loads((tmp_path / "node" / "keys" / "a.json").read_text())
    assert [row["suite"] for row in (*keys["signing"], *keys["opening"])] == [SUITE_ESP256, SUITE_P256]
    assert not any("secret" in row for row in (*keys["signing"], *keys["opening"]))
    listed = RUNNER.invoke(app, ["keys", "list", "-n", str(tmp_path / "node")])
    assert listed.output.count("active") == 2


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda soft: soft.pin_file.write_text("00000000"), "refuses the PIN"),
        (lambda soft: os.chmod(soft.pin_file, 0o644), "can be read by others"),
        (lambda soft: soft.pin_file.unlink(), "cannot read the secret"),
    ],
)
def test_a_node_without_its_token_does_not_start(
    tmp_path: Path, soft: softhsm.SoftToken, change: object, why: str
) -> None:
    world = provision(tmp_path, (SCHOOL, POLICE))
    with_token(world, soft)
    before = (tmp_path / POLICE / "keys" / f"{POLICE}.json").read_bytes()
    assert callable(change)
    change(soft)
    run = [sys.executable, "-m", "gateway", "run", "-n", str(tmp_path / POLICE)]
    told = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode != 0
    assert why in told.stderr
    assert len(told.stderr.splitlines()) == 1
    assert (tmp_path / POLICE / "keys" / f"{POLICE}.json").read_bytes() == before


def test_a_token_needs_the_suite_it_can_do(tmp_path: Path, soft: softhsm.SoftToken) -> None:
    provision(tmp_path, (SCHOOL, POLICE))
    file = tmp_path / POLICE / config.FILE_NAME
    section = f'\n[token]\nmodule = "{soft.module}"\nlabel = "{soft.label}"\npin_file = "{soft.pin_file}"\n'
    file.write_text(file.read_text("utf-8") + section, "utf-8")
    with pytest.raises(StartupError, match="opening_suites"):
        config.load(file)
