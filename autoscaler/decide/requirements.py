"""Turns load, pins and demands of a snapshot into requirements with their serving options.

A variant may serve a load class if it is accurate enough, matches the target if one is named, and is fast enough. A
query may find its slot busy with one batch and is computed in the next. So a latency of two batches allows a slot that
is always busy, a latency of one batch an almost idle slot, and the share in between is linear. Of the batch sizes that
fit the latency, the one with the highest throughput counts. Times are profiled times multiplied by the measured
slowdown. Generative answers are counted by their tokens, and begin beside others without waiting for a batch; without a
latency their first token is due, not their last.

A variant that not all tenants may use serves only permitted tenants: load is counted by class of tenants, and is
planned on the variants that the class may use.

The rate of a class is its mean, multiplied by the forecast growth, or that of a busy recent second less the noise of
arrivals, so a rise counts at once and a fall after the window. Headroom falls with the slots that all load keeps
busy (`throughput.headroom_of`).

A backlog is a requirement of its own, even if nothing arrives any more. An online backlog is load that works it off
within seconds. An offline backlog asks for new capacity only if it would otherwise take hours (`offline_drain_s`) or
miss its deadline (`offline_rate`), with a penalty far below that of online queries, so these get the memory first.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Final, TypeAlias

import msgspec

from autoscaler.decide.expected_load import canary_loads, candidate_targets, expected_rate, growth
from autoscaler.decide.offline_rate import offline_rate
from autoscaler.decide.optimizer.model import AllocationProblem, Requirement, ServingOption, VariantSpec, WorkerPool
from autoscaler.decide.pareto import RunnableVariant, VariantRanking
from autoscaler.decide.snapshot import Backlog, ClassLoad, ClusterSnapshot, ScalingLimits, is_schedulable
from autoscaler.decide.throughput import PresentThroughputs, SlotThroughput, headroom_of
from process.security.access import includes
from schemas.load_classes import LoadClass
from schemas.rows.cluster import PinKind, WorkerRow
from schemas.status import InstanceState

_PENALTY: Final = 100.0
"""Penalty for each unserved worker's worth of load, in prices of the dearest worker."""
_OFFLINE_PENALTY: Final = 2.0
_BUCKET: Final = math.sqrt(2)
_Throughputs: TypeAlias = Sequence[tuple[int, RunnableVariant, SlotThroughput]]
"""Variants by their number in the problem, each with the throughput of a slot."""


def build_problem(ranking: VariantRanking, snapshot: ClusterSnapshot, limits: ScalingLimits) -> AllocationProblem:
    """Build the allocation problem of a snapshot."""
    pools = _pools(snapshot, limits)
    index = {pool.hardware: number for number, pool in enumerate(pools)}
    candidates = [c for c in ranking.candidates.values() if c.variant.hardware in index]
    variants = _variant_specs(candidates, pools, index, snapshot, limits)
    requirements = tuple(_RequirementBuilder(candidates, variants, pools, snapshot, limits).all())
    return AllocationProblem(
        variants=variants,
        pools=pools if requirements else _with_one_worker(pools, snapshot),
        requirements=requirements,
        task_maximum={b.name: b.maximum for b in snapshot.bounds if b.kind is PinKind.TASK and b.maximum is not None},
    )


def idle_tasks(ranking: VariantRanking, snapshot: ClusterSnapshot, limits: ScalingLimits) -> set[str]:
    """Return the tasks that were unused for so long that they are unloaded."""
    idle_s: defaultdict[str, float] = defaultdict(lambda: math.inf)
    for candidate in ranking.candidates.values():
        task = candidate.variant.task
        idle_s[task] = min(idle_s[task], snapshot.idle_of(candidate.name))
    used = {load.load_class.task for load in snapshot.classes if load.inputs_per_s > 0 and load.age_s <= 0}
    used |= {backlog.task for backlog in snapshot.backlogs if backlog.inputs > 0}
    return {task for task, seconds in idle_s.items() if seconds > limits.scale_to_zero_delay_s and task not in used}


# -- workers and variants ----------------------------------------------------------------------------------------------


