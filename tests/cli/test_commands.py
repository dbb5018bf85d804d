"""The commands as typed: what they print, which exit code, one line when something is wrong."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway import config
from gateway.config import page
from gateway.messages import AgencyId
from tests.command import app
from tests.road import ladder, reached, send, wait_for_arrival
from tests.world import POLICE, SCHOOL, World, provision, running

ROOT = Path(__file__).parents[2]
SECRET = "Zephyrine-Quillfeather"
"""Stands for what must never be shown."""


def typed(*arguments: object, stdin: bytes | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own; it never shows a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", *map(str, arguments)],
        input=None if stdin is None else stdin.decode(),
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


def refused(code: int, *arguments: object, stdin: bytes | None = None) -> str:
    """Run what must fail with this exit code and one line; the line."""
    done = typed(*arguments, stdin=stdin)
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("gateway: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder with the school's node in it."""
    init(tmp_path, "school")
    return tmp_path


def init(folder: Path, agency: str, *more: object, node: str = "node") -> None:
    done = typed(
        *("init", folder / node, "--agency", agency, "--name", "A school", "--sector", "education"),
        *("--directory", folder / "directory.json", *(more or ("--spool", folder / "spool"))),
    )
    assert done.returncode == 0, done.stderr


# --- init and what it makes ---


def test_init_makes_a_node_that_only_its_owner_can_read(made: Path) -> None:
    settings = config.load(made / "node")
    assert settings.node.agencies == ("school",)
    assert (made / "node").stat().st_mode & 0o777 == 0o700
    for key in settings.path(settings.node.keys).rglob("*"):
        assert key.stat().st_mode & 0o077 == 0
    shown = json.loads(typed("directory", "show", "-d", made / "directory.json", "--json").stdout)
    assert [agency["id"] for agency in shown["agencies"]] == ["school"]
    assert "school" in typed("directory", "show", "-d", made / "directory.json").stdout


def test_a_second_agency_joins_and_the_operators_settings_stay(made: Path) -> None:
    file = made / "node" / config.FILE_NAME
    file.write_text(file.read_text() + "\n[limits]\nrequests = 77  # ours\n")
    done = typed(
        *("init", made / "node", "--agency", "clinic", "--name", "A clinic", "--sector", "health"),
        *("--directory", made / "directory.json"),
    )
    assert done.returncode == 0, done.stderr
    assert "requests = 77  # ours" in file.read_text()
    assert tomllib.loads(file.read_text())["node"]["agencies"] == ["school", "clinic"]
    rows = json.loads(typed("keys", "list", "-n", made / "node", "--json").stdout)["keys"]
    assert {(row["agency"], row["use"]) for row in rows} == {
        (agency, use) for agency in ("school", "clinic") for use in ("sign", "seal")
    }


def test_init_overwrites_nothing(made: Path) -> None:
    keys = {path: path.read_bytes() for path in (made / "node" / "keys").rglob("*") if path.is_file()}
    arguments = ("init", made / "node", "--agency", "school", "--name", "x", "--sector", "police")
    assert "serves school already" in refused(2, *arguments, "-d", made / "directory.json")
    assert "leave --spool, --broker" in refused(
        2, *arguments, "-d", made / "directory.json", "--spool", made / "other"
    )
    assert keys == {path: path.read_bytes() for path in keys}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "--spool"),
        (["--spool", "s", "--broker", "amqp://h"], "--spool"),
        (["--broker", f"amqp://u:{SECRET}@h"], "--broker-password-file"),
        (["--broker", "http://h"], "amqp://"),
    ],
    ids=["neither", "both", "a password in the URL", "not amqp"],
)
def test_init_says_what_is_missing_and_makes_nothing(tmp_path: Path, options: list[str], says: str) -> None:
    line = refused(
        *(2, "init", tmp_path / "node", "--agency", "school", "--name", "x", "--sector", "education"),
        *("-d", tmp_path / "directory.json", *options),
    )
    assert says in line
    assert SECRET not in line
    assert list(tmp_path.iterdir()) == []


def test_an_identifier_is_checked(tmp_path: Path) -> None:
    line = refused(
        *(2, "init", tmp_path / "n", "--agency", "The School", "--name", "x", "--sector", "education"),
        *("-d", tmp_path / "d.json", "--spool", tmp_path / "s"),
    )
    assert "lower-case letters" in line
    assert list(tmp_path.iterdir()) == []


# --- tokens ---


def test_a_token_is_shown_once_and_kept_as_a_hash(made: Path) -> None:
    token = typed(
        "token", "create", "-n", made / "node", "--agency", "school", "--may", "send"
    ).stdout.strip()
    assert len(token) > 30
    for file in made.rglob("*"):
        if file.is_file():
            assert token.encode() not in file.read_bytes(), file
    (listed,) = json.loads(typed("token", "list", "-n", made / "node", "--json").stdout)["tokens"]
    assert listed["agency"] == "school"
    assert listed["may"] == ["send"]
    assert typed("token", "revoke", listed["id"], "-n", made / "node").returncode == 0
    assert json.loads(typed("token", "list", "-n", made / "node", "--json").stdout)["tokens"] == []
    refused(2, "token", "revoke", listed["id"], "-n", made / "node")
    entries = json.loads(typed("audit", "list", "-n", made / "node", "--json").stdout)["entries"]
    assert [(one["kind"], one["token"]) for one in entries if "token" in one] == [
        ("token-made", listed["id"]),
        ("token-revoked", listed["id"]),
    ]


