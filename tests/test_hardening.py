"""Secrets are not dumped, nor in arguments or the environment; and TLS is as it should be."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer

from bench.nodes import start_pair
from gateway import config, hardening
from gateway.cli import people
from gateway.crypto import backup, protected
from gateway.crypto.keys import OpenFailed
from gateway.errors import StartupError
from gateway.messages import AgencyId
from gateway.tls import broker_context, need_tls, server_context, web_context
from tests.certificates import Authority
from tests.command import app as root
from tests.command import typed
from tests.world import SCHOOL, provision

ROOT = Path(__file__).parents[1]


def test_the_process_says_that_it_may_not_be_dumped() -> None:
    script = (
        "import ctypes, resource\n"
        "from gateway import hardening\n"
        "hardening.no_dumps()\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(0, 0) 0"


def test_a_node_runs_without_core_dumps(tmp_path: Path) -> None:
    nodes = start_pair(tmp_path)
    try:
        for node in nodes:
            limits = Path(f"/proc/{node.process.pid}/limits").read_text()
            assert re.search(r"Max core file size +0 +0 ", limits)
    finally:
        for node in nodes:
            node.stop()


def test_a_command_that_reads_a_secret_runs_without_core_dumps(tmp_path: Path) -> None:
    passphrase, key = tmp_path / "passphrase", tmp_path / "person.key"
    os.mkfifo(passphrase)
    command = ("operator", "key", key, "--passphrase-file", passphrase)
    process = subprocess.Popen([sys.executable, "-m", "gateway", *command], stdout=subprocess.DEVNULL)
    with passphrase.open("wb") as handle:  # waits until the command has begun to read
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        handle.write(b"correct horse battery")
    assert process.wait() == 0
    assert re.search(r"Max core file size +0 +0 ", limits)


FAULTY = """
import logging, sys, threading
from gateway.cli import client, root

class Faulty:
    def __del__(self):
        raise ValueError("secret")

def fail(*arguments):
    logging.getLogger("library").warning("secret")
    thread = threading.Thread(target=lambda: {}["secret"])
    thread.start()
    thread.join()
    Faulty()
    raise RuntimeError("secret")

client.resources.files = fail
sys.argv = ["gateway", "example"]
root.main()
"""


def test_no_fault_of_a_command_is_printed_with_its_text() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTY], capture_output=True, text=True, check=False)
    assert done.returncode == 4
    errors = [json.loads(line)["error"] for line in done.stderr.splitlines()]
    assert errors == ["KeyError", "ValueError", "RuntimeError"], "class and place of each, a line of JSON"
    assert "secret" not in done.stdout + done.stderr


def test_a_path_that_cannot_be_looked_at_is_one_clear_line() -> None:
    command = [sys.executable, "-m", "gateway", "audit", "list", "--node", "x" * 300]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "File name too long" in done.stderr


def test_a_files_name_that_is_no_text_is_printed_all_the_same(tmp_path: Path) -> None:
    world = provision(tmp_path, (SCHOOL,))
    done = subprocess.run(
        [*(sys.executable, "-m", "gateway", "audit", "export"), b"caf\xe9", "--node", world.folder / SCHOOL],
        cwd=tmp_path,
        env={**os.environ, "PYTHONUTF8": "1"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout[:7]) == (0, b"caf\\udc"), done.stderr
    assert (tmp_path / os.fsdecode(b"caf\xe9")).exists()


def test_a_secret_is_read_without_white_space_and_wiped_after_use(tmp_path: Path) -> None:
    file = tmp_path / "passphrase"
    file.write_bytes(b" \r\ncorrect horse\n\n")
    with file.open("rb", buffering=0) as handle:
        secret = hardening.read_secret(handle, 4096)
    with hardening.wiped(secret) as held:
        assert held == b"correct horse"
    assert secret == bytes(13)
    with pytest.raises(ZeroDivisionError), hardening.wiped(bytearray(b"x")) as held:
        _ = 1 / 0
    assert held == b"\0"


def test_the_keys_made_of_passphrases_are_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real algorithms; what is left in the buffers afterwards is looked at."""
    made: list[bytearray] = []
    for module in (protected, backup):
        monkeypatch.setattr(module, "_N", 1 << 10)
        monkeypatch.setattr(module, "_key", kept(module._key, made))
    monkeypatch.setattr(protected, "_LEAST", 1 << 10)
    passphrase, agency = b"correct horse battery", AgencyId("school")
    document = protected.protect({"a": 1}, passphrase, agency)
    assert protected.reveal(document, passphrase, agency) == {"a": 1}
    with pytest.raises(OpenFailed):
        protected.reveal(document, passphrase + b"x", agency)
    file = io.BytesIO()
    backup.write(file, passphrase, [["a"]])
    file.seek(0)
    assert list(backup.read(file, passphrase)) == [["a"]]
    assert len(made) == 5
    assert all(key == bytes(32) for key in made)


