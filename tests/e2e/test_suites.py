"""Nodes with other suites: what is chosen, what is refused at either end, and how a node changes over."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway import config, provisioning
from gateway.crypto.envelope import peek
from gateway.directory import file as directory_file
from gateway.directory.model import parse
from gateway.http.client import ApiProblem
from gateway.messages import AgencyId, LawfulBasis, MessageId, Purpose, Sector
from gateway.node import now_ms
from gateway.store import inbox
from tests.command import app
from tests.road import reached, send, wait_for_arrival
from tests.world import POLICE, QUICK, SCHOOL, World, provision, running, until

HYBRID, P256 = "HPKE-9-KE", "HPKE-7-KE"


def world_of(tmp_path: Path, *, police: tuple[str, ...] = (P256,), signing: str = "ESP256") -> World:
    """The school as it is by default; the police with these kinds of keys."""
    world = provision(tmp_path, (SCHOOL,), extra=QUICK, agreements=False)
    provisioning.init_node(
        tmp_path / POLICE,
        provisioning.NewAgency(POLICE, "Police", Sector.POLICE),
        directory=world.directory,
        spool=tmp_path / "spool",
        port=0,
        admin_port=0,
        signing_suite=signing,
        opening_suites=police,
    )
    for agency in (SCHOOL, POLICE):
        change(tmp_path, agency, "[node]", "[node]\ndirectory_refresh = 0.1")
    return world


def change(folder: Path, agency: AgencyId, old: str, new: str) -> None:
    file = folder / agency / config.FILE_NAME
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), "utf-8")


def agree(world: World, weakest: str | None = None) -> None:
    today = datetime.now(UTC) - timedelta(days=1)
    new = provisioning.NewAgreement(
        "one",
        (SCHOOL,),
        (POLICE,),
        ("referral",),
        tuple(Purpose),
        tuple(LawfulBasis),
        today,
        today + timedelta(days=30),
        weakest_suite=weakest,
    )
    provisioning.agree(world.directory, new, replies=True)


async def suite_of_the_held(world: World, message_id: str) -> str:
    """What the envelope that the police hold was sealed with, as its outside says."""
    store = world.nodes[POLICE].parts.store
    found = await store.read(lambda s: inbox.get(s, POLICE, MessageId(message_id)))
    assert found is not None
    assert found.body is not None
    return peek(found.body).suite


@pytest.mark.parametrize("signing", ["Ed25519", "ESP256"])
@pytest.mark.parametrize(("police", "chosen"), [((P256,), P256), ((P256, HYBRID), HYBRID)])
async def test_the_strongest_that_both_know_is_taken(
    tmp_path: Path, police: tuple[str, ...], chosen: str, signing: str
) -> None:
    world = world_of(tmp_path, police=police, signing=signing)
    agree(world)
    async with running(world):
        message_id = (await send(world.clients[SCHOOL]))["message_id"]
        await wait_for_arrival(world, message_id)
        assert await suite_of_the_held(world, message_id) == chosen
        await world.clients[POLICE].ack([message_id])
        status = await reached(world, message_id, "delivered")
        assert [one["stage"] for one in status["receipts"]] == ["accepted", "received", "delivered"]
    log = tmp_path / "log"
    run = CliRunner().invoke
    assert run(app, ["audit", "export", str(log), "-n", str(tmp_path / POLICE)]).exit_code == 0
    assert run(app, ["audit", "verify", str(log), "-d", str(world.directory)]).exit_code == 0


async def test_a_sender_may_be_told_to_seal_with_less(tmp_path: Path) -> None:
    world = world_of(tmp_path, police=(HYBRID, P256))
    change(tmp_path, SCHOOL, "[node]", f'[node]\nsealing_suites = ["{P256}"]')
    agree(world)
    async with running(world):
        message_id = (await send(world.clients[SCHOOL]))["message_id"]
        await wait_for_arrival(world, message_id)
        assert await suite_of_the_held(world, message_id) == P256


@pytest.mark.parametrize("who", ["agreement", "sender"])
async def test_nothing_is_accepted_that_would_be_sealed_too_weakly(tmp_path: Path, who: str) -> None:
    world = world_of(tmp_path)
    agree(world, HYBRID if who == "agreement" else None)
    if who == "sender":
        change(tmp_path, SCHOOL, "[node]", f'[node]\nsealing_suites = ["{HYBRID}"]')
    async with running(world):
        with pytest.raises(ApiProblem) as refused:
            await send(world.clients[SCHOOL])
        assert (refused.value.code, refused.value.status) == ("no-suitable-key", 403)
        [problem] = refused.value.problems
        assert problem.pointer == "/to/0"
        assert ("HPKE-9-KE, as the agreement asks" in problem.rule) == (who == "agreement")
        listed = CliRunner().invoke(app, ["audit", "list", "-n", str(tmp_path / SCHOOL)]).stdout
        assert "no-suitable-key" in listed


async def test_what_arrives_under_a_weaker_suite_than_agreed_is_rejected(tmp_path: Path) -> None:
    """The police's node knows of a stricter agreement than the school's did."""
    world = world_of(tmp_path, police=(P256, HYBRID))
    change(tmp_path, SCHOOL, "[node]", f'[node]\nsealing_suites = ["{P256}"]')
    agree(world)
    async with running(world):
        stricter: dict[str, Any] = json.loads(world.directory.read_text())
        for agreement in stricter["agreements"]:
            agreement["weakest_suite"] = HYBRID
        world.nodes[POLICE].parts.source._current = parse(json.dumps(stricter).encode())  # type: ignore[attr-defined]
        sent = await send(world.clients[SCHOOL])
        ladder = await reached(world, sent["message_id"], "rejected")
        assert ladder["receipts"][-1]["reason"] == "weaker-than-agreed"
        assert (await world.clients[POLICE].inbox())["messages"] == []


async def test_a_node_changes_its_suites_by_rotating(tmp_path: Path) -> None:
    """To P-256 alone, and back: peers follow both ways, although one suite is stronger."""
    world = world_of(tmp_path, police=(HYBRID,), signing="Ed25519")
    agree(world)
    node = ["-n", str(tmp_path / POLICE)]
    async with running(world):
        school = world.nodes[SCHOOL].parts
        for suite, before, signing in ((P256, HYBRID, "ESP256"), (HYBRID, P256, "Ed25519")):
            change(tmp_path, POLICE, f'opening_suites = ["{before}"]', f'opening_suites = ["{suite}"]')
            other = {"ESP256": "Ed25519", "Ed25519": "ESP256"}[signing]
            change(tmp_path, POLICE, f'signing_suite = "{other}"', f'signing_suite = "{signing}"')
            rotate = ["keys", "rotate", "--lead", "0", *node]
            done = await asyncio.to_thread(CliRunner().invoke, app, rotate)
            assert done.exit_code == 0, done.output

            def follows(suite: str = suite) -> bool:
                key = school.directory.sealing_key(POLICE, now_ms())
                return key is not None and key.suite == suite

            def signs(suite: str = signing) -> bool:
                return world.nodes[POLICE].parts.keys[POLICE].signing.public.suite == suite

            await until(follows, "the school seals to the new key")
            await until(signs, "the police sign with the new key")
            message_id = (await send(world.clients[SCHOOL], idempotency_key=suite))["message_id"]
            await wait_for_arrival(world, message_id)
            assert await suite_of_the_held(world, message_id) == suite
            await world.clients[POLICE].ack([message_id])
            await reached(world, message_id, "delivered")
    listed = json.loads(CliRunner().invoke(app, ["keys", "list", "--json", *node]).stdout)["keys"]
    assert [(one["use"], one["suite"], one["state"]) for one in listed] == [
        ("sign", "Ed25519", "retiring"),
        ("sign", "ESP256", "retiring"),
        ("sign", "Ed25519", "active"),
        ("seal", HYBRID, "retiring"),
        ("seal", HYBRID, "active"),
        ("seal", P256, "retiring"),
    ]


def test_rotating_with_two_suites_makes_a_key_of_each(tmp_path: Path) -> None:
    world = world_of(tmp_path, police=(HYBRID, P256))
    settings = config.load(tmp_path / POLICE)
    provisioning.rotate(settings, POLICE, 0, now_ms())
    [entry] = [one for one in directory_file.load(world.directory).document.agencies if one.id == POLICE]
    assert sorted(key.suite for key in entry.keys if key.use == "seal") == [P256, P256, HYBRID, HYBRID]
    assert all(key.ends is None for key in entry.keys)
    keys = settings.key_store().load(POLICE)
    assert keys.current_opening.suite == HYBRID
    assert [key.public.suite for key in keys.signing_keys] == ["ESP256", "ESP256"]


def test_the_strongest_key_is_not_revoked_while_only_weaker_ones_are_left(tmp_path: Path) -> None:
    world_of(tmp_path, police=(HYBRID, P256))
    node = ["-n", str(tmp_path / POLICE)]
    keys = config.load(tmp_path / POLICE).key_store().load(POLICE)
    hybrid, p256 = (
        next(one for one in keys.opening.values() if one.suite == suite) for suite in (HYBRID, P256)
    )
    run = CliRunner().invoke
    assert "rotate --lead 0" in str(run(app, ["keys", "revoke", hybrid.kid.hex(), *node]).exception)
    assert run(app, ["keys", "revoke", p256.kid.hex(), *node]).exit_code == 0


def test_unknown_suites_are_refused_by_name(tmp_path: Path) -> None:
    for option, setting in (("--opening-suite", "opening_suites"), ("--signing-suite", "signing_suite")):
        done = CliRunner().invoke(
            app,
            [
                *("init", str(tmp_path / "node"), "--agency", "school", "--name", "A school"),
                *("--sector", "education", "-d", str(tmp_path / "directory.json")),
                *("--spool", str(tmp_path / "spool"), option, "HPKE-0-KE"),
            ],
        )
        assert setting in str(done.exception)
        assert not (tmp_path / "node").exists()


def test_an_agreement_with_a_floor_is_entered_and_shown(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    directory = str(world.directory)
    run = CliRunner().invoke
    ask = ["directory", "agree", "-d", directory, "--from", SCHOOL, "--to", POLICE]
    ask += ["--purpose", "prevent", "--lawful-basis", "public-task", "--weakest-suite"]
    assert "weakest_suite" in str(run(app, [*ask, "HPKE-0-KE"]).exception)
    assert run(app, [*ask, HYBRID]).exit_code == 0
    shown = run(app, ["directory", "show", "-d", directory]).stdout
    assert shown.count("sealed with HPKE-9-KE or stronger") == 2, "replies are agreed on the same terms"