def test_a_token_is_for_an_agency_of_this_node_and_for_known_rights(made: Path) -> None:
    assert "does not serve police" in refused(2, "token", "create", "-n", made / "node", "--agency", "police")
    assert "--may takes" in refused(
        2, "token", "create", "-n", made / "node", "--agency", "school", "--may", "everything"
    )


# --- settings ---


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[node", "is not valid TOML"),
        ("[node]\n", "node.agencies"),
        ("[node]\nagencies = ['a']\ndirectory = 'd'\n[http]\nprot = 1\n", "http.prot"),
        (
            f"[node]\nagencies = ['a']\ndirectory = 'd'\n[transport]\nurl = 'amqp://u:{SECRET}@h'\n",
            "password_file",
        ),
        ("[node]\nagencies = ['a']\ndirectory = 'd'\n[transport]\nkind = 'rabbitmq'\n", "transport.url"),
    ],
    ids=["not TOML", "missing", "unknown", "a password", "no URL"],
)
def test_a_wrong_settings_file_is_one_line_without_its_values(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / config.FILE_NAME).write_text(text)
    line = refused(2, "run", "-n", tmp_path)
    assert says in line
    assert SECRET not in line


def test_a_node_says_what_it_cannot_find(made: Path) -> None:
    (made / "directory.json").rename(made / "elsewhere.json")
    assert "cannot read the directory" in refused(2, "run", "-n", made / "node")


