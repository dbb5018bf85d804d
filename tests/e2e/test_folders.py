"""The folder face: real nodes, real folders, and kill -9 at every point that matters."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench.nodes import RECIPIENT, SENDER, BenchNode, provision_pair, restart, start
from gateway import config
from gateway.errors import StartupError, Unavailable
from gateway.http.client import Client, File
from gateway.node import Node
from tests.road import metric, reached, referral, send
from tests.world import POLICE, QUICK, SCHOOL, World, provision, running, until

VICTIM = ("-m", "tests.faults.victim", "kill")
NAME = "Referral of Jane Example.json"


def configure(node: Path, agency: str, **values: Any) -> None:
    """A [[folder]] of this node; its folders are made."""
    for one in ("in_dir", "out_dir"):
        if one in values:
            Path(values[one]).mkdir(exist_ok=True)
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in ({"interval": 0.05} | values).items()]
    with (node / config.FILE_NAME).open("a") as file:
        file.writelines(["\n[[folder]]\n", f'agency = "{agency}"\n', *lines])


def sending(folder: Path, to: str = POLICE) -> dict[str, Any]:
    return {"in_dir": str(folder), "to": [to], "purpose": "prevent", "lawful_basis": "public-task"}


@asynccontextmanager
async def folders(tmp_path: Path, **more: Any) -> AsyncIterator[tuple[World, Path, Path]]:
    """A school that exports files, police that import them."""
    world = provision(tmp_path / "world", (SCHOOL, POLICE), extra=QUICK)
    given, got = tmp_path / "given", tmp_path / "got"
    out = {name: more.pop(name) for name in ("out_format",) if name in more}
    configure(world.folder / SCHOOL, SCHOOL, **sending(given), **more)
    configure(world.folder / POLICE, POLICE, out_dir=str(got), **out)
    async with running(world):
        yield world, given, got


def drop(folder: Path, body: bytes | None = None, name: str = NAME) -> None:
    """As a good exporter does: written aside, then renamed."""
    aside = folder / f"{name}.part"
    aside.write_bytes(body if body is not None else json.dumps(referral()).encode())
    aside.rename(folder / name)


def receipts(given: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in sorted(given.glob("done/*/receipts.json"))]


def delivered(given: Path) -> bool:
    found = receipts(given)
    return bool(found) and all(one["final"] and one["recipients"][0]["stage"] == "delivered" for one in found)


def has_count(world: World, sample: str, number: int) -> bool:
    return metric(world, SCHOOL, sample) == number


def plain_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


async def test_a_file_goes_in_and_comes_out_and_its_receipts_are_kept(tmp_path: Path) -> None:
    async with folders(tmp_path) as (world, given, got):
        drop(given)
        await until(lambda: delivered(given), "delivered")
        (kept,) = receipts(given)
        assert kept["file"] == NAME
        assert [one["stage"] for one in kept["recipients"][0]["receipts"]] == [
            "accepted",
            "received",
            "delivered",
        ]
        message_id = kept["message_id"]
        assert plain_files(got) == [f"{message_id}.json", f"{message_id}.meta.json"]
        assert json.loads((got / f"{message_id}.json").read_bytes()) == referral()
        about = json.loads((got / f"{message_id}.meta.json").read_bytes())
        assert about["file"] == f"{message_id}.json"
        assert about["message"]["sender"] == SCHOOL
        # Nothing of the content is left on the sender's side, and nothing is left half done.
        left = [path for path in given.rglob("*") if path.is_file() and path.name != ".lock"]
        assert left == [given / "done" / message_id / "receipts.json"]
        assert list((got / ".work").iterdir()) == []
        assert metric(world, SCHOOL, 'gateway_folder_files_total{agency="school",outcome="taken"}') == 1
        assert metric(world, POLICE, 'gateway_folder_files_total{agency="police",outcome="written"}') == 1


async def test_the_file_itself_is_kept_on_request_and_files_go_along(tmp_path: Path) -> None:
    fhir = {"out_format": "application/fhir+xml"}
    async with folders(tmp_path, keep=True, **fhir) as (world, given, got):
        drop(given)
        await until(lambda: delivered(given), "delivered")
        (kept,) = receipts(given)
        assert (given / "done" / kept["message_id"] / NAME).read_bytes() == json.dumps(referral()).encode()
        assert (got / f"{kept['message_id']}.xml").read_bytes().startswith(b"<")
        second = await send(
            world.clients[SCHOOL], attachments=[File("../../etc/plan.pdf", "application/pdf", b"%PDF\xff")]
        )
        await reached(world, second["message_id"], "delivered")
        about = json.loads((got / f"{second['message_id']}.meta.json").read_bytes())
        (attachment,) = about["attachments"]
        assert attachment["name"] == "../../etc/plan.pdf"
        assert (got / attachment["file"]).read_bytes() == b"%PDF\xff"


async def test_a_file_of_the_name_of_one_of_ours_replaces_nothing(tmp_path: Path) -> None:
    async with folders(tmp_path, keep=True) as (_, given, _got):
        drop(given, name="receipts.json")
        drop(given, b"{}", name="problem.json")
        await until(lambda: delivered(given), "delivered")
        await until(lambda: list(given.glob("quarantine/*/file-problem.json")), "refused")
        assert list(given.glob("done/*/file-receipts.json"))
        (reason,) = given.glob("quarantine/*/problem.json")
        assert json.loads(reason.read_bytes())["file"] == "problem.json"


async def test_a_file_that_is_still_being_written_is_left_alone(tmp_path: Path) -> None:
    body = json.dumps(referral()).encode()
    async with folders(tmp_path) as (_, given, _got):
        for name in (".hidden.json", "x.json.tmp", "x.PART"):
            (given / name).write_bytes(body)
        (given / "folder.json").mkdir()
        (given / "link.json").symlink_to(given / ".hidden.json")
        with (given / "slow.json").open("wb", buffering=0) as file:
            for start_ in range(0, len(body), 400):
                file.write(body[start_ : start_ + 400])
                await asyncio.sleep(0.02)
        await until(lambda: delivered(given), "delivered")
        assert [one["file"] for one in receipts(given)] == ["slow.json"]
        assert list(given.glob("quarantine/*")) == []
        left = {".hidden.json", "x.json.tmp", "x.PART", "folder.json", "link.json"}
        assert left <= {one.name for one in given.iterdir()}


@pytest.mark.parametrize(
    ("body", "code"),
    [(b'{"Jane": ', "malformed-body"), (b"{}", "unmappable-content"), (b"x" * 5_000_000, "body-too-large")],
    ids=["malformed", "unmappable", "large"],
)
async def test_what_is_refused_goes_into_quarantine_with_a_reason_and_no_value(
    tmp_path: Path, body: bytes, code: str
) -> None:
    async with folders(tmp_path) as (_, given, _got):
        drop(given, body)
        drop(given, name="good.json")
        await until(lambda: delivered(given), "the good one is delivered")
        (reason,) = given.glob("quarantine/*/problem.json")
        problem = json.loads(reason.read_bytes())
        assert problem["type"].endswith(f":{code}")
        assert "Jane" not in json.dumps({**problem, "file": ""})
        assert (reason.parent / NAME).read_bytes() == body


async def test_a_temporary_refusal_leaves_the_file_and_takes_it_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with folders(tmp_path) as (world, given, _):
        backlog = world.nodes[SCHOOL]._backlog
        with monkeypatch.context() as patch:

            def full(envelopes: int, size: int) -> None:
                raise Unavailable("outbox-full")

            patch.setattr(backlog, "admit", full)
            drop(given)
            sample = 'gateway_folder_files_total{agency="school",outcome="deferred"}'
            await until(lambda: metric(world, SCHOOL, sample) >= 2, "it is put off")
            assert list(given.glob("quarantine/*")) == []
            assert receipts(given) == []
        await until(lambda: delivered(given), "delivered")
        assert len(receipts(given)) == 1


async def test_the_same_file_again_is_the_same_message_and_another_is_not(tmp_path: Path) -> None:
    async with folders(tmp_path) as (world, given, got):
        taken = 'gateway_folder_files_total{agency="school",outcome="taken"}'
        for number, name in enumerate((NAME, NAME, "another.json")):
            drop(given, name=name)
            await until(partial(has_count, world, taken, number + 1), "taken")
        await until(lambda: delivered(given), "delivered")
        assert len(receipts(given)) == 2
        assert len(list(got.glob("*.meta.json"))) == 2


async def test_a_second_process_leaves_the_folder_to_the_first(tmp_path: Path) -> None:
    async with folders(tmp_path) as (world, given, _):
        await until((given / ".lock").exists, "it is served")
        second = Node(config.load(world.folder / SCHOOL))
        (face,) = second._faces.folders
        assert not face._lock.take()
        await second.parts.store.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"to": []}, "in_dir needs"),
        ({"in_dir": "/nowhere/at/all"}, "there is no folder"),
        ({"format": "application/unheard-of"}, "no adapter"),
        ({"agency": "council"}, "does not serve"),
    ],
)
def test_a_wrong_setting_is_said_at_the_start(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    provision(tmp_path, (SCHOOL,), extra=QUICK)
    (tmp_path / "given").mkdir()
    values = {"agency": SCHOOL, **sending(tmp_path / "given"), **change}
    with (tmp_path / SCHOOL / config.FILE_NAME).open("a") as file:
        file.write("\n[[folder]]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in values.items()))
    with pytest.raises(StartupError, match=said):
        Node(config.load(tmp_path / SCHOOL))


# --- kill -9 ---


def messages_in(folder: Path) -> set[str]:
    return {name for name in plain_files(folder) if not name.endswith(".meta.json")}


async def all_delivered(given: Path, wanted: int) -> None:
    await until(lambda: len(receipts(given)) == wanted and delivered(given), "all delivered", timeout=60)


def died(node: BenchNode) -> None:
    node.process.wait(60)
    assert node.process.returncode == -signal.SIGKILL


async def test_kill_9_anywhere_loses_nothing_and_does_nothing_twice(
    tmp_path: Path, subtests: pytest.Subtests
) -> None:
    given, got, away = tmp_path / "given", tmp_path / "got", tmp_path / "away"
    away.mkdir()
    provision_pair(tmp_path)
    configure(tmp_path / SENDER, SENDER, **sending(given, RECIPIENT))
    configure(tmp_path / RECIPIENT, RECIPIENT, out_dir=str(got))
    nodes = [start(tmp_path / SENDER), start(tmp_path / RECIPIENT)]
    wanted = 0
    try:
        for point, which, passes in (
            ("folder: claimed", 0, 1),
            ("intake: committed, not answered", 0, 1),
            ("folder: accepted, receipts not kept", 0, 1),
            ("folder: receipts kept, file still there", 0, 1),
            ("folder: prepared", 1, 1),
            ("folder: some of it handed over", 1, 1),
            ("folder: handed over, not acknowledged", 1, 1),
            ("folder: acknowledged, not tidied", 1, 1),
        ):
            with subtests.test(point):
                await asyncio.to_thread(nodes[which].stop)
                nodes[which] = await asyncio.to_thread(restart, nodes[which], (*VICTIM, point, str(passes)))
                wanted += 1
                drop(given, json.dumps(referral()).encode(), f"{wanted}.json")
                await asyncio.to_thread(died, nodes[which])
                # What the agency's system has taken away by then must not appear a second time.
                for name in messages_in(got):
                    (got / name).rename(away / name)
                nodes[which] = await asyncio.to_thread(restart, nodes[which])
                await all_delivered(given, wanted)
        assert not messages_in(got) & messages_in(away), "handed over twice"
        ids = {one["message_id"] for one in receipts(given)}
        assert messages_in(got) | messages_in(away) == {f"{one}.json" for one in ids}
        assert sorted(one["file"] for one in receipts(given)) == sorted(
            f"{number + 1}.json" for number in range(wanted)
        )
        client = Client(nodes[1].url, nodes[1].token)
        assert (await client.inbox())["messages"] == []
        await client.close()
    finally:
        for node in nodes:
            node.stop()
