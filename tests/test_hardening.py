"""Memory that holds keys and people's data is not written to disk by the system."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from bench.nodes import start_pair


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
