"""What one run printed: figures, and the ratios between them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from bench.load import Outcome
from bench.peers import Peers
from bench.raw import Ceiling

STEPS = ("adapt", "validate", "policy", "seal", "publish", "open", "check")


def throughput(rates: Sequence[float], before: Ceiling, after: Ceiling, size: int, said_no: int) -> None:
    """Referrals a second against the ceiling of the parts, measured before and after."""

    def mean(figure: Callable[[Ceiling], float]) -> float:
        return (figure(before) + figure(after)) / 2

    rate, ceiling = statistics.fmean(rates), mean(lambda one: one.round_trips)
    print(f"throughput, {size} bytes an envelope")
    print(f"  referrals end to end, every receipt back     {rate:8.0f} /s")
    print(f"  raw: publish with confirm                    {mean(lambda one: one.published):8.0f} /s")
    print(f"  raw: consume with ack                        {mean(lambda one: one.consumed):8.0f} /s")
    print(f"  raw round trips, one after the other         {ceiling:8.0f} /s")
    print(f"  raw round trips, both at once                {mean(lambda one: one.overlapped):8.0f} /s")
    print(f"  ratio to round trips one after the other     {rate / ceiling:8.2f}")
    print(f"  429 or 503 while loaded                      {said_no:8d}\n")


def cpu(count: int, used: dict[str, float], steps: dict[str, float]) -> None:
    """Where each microsecond goes."""
    print("CPU per referral (microseconds)")
    for name, seconds in used.items():
        if seconds:
            print(f"  {name:<32}{seconds / count * 1e6:8.0f}")
    print("time per referral in each step (microseconds; `publish` is mostly waiting for the confirm)")
    for step in STEPS:
        print(f"  {step:<32}{steps[step] / count * 1e6:8.0f}")
    print()


def latency(rate: float, half: Outcome) -> None:
    """p50 and p99 at half the load."""
    print(f"latency at half that load, {rate:.0f} /s open loop (milliseconds)   p50      p99")
    for name, values in (("POST to 202", half.answered), ("POST to handed over, opened", half.handed_over)):
        cuts = statistics.quantiles(values, n=100)
        print(f"  {name:<50}{cuts[49] * 1000:8.1f} {cuts[98] * 1000:8.1f}")
    print()


def peers(found: Peers, rates: Sequence[float], ours_cpu: float, own: tuple[float, float]) -> None:
    """Side by side: ours measured before and after theirs, at the same concurrency."""
    rate = statistics.fmean(rates)
    print(f"side by side, the same bytes, the same concurrency; ours before and after: {_both(rates)}")
    print(f"  {'':<44}{'a second':>9}{'ours is':>9}")
    print(f"  {'ours, end to end, every receipt back':<44}{rate:9.0f}")
    for client, figures in (
        ("mesh-client", found.mesh),
        ("a plain client", found.bare),
        ("the same, 2,000 without a reset", found.held),
    ):
        print(f"  {f'mesh-sandbox by {client}, send alone':<44}{figures.sent:9.0f}")
        print(f"  {'  list, get, acknowledge alone':<44}{figures.collected:9.0f}")
        print(f"  {'  end to end':<44}{figures.end_to_end:9.0f}{_times(rate / figures.end_to_end):>9}")
    exchanges, seconds = own
    print(f"  {'ours in one process: seal, open, 2 receipts':<44}{exchanges:9.0f}")
    ratio = _times(exchanges / found.as2)
    print(f"  {'AS2 in one process: pyas2lib, signed MDN':<44}{found.as2:9.0f}{ratio:>9}")
    print("CPU for one of them (microseconds)")
    for name, value in (
        ("ours: both nodes, broker, database", ours_cpu),
        ("mesh-sandbox, driven by mesh-client", found.mesh.server_cpu),
        ("mesh-client, sending and collecting", found.mesh.client_cpu),
        ("mesh-sandbox, plain asynchronous client", found.bare.server_cpu),
        ("ours in one process", seconds),
        ("AS2 in one process", found.as2_cpu),
    ):
        print(f"  {name:<44}{value * 1e6:9.0f}")
    print()


def _both(rates: Sequence[float]) -> str:
    return ", ".join(f"{rate:.0f}" for rate in rates)


def _times(ratio: float) -> str:
    return f"x {ratio:.1f}"
