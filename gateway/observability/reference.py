"""The tables of docs/observability.md, made from the lists that the code itself uses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.observability.metrics import METRICS, Metric
from gateway.observability.vocabulary import (
    BREAK_GLASS,
    EVENTS,
    FIELDS,
    FOLDER_OUTCOMES,
    OWN_FIELDS,
    PUBLISH_FAILURES,
    PUSH_OUTCOMES,
    RECEIPT_REFUSALS,
    STEPS,
)


def describe() -> str:
    """Fields, events, metrics and their label values, as Markdown."""
    sections = {
        "Log fields": _table(
            ("field", "values", "meaning"), ((f"`{n}`", f.rule, f.meaning) for n, f in FIELDS.items())
        ),
        "Fields the logger adds": _words("field", OWN_FIELDS),
        "Log events": _words("event", EVENTS),
        "Metrics": _table(("metric", "kind", "labels", "meaning"), map(_metric, METRICS)),
        "Steps of the road (`step`)": _words("step", STEPS),
        "Why publishing failed (`kind`)": _words("kind", PUBLISH_FAILURES),
        "How a push ended (`outcome`)": _words("outcome", PUSH_OUTCOMES),
        "What became of a file in a folder (`outcome`)": _words("outcome", FOLDER_OUTCOMES),
        "What became known of emergency openings (`what`)": _words("what", BREAK_GLASS),
        "Why a receipt was refused (`why`)": _words("why", RECEIPT_REFUSALS),
    }
    return "\n".join(f"### {title}\n\n{table}" for title, table in sections.items())


def _metric(metric: Metric) -> tuple[str, ...]:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"`gateway_{metric.name}`", metric.kind, labels, metric.meaning


def _words(name: str, words: Mapping[str, str]) -> str:
    return _table((name, "meaning"), ((f"`{word}`", meaning) for word, meaning in words.items()))


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
