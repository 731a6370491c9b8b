"""How many workers of each hardware type, and which of them go.

Workers are wished for when the load, pins or demands do not fit on those there are, by the same objective as instances:
the cheapest type that serves. A worker that is being started counts as there, so nothing is asked for twice. Fewer are
wanted after a delay in proportion to their start time; then those drain that have the least to move, and only if they
can be emptied: a worker that serves what fits nowhere else stays. One that has been disturbed for long while others of
its type are not drains too, and the launcher starts another in its place.
"""

from collections.abc import Sequence

import msgspec

from autoscaler.decide.optimizer.model import Allocation, AllocationProblem
from autoscaler.decide.plan import WorkerCountChange
from autoscaler.decide.requirements import is_open
from autoscaler.decide.snapshot import ClusterSnapshot, ScalingLimits
from autoscaler.decide.stabilization import ScaleDownStabilizer
from schemas.rows.placement import WorkerRow
from schemas.worker_names import number_of


class PoolTarget(msgspec.Struct, frozen=True, kw_only=True):
    """The workers of one hardware type that the launcher manages."""

    hardware: str
    wanted: int
    reason: str
    leaving: tuple[str, ...] = ()
    """Those that should drain, the least useful first."""
    replaced: int = 0
    """Of those, the first ones that another will take the place of."""
    there: int = 0


def pool_targets(
    problem: AllocationProblem,
    answer: Allocation,
    busy: Sequence[float],
    situation: ClusterSnapshot,
    limits: ScalingLimits,
    damper: ScaleDownStabilizer,
) -> list[PoolTarget]:
    """What each hardware type of the launcher should have."""
    types = {kind.name: kind for kind in situation.hardware}
    found = list[PoolTarget]()
    for number, pool in enumerate(problem.pools):
        kind = types.get(pool.hardware)
        if kind is None:
            continue
        delay_s = max(limits.worker_downscale_delay_s, limits.worker_downscale_delay_starts * kind.start_s)
        wanted = damper.apply(f"workers {pool.hardware}", pool.now, answer.workers[number], delay_s)
        wanted = max(min(wanted, pool.maximum), pool.minimum)
        there = [worker for worker in situation.workers if worker.hardware == pool.hardware and is_open(worker)]
        ordered = _by_moves(there, situation, highest_only=kind.stops_highest)
        replaced = _disturbed(there, situation, limits, damper) if not kind.stops_highest else []
        leaving = [*replaced, *(name for name in ordered if name not in replaced)]
        reason = f"the load takes {busy[number]:.2g} slots of {pool.slots:g} each"
        if answer.workers[number] <= pool.minimum:
            reason = f"at least {pool.minimum} shall be there; {reason}"
        found.append(
            PoolTarget(
                hardware=pool.hardware,
                wanted=wanted,
                reason=reason,
                leaving=tuple(leaving[: max(len(there) - wanted, 0) + len(replaced)]),
                replaced=len(replaced),
                there=len(there),
            )
        )
    return found


def worker_count_changes(
    pool_targets: Sequence[PoolTarget], drained: Sequence[str], situation: ClusterSnapshot
) -> tuple[WorkerCountChange, ...]:
    """The numbers to wish for, where they differ from those wished for so far."""
    found = list[WorkerCountChange]()
    for crew in pool_targets:
        stay = sum(name not in drained for name in crew.leaving[crew.replaced :])
        count = crew.wanted + stay if crew.there > crew.wanted else crew.wanted
        if count != situation.wanted_workers.get(crew.hardware):
            found.append(WorkerCountChange(hardware=crew.hardware, count=count, reason=crew.reason))
    return tuple(found)


def _by_moves(workers: Sequence[WorkerRow], situation: ClusterSnapshot, *, highest_only: bool) -> list[str]:
    """First those with the fewest instances that would have to move, of equal ones the least used."""
    loads = {load.worker: load for load in situation.worker_loads}
    hosted = {worker.name: 0 for worker in workers}
    for row in situation.instances:
        if row.worker in hosted:
            hosted[row.worker] += 1

    def order(worker: WorkerRow) -> tuple[int, float, int]:
        load = loads.get(worker.name)
        used = 0.0 if load is None or highest_only else round(load.utilisation, 1)
        return 0 if highest_only else hosted[worker.name], used, -number_of(worker.name)

    return [worker.name for worker in sorted(workers, key=order)]


def _disturbed(
    workers: Sequence[WorkerRow], situation: ClusterSnapshot, limits: ScalingLimits, damper: ScaleDownStabilizer
) -> list[str]:
    """At most one that has been disturbed for long while others are not, and none while another drains."""
    disturbed = {load.worker for load in situation.worker_loads if load.interfered}
    names = [worker.name for worker in workers if worker.name in disturbed]
    for name in names:
        if damper.apply(f"disturbed {name}", 1, 0, limits.disturbed_s) == 0 and len(names) < len(workers):
            return [name] if not any(worker.draining for worker in situation.workers) else []
    return []
