"""Every metric of the product, in one place: name, labels, meaning; and the methods the road calls.

A label value is a word of vocabulary.py, an agency of this node, a known message type, or a registered
route; anything else becomes `other`, so no stray text ever becomes a series. Series whose labels are known
beforehand start at 0, so that a rate also sees the first event. A call on the road is a look-up in a
dictionary and an addition.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from gateway import __version__
from gateway.messages import AGENCY_ID, AgencyId, Reason, Stage
from gateway.observability import logs
from gateway.observability.vocabulary import (
    BREAK_GLASS,
    CHECKPOINTS,
    FOLDER_OUTCOMES,
    KEYS_DUE,
    LANES,
    OTHER,
    PROBLEMS,
    PUBLISH_FAILURES,
    PUSH_OUTCOMES,
    REASONS,
    RECEIPT_REFUSALS,
    STAGES,
    STEPS,
    WORD,
)

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. Its full name begins with `gateway_`."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    """Every value of the only label, where they are known beforehand: each starts at 0."""
    buckets: tuple[float, ...] = ()


_REQUEST = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)
_STEP = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
_BATCH = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)

METRICS: tuple[Metric, ...] = (
    # sending
    Metric("messages_accepted_total", "counter", "Messages answered with 202.", ("agency", "type")),
    Metric("messages_refused_total", "counter", "Messages refused at intake.", ("code",), PROBLEMS),
    Metric("envelopes_published_total", "counter", "Envelopes the transport confirmed.", ("lane",), LANES),
    Metric(
        "publish_failures_total",
        "counter",
        "Publishing attempts that were not confirmed; each is repeated.",
        ("kind",),
        tuple(PUBLISH_FAILURES),
    ),
    Metric(
        "stages_total",
        "counter",
        "Stages reached by the envelopes this node sent: one for each receipt, its own included.",
        ("stage",),
        STAGES,
    ),
    Metric(
        "receipts_refused_total",
        "counter",
        "Receipts that arrived and were not taken.",
        ("why",),
        tuple(RECEIPT_REFUSALS),
    ),
    Metric(
        "audit_checkpoints_total",
        "counter",
        "Checkpoints of audit logs exchanged with peers; `fork`, `contradicted` and `damaged` are alarms.",
        ("outcome",),
        tuple(CHECKPOINTS),
    ),
    Metric(
        "break_glass_total",
        "counter",
        "Emergency openings that became known; look into every one.",
        ("what",),
        tuple(BREAK_GLASS),
    ),
    Metric("outbox_envelopes", "gauge", "Envelopes accepted and not yet confirmed by the transport."),
    Metric("outbox_bytes", "gauge", "Their size, attachments included."),
    Metric("outbox_oldest_seconds", "gauge", "Age of the oldest of them; 0 when there is none."),
    # receiving
    Metric("envelopes_received_total", "counter", "Envelopes opened, verified, valid, durable.", ("agency",)),
    Metric("envelopes_refused_total", "counter", "Envelopes refused on arrival.", ("reason",), REASONS),
    Metric("envelopes_duplicate_total", "counter", "Envelopes the transport handed over again; set aside."),
    Metric("dead_lettered_total", "counter", "Arrivals set aside for an operator.", ("reason",), REASONS),
    Metric("dead_letters", "gauge", "Refused envelopes that wait for an operator."),
    Metric("peers_unheard", "gauge", "Peers asked after a restore that have not answered yet."),
    Metric("messages_answered_total", "counter", "Messages that became final here.", ("stage",), STAGES),
    Metric("inbox_waiting", "gauge", "Messages the agency's own system has not answered.", ("agency",)),
    Metric("inbox_oldest_seconds", "gauge", "Age of the oldest of them; 0 when there is none.", ("agency",)),
    Metric("receipts_owed", "gauge", "Receipts not yet on their way back to the sender."),
    Metric("push_attempts_total", "counter", "Attempts to push a message.", ("agency", "outcome")),
    Metric("push_breaker", "gauge", "0: works; 1: one request tries; 2: left alone for now.", ("agency",)),
    Metric("push_oldest_seconds", "gauge", "Age of the oldest message to push; 0: none.", ("agency",)),
    Metric("folder_files_total", "counter", "Files handled in folders.", ("agency", "outcome")),
    Metric(
        "folder_oldest_seconds", "gauge", "Age of the oldest file waiting in a folder; 0: none.", ("agency",)
    ),
    # around the road
    Metric("http_requests_total", "counter", "HTTP requests answered.", ("method", "route", "status")),
    Metric(
        "http_request_seconds",
        "histogram",
        "Time to answer; long polls of the inbox included.",
        ("route",),
        buckets=_REQUEST,
    ),
    Metric("step_seconds", "histogram", "Time one step of the road took.", ("step",), tuple(STEPS), _STEP),
    Metric("store_commit_seconds", "histogram", "Time one shared commit took.", buckets=_STEP),
    Metric("store_batch_size", "histogram", "Writes that shared one commit.", buckets=_BATCH),
    Metric(
        "ready",
        "gauge",
        "1 while this part can do its work: what /readyz says.",
        ("part",),
        ("store", "transport", "directory", "keys", "clock", "running"),
    ),
    Metric(
        "keys_due",
        "gauge",
        "Keys to rotate or to destroy, by the node's settings: docs/keys.md section 6.",
        ("agency", "what"),
    ),
    Metric("transport_connected", "gauge", "1 while the transport is usable."),
    Metric("directory_expires_seconds", "gauge", "Time until the directory expires; negative afterwards."),
    Metric("build_info", "gauge", "Always 1; says what is running.", ("version", "python")),
    Metric(
        "log_fields_dropped_total",
        "counter",
        "Fields left out of log lines because they broke a rule: a defect. Counts the whole process.",
    ),
)
"""What /metrics shows, besides the standard `process_` metrics."""

_DROPPED = "log_fields_dropped_total"


class _DroppedFields(Collector):
    """Reads the log's own count when asked, so that logging need not know of metrics."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(
            f"gateway_{self._metric.name}", self._metric.meaning, value=logs.dropped_total()
        )


