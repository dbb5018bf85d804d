"""Break-glass over two running nodes: recorded and told before anything is opened; nothing else changes."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sqlite3
import stat
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli.people import read_request
from gateway.crypto import governance
from gateway.engine import break_glass
from gateway.http.client import File
from gateway.messages import LawfulBasis, MessageId, Purpose, new_id
from gateway.node import now_ms
from gateway.observability import logs
from gateway.protocol.break_glass import BreakGlass
from gateway.provisioning import NewAgreement, agree
from gateway.store import inbox, reconciliations
from tests.command import app
from tests.leaks.canaries import canary, plant_json, search
from tests.road import metric, reached, referral, send, wait_for_arrival
from tests.world import POLICE, SCHOOL, World, provision, running, until

QUICK = """
[times]
tick = 0.05
settle = 60.0
checkpoint = 0.2
checkpoint_exchange = 0.2
"""
SECRET = b"a passphrase of many words"
ROLES = ("duty-lead", "inspector", "chief")


@dataclass
class People:
    """The roles' keys, outside every node's folder."""

    folder: Path

    def make(self) -> BreakGlass:
        """Keys for all roles; the section of an agreement that names them."""
        self.folder.mkdir()
        (self.folder / "passphrase").write_bytes(SECRET)
        publics = []
        for name in (*ROLES, "stranger"):
            pem, key = governance.new_key(SECRET)
            (self.folder / f"{name}.key").touch(mode=0o600)
            (self.folder / f"{name}.key").write_bytes(pem)
            publics.append((name, governance.raw(key.public_key())))
        return BreakGlass(2, tuple(publics[:-1]))

    def by(self, role: str) -> list[object]:
        """Options that sign as this role."""
        return ["--by", self.folder / f"{role}.key", "--passphrase-file", self.folder / "passphrase"]


def typed(*arguments: object) -> tuple[int, str]:
    """A command in this process: its exit code, and what it says."""
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    return done.exit_code, done.output if done.exception is None or done.output else repr(done.exception)


def share(world: World, rule: BreakGlass | None, name: str = "all-to-all") -> None:
    today = datetime.now(UTC) - timedelta(days=1)
    everyone = (SCHOOL, POLICE)
    agree(
        world.directory,
        NewAgreement(
            name,
            everyone,
            everyone,
            ("referral", "decision"),
            tuple(Purpose),
            tuple(LawfulBasis),
            today,
            today + timedelta(days=30),
            break_glass=rule,
        ),
        replies=False,
    )


@pytest.fixture
def people(tmp_path: Path) -> People:
    return People(tmp_path / "people")


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the nodes log."""
    log = io.StringIO()
    logs.configure(log, "info")
    yield log
    logs.configure(sys.stderr, "error")


@pytest.fixture
async def world(tmp_path: Path, people: People) -> AsyncIterator[World]:
    """A school and the police, who may break the glass."""
    (tmp_path / "world").mkdir()
    world = provision(tmp_path / "world", (SCHOOL, POLICE), extra=QUICK)
    share(world, people.make())
    async with running(world) as world:
        yield world


async def waits(world: World, body: Any = None, **change: Any) -> str:
    """A message in the police's inbox that nobody collected."""
    message_id = str((await send(world.clients[SCHOOL], body, **change))["message_id"])
    await wait_for_arrival(world, message_id)
    return message_id


def ask(
    world: World, people: People, message_id: str, name: str = "request", *by: str, **more: object
) -> Path:
    """A request with these approvals."""
    first, *others = by or ROLES[:2]
    file = people.folder / name
    options = [part for key, value in more.items() for part in (f"--{key}", value)]
    code, text = typed(
        *("break-glass", "request", message_id, "-n", world.folder / POLICE, "--reason", "risk-to-life"),
        *("--request", file, *people.by(first), *options),
    )
    assert code == 0, text
    for role in others:
        code, text = typed("break-glass", "approve", file, *people.by(role))
        assert code == 0, text
    return file


def opened(world: World, file: Path, out: Path) -> tuple[int, str]:
    return typed("break-glass", "open", file, "-n", world.folder / POLICE, "--out", out)


