"""What must be served, and by what it can be: the load and the pins of a situation as a problem in numbers.

A variant may serve a needs class if it is as accurate as asked, is the target if one is named, and is fast enough: a
query finds its slot busy with one batch, waits for it, and is computed in the next. So two batches within the latency
allow the slot to be busy all the time, one alone hardly any of it, and in between is in proportion. Of the batch sizes
that a latency allows, the one of the highest throughput counts. Times are those profiled, times the slowdown measured.

The rate of a class is that of its busiest recent second: load that rises is believed at once, and what falls is
forgotten after the window. It grows by what is forecast, and by what a backlog needs to be worked off.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Final, NamedTuple

from autoscaler.decide.forecast import growth
from autoscaler.decide.optimizer.model import AllocationProblem, Requirement, ServingOption, VariantSpec, WorkerPool
from autoscaler.decide.pareto import RunnableVariant, VariantRanking
from autoscaler.decide.snapshot import ClassLoad, ClusterSnapshot, ScalingLimits
from schemas.latency import LatencyModel
from schemas.load_classes import LoadClass
from schemas.rows.placement import WorkerRow

_PENALTY: Final = 100.0
"""Prices of the dearest worker, for each worker's worth of load that is not served."""
_OFFLINE_PENALTY: Final = 2.0
_BUCKET: Final = math.sqrt(2)
_LEAST_BUSY: Final = 0.1
_MOST_SLOWDOWN: Final = 4.0
_MOST_GROWN: Final = 8.0


def build_problem(ranking: VariantRanking, situation: ClusterSnapshot, limits: ScalingLimits) -> AllocationProblem:
    """The problem that `situation` poses."""
    pools = _pools(situation, limits)
    index = {pool.hardware: number for number, pool in enumerate(pools)}
    candidates = [c for c in ranking.candidates.values() if c.variant.hardware in index]
    kinds = _kinds(candidates, pools, index, situation, limits)
    return AllocationProblem(
        kinds=kinds,
        pools=pools,
        needs=tuple(_RequirementBuilder(candidates, kinds, pools, situation, limits).all()),
        task_maximum={b.name: b.maximum for b in situation.bounds if b.kind == "task" and b.maximum is not None},
    )


def is_open(worker: WorkerRow) -> bool:
    """Whether it may be given something new."""
    return worker.alive and not worker.draining


def idle_tasks(ranking: VariantRanking, situation: ClusterSnapshot, limits: ScalingLimits) -> set[str]:
    """Tasks that nobody has asked for in so long that they are unloaded."""
    idle_s: defaultdict[str, float] = defaultdict(lambda: math.inf)
    for candidate in ranking.candidates.values():
        task = candidate.variant.task
        idle_s[task] = min(idle_s[task], situation.idle_of(candidate.name))
    loaded = {load.load_class.task for load in situation.classes if load.inputs_per_s > 0}
    return {task for task, seconds in idle_s.items() if seconds > limits.scale_to_zero_delay_s and task not in loaded}


class SlotThroughput(NamedTuple):
    """What a slot can do."""

    rate: float
    """Inputs a second."""
    batch: int
    """By batches of so many."""


def best_throughput(latency: LatencyModel, budget_s: float, slowdown: float, mean_batch: float) -> SlotThroughput:
    """The most that a slot can serve so that each input is answered within `budget_s`; 0 if none is."""
    best, batch = SlotThroughput(0.0, 0), max(math.ceil(mean_batch), 1)
    while True:
        batch_s = max(latency.batch_s(batch) * slowdown, 1e-9)
        if batch_s <= budget_s:
            busy = min(max(budget_s / batch_s - 1.0, _LEAST_BUSY), 1.0)
            best = max(best, SlotThroughput(busy * batch / batch_s, batch))
        if batch >= latency.max_batch:
            return best
        batch = min(batch * 2, latency.max_batch)


# -- workers and variants ----------------------------------------------------------------------------------------------


def _pools(situation: ClusterSnapshot, limits: ScalingLimits) -> tuple[WorkerPool, ...]:
    workers: defaultdict[str, list[WorkerRow]] = defaultdict(list)
    for worker in situation.workers:
        if is_open(worker):
            workers[worker.hardware].append(worker)
    types = {kind.name: kind for kind in situation.hardware}
    bounds = {bound.name: bound for bound in situation.bounds if bound.kind == "hardware"}
    cheapest = min(situation.hardware, key=lambda kind: (kind.price_per_hour, kind.name), default=None)
    pools = list[WorkerPool]()
    for name in sorted(workers.keys() | types.keys()):
        there, kind, bound = workers[name], types.get(name), bounds.get(name)
        now = minimum = maximum = len(there)
        if kind is not None:
            now = max(now, situation.wanted_workers.get(name, 0))
            maximum = kind.maximum if bound is None or bound.maximum is None else min(kind.maximum, bound.maximum)
            minimum = bound.minimum if bound is not None and bound.minimum is not None else int(kind is cheapest)
            minimum = min(minimum, maximum)
        sizes = there or ([kind] if kind else [])
        slots = fmean(worker.slots for worker in sizes)
        price = fmean(worker.price_per_hour for worker in sizes)
        pools.append(
            WorkerPool(
                hardware=name,
                price=price,
                start=price * limits.start_weight_per_s * (kind.start_s if kind else 0.0),
                slots=slots,
                memory_bytes=fmean(worker.memory_bytes for worker in sizes) * limits.memory_share,
                places=slots * limits.instances_per_slot,
                now=now,
                minimum=minimum,
                maximum=max(maximum, minimum),
            )
        )
    return tuple(pools)