class Metrics:
    """The metrics of one node, in a registry of its own."""

    def __init__(self) -> None:
        # Otherwise each counter has a second series that nothing here needs.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        self._counts: dict[tuple[str, str], Counter] = {}
        """Bound children by metric and label value, `other` among them."""
        self._routes: set[str] = set()
        for metric in METRICS:
            self._build(metric)
        self._steps = {step: self._histograms["step_seconds"].labels(step) for step in (*STEPS, OTHER)}
        self._gauges["build_info"].labels(__version__, platform.python_version()).set(1)
        ProcessCollector(registry=self._registry)

    def _build(self, metric: Metric) -> None:
        name, registry = f"gateway_{metric.name}", self._registry
        if metric.name == _DROPPED:
            registry.register(_DroppedFields(metric))
        elif metric.kind == "gauge":
            self._gauges[metric.name] = Gauge(name, metric.meaning, metric.labels, registry=registry)
        elif metric.kind == "histogram":
            self._histograms[metric.name] = Histogram(
                name, metric.meaning, metric.labels, registry=registry, buckets=metric.buckets
            )
        else:
            counter = Counter(name, metric.meaning, metric.labels, registry=registry)
            self._counters[metric.name] = counter
            if metric.values:
                for value in (*metric.values, OTHER):
                    self._counts[metric.name, value] = counter.labels(value)

    def _count(self, name: str, value: str, number: int = 1) -> None:
        (self._counts.get((name, value)) or self._counts[name, OTHER]).inc(number)

    # sending

    def accepted(self, agency: AgencyId, message_type: str, envelopes: int) -> None:
        """A message got its 202; it became so many envelopes."""
        labels = _agency(agency), message_type if WORD.fullmatch(message_type) else OTHER
        self._counters["messages_accepted_total"].labels(*labels).inc()
        self._count("stages_total", Stage.ACCEPTED, envelopes)

    def refused(self, code: str) -> None:
        """A message was refused at intake."""
        self._count("messages_refused_total", code)

    def published(self, lane: str) -> None:
        """The transport confirmed an envelope."""
        self._count("envelopes_published_total", lane)

    def publish_failed(self, kind: str) -> None:
        """The transport did not confirm."""
        self._count("publish_failures_total", kind)

    def recorded(self, stage: Stage) -> None:
        """An envelope this node sent reached a stage."""
        self._count("stages_total", stage)

    def receipt_refused(self, why: str) -> None:
        """A receipt that arrived was not taken."""
        self._count("receipts_refused_total", why)

    def outbox(self, envelopes: int, size: int, oldest: float) -> None:
        """What waits to be sent: how many, bytes, age of the oldest in seconds."""
        self._gauges["outbox_envelopes"].set(envelopes)
        self._gauges["outbox_bytes"].set(size)
        self._gauges["outbox_oldest_seconds"].set(oldest)

    def checkpoint(self, outcome: str) -> None:
        """A checkpoint of an audit log, or its confirmation, arrived."""
        self._count("audit_checkpoints_total", outcome)

    def break_glass(self, what: str) -> None:
        """A message was opened in an emergency, here or at its recipient."""
        self._count("break_glass_total", what)

    # receiving

    def received(self, agency: AgencyId) -> None:
        """An envelope for this agency is open, valid and durable."""
        self._counters["envelopes_received_total"].labels(_agency(agency)).inc()

    def envelope_refused(self, reason: Reason) -> None:
        """An envelope that arrived was refused."""
        self._count("envelopes_refused_total", reason)

    def duplicate(self) -> None:
        """The transport handed something over a second time."""
        self._counters["envelopes_duplicate_total"].inc()

    def dead_lettered(self, reason: Reason) -> None:
        """Something that arrived was set aside for an operator."""
        self._count("dead_lettered_total", reason)

    def dead_letters(self, waiting: int) -> None:
        """How many refused envelopes wait for an operator."""
        self._gauges["dead_letters"].set(waiting)

    def unheard(self, peers: int) -> None:
        """How many peers have not answered after a restore."""
        self._gauges["peers_unheard"].set(peers)

    def answered(self, stage: Stage) -> None:
        """A message in this node's inbox became final."""
        self._count("messages_answered_total", stage)

    def inbox(self, agency: AgencyId, waiting: int, oldest: float) -> None:
        """What the agency's own system has not answered: how many, age of the oldest in seconds."""
        self._gauges["inbox_waiting"].labels(_agency(agency)).set(waiting)
        self._gauges["inbox_oldest_seconds"].labels(_agency(agency)).set(oldest)

    def owed(self, receipts: int) -> None:
        """Receipts not yet on their way back."""
        self._gauges["receipts_owed"].set(receipts)

    def add_push(self, agency: AgencyId) -> None:
        """Begin the series of an agency whose messages are pushed."""
        for outcome in PUSH_OUTCOMES:
            self._counters["push_attempts_total"].labels(_agency(agency), outcome)
        self.push_waiting(agency, 0.0, 0)

    def pushed(self, agency: AgencyId, outcome: str) -> None:
        """An attempt to push a message ended."""
        outcome = outcome if outcome in PUSH_OUTCOMES else OTHER
        self._counters["push_attempts_total"].labels(_agency(agency), outcome).inc()

    def push_waiting(self, agency: AgencyId, oldest: float, state: int) -> None:
        """Age of the oldest message to push, in seconds; what the breaker lets through."""
        self._gauges["push_oldest_seconds"].labels(_agency(agency)).set(oldest)
        self._gauges["push_breaker"].labels(_agency(agency)).set(state)

    def add_folder(self, agency: AgencyId) -> None:
        """Begin the series of an agency that has a folder."""
        for outcome in FOLDER_OUTCOMES:
            self._counters["folder_files_total"].labels(_agency(agency), outcome)
        self.folder_waiting(agency, 0.0)

    def folder_file(self, agency: AgencyId, outcome: str) -> None:
        """A file was handled."""
        outcome = outcome if outcome in FOLDER_OUTCOMES else OTHER
        self._counters["folder_files_total"].labels(_agency(agency), outcome).inc()

    def folder_waiting(self, agency: AgencyId, oldest: float) -> None:
        """Age of the oldest file that waits to be taken, in seconds."""
        self._gauges["folder_oldest_seconds"].labels(_agency(agency)).set(oldest)

    # around the road

    def add_routes(self, templates: Iterable[str]) -> None:
        """Register the templates of the routes served, e.g. `/v1/messages/{id}`. Others count as `other`."""
        self._routes.update(templates)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """An HTTP request was answered. `route` is the template; a path would carry identifiers."""
        method = method if method in METHODS else OTHER
        route = route if route in self._routes else OTHER
        self._counters["http_requests_total"].labels(method, route, str(status)).inc()
        self._histograms["http_request_seconds"].labels(route).observe(seconds)

    def step(self, name: str, seconds: float) -> None:
        """A step of the road took so long."""
        (self._steps.get(name) or self._steps[OTHER]).observe(seconds)

    def commit(self, writes: int, seconds: float) -> None:
        """The store committed so many writes together. Called from the writer's thread."""
        self._histograms["store_batch_size"].observe(writes)
        self._histograms["store_commit_seconds"].observe(seconds)

    def ready(self, parts: Mapping[str, bool]) -> None:
        """Which parts can do their work."""
        for part, able in parts.items():
            self._gauges["ready"].labels(part).set(able)

    def keys_due(self, agency: AgencyId, what: Sequence[str]) -> None:
        """What is to be done with an agency's keys, once for each key."""
        for one in KEYS_DUE:
            self._gauges["keys_due"].labels(_agency(agency), one).set(what.count(one))

    def transport_up(self, connected: bool) -> None:
        """Whether the transport is usable."""
        self._gauges["transport_connected"].set(connected)

    def directory_expires(self, seconds: float) -> None:
        """Seconds until the directory expires."""
        self._gauges["directory_expires_seconds"].set(seconds)

    def exposition(self) -> tuple[bytes, str]:
        """What /metrics answers, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4


def _agency(agency: AgencyId) -> str:
    return agency if AGENCY_ID.fullmatch(agency) else OTHER
