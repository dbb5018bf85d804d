"""`make bench`: prints one table of figures, all taken in this run on this machine."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import tempfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import psutil
import uvloop

from bench.load import Load, Outcome
from bench.nodes import RECIPIENT, SENDER, BenchNode, start_pair
from bench.raw import Ceiling, ceiling
from gateway.transport import topology
from tests.rabbit import RabbitNode

STEPS = ("adapt", "validate", "policy", "seal", "publish", "open", "check")
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
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(options))


async def run(options: argparse.Namespace) -> None:
    """The whole bench, on a private broker."""
    print(f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores\n")
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as folder:
        broker = RabbitNode()
        broker.start()
        try:
            url = broker.create_vhost()
            await _measure(options, Path(folder), url)
        finally:
            broker.stop()


async def _measure(options: argparse.Namespace, folder: Path, url: str) -> None:
    body = referral(BODY_SIZE)
    await topology.declare(url, [SENDER, RECIPIENT])
    sender, recipient = start_pair(folder, url)
    try:
        load = Load(sender, recipient, body)
        await load.run(300, in_flight=options.in_flight)
        size = _envelope_size(sender)
        before = await ceiling(url, size=size, count=options.referrals, in_flight=options.in_flight)
        steps = _steps(sender, recipient)
        cpu, broker_cpu, own = (sender.cpu(), recipient.cpu()), _beam_cpu(), _own_cpu()
        full = await load.run(options.referrals, in_flight=options.in_flight)
        rate = options.referrals / full.seconds
        used = {
            "sender's node": sender.cpu() - cpu[0],
            "recipient's node": recipient.cpu() - cpu[1],
            "broker": _beam_cpu() - broker_cpu,
            "load generator": _own_cpu() - own,
        }
        spent = _steps(sender, recipient)
        after = await ceiling(url, size=size, count=options.referrals, in_flight=options.in_flight)
        print_throughput(rate, before, after, size, full)
        print_cpu(options.referrals, used, spent, steps)
        half = await load.run(
            int(min(options.referrals, rate * 10)), in_flight=options.in_flight, rate=rate / 2
        )
        print_latency(rate / 2, half)
        if options.memory:
            await _memory(options, load, sender, recipient)
    finally:
        recipient.stop()
        sender.stop()


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
    import json  # noqa: PLC0415

    examples = resources.files("gateway.schemas.examples.referral")
    document = json.loads(min(examples.iterdir(), key=lambda e: e.name).read_bytes())
    missing = size - len(json.dumps(document))
    if missing > 0:
        document["concern"]["narrative"] += (" He was seen again and said the same." * 200)[:missing]
    return json.dumps(document).encode()


def _envelope_size(sender: BenchNode) -> int:
    import sqlite3  # noqa: PLC0415

    with sqlite3.connect(sender.folder / "gateway.db") as database:
        (size,) = database.execute("SELECT MAX(size) FROM outbound_envelopes").fetchone()
    return int(size)


def _own_cpu() -> float:
    times = psutil.Process().cpu_times()
    return times.user + times.system


def _beam_cpu() -> float:
    return sum(
        sum(process.cpu_times()[:2]) for process in psutil.process_iter() if process.name() == "beam.smp"
    )


def _steps(*nodes: BenchNode) -> dict[str, float]:
    totals: dict[str, float] = {}
    for node in nodes:
        metrics = node.metrics()
        for step in STEPS:
            totals[step] = totals.get(step, 0.0) + metrics.get(
                f'gateway_step_seconds_sum{{step="{step}"}}', 0.0
            )
    return totals


def print_throughput(rate: float, before: Ceiling, after: Ceiling, size: int, full: Outcome) -> None:
    """Referrals a second against the ceiling of the parts, measured before and after."""

    def mean(figure: Callable[[Ceiling], float]) -> float:
        return (figure(before) + figure(after)) / 2

    ceiling = mean(lambda one: one.round_trips)
    print(f"throughput, {size} bytes an envelope")
    print(f"  referrals end to end, every receipt back     {rate:8.0f} /s")
    print(f"  raw: publish with confirm                    {mean(lambda one: one.published):8.0f} /s")
    print(f"  raw: consume with ack                        {mean(lambda one: one.consumed):8.0f} /s")
    print(f"  raw round trips, one after the other         {ceiling:8.0f} /s")
    print(f"  raw round trips, both at once                {mean(lambda one: one.overlapped):8.0f} /s")
    print(f"  ratio to round trips one after the other     {rate / ceiling:8.2f}")
    print(f"  429 or 503 while loaded                      {full.said_no:8d}\n")


def print_cpu(count: int, used: dict[str, float], after: dict[str, float], before: dict[str, float]) -> None:
    """Where each microsecond goes."""
    print("CPU per referral (microseconds)")
    for name, seconds in used.items():
        print(f"  {name:<32}{seconds / count * 1e6:8.0f}")
    print("time per referral in each step (microseconds; `publish` is mostly waiting for the confirm)")
    for step in STEPS:
        print(f"  {step:<32}{(after[step] - before[step]) / count * 1e6:8.0f}")
    print()


def print_latency(rate: float, half: Outcome) -> None:
    """p50 and p99 at half the load."""
    print(f"latency at half that load, {rate:.0f} /s open loop (milliseconds)   p50      p99")
    for name, values in (("POST to 202", half.answered), ("POST to handed over, opened", half.handed_over)):
        cuts = statistics.quantiles(values, n=100)
        print(f"  {name:<50}{cuts[49] * 1000:8.1f} {cuts[98] * 1000:8.1f}")
    print()


if __name__ == "__main__":
    main()
