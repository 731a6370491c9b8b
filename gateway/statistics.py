"""Statistics of answered queries by model, in Triton's format and as Prometheus metrics of the same events.

The time of a successful query is split completely: `compute_input` until its record is sent to Kafka, `queue` at the
selector and the worker, `compute_infer` in the model, and `compute_output` the rest, mainly the way of the result. All
four therefore have the same count. Only workers know how queries shared batches, so here each query counts as an
execution.
"""

import time
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

import msgspec
from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from gateway.model_directory import ServedModel
from schemas.errors import ErrorCode, QueryError, RefusalReason
from schemas.result import OK, Result

BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BUCKETS_NS: Final = tuple(int(bound * 1e9) for bound in BUCKETS_S)


class ModelStatistics(msgspec.Struct):
    """Statistics of one version of a model; times in ns."""

    name: str
    version: str
    success_count: int = 0
    inference_count: int = 0
    last_ms: int = 0
    success_ns: int = 0
    fail_ns: int = 0
    queue_ns: int = 0
    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0
    failures: dict[tuple[ErrorCode, RefusalReason | None], int] = {}
    buckets: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    """Numbers of answers by duration; the last bucket holds those above all bounds."""
    exemplars: dict[int, Exemplar] = {}
    """Last traced answer of each bucket."""

    def succeeded(
        self, result: Result, batch: int, input_ns: int, total_ns: int, exemplar: dict[str, str] | None = None
    ) -> None:
        """Count a result: `total_ns` since the request arrived, of which `input_ns` until it was sent.

        `exemplar` names the trace of a sampled query.
        """
        queue_ns = result.task_queue_ns + result.variant_queue_ns
        self.success_count += 1
        self.inference_count += batch
        self.success_ns += total_ns
        self.input_ns += input_ns
        self.queue_ns += queue_ns
        self.infer_ns += result.compute_ns
        # Times from clocks of several machines may sum to more than the total here.
        self.output_ns += max(total_ns - input_ns - queue_ns - result.compute_ns, 0)
        self.last_ms = time.time_ns() // 1_000_000
        self._count(total_ns, exemplar)

    def failed(self, error: QueryError, total_ns: int, exemplar: dict[str, str] | None = None) -> None:
        """Count an error."""
        key = error.code, error.reason
        self.failures[key] = self.failures.get(key, 0) + 1
        self.fail_ns += total_ns
        self._count(total_ns, exemplar)

    def _count(self, total_ns: int, exemplar: dict[str, str] | None) -> None:
        bucket = bisect_left(_BUCKETS_NS, total_ns)
        self.buckets[bucket] += 1
        if exemplar is not None:
            self.exemplars[bucket] = Exemplar(exemplar, total_ns / 1e9, time.time())

    def as_triton(self) -> dict[str, object]:
        """Return the statistics as an element of Triton's `model_stats`."""
        count = self.success_count
        return {
            "name": self.name,
            "version": self.version,
            "last_inference": self.last_ms,
            "inference_count": self.inference_count,
            "execution_count": count,
            "inference_stats": {
                "success": _pair(count, self.success_ns),
                "fail": _pair(sum(self.failures.values()), self.fail_ns),
                "queue": _pair(count, self.queue_ns),
                "compute_input": _pair(count, self.input_ns),
                "compute_infer": _pair(count, self.infer_ns),
                "compute_output": _pair(count, self.output_ns),
                "cache_hit": _pair(0, 0),
                "cache_miss": _pair(0, 0),
            },
            "batch_stats": [],
        }


class ModelStatisticsTable(Collector):
    """Statistics of all models requested since the start of the process; their number is bounded by the catalog.

    Prometheus collects from this table. Counting in Prometheus' own locked objects as well took as long as the check of
    a request.
    """

    def __init__(self, owner: str) -> None:
        self.owner = owner
        """Name of this process: other gateways on the same port have their own statistics."""
        self._kept: dict[tuple[str, str], ModelStatistics] = {}

    def register(self) -> None:
        """Show the statistics in `/metrics` until `unregister`."""
        REGISTRY.register(self)

    def unregister(self) -> None:
        """Remove the statistics from `/metrics`."""
        REGISTRY.unregister(self)

    def describe(self) -> list[Metric]:
        """Return no descriptions: several gateways in one process, as in tests, have metrics of the same names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics for Prometheus."""
        requests = CounterMetricFamily(
            "infaas_gateway_requests",
            "Queries answered over HTTP and gRPC",
            labels=["model", "version", "code", "reason"],
        )
        seconds = HistogramMetricFamily(
            "infaas_gateway_request_seconds",
            "Time from the request's headers to its answer",
            labels=["model", "version"],
        )
        for model in list(self._kept.values()):
            requests.add_metric([model.name, model.version, OK, ""], model.success_count)
            for (code, reason), count in list(model.failures.items()):
                requests.add_metric([model.name, model.version, code.value, reason or ""], count)
            seconds.add_metric([model.name, model.version], _cumulated(model), (model.success_ns + model.fail_ns) / 1e9)
        yield InfoMetricFamily("infaas_gateway", "The gateway process", value={"process": self.owner})
        yield requests
        yield seconds

    def of(self, model: ServedModel) -> ModelStatistics:
        """Return the statistics of a version of a model."""
        key = (model.name, model.version)
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = ModelStatistics(*key)
        return found


def _pair(count: int, ns: int) -> dict[str, int]:
    return {"count": count, "ns": ns}


def _cumulated(model: ModelStatistics) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
    total, found = 0, list[tuple[str, float] | tuple[str, float, Exemplar]]()
    for index, (bound, count) in enumerate(zip((*map(str, BUCKETS_S), "+Inf"), model.buckets, strict=True)):
        total += count
        exemplar = model.exemplars.get(index)
        found.append((bound, total) if exemplar is None else (bound, total, exemplar))
    return found
