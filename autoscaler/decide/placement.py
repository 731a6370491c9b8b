"""Decides which worker hosts which variant, by these rules in this order.

1. Instances without a fault stay. The rules are stable: applied to their own result, they change nothing.
2. Instances of unregistered variants are removed at once, those of dominated variants after a long idle time. A task
   without queries for `scale_to_zero_delay_s` is unloaded.
3. An overcommitted worker evicts the instances with the lowest cost of a miss.
4. A demanded variant is placed at once, the most recent demand first, because older queries may be late already. If it
   fits nowhere, idle instances of one worker are evicted, lowest cost of a miss first.
5. Variants that the load needs are placed where slots are free, on enough workers for the load to fit. Instances that
   the load does not need are evicted for them if their cost of a miss is not higher.
6. Surplus replicas are removed where the load fits without them.
7. Instances of draining workers, more instances of variants with load (`spread_count`), and all Pareto-best variants
   are placed where they fit, least loaded workers first. They evict nothing.
8. Batches are limited to the size that the load allows.
9. The row on a dead or draining worker is deleted when another worker serves the variant. Otherwise it stays: a worker
   that returns under its name finds it, and a draining worker continues to serve, but not for a variant that was idle
   for long. The row of a failed load stays as long as its worker, so that the variant is tried elsewhere and not there
   again.

Method: bin packing by decreasing size into the worker with the most free slots, keeping existing placements. Slots of
the load are distributed among replicas as selectors would (`LoadShares`), so the load must fit, not just the number of
instances.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from autoscaler.decide.eviction import MayGo, is_idle, make_room_for_load, make_room_on_demand
from autoscaler.decide.pareto import RunnableVariant
from autoscaler.decide.placement_builder import PlacementBuilder
from autoscaler.decide.worker_capacity import SLACK, LoadShares, WorkerCapacity
from schemas.names import number_of
from schemas.status import SERVING


class DesiredInstances(msgspec.Struct, frozen=True, kw_only=True):
    """Instances that the load, pins and demands need. All mappings are by variant unless noted."""

    instances: Mapping[str, int] = {}
    """Number of instances needed."""
    kept: Mapping[str, int] = {}
    """Number of replicas to keep for the downscale delay."""
    spread: Mapping[str, int] = {}
    """Number of replicas of variants with load while there is memory for them."""
    load_slots: Mapping[str, float] = {}
    """Number of slots that the load takes."""
    rates: Mapping[str, float] = {}
    """Inputs a second of the load."""
    chosen_rates: Mapping[str, float] = {}
    """Inputs a second of the load that names no target and was assigned to the variant."""
    maximum: Mapping[str, int] = {}
    """Maximum number of instances."""
    task_maximum: Mapping[str, int] = {}
    """Maximum number of instances, by task."""
    batches: Mapping[str, int] = {}
    """Largest allowed batch; absent: the variant's own."""
    idle_tasks: frozenset[str] = frozenset()
    """Tasks to unload completely."""


def place_variants(builder: PlacementBuilder, wanted: DesiredInstances) -> None:
    """Apply all rules."""
    placer = _Placer(builder, wanted)
    placer.drop_unwanted()
    placer.evict_overcommitted()
    placer.place_demanded()
    placer.place_wanted()
    placer.drop_surplus()
    placer.place_demanded()  # again: drop_surplus may have freed places under pins
    placer.move_drained()
    placer.place_spread()
    placer.place_best()
    placer.drop_replaced()
    placer.limit_batches()
    builder.assign_partitions()


def replace_lost(builder: PlacementBuilder) -> None:
    """Replace instances that were lost with their worker, and change nothing else."""
    placer = _Placer(
        builder, DesiredInstances(instances={name: 1 for name, _ in builder.rows if name in builder.variants})
    )
    placer.place_wanted()
    placer.drop_replaced()
    builder.assign_partitions()


