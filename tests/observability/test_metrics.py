"""What /metrics shows: right figures, closed label values, nothing a caller said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gateway import __version__
from gateway.errors import CODES
from gateway.messages import AgencyId, Reason, Stage
from gateway.observability import logs
from gateway.observability.metrics import METHODS, METRICS, Metrics
from gateway.observability.vocabulary import LANES, STEPS
from gateway.transport.base import Lane

ACADEMY = AgencyId("northtown-academy")
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def read(metrics: Metrics) -> Samples:
    """The exposition, parsed as Prometheus would."""
    body, content_type = metrics.exposition()
    assert content_type.startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """One sample, which must exist."""
    return read(metrics)[f"gateway_{name}", tuple(sorted(labels.items()))]


CALLS: list[tuple[str, tuple[Any, ...], str, dict[str, str], float]] = [
    (
        "accepted",
        (ACADEMY, "referral", 3),
        "messages_accepted_total",
        {"agency": ACADEMY, "type": "referral"},
        1,
    ),
    ("accepted", (ACADEMY, "referral", 3), "stages_total", {"stage": "accepted"}, 3),
    ("refused", ("no-agreement",), "messages_refused_total", {"code": "no-agreement"}, 1),
    ("published", (Lane.RECEIPTS,), "envelopes_published_total", {"lane": "receipts"}, 1),
    ("publish_failed", ("full",), "publish_failures_total", {"kind": "full"}, 1),
    ("recorded", (Stage.DELIVERED,), "stages_total", {"stage": "delivered"}, 1),
    ("receipt_refused", ("unmatched",), "receipts_refused_total", {"why": "unmatched"}, 1),
    ("outbox", (4, 4096, 1.5), "outbox_envelopes", {}, 4),
    ("outbox", (4, 4096, 1.5), "outbox_bytes", {}, 4096),
    ("outbox", (4, 4096, 1.5), "outbox_oldest_seconds", {}, 1.5),
    ("received", (ACADEMY,), "envelopes_received_total", {"agency": ACADEMY}, 1),
    ("envelope_refused", (Reason.REPLAYED,), "envelopes_refused_total", {"reason": "replayed"}, 1),
    ("duplicate", (), "envelopes_duplicate_total", {}, 1),
    ("dead_lettered", (Reason.MALFORMED,), "dead_lettered_total", {"reason": "malformed"}, 1),
    ("answered", (Stage.REJECTED,), "messages_answered_total", {"stage": "rejected"}, 1),
    ("inbox", (ACADEMY, 7, 60.0), "inbox_waiting", {"agency": ACADEMY}, 7),
    ("inbox", (ACADEMY, 7, 60.0), "inbox_oldest_seconds", {"agency": ACADEMY}, 60),
    ("owed", (9,), "receipts_owed", {}, 9),
    ("step", ("seal", 0.25), "step_seconds_sum", {"step": "seal"}, 0.25),
    ("commit", (5, 0.5), "store_batch_size_sum", {}, 5),
    ("commit", (5, 0.5), "store_commit_seconds_sum", {}, 0.5),
    ("transport_up", (True,), "transport_connected", {}, 1),
    ("directory_expires", (3600.0,), "directory_expires_seconds", {}, 3600),
]


@pytest.mark.parametrize(("method", "arguments", "name", "labels", "expected"), CALLS)
def test_a_call_on_the_road_shows(
    method: str, arguments: tuple[Any, ...], name: str, labels: dict[str, str], expected: float
) -> None:
    metrics = Metrics()
    getattr(metrics, method)(*arguments)
    assert value(metrics, name, **labels) == expected


def test_requests_are_counted_by_route_template() -> None:
    metrics = Metrics()
    metrics.add_routes(["/v1/messages/{id}"])
    metrics.request("GET", "/v1/messages/{id}", 200, 0.5)
    assert value(metrics, "http_requests_total", method="GET", route="/v1/messages/{id}", status="200") == 1
    assert value(metrics, "http_request_seconds_sum", route="/v1/messages/{id}") == 0.5


def test_known_series_start_at_zero() -> None:
    samples = read(Metrics())
    for name, label, values in [
        ("messages_refused_total", "code", CODES),
        ("envelopes_refused_total", "reason", list(Reason)),
        ("dead_lettered_total", "reason", list(Reason)),
        ("stages_total", "stage", list(Stage)),
        ("envelopes_published_total", "lane", list(Lane)),
    ]:
        for one in values:
            assert samples[f"gateway_{name}", ((label, str(one)),)] == 0


def test_nodes_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.duplicate()
    assert (value(one, "envelopes_duplicate_total"), value(other, "envelopes_duplicate_total")) == (1, 0)


def test_what_runs_and_what_the_log_dropped_are_shown() -> None:
    samples = read(Metrics())
    build = next(labels for name, labels in samples if name == "gateway_build_info")
    assert dict(build)["version"] == __version__
    assert samples["gateway_log_fields_dropped_total", ()] == logs.dropped_total()
    assert any(name.startswith("process_") for name, _ in samples)


def test_every_listed_metric_is_exposed_and_no_other() -> None:
    metrics = Metrics()
    for method, arguments, *_ in CALLS:
        getattr(metrics, method)(*arguments)
    metrics.request("GET", "/", 200, 0.1)
    body = metrics.exposition()[0].decode()
    exposed = {line.split()[2] for line in body.splitlines() if line.startswith("# TYPE gateway_")}
    assert exposed == {f"gateway_{metric.name}" for metric in METRICS}


words = st.text(min_size=6).filter(lambda s: any(c.isupper() or c.isspace() for c in s) and s not in METHODS)


@settings(max_examples=100, deadline=None)
@given(words)
def test_a_word_that_is_on_no_list_becomes_other(word: str) -> None:
    metrics = Metrics()
    plain = read(metrics)
    untyped: Any = metrics
    untyped.accepted(word, word, 1)
    for method in ("refused", "published", "publish_failed", "receipt_refused", "recorded", "received"):
        getattr(untyped, method)(word)
    for method in ("envelope_refused", "dead_lettered", "answered"):
        getattr(untyped, method)(word)
    untyped.inbox(word, 1, 1.0)
    untyped.step(word, 0.1)
    untyped.request(word, f"/v1/messages/{word}", 200, 0.1)
    new = {key for key, number in read(metrics).items() if plain.get(key) != number and "gateway" in key[0]}
    labels = {label for _, pairs in new for name, label in pairs if name not in {"le", "status"}}
    assert labels == {"other", "accepted"}  # the stage that `accepted` records


def test_the_product_times_only_listed_steps() -> None:
    found: set[str] = set()
    for file in (Path(__file__).parents[2] / "gateway").rglob("*.py"):
        found |= set(re.findall(r"metrics\.step\(\s*\"([^\"]+)\"", file.read_text("utf-8")))
    assert found == set(STEPS)


def test_lanes_are_those_of_the_transport() -> None:
    assert set(LANES) == {lane.value for lane in Lane}
