"""Decides which worker hosts what, by these rules in this order.

1. What is fine stays where it is. (Stable: deciding again on the result of a decision changes nothing.)
2. What is no longer registered goes at once, what is dominated when it has been idle for long, and all of a task that
   nobody has asked for in very long.
3. A worker that has too much gives up what is the cheapest to be without.
4. A demanded variant is placed at once, the latest asked for first: others may be late already. If it fits nowhere,
   idle ones of one worker give way, the cheapest to be without first.
5. What the load needs is placed where slots are free, and on as many workers as it takes for the load to fit; what no
   load needs, and is cheaper to be without, gives way. An instance that is disturbed gets another place.
6. Replicas beyond what is needed go where the load still fits without them.
7. What a worker that drains has, and every Pareto-best variant, is placed where it fits, least loaded workers first.
   It displaces nothing, and the best wait until a variant of their task that queries wait for has been loaded.
8. Batches are limited to what the load allows.
9. The row of a worker that is gone or drains is deleted when the variant has a place elsewhere. Otherwise it stays: a
   worker that comes back under its name finds it there, and one that drains serves on. That of an instance that could
   not be loaded stays as long as its worker, so that it is tried elsewhere and not there again.

Bin packing by decreasing size into the worker with the most free slots, keeping what is placed. Slots of the load are
shared among replicas as selectors would (`load_shares`), so that it is the load that must fit, not just
a count.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from autoscaler.decide.eviction import MayGo, is_idle, make_room_for_load, make_room_on_demand
from autoscaler.decide.load_shares import LoadShares
from autoscaler.decide.pareto import RunnableVariant
from autoscaler.decide.placement_builder import PlacementBuilder
from autoscaler.decide.worker_capacity import WorkerCapacity
from autoscaler.decide.worker_order import SLACK
from schemas.status import SERVING
from schemas.worker_names import number_of


class DesiredInstances(msgspec.Struct, frozen=True, kw_only=True):
    """Instances that the load, pins and demands need. Everything is by variant."""

    instances: Mapping[str, int] = {}
    """Number of instances needed."""
    kept: Mapping[str, int] = {}
    """Number of replicas that stay for a while, since they were needed until lately."""
    load_slots: Mapping[str, float] = {}
    """Number of slots that the load takes."""
    rates: Mapping[str, float] = {}
    """Inputs a second of the load."""
    chosen_rates: Mapping[str, float] = {}
    """Inputs a second of the load that names no variant, but was given to it."""
    maximum: Mapping[str, int] = {}
    """Number of instances that there may be."""
    task_maximum: Mapping[str, int] = {}
    """Number of instances that there may be, by task."""
    batches: Mapping[str, int] = {}
    """Largest batch allowed; the variant's own where nothing is said."""
    idle_tasks: frozenset[str] = frozenset()
    """Tasks to unload altogether."""


def place_variants(builder: PlacementBuilder, wanted: DesiredInstances) -> dict[str, float]:
    """Apply all rules; returns when variants were last moved away from a disturbance."""
    placer = _Placer(builder, wanted)
    placer.drop_unwanted()
    placer.evict_overcommitted()
    placer.place_demanded()
    placer.place_wanted()
    placer.drop_surplus()
    placer.place_demanded()  # where pins allowed none before
    placer.move_drained()
    placer.place_best()
    placer.drop_replaced()
    placer.limit_batches()
    builder.assign_partitions()
    return placer.moved