def test_a_node_does_not_start_on_a_port_that_is_taken(made: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        file = made / "node" / config.FILE_NAME
        port = taken.getsockname()[1]
        file.write_text(file.read_text().replace("port = 8080", f"port = {port}"))
        done = typed("run", "-n", made / "node")
    assert done.returncode == 2
    assert "cannot listen on" in done.stderr.splitlines()[-1]


def test_docs_of_the_settings_are_current() -> None:
    assert (ROOT / "docs" / "config.md").read_text("utf-8") == page.describe()


# --- help and usage ---


def test_every_command_explains_itself() -> None:
    runner = CliRunner()
    top = runner.invoke(app, ["--help"]).output
    for words in (
        ["demo"],
        ["init"],
        ["run"],
        ["send"],
        ["inbox"],
        ["status"],
        ["example"],
        ["receipts", "verify"],
        ["keys", "list"],
        ["token", "create"],
        ["directory", "agree"],
        ["broker", "apply"],
        ["recall"],
        ["dead-letters", "replay"],
        ["backup"],
        ["restore"],
        ["reconcile", "ask"],
    ):
        assert words[0] in top
        answer = runner.invoke(app, [*words, "--help"])
        assert answer.exit_code == 0
        assert "Usage:" in answer.output


def test_usage_errors_have_their_own_exit_code() -> None:
    assert typed("send").returncode == 2
    assert typed("no-such-command").returncode == 2
    assert typed("--version").stdout.startswith("referral-gateway ")


@pytest.mark.parametrize("message_type", ["referral", "decision"])
def test_an_example_is_valid_json(message_type: str) -> None:
    assert json.loads(typed("example", message_type).stdout)
    assert "referral" in refused(2, "example", "unheard-of")


# --- talking to a node ---


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A school and the police, with token files for the commands."""
    async with running(provision(tmp_path, (SCHOOL, POLICE))) as world:
        for agency in (SCHOOL, POLICE):
            token = typed("token", "create", "-n", tmp_path / agency, "--agency", agency).stdout
            (tmp_path / f"{agency}.token").write_text(token)
        yield world


class Typist:
    """Runs commands against a node of the world without blocking it."""

    def __init__(self, world: World, agency: AgencyId) -> None:
        self._options = (
            *("--url", f"http://127.0.0.1:{world.nodes[agency].port}"),
            *("--token-file", world.folder / f"{agency}.token"),
        )

    async def __call__(self, *arguments: object, stdin: bytes | None = None) -> Any:
        return await asyncio.to_thread(typed, *arguments, *self._options, stdin=stdin)


async def test_send_status_inbox_and_verify_tell_one_story(world: World, tmp_path: Path) -> None:
    school, police = Typist(world, SCHOOL), Typist(world, POLICE)
    message = tmp_path / "message.json"
    message.write_text(typed("example").stdout)
    sent = await school(
        *("send", message, "--to", "police", "--purpose", "prevent", "--lawful-basis", "public-task"),
        "--json",
    )
    assert sent.returncode == 0, sent.stderr
    message_id = json.loads(sent.stdout)["message_id"]
    await wait_for_arrival(world, message_id)

    listed = await police("inbox")
    assert listed.stdout.split()[0] == message_id
    opened = await police("inbox", "--open", message_id)
    assert json.loads(opened.stdout)
    done = await police("inbox", "--ack", message_id)
    assert done.stdout.split() == [message_id, "delivered"]
    assert (await police("inbox")).stdout == ""

    followed = await school("status", message_id, "--wait", "--json")
    assert followed.returncode == 0
    directory = world.directory
    verified = typed("receipts", "verify", "-", "-d", directory, "--json", stdin=followed.stdout.encode())
    assert verified.returncode == 0
    result = json.loads(verified.stdout)
    assert result["valid"] is True
    assert [one["stage"] for one in result["receipts"]] == ["accepted", "received", "delivered"]
    people = typed("receipts", "verify", "-", "-d", directory, stdin=followed.stdout.encode())
    assert people.stdout.count("valid ") == 3


async def test_a_rejection_shows_in_the_exit_code(world: World) -> None:
    accepted = await send(world.clients[SCHOOL])
    message_id = accepted["message_id"]
    await wait_for_arrival(world, message_id)
    police, school = Typist(world, POLICE), Typist(world, SCHOOL)
    without = await police("inbox", "--reject", message_id)
    assert (without.returncode, without.stderr.count("\n")) == (2, 1)
    done = await police("inbox", "--reject", message_id, "--reason", "wrong-agency")
    assert done.returncode == 0, done.stderr
    await reached(world, message_id, "rejected")
    shown = await school("status", message_id)
    assert shown.returncode == 1
    assert "(wrong-agency)" in shown.stdout


async def test_a_refusal_names_field_and_rule_never_the_value(world: World, tmp_path: Path) -> None:
    message = tmp_path / "message.json"
    document = json.loads(typed("example").stdout)
    document["urgency"] = SECRET
    message.write_text(json.dumps(document))
    done = await Typist(world, SCHOOL)(
        *("send", message, "--to", "police", "--purpose", "prevent", "--lawful-basis", "public-task")
    )
    assert done.returncode == 1
    assert "/urgency" in done.stderr
    assert SECRET not in done.stderr
    assert done.stderr.count("\n") == 1


async def test_a_wrong_token_and_an_unknown_message_are_refusals(world: World) -> None:
    school = Typist(world, SCHOOL)
    assert (await school("status", "01890000-0000-7000-8000-000000000000")).returncode == 1
    (world.folder / "school.token").write_text("nonsense")
    done = await school("inbox")
    assert done.returncode == 1
    assert "not-authenticated" in done.stderr
    (world.folder / "school.token").unlink()
    done = await school("inbox")
    assert done.returncode == 2
    assert "gateway token create" in done.stderr


def test_a_node_that_is_away_is_worth_trying_again(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    (tmp_path / "message.json").write_text("{}")
    line = refused(
        *(3, "send", tmp_path / "message.json", "--to", "police", "--purpose", "prevent"),
        *("--lawful-basis", "public-task", "--url", "http://127.0.0.1:1", "-t", tmp_path / "token"),
    )
    assert "--idempotency-key" in line, "the repeat must not be a second message"


# --- receipts, offline ---


async def test_altered_receipts_do_not_verify(world: World, tmp_path: Path) -> None:
    accepted = await send(world.clients[SCHOOL])
    await wait_for_arrival(world, accepted["message_id"])
    found = await ladder(world, accepted["message_id"])
    receipt = found["receipts"][0]["receipt"]
    middle = len(receipt) // 2
    altered = receipt[:middle] + ("A" if receipt[middle] != "A" else "B") + receipt[middle + 1 :]
    file = tmp_path / "receipts.json"
    file.write_text(json.dumps({"receipts": [{"receipt": altered}, {"receipt": receipt}]}))
    done = typed("receipts", "verify", file, "-d", world.directory)
    assert done.returncode == 1
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["INVALID", "valid"]


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[" * 100_000, b'{"receipt": 5}', os.urandom(64)], ids=range(5)
)
def test_what_holds_no_receipt_is_no_success(made: Path, data: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(data)
    done = typed("receipts", "verify", tmp_path / "file", "-d", made / "directory.json")
    assert done.returncode in {1, 2}
    assert done.stdout.startswith("INVALID") or done.stderr.startswith("gateway: ")


def test_verify_needs_a_directory_it_can_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"{}")
    assert "cannot read the directory" in refused(
        2, "receipts", "verify", tmp_path / "file", "-d", tmp_path / "none.json"
    )


def test_keys_are_listed_without_secrets(made: Path) -> None:
    done = typed("keys", "list", "-n", made / "node")
    assert done.returncode == 0
    assert done.stdout.count("\n") == 2
    assert "HPKE-9-KE" in done.stdout
    for file in (made / "node" / "keys").rglob("*"):
        if file.is_file():
            for word in file.read_text("utf-8", errors="replace").split('"'):
                assert len(word) < 40 or word not in done.stdout or word in _kids(made), "a secret is shown"


def _kids(made: Path) -> set[str]:
    rows = json.loads(typed("keys", "list", "-n", made / "node", "--json").stdout)["keys"]
    return {row["kid"] for row in rows}
