"""Time of a decision of the autoscaler by the number of workers, for 100 architectures of 12 variants each.

The cluster is that of `milp`, with the same load per worker at each size. First: the workers run and nothing is loaded,
so everything is placed. Steady: that decision is carried out, and the load of each class has changed by up to a fifth,
as in each second of a real run. Both use the heuristic, and count CPU time: building the problem, allocation,
placement.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import msgspec

from autoscaler.decide.decide import decide
from autoscaler.decide.plan import ScalePlan
from autoscaler.decide.snapshot import ClusterSnapshot, InstanceLoad, ScalingLimits, WorkerLoad
from bench.core.figures import Figure, within
from bench.scale.milp import HARDWARE, SyntheticCluster, changed_load, highest_load, synthetic_cluster
from schemas.rows.cluster import InstanceRow, WorkerRow
from schemas.status import InstanceState

WORKERS: Final = (10, 100, 200, 1_000)
ARCHITECTURES: Final = 100
_ROUNDS: Final = 3
_PROMISED_S: Final = 1.0
_REFERENCE: Final = 200
"""Number of workers that the load of `milp` is for."""
_LIMITS: Final = ScalingLimits()


async def measure() -> list[Figure]:
    """Measure all sizes; takes about a minute."""
    cluster = synthetic_cluster(ARCHITECTURES, seed=0)
    load = highest_load(cluster)
    return [figure for size in WORKERS for figure in _figures(cluster, load * size / _REFERENCE, size)]


def _figures(cluster: SyntheticCluster, load: float, size: int) -> list[Figure]:
    snapshot = with_workers(cluster.snapshot(load), size)
    ranking = cluster.ranking(snapshot)
    first_s, plan = _timed(lambda: decide(cluster.variants, ranking, snapshot, _LIMITS))
    steady = list[float]()
    for seed in range(_ROUNDS):
        after = changed_load(carried_out(snapshot, plan), seed)
        steady.append(_timed(lambda: decide(cluster.variants, ranking, after, _LIMITS))[0])  # noqa: B023 - called at once
    name = f"decide, {size} workers, {ARCHITECTURES} architectures"
    return [
        within(f"{name}: first", "none", first_s, "s", _PROMISED_S),
        within(f"{name}: steady", "none", steady, "s", _PROMISED_S),
    ]


def with_workers(snapshot: ClusterSnapshot, size: int) -> ClusterSnapshot:
    """Return the snapshot with `size` running workers, shared among the hardware types, and no room for more."""
    most = sum(one.maximum for one in HARDWARE)
    counts = {one.name: max(size * one.maximum // most, 1) for one in HARDWARE}
    workers = tuple(
        WorkerRow(
            name=f"{one.name}-{number}", hardware=one.name, device="", host="", slots=one.slots, threads=1,
            memory_bytes=one.memory_bytes, price_per_hour=one.price_per_hour, runtimes=one.runtimes, epoch=1,
            heartbeat_at=datetime.now(UTC),
        )
        for one in HARDWARE
        for number in range(counts[one.name])
    )  # fmt: skip
    hardware = tuple(msgspec.structs.replace(one, maximum=counts[one.name]) for one in HARDWARE)
    return msgspec.structs.replace(snapshot, workers=workers, hardware=hardware, wanted_workers=counts, observed_s=1e3)


def carried_out(snapshot: ClusterSnapshot, plan: ScalePlan) -> ClusterSnapshot:
    """Return the snapshot after the plan is carried out, with the loads that it would show."""
    rows = {(row.variant, row.worker): row for row in snapshot.instances}
    for change in plan.changes:
        if change.wanted is None:
            del rows[change.variant, change.worker]
        else:
            rows[change.variant, change.worker] = change.wanted
    drained = set(plan.drain)
    return msgspec.structs.replace(
        snapshot,
        workers=tuple(msgspec.structs.replace(w, draining=w.name in drained) for w in snapshot.workers),
        instances=tuple(msgspec.structs.replace(row, state=InstanceState.ACTIVE) for row in rows.values()),
        instance_loads=tuple(_load(row) for row in rows.values()),
        worker_loads=tuple(WorkerLoad(worker=w.name, utilisation=0.7, memory_used=0) for w in snapshot.workers),
        idle_s={row.variant: 0.5 for row in rows.values()},
        memory=plan.memory,
        wanted_workers=snapshot.wanted_workers | {change.hardware: change.count for change in plan.workers},
    )


def _load(row: InstanceRow) -> InstanceLoad:
    return InstanceLoad(variant=row.variant, worker=row.worker, state=InstanceState.ACTIVE, inputs_per_s=1.0)


def _timed(work: Callable[[], ScalePlan]) -> tuple[float, ScalePlan]:
    began = time.process_time()
    plan = work()
    return time.process_time() - began, plan