def replace_lost(builder: PlacementBuilder) -> None:
    """Replace what is lost with its worker, and change nothing else."""
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
        self.moved = dict(builder.snapshot.memory.moved_s)
        self._shares: LoadShares | None = None

    # -- rules 2 and 3: what leaves ------------------------------------------------------------------------------------

    def drop_unwanted(self) -> None:
        builder = self.builder
        for variant, worker in list(builder.rows):
            idle = f"{builder.snapshot.idle_of(variant):.0f} s"
            if variant not in builder.variants:
                builder.remove(variant, worker, "remove", "it is no longer registered as ready")
            elif self.count_of(variant):
                continue
            elif builder.variants[variant].task in self.wanted.idle_tasks:
                builder.remove(
                    variant, worker, "unload", f"nobody asked for {builder.variants[variant].task} for {idle}"
                )
            elif self.is_obsolete(variant):
                why = "another variant beats it in everything, or its version does not serve"
                builder.remove(variant, worker, "remove", f"{why}; idle for {idle}")

    def is_obsolete(self, variant: str) -> bool:
        builder, limits = self.builder, self.builder.limits
        dominated = variant in builder.ranking.candidates and variant not in builder.ranking.best
        return dominated and builder.snapshot.idle_of(variant) > max(limits.keep_idle_s, limits.demand_s)

    def evict_overcommitted(self) -> None:
        for capacity in self.builder.capacities.values():
            victims = self.builder.eviction_order(capacity) if capacity.overcommitted else []
            while capacity.overcommitted and victims:
                self.builder.remove(victims.pop(0), capacity.name, "evict", "its worker has not enough memory for all")

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
        candidate, why = builder.ranking.candidates.get(variant), "demanded by a selector, and nobody served it"
        builder.unplaced.pop(variant, None)
        if candidate is None or not any(capacity.can_run(candidate) for capacity in builder.capacities.values()):
            builder.unplaced[variant] = "demanded, but no live worker has its hardware and runtime, or could load it"
        elif not self.may_have(candidate):
            builder.unplaced[variant] = "demanded, but a person pinned that there are fewer"
        elif not builder.place(candidate, why):
            capacity = make_room_on_demand(builder, candidate)
            if capacity is None:
                builder.unplaced[variant] = "demanded, but there is no memory that others do not use"
            else:
                builder.place(candidate, why, capacity)

    # -- rule 5: what the load needs -----------------------------------------------------------------------------------

    def place_wanted(self) -> None:
        """Place what the load needs, the largest first."""
        for name in sorted(self.wanted.instances, key=lambda name: (-self.wanted.load_slots.get(name, 0.0), name)):
            candidate = self.builder.ranking.candidates.get(name)
            if candidate is None or self.builder.is_awaited(name):
                continue
            if self.builder.is_demanded(name) and name not in self.wanted.load_slots:
                continue  # rule 4 did what may be done for a demand
            while self.needs_more(name) and self.place_another(candidate):
                self.builder.moved.discard(name)
            self.builder.moved.add(name)  # shared among all its replicas once, not at each
            self.move_disturbed(candidate)

    def needs_more(self, name: str) -> bool:
        """Whether there are too few instances, or others take the slots where they are."""
        return self.has_too_few(name) or self.shares().unserved.get(name, 0.0) > SLACK

    def has_too_few(self, name: str) -> bool:
        return self.builder.host_count(name) < self.wanted.instances[name]

    def shares(self) -> LoadShares:
        """How the load is shared by what is there now."""
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
        shares = self.shares()  # which says how busy workers are
        capacity = self.builder.order.least_loaded(candidate, with_slots=not too_few)
        if capacity is None and too_few:
            capacity = make_room_for_load(self.builder, candidate, self.spared_for(candidate))
            if capacity is None:
                wanted = self.wanted.instances[name]
                self.builder.unplaced[name] = (
                    f"{wanted} of it are needed, but no live worker that can run it has the room"
                )
        if capacity is None:
            return False
        self.builder.place(candidate, self.why(name), capacity, **self.counts(name))
        shares.add(name, capacity)
        return True

    def spared_for(self, candidate: RunnableVariant) -> MayGo:
        """What may go for a variant that the load needs: what the load does without, and is not asked for more often.

        Who names a variant demands it when they ask: what they may ask again displaces nothing beforehand.
        """
        builder = self.builder
        gained = builder.absence_cost(candidate, self.wanted.chosen_rates.get(candidate.name, 0.0))
        return lambda name, capacity: self.is_spare(name) and builder.absence_cost(capacity.hosted[name]) <= gained

    def is_spare(self, name: str) -> bool:
        """Whether the load does without this instance."""
        if self.builder.is_demanded(name):
            return False
        others = self.builder.host_count(name) - 1
        return others >= self.wanted.instances.get(name, 0)

    def move_disturbed(self, candidate: RunnableVariant) -> None:
        """Find another place for an instance that is slower than profiled."""
        builder, name, now_s = self.builder, candidate.name, self.builder.snapshot.observed_s
        disturbed = [capacity for capacity in builder.hosts(name) if builder.is_interfered(name, capacity)]
        waited = name not in self.moved or now_s - self.moved[name] > builder.limits.disturbed_s
        if (
            not disturbed
            or not waited
            or not self.wanted.load_slots.get(name)
            or builder.host_count(name) > self.count_of(name)
        ):
            return
        self.shares()
        calm = builder.order.least_loaded(candidate, with_slots=True, calm=True)
        if calm is not None:
            self.moved[name] = now_s
            why = f"on {disturbed[0].name} it is slower than profiled, and not for its load"
            builder.place(candidate, why, calm)
            builder.remove(name, disturbed[0].name, "remove", f"{why}; another place was found")

    def count_of(self, name: str) -> int:
        return self.wanted.instances.get(name, 0)

    def may_have(self, candidate: RunnableVariant) -> bool:
        """Whether pins allow another instance."""
        name, task = candidate.name, candidate.variant.task
        hosts = self.builder.host_count(name)
        if hosts >= self.wanted.maximum.get(name, hosts + 1):
            return False
        return task not in self.wanted.task_maximum or self.builder.placed_count(task) < self.wanted.task_maximum[task]

    def why(self, name: str) -> str:
        slots, rate = self.wanted.load_slots.get(name, 0.0), self.wanted.rates.get(name, 0.0)
        if not slots:
            return f"{self.wanted.instances[name]} of it shall be there, whatever the load"
        task = self.builder.variants[name].task
        return f"{rate:.3g} inputs/s of {task} are best given to it, which takes {slots:.2g} slots"

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
                self.builder.remove(name, capacity.name, "remove", f"a person pinned that there are at most {maximum}")
            elif self.fits_without(candidate, capacity):
                why = f"{keep} of it have been enough for a while"
                self.builder.remove(name, capacity.name, "remove", why, **self.counts(name))

    def leaves_first(self, name: str, capacity: WorkerCapacity) -> tuple[bool, int, int]:
        """Key that sorts replicas: disturbed ones first, then those on the worker that would drain first."""
        return not self.builder.is_interfered(name, capacity), len(capacity.hosted), -number_of(capacity.name)

    def fits_without(self, candidate: RunnableVariant, capacity: WorkerCapacity) -> bool:
        """Whether the load fits as well as before without this instance."""
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
            builder.remove(name, worker, "remove", f"a person pinned that {task} has at most {maximum} instances")

    def place_best(self) -> None:
        builder = self.builder
        excluded = self.wanted.idle_tasks | self.tasks_awaiting_load()
        for name, choice in builder.ranking.best.items():
            candidate = choice.candidate
            if builder.is_placed(name) or builder.is_awaited(name) or candidate.variant.task in excluded:
                continue
            if self.may_have(candidate) and not builder.place(candidate, choice.reason):
                builder.unplaced.setdefault(name, "worth serving, but no live worker that can run it has the room")

    def tasks_awaiting_load(self) -> set[str]:
        """Tasks with a demanded variant that is still to be loaded: nothing must be loaded before it."""
        builder = self.builder
        serving = {name for (name, _worker), row in builder.rows.items() if row.state in SERVING}
        return {
            builder.variants[name].task
            for name in builder.snapshot.demand_age_s
            if name in builder.variants
            and builder.is_demanded(name)
            and builder.is_placed(name)
            and name not in serving
        }

    def move_drained(self) -> None:
        """Place elsewhere what a worker that drains has, also what is not best, but may be in use."""
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
                self.builder.limit_batch(variant, worker, limit, "larger batches would keep what is urgent waiting")
            elif limit > row.max_batch:
                self.builder.limit_batch(variant, worker, limit, "nothing so urgent has been asked for a while")

    # -- rule 9 --------------------------------------------------------------------------------------------------------

    def drop_replaced(self) -> None:
        builder = self.builder
        for variant, worker in list(builder.rows):
            capacity = builder.capacities.get(worker)
            if capacity is not None and variant in capacity.hosted:
                if not capacity.schedulable and self.is_dispensable(variant, capacity):
                    builder.remove(variant, worker, "remove", f"{worker} drains, and others serve what it served")
            elif builder.is_remembered(variant, worker):
                continue
            elif builder.is_served(variant):
                state = "is gone" if capacity is None else "cannot run it any more"
                builder.remove(variant, worker, "remove", f"{worker} {state}; another worker serves it")

    def is_dispensable(self, variant: str, capacity: WorkerCapacity) -> bool:
        """Whether a worker that drains need not serve it any longer."""
        there, wanted = self.builder.host_count(variant), self.count_of(variant)
        if there or wanted:
            return there >= max(wanted, 1)
        others = self.builder.placed_count(self.builder.variants[variant].task)
        return others > 0 and is_idle(self.builder, variant, capacity)
