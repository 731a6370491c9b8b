"""Loads on which fleets are compared: tasks whose peaks do not meet, and a published trace.

Accuracy needs differ within a task: some queries are content with a fast variant, others need the accurate one. Queries
have many inputs, so that computation dominates the overhead of a query. The rates of the first load derive from the
profiles measured on this machine: at its peak a task needs `_PEAK` cores, and otherwise `_BASE`. The machine's two
cores also run Kafka, Postgres, the services and the client, so a peak cannot be much higher. A worker has one slot of
one core: one worker suffices between the peaks, and two at a peak.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Final

from msgspec.structs import replace

from schemas.latency import LatencyModel
from simulator.catalogue import Catalogue
from simulator.trace import QueryKind, Trace
from simulator.workloads.flash_crowd import FlashCrowd
from simulator.workloads.mix import KindTemplate, Mix
from simulator.workloads.published import AzureCode
from simulator.workloads.workload import QueryStream, Workload, generate


def _kind(task: str, batch: int, latency_ms: float, min_accuracy: float) -> KindTemplate:
    return KindTemplate(task=task, batch=batch, latency_ms=latency_ms, min_accuracy=min_accuracy)


_KINDS: Final[Mapping[str, Sequence[KindTemplate]]] = {
    "sentiment": [
        _kind("sentiment", 8, 120, 0.80),
        _kind("sentiment", 8, 200, 0.85),
        _kind("sentiment", 8, 200, 0.865),
    ],
    "mnist-image": [_kind("mnist-image", 256, 200, 0.97), _kind("mnist-image", 256, 200, 0.98)],
    "sentiment-text": [_kind("sentiment-text", 8, 120, 0.80), *[_kind("sentiment-text", 8, 200, 0.87)] * 2],
}
"""Queries of each task, equally frequent."""
TASKS: Final = tuple(_KINDS)
_BASE: Final = 0.04
_PEAK: Final = 0.85
_RISE: Final = 1 / 20
"""Length of the rise to a peak, and of the fall, as a share of the load's."""
_HOLD: Final = 1 / 20
_SPEED: Final = 10.0
_PATIENCE: Final = 5.0
"""Factor of the latencies on the published trace, whose bursts are shorter than any start of a worker."""
_SEED: Final = 0


def all_kinds() -> list[QueryKind]:
    """Return every kind of query."""
    return [template.kind(None, None) for templates in _KINDS.values() for template in templates]


def peaks_in_turn(catalogue: Catalogue, seconds: float) -> Trace:
    """Return a load in which one task after the other has its peak."""
    streams: list[QueryStream] = []
    for number, templates in enumerate(_KINDS.values()):
        compute_s = fmean(_compute_s(template, catalogue) for template in templates)
        middle_s = seconds * (number + 0.5) / len(_KINDS)
        arrivals = FlashCrowd(
            rate=_BASE / compute_s,
            factor=_PEAK / _BASE,
            at=middle_s - seconds * (_HOLD / 2 + _RISE),
            rise=seconds * _RISE,
            hold=seconds * _HOLD,
            fall=seconds * _RISE,
        )
        streams.append(QueryStream(arrivals=arrivals, seconds=seconds, mix=Mix(kinds=tuple(templates))))
    return generate(Workload(streams=tuple(streams)), _SEED)


def azure_code(_catalogue: Catalogue, seconds: float) -> Trace:
    """Return the beginning of the code completions of the Azure LLM inference trace 2023 at ten times its speed."""
    kinds = tuple(
        replace(template, latency_ms=(template.latency_ms or 0.0) * _PATIENCE, weight=1 / len(templates))
        for templates in _KINDS.values()
        for template in templates
    )
    stream = QueryStream(arrivals=AzureCode(), seconds=seconds, speed=_SPEED, mix=Mix(kinds=kinds))
    return generate(Workload(streams=(stream,)), _SEED)


def _compute_s(kind: QueryKind, catalogue: Catalogue) -> float:
    """Return the seconds that the fastest variant takes that is accurate enough."""
    return min(
        LatencyModel(variant.latency, variant.max_batch).batch_s(kind.batch)
        for variant in catalogue.variants
        if variant.task == kind.task and variant.accuracy >= (kind.min_accuracy or 0.0)
    )