def kept(make: Callable[..., bytearray], made: list[bytearray]) -> Callable[..., bytearray]:
    def making(*arguments: object) -> bytearray:
        key = make(*arguments)
        assert any(key)
        made.append(key)
        return key

    return making


def sources() -> list[tuple[Path, ast.Module]]:
    return [(path, ast.parse(path.read_text("utf-8"))) for path in sorted((ROOT / "gateway").rglob("*.py"))]


def test_tls_is_set_up_in_one_module() -> None:
    makers = {"create_default_context", "SSLContext", "wrap_socket", "_create_unverified_context"}
    calls = {
        path.relative_to(ROOT).as_posix()
        for path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in makers
    }
    assert calls == {"gateway/tls.py"}


def test_nothing_checks_no_certificate() -> None:
    for context in (web_context(), broker_context()):
        assert context.check_hostname
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    for path, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg in {"ssl", "verify", "verify_ssl"}:
                assert not (isinstance(node.value, ast.Constant) and node.value.value is False), path


def test_a_private_key_of_tls_that_others_can_read_is_refused(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("node")
    both = tmp_path / "both.pem"
    both.touch(0o600)
    both.write_bytes(pair.cert.read_bytes() + pair.key.read_bytes())
    server_context(pair.cert, pair.key, None)
    broker_context(None, both)
    for file in (pair.key, both):
        file.chmod(0o640)
    for use in (
        lambda: server_context(pair.cert, pair.key, None),
        lambda: broker_context(None, pair.cert, pair.key),
        lambda: broker_context(None, both),
    ):
        with pytest.raises(StartupError, match="can be read by others: chmod 600 it"):
            use()


def test_no_secret_is_read_from_the_environment() -> None:
    """Other processes, core dumps and `docker inspect` show it."""
    read = set()
    for _, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "envvar":
                read.add(ast.literal_eval(node.value))
            if isinstance(node, ast.Call) and "environ" in ast.unparse(node.func):
                read.add(ast.literal_eval(node.args[0]))
            if isinstance(node, ast.Subscript) and "environ" in ast.unparse(node.value):
                read.add(ast.literal_eval(node.slice))
            assert not (isinstance(node, ast.Attribute) and node.attr == "getenv")
    # Folders, addresses and files, of which none is a secret.
    assert read == {"CREDENTIALS_DIRECTORY", "GATEWAY_NODE", "GATEWAY_URL", "GATEWAY_TOKEN_FILE"}


def every_command(app: typer.Typer) -> Iterator[Callable[..., Any]]:
    for one in app.registered_commands:
        assert one.callback is not None
        yield one.callback
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from every_command(group.typer_instance)


def test_no_command_takes_a_secret_as_an_argument() -> None:
    """`ps` shows it. What is secret is named by a file."""
    secret = re.compile(r"pass(word|phrase)|secret|token|pin|key|credential", re.IGNORECASE)
    names_only = {"token_label", "token_id", "idempotency_key", "key"}  # `key`: of `sandbox verify`, a key id
    commands = list(every_command(root))
    assert len(commands) > 40
    for command in commands:
        for name, kind in get_type_hints(command).items():
            if secret.search(name) and name not in names_only:
                assert kind in {Path, Path | None, list[Path], list[Path] | None}, (command, name)


@pytest.mark.parametrize(
    "command",
    [
        ("broker", "dead-letters", "--url"),
        ("demo", "--broker"),
        ("init", "a", "--agency", "a", "--name", "A", "--sector", "police", "--directory", "d", "--broker"),
    ],
)
def test_no_url_in_an_argument_has_a_password(command: tuple[str, ...]) -> None:
    done = typed(*command, "amqp://gateway:secret@127.0.0.1/")
    assert isinstance(done.exception, StartupError)
    assert re.fullmatch(r"--(url|broker) takes no password, .* use --\S*password-file", str(done.exception))


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("postgresql://gateway@127.0.0.1/gateway", True),
        ("postgresql://gateway@localhost:5432/gateway", True),
        ("postgresql:///gateway?host=/var/run/postgresql", True),
        ("postgresql://gateway@db.example.org/gateway?sslmode=verify-full", True),
        ("postgresql://gateway@db.example.org/gateway", False),
        ("postgresql://gateway@db.example.org/gateway?sslmode=prefer", False),
        ("postgresql://gateway@127.0.0.1/gateway?host=db.example.org", False),
        ("postgresql://db.example.org/gateway?sslmode=verify-full&sslmode=disable", False),
    ],
)
def test_a_database_over_a_network_needs_tls(tmp_path: Path, url: str, good: bool) -> None:
    text = f'[node]\nagencies = ["a"]\ndatabase = "{url}"\n[transport]\nkind = "embedded"\nspool = "spool"\n'
    if good:
        config.parse(text, tmp_path / "gateway.toml")
    else:
        with pytest.raises(StartupError, match="sslmode"):
            config.parse(text, tmp_path / "gateway.toml")