def _pools(snapshot: ClusterSnapshot, limits: ScalingLimits) -> tuple[WorkerPool, ...]:
    workers = defaultdict[str, list[WorkerRow]](list)
    for worker in snapshot.workers:
        if is_schedulable(worker):
            workers[worker.hardware].append(worker)
    types = {one.name: one for one in snapshot.hardware}
    bounds = {bound.name: bound for bound in snapshot.bounds if bound.kind is PinKind.HARDWARE}
    pools = list[WorkerPool]()
    for name in sorted(workers.keys() | types.keys()):
        there, hardware, bound = workers[name], types.get(name), bounds.get(name)
        now = minimum = maximum = len(there)
        if hardware is not None:
            now = max(now, snapshot.wanted_workers.get(name, 0))
            maximum = hardware.maximum + len(hardware.others)
            if bound is not None and bound.maximum is not None:
                maximum = min(maximum, bound.maximum)
            minimum = min(bound.minimum if bound is not None and bound.minimum is not None else 0, maximum)
        sizes = there or ([hardware] if hardware else [])
        slots = fmean(worker.slots for worker in sizes)
        price = fmean(worker.price_per_hour for worker in sizes)
        pools.append(
            WorkerPool(
                hardware=name,
                price=price,
                slots=slots,
                threads=min(worker.threads for worker in sizes),
                memory_bytes=fmean(worker.memory_bytes for worker in sizes) * limits.memory_share,
                instances_per_worker=slots * limits.instances_per_slot,
                now=now,
                minimum=minimum,
                maximum=max(maximum, minimum),
            )
        )
    return tuple(pools)


def _with_one_worker(pools: tuple[WorkerPool, ...], snapshot: ClusterSnapshot) -> tuple[WorkerPool, ...]:
    """Return the pools with a minimum of one worker: without any, the next query would wait for one to start.

    It is of the cheapest type that runs, or that can be started if none runs; not of a type with a pinned minimum.
    """
    pinned = {bound.name for bound in snapshot.bounds if bound.minimum is not None}
    free = {one.name for one in snapshot.hardware} - pinned
    known = [pool for pool in pools if pool.hardware in free and pool.maximum]
    if any(pool.minimum for pool in pools) or not known:
        return pools
    kept = min(known, key=lambda pool: (pool.now == 0, pool.price, pool.hardware))
    return tuple(msgspec.structs.replace(pool, minimum=1) if pool is kept else pool for pool in pools)


def _variant_specs(
    candidates: Sequence[RunnableVariant],
    pools: Sequence[WorkerPool],
    index: Mapping[str, int],
    snapshot: ClusterSnapshot,
    limits: ScalingLimits,
) -> tuple[VariantSpec, ...]:
    schedulable = {worker.name for worker in snapshot.workers if is_schedulable(worker)}
    counts: defaultdict[str, int] = defaultdict(int)
    for row in snapshot.instances:
        counts[row.variant] += row.worker in schedulable and row.state is not InstanceState.FAILED
    pinned = {b.name: b.maximum for b in snapshot.bounds if b.kind is PinKind.VARIANT and b.maximum is not None}
    variants = list[VariantSpec]()
    for candidate in candidates:
        pool = pools[index[candidate.variant.hardware]]
        hold_cost = limits.share_weight * pool.price * candidate.memory_bytes / max(pool.memory_bytes, 1)
        maximum = pool.maximum if snapshot.can_add_partitions else min(pool.maximum, candidate.variant.partitions)
        variants.append(
            VariantSpec(
                name=candidate.name,
                task=candidate.variant.task,
                pool=index[candidate.variant.hardware],
                memory_bytes=candidate.memory_bytes,
                hold_cost=hold_cost,
                load_cost=hold_cost * limits.load_weight_per_s * candidate.load_s,
                now=counts[candidate.name],
                maximum=min(maximum, pinned.get(candidate.name, maximum)),
                slots=_slots_of(candidate, pool),
            )
        )
    return tuple(variants)


def _slots_of(candidate: RunnableVariant, pool: WorkerPool) -> float:
    width = candidate.width(pool.threads)
    return pool.slots if candidate.concurrent and width == 1 else float(width)


# -- requirements ------------------------------------------------------------------------------------------------------


