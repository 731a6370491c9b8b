"""Decides the number of workers of each hardware type, and which workers leave.

Workers are added when load, pins or demands do not fit on the present ones, by the same objective as instances: the
cheapest type that serves. A starting worker counts, so that nothing is requested twice. Fewer are wanted after a delay
in proportion to the start time. Then the workers with the fewest instances drain, but only if all their instances fit
elsewhere. A worker that is disturbed for as long while others of its type are not drains, too, and the launcher starts
a replacement.
"""

from collections.abc import Sequence

import msgspec

from autoscaler.decide.optimizer.model import Allocation, AllocationProblem
from autoscaler.decide.snapshot import ClusterSnapshot, ScalingLimits, is_schedulable
from autoscaler.decide.stabilization import ScaleDownStabilizer
from schemas.names import number_of
from schemas.rows.cluster import WantedWorkers, WorkerRow


class PoolTarget(msgspec.Struct, frozen=True, kw_only=True):
    """Target for the workers of one hardware type that the launcher manages."""

    hardware: str
    wanted: int
    maximum: int
    reason: str
    leaving: tuple[str, ...] = ()
    """Workers to drain, the least useful first."""
    replaced: int = 0
    """Number of these, from the start, that are replaced by new workers."""
    there: int = 0


def pool_targets(
    problem: AllocationProblem,
    allocation: Allocation,
    busy: Sequence[float],
    snapshot: ClusterSnapshot,
    limits: ScalingLimits,
    stabilizer: ScaleDownStabilizer,
) -> list[PoolTarget]:
    """Return the targets of each hardware type of the launcher."""
    hardware_types = {hardware_type.name: hardware_type for hardware_type in snapshot.hardware}
    found = list[PoolTarget]()
    for number, pool in enumerate(problem.pools):
        hardware_type = hardware_types.get(pool.hardware)
        if hardware_type is None:
            continue
        delay_s = max(limits.downscale_delay_s, limits.worker_downscale_delay_starts * hardware_type.start_s)
        wanted = stabilizer.apply(f"workers {pool.hardware}", pool.now, allocation.workers[number], delay_s)
        wanted = max(min(wanted, pool.maximum), pool.minimum)
        there = [worker for worker in snapshot.workers if worker.hardware == pool.hardware and is_schedulable(worker)]
        ours = [worker for worker in there if worker.name not in hardware_type.others]
        ordered = _by_moves(ours, snapshot, highest_only=hardware_type.stops_highest)
        replaced = _disturbed(ours, snapshot, delay_s, stabilizer) if not hardware_type.stops_highest else []
        leaving = [*replaced, *(name for name in ordered if name not in replaced)]
        reason = f"load uses {busy[number]:.2g} slots of {pool.slots:g} each"
        if allocation.workers[number] <= pool.minimum:
            reason = f"minimum {pool.minimum}; {reason}"
        found.append(
            PoolTarget(
                hardware=pool.hardware,
                wanted=wanted,
                maximum=pool.maximum,
                reason=reason,
                leaving=tuple(leaving[: max(len(there) - wanted, 0) + len(replaced)]),
                replaced=len(replaced),
                there=len(there),
            )
        )
    return found


def worker_count_changes(
    targets: Sequence[PoolTarget], drained: Sequence[str], snapshot: ClusterSnapshot
) -> tuple[WantedWorkers, ...]:
    """Return the new numbers of workers, where they differ from the wanted ones.

    A worker whose instances fit nowhere else stays, but not beyond the maximum, which a person may have pinned.
    """
    found = list[WantedWorkers]()
    for target in targets:
        stay = sum(name not in drained for name in target.leaving[target.replaced :])
        count = min(target.wanted + stay, target.maximum) if target.there > target.wanted else target.wanted
        if count != snapshot.wanted_workers.get(target.hardware):
            found.append(WantedWorkers(hardware=target.hardware, count=count, reason=target.reason))
    return tuple(found)


def _by_moves(workers: Sequence[WorkerRow], snapshot: ClusterSnapshot, *, highest_only: bool) -> list[str]:
    """Return the workers in the order in which they leave: fewest instances first, then the lowest utilisation."""
    loads = {load.worker: load for load in snapshot.worker_loads}
    hosted = {worker.name: 0 for worker in workers}
    for row in snapshot.instances:
        if row.worker in hosted:
            hosted[row.worker] += 1

    def order(worker: WorkerRow) -> tuple[int, float, int]:
        load = loads.get(worker.name)
        used = 0.0 if load is None or highest_only else round(load.utilisation, 1)
        return 0 if highest_only else hosted[worker.name], used, -number_of(worker.name)

    return [worker.name for worker in sorted(workers, key=order)]


def _disturbed(
    workers: Sequence[WorkerRow], snapshot: ClusterSnapshot, delay_s: float, stabilizer: ScaleDownStabilizer
) -> list[str]:
    """Return at most one worker with a long disturbance that others of its type do not have; none while any drains."""
    disturbed = {load.worker for load in snapshot.worker_loads if load.interfered}
    names = [worker.name for worker in workers if worker.name in disturbed]
    for name in names:
        timer = f"disturbed {name}"
        if stabilizer.apply(timer, 1, 0, delay_s) == 0 and len(names) < len(workers):
            del stabilizer.surplus[timer]  # the next replacement waits as long
            return [name] if not any(worker.draining for worker in snapshot.workers) else []
    return []