def _kinds(
    candidates: Sequence[RunnableVariant],
    pools: Sequence[WorkerPool],
    index: Mapping[str, int],
    situation: ClusterSnapshot,
    limits: ScalingLimits,
) -> tuple[VariantSpec, ...]:
    open_workers = {worker.name for worker in situation.workers if is_open(worker)}
    counts: defaultdict[str, int] = defaultdict(int)
    for row in situation.instances:
        counts[row.variant] += row.worker in open_workers
    pinned = {b.name: b.maximum for b in situation.bounds if b.kind == "variant" and b.maximum is not None}
    kinds = list[VariantSpec]()
    for candidate in candidates:
        pool = pools[index[candidate.variant.hardware]]
        hold = limits.share_weight * pool.price * candidate.memory_bytes / max(pool.memory_bytes, 1)
        maximum = pool.maximum if situation.can_add_partitions else min(pool.maximum, candidate.variant.partitions)
        kinds.append(
            VariantSpec(
                name=candidate.name,
                task=candidate.variant.task,
                pool=index[candidate.variant.hardware],
                memory_bytes=candidate.memory_bytes,
                hold=hold,
                load=hold * limits.load_weight_per_s * candidate.load_s,
                now=counts[candidate.name],
                maximum=min(maximum, pinned.get(candidate.name, maximum)),
            )
        )
    return tuple(kinds)


# -- needs -------------------------------------------------------------------------------------------------------------