@pytest.mark.parametrize(
    "url", ["http://node.example:8081", "amqp://operator@10.0.0.7", "http://[2001:db8::1]/"]
)
def test_no_password_or_token_crosses_a_network_in_clear(url: str) -> None:
    with pytest.raises(StartupError, match="leaves this machine"):
        need_tls("--url", url)


@pytest.mark.parametrize(
    "url",
    ["https://node.example", "amqps://broker", "http://127.0.0.1:1", "amqp://[::1]", "http://localhost"],
)
def test_on_this_machine_or_over_tls_they_may(url: str) -> None:
    need_tls("--url", url)


@pytest.mark.parametrize(
    "url",
    ["", "broker", "//broker/vhost", "http://127.0.0.1", "amqp://", "amqp://[", "amqp://127.0.0.1:99999"],
)
def test_what_is_no_url_of_a_broker_is_refused_as_such(url: str) -> None:
    done = typed("broker", "dead-letters", "--url", url)
    assert isinstance(done.exception, StartupError), done.exception
    assert str(done.exception).startswith("--url")


def test_the_url_of_a_broker_does_not_switch_the_checks_of_certificates_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    async def look(url: str, tls: ssl.SSLContext | None, **_: object) -> list[object]:
        seen.append(tls)
        return []

    monkeypatch.setattr("gateway.transport.graveyard.look", look)
    assert typed("broker", "dead-letters", "--url", "AMQPS://a@127.0.0.1?no_verify_ssl=1").exit_code == 0
    (context,) = seen
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_a_persons_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    key, passphrase = tmp_path / "lead.key", tmp_path / "passphrase"
    passphrase.write_bytes(b"correct horse battery")
    assert typed("directory", "key", key, "--passphrase-file", passphrase).exit_code == 0
    people.load_key(key, passphrase)
    for mode in (0o640, 0o604):
        key.chmod(mode)
        with pytest.raises(StartupError, match="can be read by others"):
            people.load_key(key, passphrase)
