"""The long run: `make faults`. Exits 1 if anything was lost, duplicated or cannot be explained."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults.ground import ground
from tests.faults.run import Result, Run

# ruff: noqa: T201 - a program that prints

COMBINATIONS = [
    ("sqlite", "embedded"),
    ("sqlite", "single"),
    ("sqlite", "cluster"),
    ("postgres", "single"),
    ("postgres", "cluster"),
]


def play(store: str, broker: str, messages: int, faults: int, seed: int) -> Result:
    """One run on one combination."""
    with (
        tempfile.TemporaryDirectory(prefix="faults-") as name,
        ground(Path(name), store=store, broker=broker) as made,
    ):
        return asyncio.run(Run(made, messages=messages, seed=seed, finish=180).play(faults))


def main() -> int:
    """Run every combination, print a line for each and the faults that were applied."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--messages", type=int, default=2000, help="in all [2000]")
    parser.add_argument("--faults", type=int, default=100, help="in all [100]")
    parser.add_argument("--seed", type=int, default=0, help="of keys and faults [0]")
    parser.add_argument("--only", default="", help="for example postgres+cluster")
    chosen = parser.parse_args()
    combinations = [one for one in COMBINATIONS if chosen.only in ("", "+".join(one))]
    share = len(combinations)
    applied: Counter[str] = Counter()
    good = True
    print(
        f"{'store':<10}{'broker':<10}{'sent':>6}{'accepted':>10}{'delivered':>11}{'faults':>8}{'lost':>6}"
        f"{'duplicated':>12}{'unexplained':>13}{'seconds':>9}"
    )
    for number, (store, broker) in enumerate(combinations):
        started = time.monotonic()
        result = play(
            store, broker, -(-chosen.messages // share), -(-chosen.faults // share), chosen.seed + number
        )
        found = result.findings
        applied += result.faults
        good &= found.clean and result.accepted == result.delivered == result.requests
        print(
            f"{store:<10}{broker:<10}{result.requests:>6}{result.accepted:>10}{result.delivered:>11}"
            f"{sum(result.faults.values()):>8}{len(found.lost):>6}{len(found.duplicated):>12}"
            f"{len(found.unexplained):>13}{time.monotonic() - started:>9.0f}",
            flush=True,
        )
    print("faults: " + ", ".join(f"{count} x {name}" for name, count in sorted(applied.items())))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