class _Placer:
    """Placement rules, applied to a builder."""

    def __init__(self, builder: PlacementBuilder, wanted: DesiredInstances) -> None:
        self.builder = builder
        self.wanted = wanted
        self._shares: LoadShares | None = None

    # -- rules 2 and 3: what leaves ------------------------------------------------------------------------------------

    def drop_unwanted(self) -> None:
        builder = self.builder
        for variant, worker in list(builder.rows):
            if variant not in builder.variants:
                builder.remove(variant, worker, "remove", "it is no longer registered as ready")
            elif not self.count_of(variant):
                self.drop_unused(variant, worker)

    def drop_unused(self, variant: str, worker: str) -> None:
        """Drop an instance of an unused task, or of a variant that is worse than others and idle."""
        builder = self.builder
        task, idle = builder.variants[variant].task, f"{builder.snapshot.idle_of(variant):.0f} s"
        if task in self.wanted.idle_tasks:
            builder.remove(variant, worker, "unload", f"no query of {task} for {idle}")
        elif self.is_obsolete(variant):
            why = "another variant is better in all measures, or its version does not serve"
            builder.remove(variant, worker, "remove", f"{why}; idle for {idle}")

    def is_obsolete(self, variant: str) -> bool:
        ranking = self.builder.ranking
        return variant in ranking.candidates and variant not in ranking.best and self.is_long_idle(variant)

    def is_long_idle(self, variant: str) -> bool:
        limits = self.builder.limits
        return self.builder.snapshot.idle_of(variant) > max(limits.keep_idle_s, limits.demand_s)

    def evict_overcommitted(self) -> None:
        for capacity in self.builder.capacities.values():
            victims = self.builder.eviction_order(capacity) if capacity.overcommitted else []
            while capacity.overcommitted and victims:
                self.builder.remove(
                    victims.pop(0), capacity.name, "evict", "its worker has too little memory for all instances"
                )

    # -- rule 4: what selectors asked for in vain ----------------------------------------------------------------------

    def place_demanded(self) -> None:
        builder, snapshot = self.builder, self.builder.snapshot
        asked = [
            (snapshot.asked_age_s.get(name, age_s), name)
            for name, age_s in snapshot.demand_age_s.items()
            if builder.is_demanded(name)
        ]
        for _age_s, variant in sorted(asked):
            if variant in builder.variants and not builder.is_placed(variant):
                self.place_on_demand(variant)

    def place_on_demand(self, variant: str) -> None:
        builder = self.builder
        candidate, why = builder.ranking.candidates.get(variant), "demanded by a selector; no instance served it"
        builder.unplaced.pop(variant, None)
        if candidate is None or not any(capacity.can_run(candidate) for capacity in builder.capacities.values()):
            builder.unplaced[variant] = "demanded, but no live worker has its hardware and runtime, or could load it"
        elif not self.may_have(candidate):
            builder.unplaced[variant] = "demanded, but its pinned maximum is reached"
        elif not builder.place(candidate, why):
            capacity = make_room_on_demand(builder, candidate)
            if capacity is None:
                builder.unplaced[variant] = "demanded, but there is no free memory and no idle instance to evict"
            else:
                builder.place(candidate, why, capacity)

    # -- rule 5: what the load needs -----------------------------------------------------------------------------------

    def place_wanted(self) -> None:
        """Place the variants that the load needs, the largest load first."""
        for name in sorted(self.wanted.instances, key=lambda name: (-self.wanted.load_slots.get(name, 0.0), name)):
            candidate = self.builder.ranking.candidates.get(name)
            if candidate is None or self.builder.is_awaited(name):
                continue
            if self.builder.is_demanded(name) and name not in self.wanted.load_slots:
                continue  # rule 4 has placed it if possible
            while self.needs_more(name) and self.place_another(candidate):
                self.builder.moved.discard(name)
            self.builder.moved.add(name)  # distribute the load once among all replicas, instead of at each placement

    def needs_more(self, name: str) -> bool:
        """Return true if there are too few instances, or others take the slots of their workers."""
        return self.has_too_few(name) or self.shares().unserved.get(name, 0.0) > SLACK

    def has_too_few(self, name: str) -> bool:
        return self.builder.host_count(name) < self.wanted.instances[name]

    def shares(self) -> LoadShares:
        """Return the distribution of the load over the current placement."""
        moved = self.builder.moved
        if self._shares is None:
            self._shares = LoadShares(self.wanted.load_slots, self.builder.capacities.values())
        else:
            for name in sorted(moved & self.wanted.load_slots.keys()):
                self._shares.share(name, self.builder.all_hosts(name))
        moved.clear()
        return self._shares

    def place_another(self, candidate: RunnableVariant) -> bool:
        name, too_few = candidate.name, self.has_too_few(candidate.name)
        if not self.may_have(candidate):
            return False
        shares = self.shares()  # updates how busy workers are, which the next line reads
        capacity = self.builder.order.least_loaded(candidate, with_slots=not too_few)
        if capacity is None and too_few:
            capacity = make_room_for_load(self.builder, candidate, self.spared_for(candidate))
            if capacity is None:
                wanted = self.wanted.instances[name]
                self.builder.unplaced[name] = (
                    f"{wanted} instances are needed, but no live worker that can run it has room"
                )
        if capacity is None:
            return False
        self.builder.place(candidate, self.why(name), capacity, **self.counts(name))
        shares.add(name, capacity)
        return True

    def spared_for(self, candidate: RunnableVariant) -> MayGo:
        """Return the test for instances that may be evicted for a variant that the load needs.

        An instance may be evicted if the load does not need it and its cost of a miss is not higher than the
        candidate's. The candidate's rate counts only load that names no target. A query that names a variant demands it
        on arrival, so its expected repetition evicts nothing in advance.
        """
        builder = self.builder
        gained = builder.eviction_cost(candidate, self.wanted.chosen_rates.get(candidate.name, 0.0))
        return lambda name, capacity: self.is_spare(name) and builder.eviction_cost(capacity.hosted[name]) <= gained

    def is_spare(self, name: str) -> bool:
        if self.builder.is_demanded(name):
            return False
        others = self.builder.host_count(name) - 1
        return others >= self.wanted.instances.get(name, 0)

    def count_of(self, name: str) -> int:
        return self.wanted.instances.get(name, 0)

    def may_have(self, candidate: RunnableVariant) -> bool:
        name, task = candidate.name, candidate.variant.task
        hosts = self.builder.host_count(name)
        if hosts >= self.wanted.maximum.get(name, hosts + 1):
            return False
        return task not in self.wanted.task_maximum or self.builder.placed_count(task) < self.wanted.task_maximum[task]

    def why(self, name: str) -> str:
        slots, rate = self.wanted.load_slots.get(name, 0.0), self.wanted.rates.get(name, 0.0)
        if not slots:
            return f"minimum of {self.wanted.instances[name]} instances required"
        task = self.builder.variants[name].task
        return f"{rate:.3g} inputs/s of {task} assigned to it as the cheapest option, using {slots:.2g} slots"

    def counts(self, name: str) -> dict[str, Any]:
        slots, rate = self.wanted.load_slots.get(name, 0.0), self.wanted.rates.get(name, 0.0)
        return {"wanted": self.count_of(name), "slots": round(slots, 3), "inputs_per_s": round(rate, 3)}

    # -- rules 6 and 7: what is too much, and what there is room for ---------------------------------------------------

    def drop_surplus(self) -> None:
        for name in sorted({variant for variant, _ in self.builder.rows}):
            candidate = self.builder.ranking.candidates.get(name)
            if candidate is not None:
                self.drop_surplus_of(candidate)
        for task, maximum in self.wanted.task_maximum.items():
            self.drop_above_task_maximum(task, maximum)

    def drop_surplus_of(self, candidate: RunnableVariant) -> None:
        name = candidate.name
        maximum = self.wanted.maximum.get(name, len(self.builder.capacities))
        keep = min(max(self.wanted.kept.get(name, 0), self.count_of(name), 1), maximum)
        for capacity in sorted(self.builder.hosts(name), key=lambda capacity: self.leaves_first(name, capacity)):
            there = self.builder.host_count(name)
            if there <= keep:
                return
            if there > maximum:
                self.builder.remove(name, capacity.name, "remove", f"pinned maximum of {maximum} reached")
            elif self.fits_without(candidate, capacity):
                why = f"{keep} instances have been enough recently"
                self.builder.remove(name, capacity.name, "remove", why, **self.counts(name))

    def leaves_first(self, name: str, capacity: WorkerCapacity) -> tuple[bool, int, int]:
        """Sort key of replicas to remove: disturbed ones first, then those on the worker that would drain first."""
        return not self.builder.is_interfered(name, capacity), len(capacity.hosted), -number_of(capacity.name)

    def fits_without(self, candidate: RunnableVariant, capacity: WorkerCapacity) -> bool:
        name, shares = candidate.name, self.shares()
        return shares.unserved_without(name, capacity) <= shares.unserved.get(name, 0.0) + SLACK / 2

    def drop_above_task_maximum(self, task: str, maximum: int) -> None:
        builder = self.builder
        spare = sorted(
            (self.count_of(name) > 0, -builder.snapshot.idle_of(name), name, capacity.name)
            for capacity in builder.capacities.values()
            if capacity.schedulable
            for name, candidate in capacity.hosted.items()
            if candidate.variant.task == task
        )
        for _, _, name, worker in spare[: max(len(spare) - maximum, 0)]:
            builder.remove(name, worker, "remove", f"pinned maximum of {maximum} instances of {task} reached")

    def place_spread(self) -> None:
        """Place more instances of variants with load, so that their queries can go to any of more workers."""
        for name in sorted(self.wanted.load_slots, key=lambda name: (-self.wanted.load_slots[name], name)):
            candidate = self.builder.ranking.candidates[name]
            for _ in range(self.wanted.spread.get(name, 0) - self.builder.host_count(name)):
                if self.may_have(candidate) and not self.builder.is_awaited(name):
                    self.builder.place(candidate, "its queries have more workers to choose from")

    def place_best(self) -> None:
        builder = self.builder
        for name, choice in builder.ranking.best.items():
            candidate = choice.candidate
            if builder.is_placed(name) or builder.is_awaited(name) or candidate.variant.task in self.wanted.idle_tasks:
                continue
            if self.may_have(candidate) and not builder.place(candidate, choice.reason):
                builder.unplaced.setdefault(name, "worth serving, but no live worker that can run it has room")

    def move_drained(self) -> None:
        """Place instances of draining workers elsewhere, Pareto-best or not, because they may be in use."""
        builder = self.builder
        for capacity in builder.capacities.values():
            for name, candidate in list(capacity.hosted.items()) if not capacity.schedulable else []:
                idle = candidate.variant.task in self.wanted.idle_tasks
                if not builder.is_placed(name) and not idle and self.may_have(candidate):
                    builder.place(candidate, f"{capacity.name} drains")

    # -- rule 8 --------------------------------------------------------------------------------------------------------

    def limit_batches(self) -> None:
        for (variant, worker), row in list(self.builder.rows.items()):
            limit = self.wanted.batches.get(variant, row.max_batch)
            if limit < row.max_batch:
                self.builder.limit_batch(variant, worker, limit, "larger batches would delay urgent queries")
            elif limit > row.max_batch:
                self.builder.limit_batch(variant, worker, limit, "no such urgent queries recently")

    # -- rule 9 --------------------------------------------------------------------------------------------------------

    def drop_replaced(self) -> None:
        builder = self.builder
        for variant, worker in list(builder.rows):
            capacity = builder.capacities.get(worker)
            if capacity is not None and variant in capacity.hosted:
                if not capacity.schedulable and self.is_dispensable(variant, capacity):
                    builder.remove(variant, worker, "remove", f"{worker} drains; other workers serve its partitions")
            elif builder.is_remembered(variant, worker):
                continue
            elif builder.is_served(variant):
                state = "does not exist any more" if capacity is None else "cannot run it any more"
                builder.remove(variant, worker, "remove", f"{worker} {state}; another worker serves it")
            elif not builder.is_awaited(variant):  # it fits nowhere; the next plan, which knows that, would drop it
                self.drop_unused(variant, worker)

    def is_dispensable(self, variant: str, capacity: WorkerCapacity) -> bool:
        """Return true if a draining worker no longer needs to serve the variant."""
        there, wanted = self.builder.host_count(variant), self.count_of(variant)
        if there or wanted:
            return there >= max(wanted, 1)
        task = self.builder.variants[variant].task
        if self.builder.placed_count(task) and is_idle(self.builder, variant, capacity):
            return True
        return self.is_long_idle(variant) or self.is_load_served(task)

    def is_load_served(self, task: str) -> bool:
        """Return true if the task has load, and the instances that it needs are loaded and on workers that stay.

        Then selectors may use another variant only because it is cheaper for a single query. An instance that moves
        counts as loaded, because the draining worker serves its partitions until the next owner has loaded it.
        """
        builder = self.builder
        needed = [name for name in self.wanted.load_slots if builder.variants[name].task == task]
        loaded = Counter(row.variant for row in builder.snapshot.instances if row.state in SERVING)
        return bool(needed) and all(
            min(loaded[name], builder.host_count(name)) >= self.wanted.instances[name] for name in needed
        )
