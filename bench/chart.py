"""A plain SVG of lines over time: one panel below the other, the compared quarters shaded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 760, 130
"""Of a panel's plot, in pixels."""
LEFT, RIGHT, TOP, BETWEEN = 60, 170, 56, 46
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Told apart by those who do not see red and green as two."""


@dataclass(frozen=True)
class Line:
    """One series."""

    label: str
    values: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """Series that share a scale."""

    title: str
    lines: Sequence[Line]


def svg(title: str, minutes: Sequence[float], panels: Sequence[Panel]) -> str:
    """The picture. `minutes` is where each value of each line stands."""
    width = LEFT + WIDTH + RIGHT
    height = TOP + len(panels) * (HEIGHT + BETWEEN)
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    font = 'font-family="sans-serif" font-size="12" fill="#222"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{LEFT}" y="20" font-size="14" font-weight="bold">{escape(title)}</text>',
    ]
    for number, panel in enumerate(panels):
        parts.extend(_panel(panel, minutes, TOP + number * (HEIGHT + BETWEEN)))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel, minutes: Sequence[float], top: int) -> Iterator[str]:
    highest = _round_up(max((max(line.values, default=0.0) for line in panel.lines), default=0.0))
    last = minutes[-1] if minutes and minutes[-1] > 0 else 1.0

    def x(minute: float) -> float:
        return LEFT + WIDTH * minute / last

    def y(value: float) -> float:
        return top + HEIGHT * (1 - value / highest)

    yield f'<text x="{LEFT}" y="{top - 8}" font-weight="bold">{escape(panel.title)}</text>'
    for quarter in (1, 3):
        yield (
            f'<rect x="{x(last * quarter / 4):.1f}" y="{top}" width="{WIDTH / 4:.1f}" '
            f'height="{HEIGHT}" fill="#f0f0f0"/>'
        )
    for step in range(3):
        value = highest * step / 2
        yield f'<path d="M{LEFT} {y(value):.1f}H{LEFT + WIDTH}" stroke="#ccc"/>'
        yield f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>'
    for step in range(5):
        minute = last * step / 4
        place = f'x="{x(minute):.1f}" y="{top + HEIGHT + 15}"'
        yield f'<text {place} text-anchor="middle">{minute:.3g} min</text>'
    for number, line in enumerate(panel.lines):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(
            f"{x(at):.1f},{y(value):.1f}" for at, value in zip(minutes, line.values, strict=True)
        )
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        yield (
            f'<text x="{LEFT + WIDTH + 8}" y="{top + 12 + 16 * number}" fill="{colour}">'
            f"{escape(line.label)}</text>"
        )


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20 ... that the scale ends at."""
    if value <= 0:
        return 1.0
    power = 10 ** math.floor(math.log10(value))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= value))
