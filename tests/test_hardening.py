"""Memory that holds keys and people's data is not written to disk by the system."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.nodes import start_pair
from gateway import hardening
from gateway.crypto import backup, protected
from gateway.crypto.keys import OpenFailed
from gateway.messages import AgencyId


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
