"""The security reviewer's hour, typed as it stands: every command of docs/security-review.md in a shell."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.ports import free_port

PAGE = Path(__file__).parents[2] / "docs" / "security-review.md"
AT_THE_END = "trap 'kill $(jobs -p) 2> out.txt || true' EXIT\n"
"""What a command that fails leaves running."""


@pytest.mark.timeout(900)  # some ninety commands, one after the other
def test_an_hour_on_the_demo(tmp_path: Path) -> None:
    script = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL))
    ports = {port: str(free_port()) for port in ("8081", "8082", "9081", "9082")}
    script = re.sub(r"\b[89]08[12]\b", lambda found: ports[found[0]], script)
    process = subprocess.Popen(
        ["bash", "-c", AT_THE_END + "set -euo pipefail\n" + script],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=800)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, said[-4000:]
    assert "Traceback" not in said
    for shown in (
        "agency northtown-police: proposed by northtown-police",
        "of northtown-housing is destroyed",
        "Signature Verified Successfully",
        "FORK: contradicts",
        "INVALID  the directory lists no such key of the issuer",
        "a checkpoint that was kept elsewhere has",
        "approved by inspector, lead",
    ):
        assert shown in said