class _RequirementBuilder:
    """All needs of a situation."""

    def __init__(
        self,
        candidates: Sequence[RunnableVariant],
        kinds: Sequence[VariantSpec],
        pools: Sequence[WorkerPool],
        situation: ClusterSnapshot,
        limits: ScalingLimits,
    ) -> None:
        self.kinds = kinds
        self.pools = pools
        self.situation = situation
        self.limits = limits
        self.slowdowns = _Slowdowns(candidates, situation)
        self.dearest = max((pool.price for pool in pools), default=0.0) or 1.0
        self.by_task: defaultdict[str, list[tuple[int, RunnableVariant]]] = defaultdict(list)
        for number, candidate in enumerate(candidates):
            self.by_task[candidate.variant.task].append((number, candidate))

    def all(self) -> list[Requirement]:
        """Those with load first."""
        needs = self.loads()
        for bound in self.situation.bounds:
            if bound.minimum and bound.kind != "hardware":
                needs += self.presence(bound.kind, bound.name, bound.minimum)
        for variant, age_s in sorted(self.situation.demand_age_s.items()):
            if age_s <= self.limits.demand_s:
                needs += self.presence("variant", variant, 1)
        return needs

    def presence(self, kind: str, name: str, minimum: int) -> list[Requirement]:
        """Instances that must be there whatever the load; of a task, all of one variant."""
        options = tuple(
            ServingOption(kind=number, floor=minimum)
            for number, found in enumerate(self.kinds)
            if (found.name if kind == "variant" else found.task) == name
        )
        task = self.kinds[options[0].kind].task if options else name
        return [Requirement(task=task, options=options, penalty=_PENALTY * self.dearest)] if options else []

    def loads(self) -> list[Requirement]:
        """One for each class that somebody can serve."""
        rates = self.rates()
        needs = (self.load(load, rate) for load, rate in zip(self.situation.classes, rates, strict=True) if rate > 0)
        return [need for need in needs if need is not None]

    def rates(self) -> list[float]:
        """Inputs a second of each class."""
        classes = self.situation.classes
        present: defaultdict[str, float] = defaultdict(float)
        for load in classes:
            present[load.load_class.task] += load.inputs_per_s
        behind = self.backlogs()
        factors = {task: self.factor(task, rate, behind[task]) for task, rate in present.items() if rate > 0}
        return [max(load.inputs_per_s * factors.get(load.load_class.task, 1.0), _peak(load)) for load in classes]

    def factor(self, task: str, present: float, behind: float) -> float:
        """What the present rate is multiplied by for what is to come and for the inputs that wait."""
        grown = growth(self.situation.history.get(task, ()), self.horizon_s(task), present)
        return min(grown + behind / self.limits.catch_up_s / present, _MOST_GROWN)

    def horizon_s(self, task: str) -> float:
        """How long new capacity takes: the slowest to load among the task's, on the slowest to start of the workers."""
        load_s = max((candidate.load_s for _, candidate in self.by_task[task]), default=0.0)
        return load_s + max((kind.start_s for kind in self.situation.hardware), default=0.0)

    def backlogs(self) -> defaultdict[str, float]:
        """Inputs that wait at instances, by task."""
        tasks = {kind.name: kind.task for kind in self.kinds}
        behind: defaultdict[str, float] = defaultdict(float)
        for load in self.situation.instance_loads:
            if load.lag_s is not None and load.lag_s > self.limits.default_latency_s and load.variant in tasks:
                behind[tasks[load.variant]] += load.backlog_inputs
        return behind

    def load(self, load: ClassLoad, rate: float) -> Requirement | None:
        """The need of a class; None if nobody could serve it."""
        wanted = load.load_class
        meeting = [(n, c) for n, c in self.by_task[wanted.task] if _meets(c, wanted)]
        asked_s = self.asked_s(wanted)
        budget_s = max(asked_s - self.limits.hop_s, asked_s / 2)
        paces = self.paces(meeting, budget_s, load.mean_batch)
        if not paces:  # the class holds latencies up to its upper edge
            paces = self.paces(meeting, asked_s * _BUCKET, load.mean_batch)
        if not paces:
            return None
        best = max(candidate.accuracy for _, candidate, _ in paces)
        options = tuple(self.option(number, candidate, pace, rate, best) for number, candidate, pace in paces)
        workers = max(min(o.slots / self.pools[self.kinds[o.kind].pool].slots for o in options), 1.0)
        weight = _OFFLINE_PENALTY if wanted.offline else _PENALTY
        dearest = max(option.slot_cost + option.loss_cost for option in options)  # never is it better not to answer
        return Requirement(
            task=wanted.task,
            options=options,
            penalty=weight * self.dearest * workers + 2 * dearest,
            rate=rate,
            load_class=wanted,
        )

    def asked_s(self, wanted: LoadClass) -> float:
        """Latency that is asked for, or taken for granted."""
        if wanted.offline:
            return math.inf
        return self.limits.default_latency_s if wanted.latency_ms is None else wanted.latency_ms / 1000

    def paces(
        self, meeting: Sequence[tuple[int, RunnableVariant]], budget_s: float, mean_batch: float
    ) -> list[tuple[int, RunnableVariant, SlotThroughput]]:
        """Those that are fast enough, and what a slot of each can do now, by the batches that the profile says."""
        found = list[tuple[int, RunnableVariant, SlotThroughput]]()
        for number, candidate in meeting:
            slowdown = self.slowdowns.of(candidate)
            profiled = best_throughput(candidate.latency, budget_s, 1.0, mean_batch)
            now = profiled if slowdown == 1.0 else best_throughput(candidate.latency, budget_s, slowdown, mean_batch)
            if now.rate:
                found.append((number, candidate, SlotThroughput(now.rate, profiled.batch)))
        return found

    def option(
        self, number: int, candidate: RunnableVariant, pace: SlotThroughput, rate: float, best: float
    ) -> ServingOption:
        """Of `rate` inputs a second."""
        pool = self.pools[self.kinds[number].pool]
        slots = rate / pace.rate * self.limits.headroom
        return ServingOption(
            kind=number,
            slots=slots,
            batch=pace.batch,
            slot_cost=slots * self.limits.share_weight * pool.price / pool.slots,
            loss_cost=rate * 3.6 * self.limits.accuracy_price * (best - candidate.accuracy),
        )


class _Slowdowns:
    """How much slower than profiled each variant computes: as measured, and at least as others on its hardware do.

    What is measured counts as much as the time it was measured in: a batch now and then says little.
    """

    def __init__(self, candidates: Sequence[RunnableVariant], situation: ClusterSnapshot) -> None:
        known = {candidate.name: candidate for candidate in candidates}
        slowdowns: defaultdict[str, list[float]] = defaultdict(list)
        busy: defaultdict[str, list[float]] = defaultdict(list)
        for load in situation.instance_loads:
            if load.variant in known and load.inputs_per_s > 0:
                candidate = known[load.variant]
                slowdown = min(max(load.slowdown, 1.0), _MOST_SLOWDOWN)
                slots = load.inputs_per_s * candidate.latency.input_s()
                for name in (candidate.name, candidate.variant.hardware):
                    slowdowns[name].append(slowdown)
                    busy[name].append(slots)
        self.means = {name: fmean(found, busy[name]) for name, found in slowdowns.items()}

    def of(self, candidate: RunnableVariant) -> float:
        """At least 1."""
        return max(self.means.get(candidate.name, 1.0), self.means.get(candidate.variant.hardware, 1.0))


def _peak(load: ClassLoad) -> float:
    """Offline queries wait for idle time, so that their mean is enough."""
    return load.inputs_per_s if load.load_class.offline else max(load.peak_per_s, load.inputs_per_s)


def _meets(candidate: RunnableVariant, wanted: LoadClass) -> bool:
    is_target = wanted.target is None or wanted.target in (candidate.name, candidate.variant.architecture)
    return is_target and candidate.accuracy >= wanted.min_accuracy
