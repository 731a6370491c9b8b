"""Metrics of a selector for Prometheus.

Hot path: a query adds to plain counters found by one key, which are published periodically.
"""

from collections import Counter
from typing import Final

import prometheus_client as prometheus

from schemas.errors import RefusalReason
from selector.policy.cluster_state import ClusterState

_DECISIONS: Final = prometheus.Counter(
    "infaas_selector_decisions_total",
    "Queries decided on, by outcome, and by reason if they were refused.",
    ["task", "outcome", "reason"],
)
_VERSIONS: Final = prometheus.Counter(
    "infaas_selector_version_queries_total",
    "Queries given to a version of a model that has several: to be answered, or as copies.",
    ["model", "version", "outcome"],
)
_SECONDS: Final = prometheus.Histogram(
    "infaas_selector_decision_seconds",
    "Time to read, decide on and forward a query: the mean of each batch.",
    buckets=(5e-6, 1e-5, 2e-5, 4e-5, 8e-5, 1.6e-4, 3.2e-4, 6.4e-4, 1.28e-3, 1e-2),
)
_STATUS_DELAY: Final = prometheus.Histogram(
    "infaas_selector_status_delay_seconds",
    "Time from the making of a worker's status to its use.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
)
_IN_FLIGHT: Final = prometheus.Gauge("infaas_selector_in_flight_queries", "Queries taken and not yet acknowledged.")
_HELD: Final = prometheus.Gauge(
    "infaas_selector_held_queries", "Offline queries that were read and wait for an idle instance."
)
_BACKLOG: Final = prometheus.Gauge(
    "infaas_selector_backlog_inputs",
    "Inputs that wait for, or are computed by, the instances of a variant.",
    ["variant"],
)


class SelectorMetrics:
    """Metrics of one selector."""

    def __init__(self) -> None:
        self._decisions: Counter[tuple[str, str, str]] = Counter()
        self._versions: Counter[tuple[str, str]] = Counter()
        self._backlog: dict[str, int] = {}
        """Backlog by variant, as last published."""

    def decided(self, task: str, outcome: str, reason: RefusalReason | None = None) -> None:
        """Count a query: forwarded (`serving`, `upgraded`, `loading`), `moved`, or refused (code and reason)."""
        self._decisions[task, outcome, reason or ""] += 1

    def given_to_version(self, version: str, outcome: str) -> None:
        """Count a query that a version, such as `model@2`, must answer (`answered`) or got as a copy (`copied`)."""
        self._versions[version, outcome] += 1

    def batch_decided(self, queries: int, seconds: float) -> None:
        """Record the time of a batch of queries."""
        _SECONDS.observe(seconds / queries)

    def status_used(self, delay_s: float) -> None:
        """Record the age of a worker's status."""
        _STATUS_DELAY.observe(delay_s)

    def publish(self, state: ClusterState, in_flight: int, held: int, now: float) -> None:
        """Transfer the counters and the present state to Prometheus."""
        for labels, count in self._decisions.items():
            _DECISIONS.labels(*labels).inc(count)
        self._decisions.clear()
        for (version, outcome), count in self._versions.items():
            model, _, number = version.partition("@")
            _VERSIONS.labels(model, number, outcome).inc(count)
        self._versions.clear()
        _IN_FLIGHT.set(in_flight)
        _HELD.set(held)
        backlog: Counter[str] = Counter()
        for worker in state.workers.values():
            for name, instance in worker.instances.items():
                backlog[name] += round(instance.waiting(now) + instance.offline_inputs)
        if backlog.keys() != self._backlog.keys():
            _BACKLOG.clear()
            self._backlog = {}
        for name, inputs in backlog.items():
            if self._backlog.get(name) != inputs:
                _BACKLOG.labels(name).set(inputs)
        self._backlog = dict(backlog)