async def notices(world: World, message_id: str) -> list[dict[str, Any]]:
    """What the school's system sees of openings."""
    status = await world.clients[SCHOOL].status(message_id)
    return [one for one in status["recipients"][0]["receipts"] if one["stage"] == "opened"]


def entries(world: World, agency: str, message_id: str) -> list[dict[str, Any]]:
    code, text = typed("audit", "list", "-n", world.folder / agency, "--json", "--message", message_id)
    assert code == 0
    return list(json.loads(text)["entries"])


async def in_thread(function: Any, *arguments: Any) -> Any:
    """A command while the nodes of this process go on."""
    return await asyncio.to_thread(function, *arguments)


async def test_a_quorum_opens_a_message_and_the_sender_can_prove_it(
    world: World, people: People, log: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    document, words = plant_json(referral())
    name, inside = canary(), canary()
    words += [name, inside]
    pdf = File(f"../../{name}.pdf", "application/pdf", inside.encode() * 1000)
    message_id = await waits(world, document, attachments=[pdf])
    file = await in_thread(ask, world, people, message_id)
    code, text = await in_thread(typed, "break-glass", "show", file, "-n", world.folder / POLICE)
    assert (code, "duty-lead, inspector" in text, "risk-to-life" in text) == (0, True, True), text
    out = people.folder / "opened.zip"
    code, text = await in_thread(opened, world, file, out)
    assert code == 0, text
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    with zipfile.ZipFile(out) as archive:
        assert sorted(archive.namelist()) == ["about.json", "attachment-1.pdf", "letter.html", "message.json"]
        assert json.loads(archive.read("message.json")) == document
        assert archive.read("attachment-1.pdf") == inside.encode() * 1000
        about = json.loads(archive.read("about.json"))
    assert about["opened"]["roles"] == ["duty-lead", "inspector"]
    assert [one["whole"] for one in about["attachments"]] == [True]

    # The sender sees it, and it changes nothing there.
    await until(lambda: notices(world, message_id), "the notice")
    (notice,) = await notices(world, message_id)
    assert (notice["issuer"], notice["reason"]) == (POLICE, "risk-to-life")
    ladder = await reached(world, message_id, "received")
    await until(lambda: metric(world, SCHOOL, 'gateway_break_glass_total{what="noticed"}'), "counted there")
    await until(lambda: metric(world, POLICE, 'gateway_break_glass_total{what="opened"}'), "counted here")
    assert log.getvalue().count('"event": "break-glass"') == 2

    # Anybody can check it, offline.
    answer = people.folder / "status.json"
    answer.write_text(json.dumps({"receipts": ladder["receipts"]}), "utf-8")
    code, text = typed("receipts", "verify", answer, "-d", world.directory)
    assert (code, "approved by duty-lead, inspector" in text) == (0, True), text

    # Its own system collects it as if nothing had been.
    assert json.loads((await world.clients[POLICE].open(message_id, "application/json")).body)
    await world.clients[POLICE].ack([message_id])
    await reached(world, message_id, "delivered")
    assert (await world.clients[POLICE].inbox())["messages"] == []
    assert metric(world, POLICE, 'gateway_envelopes_received_total{agency="police"}') == 1

    # Both logs have it, and both evidence packs.
    kinds = [(one["kind"], one.get("role")) for one in entries(world, POLICE, message_id)]
    assert kinds[2:7] == [
        ("break-glass-asked", None),
        ("approval-given", "duty-lead"),
        ("approval-given", "inspector"),
        ("break-glass-opened", None),
        ("receipt", None),
    ]
    (record,) = [one for one in entries(world, POLICE, message_id) if one["kind"] == "break-glass-opened"]
    assert (record["threshold"], record["agreement"], record["reason"]) == (2, "all-to-all", "risk-to-life")
    assert [one["reason"] for one in entries(world, SCHOOL, message_id) if one.get("stage") == "opened"] == [
        "risk-to-life"
    ]
    for agency in (SCHOOL, POLICE):
        pack = people.folder / f"{agency}.zip"
        code, text = await in_thread(typed, "evidence", message_id, "-n", world.folder / agency, "-o", pack)
        assert code == 0, text
        code, text = typed("evidence", "verify", pack, "-d", world.directory)
        assert (code, "approved by duty-lead, inspector" in text) == (0, True), text
        with zipfile.ZipFile(pack) as archive:
            assert "Approved by duty-lead, inspector" in archive.read("report.html").decode()

    # Nothing of the message is anywhere but in the file that was asked for.
    streams = "".join(capfd.readouterr()) + log.getvalue()
    assert search([world.folder], words, {"log and output": streams.encode()}) == []


async def test_every_opening_is_recorded_and_told_anew(world: World, people: People) -> None:
    message_id = await waits(world)
    file = await in_thread(ask, world, people, message_id)
    for number in (1, 2):
        code, text = await in_thread(opened, world, file, people.folder / f"{number}.zip")
        assert code == 0, text

    async def both() -> bool:
        return len(await notices(world, message_id)) == 2

    await until(both, "two notices")
    assert [one["kind"] for one in entries(world, POLICE, message_id)].count("break-glass-opened") == 2


async def test_a_restored_sender_learns_of_openings_again_however_many_there_were(
    world: World, people: People
) -> None:
    message_id = await waits(world)
    approvals = read_request(await in_thread(ask, world, people, message_id))
    school, police = world.nodes[SCHOOL].parts, world.nodes[POLICE].parts
    now = now_ms()
    for number in range(12):
        await police.store.write(
            partial(
                break_glass.record,
                directory=police.directory,
                keys=police.keys[POLICE],
                message_id=MessageId(message_id),
                approvals=approvals,
                now=now + number,
            )
        )

    async def told() -> int:
        return len(await notices(world, message_id))

    async def all_of_them() -> bool:
        return await told() == 12

    await until(all_of_them, "the notices")
    await school.store.write(lambda s: s.execute("DELETE FROM openings"))
    assert await told() == 0
    await school.store.write(lambda s: reconciliations.begin(s, SCHOOL, POLICE, since=0, hold=False, due=0))

    async def answered() -> bool:
        return await school.store.read(reconciliations.pending) == 0

    await until(answered, "the answer")
    assert await told() == 7, "as many as one answer takes, beside `received`"


async def test_what_opens_nothing_is_no_opening_on_record(world: World, people: People) -> None:
    message_id, other = await waits(world), await waits(world)
    out = people.folder / "out.zip"

    async def refused(file: Path, why: str) -> None:
        code, text = await in_thread(opened, world, file, out)
        assert (code, text.count("\n"), out.exists()) == (1, 1, False), text
        assert why in text

    alone = await in_thread(ask, world, people, message_id, "alone", "chief")
    await refused(alone, "1 of the 2 approvals")
    code, text = await in_thread(typed, "break-glass", "approve", alone, *people.by("chief"))
    assert (code, "already" in text) == (1, True)
    twice = json.loads(alone.read_text("utf-8"))
    twice["approvals"] *= 2
    (people.folder / "twice").write_text(json.dumps(twice), "utf-8")
    await refused(people.folder / "twice", "1 of the 2 approvals")
    code, _ = await in_thread(typed, "break-glass", "approve", alone, *people.by("stranger"))
    assert code == 0, "the file does not say who may"
    await refused(alone, "somebody who may not")
    mixed = json.loads((await in_thread(ask, world, people, other, "other", "inspector")).read_text("utf-8"))
    mixed["approvals"].insert(0, twice["approvals"][0])
    (people.folder / "mixed").write_text(json.dumps(mixed), "utf-8")
    await refused(people.folder / "mixed", "different requests")
    code, text = await in_thread(
        *(typed, "break-glass", "request", message_id, "-n", world.folder / POLICE),
        *("--reason", "risk-to-life", "--request", people.folder / "no", *people.by("stranger")),
    )
    assert (code, "none of the roles" in text) == (1, True), text

    # Collected meanwhile: there is nothing left to open.
    late = await in_thread(ask, world, people, message_id, "late")
    await world.clients[POLICE].ack([message_id])
    await refused(late, "no such message waiting")
    assert not await notices(world, message_id)
    kinds = [one["kind"] for one in entries(world, POLICE, message_id)]
    assert not {*kinds} & {"break-glass-opened", "approval-given"}
    assert kinds.count("break-glass-refused") == 6, "whoever tries is on record, too"


async def test_without_a_section_in_the_agreement_nothing_opens(world: World, people: People) -> None:
    message_id = await waits(world)
    file = await in_thread(ask, world, people, message_id)
    share(world, None)
    out = people.folder / "out.zip"
    code, text = await in_thread(opened, world, file, out)
    assert (code, "has no break-glass" in text, out.exists()) == (1, True, False), text
    share(world, BreakGlass(2, tuple((f"r{n}", bytes([n + 3]) * 32) for n in range(2))))
    code, text = await in_thread(opened, world, file, out)
    assert (code, "somebody who may not" in text) == (1, True), text


async def test_a_notice_the_senders_directory_does_not_confirm_is_an_alarm(
    world: World, people: People
) -> None:
    message_id = await waits(world)
    file = await in_thread(ask, world, people, message_id)
    await world.stop(SCHOOL)
    assert (await in_thread(opened, world, file, people.folder / "out.zip"))[0] == 0
    share(world, None)  # what the school reads when it starts
    await world.start(SCHOOL)
    await until(lambda: notices(world, message_id), "the notice is kept all the same")
    await until(lambda: metric(world, SCHOOL, 'gateway_break_glass_total{what="no-quorum"}'), "the alarm")


async def test_it_works_while_the_node_does_not_run_and_the_notice_goes_out_when_it_does(
    world: World, people: People
) -> None:
    message_id = await waits(world)
    await world.stop(POLICE)
    file = await in_thread(ask, world, people, message_id)
    code, text = await in_thread(opened, world, file, people.folder / "out.zip")
    assert code == 0, text
    assert not await notices(world, message_id)
    await world.start(POLICE)
    await until(lambda: notices(world, message_id), "the notice")
    assert (await world.clients[POLICE].inbox())["messages"][0]["message_id"] == message_id


async def test_a_message_whose_attachment_is_on_its_way_opens_without_it(
    world: World, people: People
) -> None:
    pdf = File("a.pdf", "application/pdf", b"%PDF-1.7")
    message_id = await waits(world, attachments=[pdf])
    await world.stop(POLICE)
    with sqlite3.connect(world.folder / POLICE / "gateway.db") as connection:
        connection.execute("DELETE FROM inbound_chunks")
        connection.execute("UPDATE inbox SET stage = ?", (inbox.WAITING,))
    connection.close()
    file = await in_thread(ask, world, people, message_id)
    out = people.folder / "out.zip"
    code, text = await in_thread(opened, world, file, out)
    assert (code, "not whole here: 1" in text) == (0, True), text
    with zipfile.ZipFile(out) as archive:
        assert json.loads(archive.read("about.json"))["attachments"][0]["whole"] is False


async def test_the_directory_that_allowed_an_opening_is_on_record_though_the_node_never_saw_it(
    world: World, people: People
) -> None:
    """Otherwise one could be put there for the moment, and taken away again."""
    message_id = await waits(world)
    await world.stop(POLICE)
    file = await in_thread(ask, world, people, message_id)
    document = json.loads(world.directory.read_text("utf-8"))
    document["expires"] = document["expires"].replace("20", "21", 1)
    world.directory.write_text(json.dumps(document), "utf-8")

    def seen() -> int:
        code, text = typed("audit", "list", "-n", world.folder / POLICE)
        assert code == 0
        return text.count("directory-changed")

    before = await in_thread(seen)
    arguments = ["break-glass", "open", file, "-n", world.folder / POLICE, "--out", people.folder / "out.zip"]
    code, text = await in_thread(typed, *arguments)
    assert code == 0, text
    assert await in_thread(seen) == before + 1
    await world.start(POLICE)


KILLED = """
import os, sys
from gateway.cli import break_glass
from gateway.cli.root import main
break_glass.write_opened = lambda *a, **k: os.kill(os.getpid(), 9)
sys.argv[0] = "gateway"
main()
"""


async def test_killed_between_record_and_plaintext_it_is_recorded_and_told_and_not_opened(
    world: World, people: People
) -> None:
    message_id = await waits(world)
    file = await in_thread(ask, world, people, message_id)
    out = people.folder / "out.zip"
    arguments = ["break-glass", "open", file, "-n", world.folder / POLICE, "--out", out]
    done = await in_thread(
        lambda: subprocess.run(
            [sys.executable, "-c", KILLED, *map(str, arguments)], check=False, capture_output=True, timeout=60
        )
    )
    assert done.returncode == -9
    assert out.read_bytes() == b""
    await until(lambda: notices(world, message_id), "the notice")
    assert "break-glass-opened" in [one["kind"] for one in entries(world, POLICE, message_id)]
    code, text = await in_thread(opened, world, file, people.folder / "again.zip")
    assert code == 0, text


async def test_what_cannot_be_recorded_is_not_opened(
    world: World, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    message_id = await waits(world)
    file = await in_thread(ask, world, people, message_id)
    out = people.folder / "out.zip"

    def no(*arguments: object) -> None:
        raise KeyError

    for part in ("gateway.store.receipts.owe", "gateway.store.receipts.keep", "gateway.store.audit.record"):
        with monkeypatch.context() as broken:
            broken.setattr(part, no)
            code, _ = await in_thread(opened, world, file, out)
        assert (code, out.exists()) == (1, False), part
    assert not await notices(world, message_id)
    kinds = {one["kind"] for one in entries(world, POLICE, message_id)}
    assert not kinds & {"break-glass-opened", "approval-given"}, "all of it or nothing"


async def test_a_full_disk_is_told_and_the_opening_stays_on_record(
    world: World, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    message_id = await waits(world)
    file = await in_thread(ask, world, people, message_id)
    out = people.folder / "out.zip"

    def full(*arguments: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("gateway.cli.break_glass.write_opened", full)
        code, text = await in_thread(opened, world, file, out)
    assert (code, "on record" in text, text.count("\n"), out.exists()) == (3, True, 1, False), text
    await until(lambda: notices(world, message_id), "the notice")


@pytest.mark.parametrize("what", ["a disk that fills up", "Ctrl-C"])
async def test_what_stops_half_way_leaves_no_part_of_the_message(
    world: World, people: People, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    pdf = File("a.pdf", "application/pdf", os.urandom(100_000))
    message_id = await waits(world, attachments=[pdf])
    file = await in_thread(ask, world, people, message_id)
    out = people.folder / "out.zip"

    def full(path: Path) -> Any:
        path.touch()
        return Path("/dev/full").open("wb")  # which the command closes, and that fails as well

    def interrupted(*arguments: object) -> bool:
        raise KeyboardInterrupt

    if what == "Ctrl-C":
        monkeypatch.setattr("gateway.engine.opened_file._attachment", interrupted)
    else:
        monkeypatch.setattr("gateway.cli.break_glass._reserve", full)
    code, text = await in_thread(opened, world, file, out)
    assert (code, out.exists()) == (130 if what == "Ctrl-C" else 3, False), text
    assert text.count("\n") == 1 or what == "Ctrl-C"
    await until(lambda: notices(world, message_id), "the notice")


async def test_odd_arguments_are_one_clear_line(world: World, people: People) -> None:
    node, file = world.folder / POLICE, people.folder / "request"
    common = ("-n", node, "--reason", "risk-to-life", "--request", file, *people.by("chief"))
    code, text = await in_thread(typed, "break-glass", "request", new_id(), *common)
    assert (code, "no such message waiting" in text) == (1, True), text
    assert not file.exists()
    (people.folder / "junk").write_text('{"format": "x"}', "utf-8")
    for command in (
        ("show", people.folder / "junk"),
        ("show", people.folder / "absent"),
        ("request", "me", *common),
        ("request", new_id(), *common, "--agency", SCHOOL),
    ):
        code, text = await in_thread(typed, "break-glass", *command)
        assert "StartupError" in text or code == 2, text
    assert typed("break-glass", "request", new_id(), *common[:2], "--reason", "curiosity")[0] == 2