class _RequirementBuilder:
    """Builder of all requirements of a snapshot."""

    def __init__(
        self,
        candidates: Sequence[RunnableVariant],
        variants: Sequence[VariantSpec],
        pools: Sequence[WorkerPool],
        snapshot: ClusterSnapshot,
        limits: ScalingLimits,
    ) -> None:
        self.candidates = candidates
        self.variants = variants
        self.pools = pools
        self.snapshot = snapshot
        self.limits = limits
        self.present = PresentThroughputs(candidates, snapshot)
        self.dearest = max((pool.price for pool in pools), default=0.0) or 1.0
        self.by_task: defaultdict[str, list[tuple[int, RunnableVariant]]] = defaultdict(list)
        for number, candidate in enumerate(candidates):
            self.by_task[candidate.variant.task].append((number, candidate))
        self.headrooms = [limits.headroom] * len(pools)
        """Headroom by pool, for the load that would go there if each class took its cheapest option."""

    def all(self) -> list[Requirement]:
        """Return all requirements, those with load first."""
        requirements = self.loads() + self.canaries() + self.backlogs()
        for bound in self.snapshot.bounds:
            if bound.minimum and bound.kind is not PinKind.HARDWARE:
                requirements += self.presence(bound.kind, bound.name, bound.minimum)
        for variant, age_s in sorted(self.snapshot.demand_age_s.items()):
            if age_s <= self.limits.demand_s:
                requirements += self.presence(PinKind.VARIANT, variant, 1)
        return requirements

    def presence(self, kind: PinKind, name: str, minimum: int) -> list[Requirement]:
        """Return the requirement of a minimum of instances whatever the load; for a task, all of one variant."""
        named = [
            number
            for number, found in enumerate(self.variants)
            if (found.name if kind is PinKind.VARIANT else found.task) == name
        ]
        options = tuple(ServingOption(variant=number, floor=minimum) for number in self.for_anyone(named))
        task = self.variants[options[0].variant].task if options else name
        return [Requirement(task=task, options=options, penalty=_PENALTY * self.dearest)] if options else []

    def loads(self) -> list[Requirement]:
        """Return the requirements of the load, one for each class that a variant can serve."""
        loads = zip(self.snapshot.classes, self.rates(), strict=True)
        known = [(load, self.throughputs_of(load), rate) for load, rate in loads if rate > 0]
        self.headrooms = self.headrooms_of([(throughputs, rate) for _, throughputs, rate in known if throughputs])
        requirements = [self.of_load(load, throughputs, rate) for load, throughputs, rate in known]
        return [requirement for requirement in requirements if requirement is not None]

    def of_load(self, load: ClassLoad, throughputs: _Throughputs, rate: float) -> Requirement | None:
        """Return the requirement of a class whose load is expected to be `rate` inputs a second."""
        return self.requirement(load.load_class, throughputs, rate, _PENALTY, load.mean_batch)

    def headrooms_of(self, loads: Sequence[tuple[_Throughputs, float]]) -> list[float]:
        """Return the headroom of each pool if all inputs a second of each load take its cheapest slots."""
        busy = [0.0] * len(self.pools)
        for throughputs, rate in loads:
            number, _, throughput = min(throughputs, key=lambda one: self.slot_price(one[0]) / one[2].rate)
            busy[self.variants[number].pool] += rate / throughput.rate
        return [headroom_of(slots, self.limits.headroom) for slots in busy]

    def slot_price(self, number: int) -> float:
        """Return the price of a slot of a variant's workers."""
        pool = self.pools[self.variants[number].pool]
        return pool.price / pool.slots

    def canaries(self) -> list[Requirement]:
        """Return the requirements of canaries and shadows: one instance each, and the canaries' share of the load."""
        found = list[Requirement]()
        if not self.snapshot.versions.rollouts:
            return found
        for task, target in candidate_targets(self.snapshot.versions):
            wanted = LoadClass(task, target)
            options = tuple(ServingOption(variant=number) for number, c in self.by_task[task] if self.meets(c, wanted))
            if options:
                found.append(Requirement(task=task, options=options, penalty=_PENALTY * self.dearest))
        known = {c.name: c.variant for candidates in self.by_task.values() for _, c in candidates}
        for load in canary_loads(self.snapshot, known):
            requirement = self.of_load(load, self.throughputs_of(load), expected_rate(load))
            found += [] if requirement is None else [requirement]
        return found

    def meets(self, candidate: RunnableVariant, wanted: LoadClass) -> bool:
        """Return true if a candidate's accuracy and target fit a class; its speed is not checked."""
        targets = self.snapshot.versions.targets_of(candidate.variant.architecture)
        is_target = wanted.target == candidate.name or wanted.target in targets
        return is_target and candidate.accuracy >= wanted.min_accuracy

    def may_use(self, candidate: RunnableVariant, tenant: str | None) -> bool:
        return includes(self.snapshot.users.get(candidate.variant.architecture), tenant)

    def for_anyone(self, numbers: Sequence[int]) -> Sequence[int]:
        """Return the variants that everybody may use, for load of unknown tenants; all of them if there are none."""
        return [n for n in numbers if self.may_use(self.candidates[n], None)] or numbers

    def rates(self) -> list[float]:
        """Return the inputs a second of each class; 0 for offline queries, which count as backlog while they wait."""
        classes = self.snapshot.classes
        present: defaultdict[str, float] = defaultdict(float)
        for load in classes:
            present[load.load_class.task] += load.inputs_per_s
        history = self.snapshot.history
        growths = {
            task: growth(history.get(task, ()), self.horizon_s(task), rate) for task, rate in present.items() if rate
        }
        return [
            0.0 if load.load_class.offline else expected_rate(load, growths.get(load.load_class.task, 1.0))
            for load in classes
        ]

    def horizon_s(self, task: str) -> float:
        """Return the seconds until new capacity serves: the task's slowest load plus the slowest start of a worker."""
        load_s = max((candidate.load_s for _, candidate in self.by_task[task]), default=0.0)
        return load_s + max((one.start_s for one in self.snapshot.hardware), default=0.0)

    def throughputs_of(self, load: ClassLoad) -> _Throughputs:
        """Return the variants that can serve a class, with their throughputs."""
        wanted = load.load_class
        eligible = [
            (n, c) for n, c in self.by_task[wanted.task] if self.meets(c, wanted) and self.may_use(c, wanted.tenant)
        ]
        default_s = math.inf if any(c.generation for _, c in eligible) else self.limits.default_latency_s
        asked_s = default_s if wanted.latency_ms is None else wanted.latency_ms / 1000
        budget_s = max(asked_s - self.limits.hop_s, asked_s / 2)
        # A class covers latencies up to its upper edge.
        return self.throughputs(eligible, budget_s, load.mean_batch) or self.throughputs(
            eligible, asked_s * _BUCKET, load.mean_batch
        )

    def requirement(
        self,
        wanted: LoadClass,
        throughputs: _Throughputs,
        rate: float,
        weight: float,
        mean_batch: float = 1.0,
    ) -> Requirement | None:
        """Return the requirement of `rate` inputs a second with these options; None without options."""
        if not throughputs:
            return None
        best = max(candidate.accuracy for _, candidate, _ in throughputs)
        options = tuple(
            self.option(number, candidate, throughput, rate, best) for number, candidate, throughput in throughputs
        )
        workers = max(min(o.slots / self.pools[self.variants[o.variant].pool].slots for o in options), 1.0)
        dearest = max(option.slot_cost + option.loss_cost for option in options)  # serving must always be cheaper
        return Requirement(
            task=wanted.task,
            options=options,
            penalty=weight * self.dearest * workers + 2 * dearest,
            rate=rate,
            mean_batch=mean_batch,
            load_class=wanted,
        )

    # -- backlogs ------------------------------------------------------------------------------------------------------

    def backlogs(self) -> list[Requirement]:
        """Return the requirements of backlogs: load for as long as they take to work off."""
        found, grouped = list[Requirement](), defaultdict[LoadClass, list[Backlog]](list)
        for backlog in self.snapshot.backlogs:
            grouped[LoadClass(backlog.task, backlog.variant, offline=backlog.offline)].append(backlog)
        for wanted, backlogs in grouped.items():
            meeting = [n for n, c in self.by_task[wanted.task] if self.meets(c, wanted)]
            eligible = [(n, self.candidates[n]) for n in self.for_anyone(meeting)]  # the tenants are not known
            # The queries are late or may wait, so throughput counts: the largest batches.
            throughputs = self.throughputs(eligible, math.inf, 1.0)
            catch_up_s = self.catch_up_s(wanted.task)
            rate, weight = sum(backlog.inputs for backlog in backlogs) / catch_up_s, _PENALTY
            if wanted.offline:
                rate, weight = offline_rate(backlogs, self.limits.offline_drain_s, catch_up_s), _OFFLINE_PENALTY
            elif all(b.age_s is not None and b.age_s <= self.limits.default_latency_s for b in backlogs):
                continue  # young: a few queries are always in progress
            requirement = self.requirement(wanted, throughputs, rate, weight)
            found += [requirement] if requirement is not None and requirement.rate > 0 else []
        return found

    def catch_up_s(self, task: str) -> float:
        """Return the seconds in which to work off a backlog; at least the time that new capacity needs."""
        return max(self.limits.catch_up_s, self.horizon_s(task))

    # -- options -------------------------------------------------------------------------------------------------------

    def throughputs(
        self, eligible: Sequence[tuple[int, RunnableVariant]], budget_s: float, mean_batch: float
    ) -> list[tuple[int, RunnableVariant, SlotThroughput]]:
        """Return the candidates that are fast enough, with a slot's present throughput and the profiled batch size."""
        found = list[tuple[int, RunnableVariant, SlotThroughput]]()
        for number, candidate in eligible:
            now = self.present.of(candidate, budget_s, mean_batch)
            if now.rate:
                width = candidate.width(self.pools[self.variants[number].pool].threads)
                found.append((number, candidate, SlotThroughput(now.rate / width, now.batch)))
        return found

    def option(
        self, number: int, candidate: RunnableVariant, throughput: SlotThroughput, rate: float, best: float
    ) -> ServingOption:
        """Return the option to serve `rate` inputs a second by a candidate."""
        pool = self.pools[self.variants[number].pool]
        slots = rate / throughput.rate * self.headrooms[self.variants[number].pool]
        return ServingOption(
            variant=number,
            slots=slots,
            batch=throughput.batch,
            slot_cost=slots * self.limits.share_weight * pool.price / pool.slots,
            loss_cost=rate * 3.6 * self.limits.accuracy_price * (best - candidate.accuracy),
        )
