"""`make soak`: does anything grow while the load goes on? Ratios within one run, nothing absolute.

Two nodes over RabbitMQ at a fraction of the rate that was measured just before. Every five seconds what they
hold goes into soak.csv; soak.svg shows it. Flat: the last quarter holds no more than the second did, within
a tenth, and what waits may differ by one second of the load. What waits also grows when something else takes
the machine: so what others use is sampled too, and the full rate is measured again at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import os
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from aio_pika.abc import AbstractChannel

from bench import chart
from bench.__main__ import BODY_SIZE, referral
from bench.ground import AGENCIES, Ground, go, ground
from bench.load import Load
from bench.nodes import BenchNode
from gateway.transport.base import Lane
from gateway.transport.topology import queue_name

INTERVAL = 5.0
"""Seconds between two samples."""
MEASURED = 60.0
"""Seconds for which the full rate is measured, before and after."""
GROWTH = 1.10
"""What the last quarter may be of the second."""

HELD = {
    "sender_rss_mb": "sender's node",
    "recipient_rss_mb": "recipient's node",
    "sender_files": "sender's node",
    "recipient_files": "recipient's node",
}
"""What a node holds at any load; columns of the CSV and how the chart calls them."""
WAITING = {
    "queued_messages": "messages",
    "queued_receipts": "receipts",
    "outbox": "sender's outbox",
    "inbox": "recipient's inbox",
    "receipts_owed": "receipts owed",
}
"""What is on its way, counted."""
PANELS = (
    ("memory, resident MB", ("sender_rss_mb", "recipient_rss_mb")),
    ("open files and connections", ("sender_files", "recipient_files")),
    ("ready in the broker's queues", ("queued_messages", "queued_receipts")),
    ("rows that wait", ("outbox", "inbox", "receipts_owed")),
    ("delivered a second, receipt back", ("delivered",)),
    ("cores used by anything else on the machine", ("others",)),
)
COLUMNS = ("seconds", *HELD, *WAITING, "delivered", "others")


@dataclass
class Samples:
    """What was seen, column by column."""

    columns: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in COLUMNS})

    def add(self, row: dict[str, float]) -> None:
        """Another moment."""
        for name, values in self.columns.items():
            values.append(row[name])

    def quarter(self, name: str, number: int) -> float:
        """The mean of a column in the first to the fourth quarter of the run."""
        values = self.columns[name]
        part = values[len(values) * (number - 1) // 4 : len(values) * number // 4]
        return statistics.fmean(part) if part else 0.0

    def growth(self, name: str, allowance: float) -> float:
        """The last quarter as a multiple of the second, both with an allowance added."""
        return (self.quarter(name, 4) + allowance) / max(self.quarter(name, 2) + allowance, 1e-9)


class Sampler:
    """Looks at everything every five seconds."""

    def __init__(self, made: Ground, channel: AbstractChannel, out: Path) -> None:
        self._made, self._channel, self._out = made, channel, out
        self.samples = Samples()

    async def run(self, count: int) -> None:
        """So many times."""
        started = time.monotonic()
        before, at = await self._look(), started
        with (self._out / "soak.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            for number in range(1, count + 1):
                await asyncio.sleep(max(0.0, started + number * INTERVAL - time.monotonic()))
                found, now = await self._look(), time.monotonic()
                a_second = {
                    name: (found[name] - before[name]) / (now - at) for name in ("delivered", "others")
                }
                row = found | a_second | {"seconds": now - started}
                before, at = found, now
                self.samples.add(row)
                writer.writerow({name: f"{value:.2f}" for name, value in row.items()})
                file.flush()
                if number % 12 == 0:
                    print("  " + ", ".join(f"{name} {row[name]:.0f}" for name in COLUMNS), flush=True)

    async def _look(self) -> dict[str, float]:
        sender = await asyncio.to_thread(self._made.sender.metrics)
        recipient = await asyncio.to_thread(self._made.recipient.metrics)
        return {
            **_held("sender", self._made.sender),
            **_held("recipient", self._made.recipient),
            "queued_messages": await self._ready(Lane.MESSAGES),
            "queued_receipts": await self._ready(Lane.RECEIPTS),
            "outbox": sender["gateway_outbox_envelopes"],
            "inbox": recipient.get('gateway_inbox_waiting{agency="recipient"}', 0.0),
            "receipts_owed": recipient["gateway_receipts_owed"],
            "delivered": sender.get('gateway_stages_total{stage="delivered"}', 0.0),
            "others": await asyncio.to_thread(_others, self._made),
        }

    async def _ready(self, lane: Lane) -> float:
        depths = [
            (await self._channel.declare_queue(queue_name(agency, lane), passive=True)).declaration_result
            for agency in AGENCIES
        ]
        return float(sum(depth.message_count or 0 for depth in depths))


def _others(made: Ground) -> float:
    """CPU seconds used so far by anything but the nodes, the broker and this process."""
    busy, own = psutil.cpu_times(), psutil.Process().cpu_times()
    ours = made.sender.cpu() + made.recipient.cpu() + made.broker_cpu() + own.user + own.system
    return float(busy.user + busy.nice + busy.system + busy.steal - ours)


def _held(name: str, node: BenchNode) -> dict[str, float]:
    return {
        f"{name}_rss_mb": node.rss() / 1e6,
        f"{name}_files": float(psutil.Process(node.process.pid).num_fds()),
    }


async def run(options: argparse.Namespace) -> None:
    """Measure, then load and look."""
    with tempfile.TemporaryDirectory(prefix="gateway-soak-") as folder:
        async with ground(Path(folder)) as made:
            load = Load(made.sender, made.recipient, referral(BODY_SIZE))
            full = await _full_rate(load, options.in_flight)
            rate = full * options.rate_fraction
            print(f"{full:.0f} referrals a second at full load; {rate:.0f} for {options.minutes:g} minutes")
            samples, answer = await _loaded(made, load, rate, options)
            print(answer)
            again = await _full_rate(load, options.in_flight)
    _conclude(samples, rate, options.out)
    print(f"the full rate afterwards: {again:.0f} a second, {again / full:.2f} of what it was before")


async def _loaded(made: Ground, load: Load, rate: float, options: argparse.Namespace) -> tuple[Samples, str]:
    """The load that goes on, looked at."""
    async with await made.connect() as connection, asyncio.TaskGroup() as group:
        sampler = Sampler(made, await connection.channel(), options.out)
        group.create_task(sampler.run(int(options.minutes * 60 / INTERVAL)))
        count = int(rate * options.minutes * 60)
        outcome = await load.run(count, in_flight=options.in_flight, rate=rate)
    return sampler.samples, (
        f"{count} referrals, every one delivered, in {outcome.seconds:.0f} s; said no {outcome.said_no} times"
    )


async def _full_rate(load: Load, in_flight: int) -> float:
    """Referrals a second over about a minute, after a guess from a few."""
    await load.run(300, in_flight=in_flight)
    guess = await load.run(1000, in_flight=in_flight)
    count = int(1000 / guess.seconds * MEASURED)
    return count / (await load.run(count, in_flight=in_flight)).seconds


def _conclude(samples: Samples, rate: float, out: Path) -> None:
    """Say flat or not, for each and for all; draw it."""
    print("                          2nd quarter  last quarter   ratio")
    all_flat = True
    for name in (*HELD, *WAITING):
        ratio = samples.growth(name, rate if name in WAITING else 0.0)
        flat = ratio <= GROWTH
        all_flat = all_flat and flat
        print(
            f"  {name:<22}{samples.quarter(name, 2):13.1f}{samples.quarter(name, 4):14.1f}{ratio:8.2f}"
            f"{'' if flat else '  grows'}"
        )
    kept = samples.quarter("delivered", 4)
    verdict = "flat" if all_flat else "NOT flat"
    print(
        "others used {:.1f} cores in the second quarter, {:.1f} in the last".format(
            samples.quarter("others", 2), samples.quarter("others", 4)
        )
    )
    print(f"{verdict}; delivered in the last quarter {kept:.0f} a second of {rate:.0f} posted")
    columns = samples.columns
    minutes = [second / 60 for second in columns["seconds"]]
    names = HELD | WAITING | {"delivered": "delivered", "others": "others"}
    panels = [
        chart.Panel(title, [chart.Line(names[one], columns[one]) for one in shown]) for title, shown in PANELS
    ]
    title = f"{rate:.0f} referrals a second for {minutes[-1]:.0f} minutes: {verdict}"
    (out / "soak.svg").write_text(chart.svg(title, minutes, panels), "utf-8")
    print(f"written: {out / 'soak.csv'}, {out / 'soak.svg'}")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(prog="bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate-fraction", type=float, default=0.7, help="of the rate measured first")
    parser.add_argument("--in-flight", type=int, default=64, help="posts at once while that is measured")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder of soak.csv and soak.svg")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
    go(run(options))


if __name__ == "__main__":
    main()
