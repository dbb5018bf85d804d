"""`make bench`: prints one table of figures, all taken in this run on this machine."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import tempfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import psutil

from bench import peers, report
from bench.exchange import exchanges
from bench.ground import Ground, go, ground
from bench.load import Load, Outcome
from bench.nodes import BenchNode
from bench.raw import ceiling

BODY_SIZE = 4096
"""Bytes of the referral: an example of ours, its narrative lengthened to this size."""


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--referrals", type=int, default=4000, help="referrals in the throughput run")
    parser.add_argument(
        "--memory", type=int, default=50_000, help="referrals in the memory run; 0 leaves it out"
    )
    parser.add_argument("--in-flight", type=int, default=64, help="posts at once")
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite", help="of both nodes")
    parser.add_argument("--cluster", action="store_true", help="three brokers, as deploy/rabbitmq has them")
    parser.add_argument("--peers", action="store_true", help="beside NHS England's mesh-sandbox and AS2")
    options = parser.parse_args()
    go(run(options))


async def run(options: argparse.Namespace) -> None:
    """The whole bench, on a private broker."""
    brokers = "three brokers, TLS" if options.cluster else "one broker"
    print(
        f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores, "
        f"{options.store}, {brokers}, {options.in_flight} in flight, load {os.getloadavg()[0]:.1f} before\n"
    )
    python = peers.prepare() if options.peers else None
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as name:
        folder = Path(name)
        async with ground(folder, store=options.store, clustered=options.cluster) as made:
            await _measure(options, made, folder, python)


async def _measure(options: argparse.Namespace, made: Ground, folder: Path, python: Path | None) -> None:
    body = referral(BODY_SIZE)
    load = Load(made.sender, made.recipient, body)
    count, in_flight = options.referrals, options.in_flight
    await load.run(300, in_flight=in_flight)
    size = made.envelope_size()
    before = await ceiling(made.connect, size=size, count=count, in_flight=in_flight)
    first = await _full(load, made, count, in_flight)
    after = await ceiling(made.connect, size=size, count=count, in_flight=in_flight)
    report.throughput([first.rate], before, after, size, first.outcome.said_no)
    report.cpu(count, first.cpu, first.steps)
    half = await load.run(int(min(count, first.rate * 10)), in_flight=in_flight, rate=first.rate / 2)
    report.latency(first.rate / 2, half)
    if python is not None:
        await _beside(options, made, folder, python)
    if options.memory:
        await _memory(options, load, made.sender, made.recipient)


async def _beside(options: argparse.Namespace, made: Ground, folder: Path, python: Path) -> None:
    """What users have today, between two runs of ours."""
    body, in_flight = referral(BODY_SIZE), options.in_flight
    load, count = Load(made.sender, made.recipient, body), options.referrals // 2
    before = await _full(load, made, count, in_flight)
    found = await peers.measure(python, folder, body, in_flight=in_flight)
    own = await asyncio.to_thread(exchanges, body)
    after = await _full(load, made, count, in_flight)
    if found is not None:
        spent = statistics.fmean(one.served / count for one in (before, after))
        report.peers(found, [before.rate, after.rate], spent, own)


@dataclass(frozen=True)
class Full:
    """A run as fast as it goes."""

    outcome: Outcome
    rate: float
    cpu: dict[str, float]
    """CPU seconds by who used them."""
    steps: dict[str, float]
    """Seconds in each step of the road."""

    @property
    def served(self) -> float:
        """CPU seconds of all but the load generator."""
        return sum(seconds for name, seconds in self.cpu.items() if name != "load generator")


async def _full(load: Load, made: Ground, count: int, in_flight: int) -> Full:
    steps, cpu = _steps(made.sender, made.recipient), _cpu(made)
    outcome = await load.run(count, in_flight=in_flight)
    used = {name: seconds - cpu[name] for name, seconds in _cpu(made).items()}
    spent = {step: seconds - steps[step] for step, seconds in _steps(made.sender, made.recipient).items()}
    return Full(outcome, count / outcome.seconds, used, spent)


def _cpu(made: Ground) -> dict[str, float]:
    own = psutil.Process().cpu_times()
    return {
        "sender's node": made.sender.cpu(),
        "recipient's node": made.recipient.cpu(),
        "broker": made.broker_cpu(),
        "PostgreSQL": made.database_cpu(),
        "load generator": own.user + own.system,
    }


def _steps(*nodes: BenchNode) -> dict[str, float]:
    read = [node.metrics() for node in nodes]
    return {
        step: sum(metrics.get(f'gateway_step_seconds_sum{{step="{step}"}}', 0.0) for metrics in read)
        for step in report.STEPS
    }


async def _memory(options: argparse.Namespace, load: Load, sender: BenchNode, recipient: BenchNode) -> None:
    print(f"memory over {options.memory} referrals (resident MB: sender's node, recipient's node)")
    slices = 10
    for number in range(slices + 1):
        print(
            f"  after {number * options.memory // slices:>6}: {sender.rss() / 1e6:6.0f}"
            f" {recipient.rss() / 1e6:6.0f}"
        )
        if number < slices:
            await load.run(options.memory // slices, in_flight=options.in_flight)
    print()


def referral(size: int) -> bytes:
    """One of our examples as a JSON body of about `size` bytes."""
    examples = resources.files("gateway.schemas.examples.referral")
    document = json.loads(min(examples.iterdir(), key=lambda e: e.name).read_bytes())
    missing = size - len(json.dumps(document))
    if missing > 0:
        document["concern"]["narrative"] += (" He was seen again and said the same." * 200)[:missing]
    return json.dumps(document).encode()


if __name__ == "__main__":
    main()
