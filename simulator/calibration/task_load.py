"""Load of one task relative to the capacity of a fleet, from the profiles of the task's variants.

The models, not the services or the client program, should be the bottleneck. So queries need the least accuracy for
which even the fastest variant takes some time, and hold as many inputs as that takes. If all variants of a task are
too fast for that, its rate is limited to one that a client program can send on time.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from runtimes.catalog import is_concurrent
from schemas.errors import OperatorError
from schemas.hardware import slots_taken
from schemas.latency import LatencyModel
from simulator.catalogue import Catalogue, CatalogueHardware, CatalogueVariant
from simulator.trace import QueryKind
from workers.slots.footprint import footprint_in

_QUERY_S: Final = 0.02
"""Seconds of computation that a query should take."""
_MOSTLY: Final = 0.7
"""Share of `_QUERY_S` that suffices."""
_MOST_PER_S: Final = 100.0
"""Most queries per second for each worker."""
_SLACK: Final = 12.0
"""Latency objective over the computation of a query."""
_LEAST_LATENCY_MS: Final = 250.0
_STEP_MS: Final = 50.0


class TaskLoad(NamedTuple):
    """Queries of a task, and the rate of them that a fleet can just answer."""

    kind: QueryKind
    query_s: float
    """Seconds that its fastest variant computes."""
    per_s: float
    """Queries per second."""


def task_loads(catalogue: Catalogue, fleet: Mapping[str, int], tasks: Sequence[str] = ()) -> list[TaskLoad]:
    """Return the load of each task, the task of the slowest queries first.

    Args:
        catalogue: variants and hardware.
        fleet: number of workers by hardware.
        tasks: tasks to load; empty: all.

    Raises:
        OperatorError: a task is unknown, or no task has a variant on the fleet.
    """
    known = dict.fromkeys(one.task for one in catalogue.variants)
    if unknown := sorted(set(tasks) - known.keys()):
        raise OperatorError(f"no ready variant of the task {unknown[0]}: `infaas tasks` lists the tasks")
    loads = [
        _load(
            task, [one for one in catalogue.variants if one.task == task and fleet.get(one.hardware)], catalogue, fleet
        )
        for task in tasks or known
    ]
    found = [one for one in loads if one is not None]
    if not found:
        raise OperatorError("no variant is registered for the running workers: register a model first")
    return sorted(found, key=lambda load: (-load.query_s, load.kind.task))


def _load(
    task: str, variants: Sequence[CatalogueVariant], catalogue: Catalogue, fleet: Mapping[str, int]
) -> TaskLoad | None:
    if not variants:
        return None
    least = _needed_accuracy(variants)
    suited = [one for one in variants if one.accuracy >= least]
    hardware = {one.name: one for one in catalogue.hardware}
    largest = min(one.max_batch for one in suited)
    batch = max(min(round(_QUERY_S / min(map(_input_s, suited))), largest), 1)
    per_s = sum(
        count * max((_queries_per_s(one, hardware[name], batch) for one in suited if one.hardware == name), default=0.0)
        for name, count in fleet.items()
    )
    query_s = min(_batch_s(one, batch) for one in suited)
    latency_ms = max(round(_SLACK * 1e3 * query_s / _STEP_MS) * _STEP_MS, _LEAST_LATENCY_MS)
    kind = QueryKind(task=task, latency_ms=latency_ms, min_accuracy=least, batch=batch)
    return TaskLoad(kind, query_s, min(per_s, _MOST_PER_S * sum(fleet.values())))


def _needed_accuracy(variants: Sequence[CatalogueVariant]) -> float:
    """Return the least accuracy for which the largest batch takes long enough, or the highest accuracy."""
    levels = sorted({one.accuracy for one in variants})
    for level in levels:
        suited = [one for one in variants if one.accuracy >= level]
        largest = min(one.max_batch for one in suited)
        if min(_batch_s(one, largest) for one in suited) >= _MOSTLY * _QUERY_S:
            return level
    return levels[-1]


def _batch_s(variant: CatalogueVariant, inputs: int) -> float:
    return LatencyModel(variant.latency, variant.max_batch).batch_s(inputs)


def _input_s(variant: CatalogueVariant) -> float:
    return min(point.p50_s / point.batch for point in variant.latency)


def _queries_per_s(variant: CatalogueVariant, hardware: CatalogueHardware, batch: int) -> float:
    model = LatencyModel(variant.latency, variant.max_batch)
    taken = slots_taken(hardware.name, variant.threads, hardware.threads)
    footprint = footprint_in(hardware.slots, taken, is_concurrent=is_concurrent(variant.runtime))
    queries = max(variant.max_batch // batch, 1)
    return footprint.parallel * queries / model.batch_s(queries * batch)
