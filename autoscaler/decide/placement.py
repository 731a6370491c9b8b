"""Which worker hosts what: the rules, in the order in which they act.

1. What is fine stays where it is. (Stable: deciding again on the result of a decision changes nothing.)
2. What is no longer registered goes at once, what is dominated when it has been idle for long, and all of a task that
   nobody has asked for in very long.
3. A worker that has too much gives up the longest idle first.
4. A demanded variant is placed at once; if it fits nowhere, the longest idle of one worker give way.
5. What the load needs is placed where slots are free, and on as many workers as it takes for the load to fit; what no
   load needs gives way. An instance that is disturbed gets another place.
6. Replicas beyond what is needed go where the load still fits without them.
7. What a worker that drains has, and every Pareto-best variant, is placed where it fits, the emptiest worker first. It
   displaces nothing, and the best wait until a variant of their task that queries wait for has been loaded.
8. Batches are limited to what the load allows.
9. The row of a worker that is gone or drains is deleted when the variant has a place elsewhere. Otherwise it stays: a
   worker that comes back under its name finds it there, and one that drains serves on.

Bin packing by decreasing size into the worker with the most free slots, keeping what is placed. Slots of the load are
shared among replicas as selectors would (`capacity.spread`), so that it is the load that must fit, not just a count.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from autoscaler.decide.pareto import RunnableVariant
from autoscaler.decide.placement_builder import PlacementBuilder
from autoscaler.decide.worker_capacity import WorkerCapacity, emptiest, spread
from schemas.status import SERVING
from schemas.worker_names import number_of

_SLACK: Final = 0.01
"""Slots that may be missing before a replica is worth it."""

_MayGo: TypeAlias = Callable[[str, WorkerCapacity], bool]


class DesiredInstances(msgspec.Struct, frozen=True, kw_only=True):
    """What the load, pins and demands need, by variant."""

    instances: Mapping[str, int] = {}
    kept: Mapping[str, int] = {}
    """Down to how many replicas are taken away: what was needed until lately stays for a while."""
    work: Mapping[str, float] = {}
    """Slots that its load takes."""
    rates: Mapping[str, float] = {}
    """Inputs a second."""
    maximum: Mapping[str, int] = {}
    task_maximum: Mapping[str, int] = {}
    batches: Mapping[str, int] = {}
    """Largest batch; the variant's own where nothing is said."""
    idle_tasks: frozenset[str] = frozenset()
    """Those to unload altogether."""


def place_variants(draft: PlacementBuilder, wanted: DesiredInstances) -> dict[str, float]:
    """Apply all rules; returns when variants were last moved away from a disturbance."""
    packing = _Placer(draft, wanted)
    packing.drop_unwanted()
    packing.relieve_overfull()
    packing.place_demanded()
    packing.place_wanted()
    packing.drop_surplus()
    packing.move_drained()
    packing.place_best()
    packing.drop_replaced()
    packing.limit_batches()
    draft.share()
    return packing.moved


def replace_lost(draft: PlacementBuilder) -> None:
    """Replace what is lost with its worker, and change nothing else."""
    packing = _Placer(draft, DesiredInstances(instances={name: 1 for name, _ in draft.rows if name in draft.variants}))
    packing.place_wanted()
    packing.drop_replaced()
    draft.share()


class _Placer:
    """Applies rules to a draft."""

    def __init__(self, draft: PlacementBuilder, wanted: DesiredInstances) -> None:
        self.draft = draft
        self.wanted = wanted
        self.moved = dict(draft.situation.memory.moved_s)
        self._missing: tuple[int, dict[str, float]] = -1, {}

    # -- rules 2 and 3: what leaves ------------------------------------------------------------------------------------

    def drop_unwanted(self) -> None:
        draft = self.draft
        for variant, worker in list(draft.rows):
            idle = f"{draft.situation.idle_of(variant):.0f} s"
            if variant not in draft.variants:
                draft.remove(variant, worker, "remove", "it is no longer registered as ready")
            elif self.count_of(variant):
                continue
            elif draft.variants[variant].task in self.wanted.idle_tasks:
                draft.remove(variant, worker, "unload", f"nobody asked for {draft.variants[variant].task} for {idle}")
            elif self.is_worn_out(variant):
                draft.remove(variant, worker, "remove", f"another variant beats it in everything; idle for {idle}")

    def is_worn_out(self, variant: str) -> bool:
        draft, limits = self.draft, self.draft.limits
        dominated = variant in draft.ranking.candidates and variant not in draft.ranking.best
        return dominated and draft.situation.idle_of(variant) > max(limits.keep_idle_s, limits.demand_s)

    def relieve_overfull(self) -> None:
        for room in self.draft.rooms.values():
            victims = self.draft.by_idleness(room) if room.overfull else []
            while room.overfull and victims:
                self.draft.remove(victims.pop(0), room.name, "evict", "its worker has not enough memory for all")

    # -- rule 4: what selectors asked for in vain ----------------------------------------------------------------------

    def place_demanded(self) -> None:
        draft, limits = self.draft, self.draft.limits
        demanded = [(age, name) for name, age in draft.situation.demand_age_s.items() if age <= limits.demand_s]
        for _age, variant in sorted(demanded):
            if variant in draft.variants and not draft.is_placed(variant):
                self.place_on_demand(variant)

    def place_on_demand(self, variant: str) -> None:
        draft, idle_s = self.draft, self.draft.situation.idle_of
        candidate, why = draft.ranking.candidates.get(variant), "demanded by a selector, and nobody served it"
        if candidate is None or not any(room.can_run(candidate) for room in draft.rooms.values()):
            draft.unplaced[variant] = "demanded, but no live worker has its hardware and runtime"
        elif not self.may_have(candidate):
            draft.unplaced[variant] = "demanded, but a person pinned that there are fewer"
        elif not draft.place(candidate, why):
            room = self.clear(candidate, lambda name, _: idle_s(name) >= draft.limits.evict_idle_s, "is demanded")
            if room is None:
                draft.unplaced[variant] = "demanded, but there is no memory that others do not use"
            else:
                draft.place(candidate, why, room)

    def clear(self, candidate: RunnableVariant, may_go: _MayGo, why: str) -> WorkerCapacity | None:
        """Evict the fewest on one worker so that the candidate fits; None, and nobody is evicted, if it cannot."""
        plans = [
            (victims, room)
            for room in self.draft.rooms.values()
            if room.could_take(candidate) and room.fits_alone(candidate)
            for victims in [self.victims_for(candidate, room, may_go)]
            if victims is not None
        ]
        if not plans:
            return None
        victims, room = min(plans, key=lambda plan: (len(plan[0]), *plan[1].load()))
        for victim in victims:
            self.draft.remove(victim, room.name, "evict", f"{candidate.name} {why} and needs its memory")
        return room

    def victims_for(self, candidate: RunnableVariant, room: WorkerCapacity, may_go: _MayGo) -> list[str] | None:
        """The longest idle whose leaving makes room; None if those that may go do not suffice."""
        free, places, victims = room.free_bytes, room.places - len(room.hosted), list[str]()
        for name in self.draft.by_idleness(room):
            if free >= candidate.memory_bytes and places > 0:
                break
            if may_go(name, room):
                victims.append(name)
                free, places = free + room.hosted[name].memory_bytes, places + 1
        return victims if free >= candidate.memory_bytes and places > 0 else None

    # -- rule 5: what the load needs -----------------------------------------------------------------------------------

    def place_wanted(self) -> None:
        """The largest first."""
        for name in sorted(self.wanted.instances, key=lambda name: (-self.wanted.work.get(name, 0.0), name)):
            candidate = self.draft.ranking.candidates.get(name)
            if candidate is None or self.draft.is_awaited(name):
                continue
            if self.draft.is_fresh(name) and name not in self.wanted.work:
                continue  # rule 4 did what may be done for a demand
            while self.lacks(name) and self.place_another(candidate):
                pass
            self.move_disturbed(candidate)

    def lacks(self, name: str) -> bool:
        """Whether there are too few, or others take the slots where they are."""
        return self.lacks_instances(name) or self.missing().get(name, 0.0) > _SLACK

    def lacks_instances(self, name: str) -> bool:
        return len(self.draft.hosts(name)) < self.wanted.instances[name]

    def missing(self) -> dict[str, float]:
        """By variant, slots of the load that find no instance with a slot for them."""
        if self._missing[0] != self.draft.revision:
            self._missing = self.draft.revision, spread(self.wanted.work, self.draft.rooms.values())
        return self._missing[1]

    def place_another(self, candidate: RunnableVariant) -> bool:
        name, too_few = candidate.name, self.lacks_instances(candidate.name)
        if not self.may_have(candidate):
            return False
        self.missing()  # which says how busy workers are
        room = emptiest(self.draft.rooms.values() if too_few else self.free(), candidate)
        if room is None and too_few:
            room = self.clear(candidate, self.is_spare, "is needed for the load")
            if room is None:
                wanted = self.wanted.instances[name]
                self.draft.unplaced[name] = (
                    f"{wanted} of it are needed, but no live worker that can run it has the room"
                )
        return room is not None and self.draft.place(candidate, self.why(name), room, **self.numbers(name))

    def free(self) -> list[WorkerCapacity]:
        """Workers with slots that the load does not take."""
        return [room for room in self.draft.rooms.values() if room.worker.slots - room.busy > _SLACK]

    def is_spare(self, name: str, room: WorkerCapacity) -> bool:
        """Whether the load does without this instance."""
        if self.draft.is_fresh(name):
            return False
        others = len(self.draft.hosts(name)) - 1
        return others >= self.wanted.instances.get(name, 0)

    def move_disturbed(self, candidate: RunnableVariant) -> None:
        """Another place for an instance that is slower than profiled."""
        draft, name, now_s = self.draft, candidate.name, self.draft.situation.observed_s
        disturbed = [room for room in draft.hosts(name) if draft.is_interfered(name, room)]
        waited = name not in self.moved or now_s - self.moved[name] > draft.limits.disturbed_s
        if (
            not disturbed
            or not waited
            or not self.wanted.work.get(name)
            or len(draft.hosts(name)) > self.count_of(name)
        ):
            return
        calm = emptiest((room for room in self.free() if not room.disturbed), candidate)
        if calm is not None:
            self.moved[name] = now_s
            why = f"on {disturbed[0].name} it is slower than profiled, and not for its load"
            draft.place(candidate, why, calm)
            draft.remove(name, disturbed[0].name, "remove", f"{why}; another place was found")

    def count_of(self, name: str) -> int:
        return self.wanted.instances.get(name, 0)

    def may_have(self, candidate: RunnableVariant) -> bool:
        """Whether pins allow another instance."""
        name, task = candidate.name, candidate.variant.task
        hosts = len(self.draft.hosts(name))
        if hosts >= self.wanted.maximum.get(name, hosts + 1):
            return False
        return task not in self.wanted.task_maximum or self.draft.placed_of(task) < self.wanted.task_maximum[task]

    def why(self, name: str) -> str:
        work, rate = self.wanted.work.get(name, 0.0), self.wanted.rates.get(name, 0.0)
        if not work:
            return f"{self.wanted.instances[name]} of it shall be there, whatever the load"
        task = self.draft.variants[name].task
        return f"{rate:.3g} inputs/s of {task} are best given to it, which takes {work:.2g} slots"

    def numbers(self, name: str) -> dict[str, Any]:
        work, rate = self.wanted.work.get(name, 0.0), self.wanted.rates.get(name, 0.0)
        return {"wanted": self.count_of(name), "slots": round(work, 3), "inputs_per_s": round(rate, 3)}

    # -- rules 6 and 7: what is too much, and what there is room for ---------------------------------------------------

    def drop_surplus(self) -> None:
        for name in sorted({variant for variant, _ in self.draft.rows}):
            candidate = self.draft.ranking.candidates.get(name)
            if candidate is not None:
                self.drop_surplus_of(candidate)
        for task, maximum in self.wanted.task_maximum.items():
            self.drop_pinned_off(task, maximum)

    def drop_surplus_of(self, candidate: RunnableVariant) -> None:
        name = candidate.name
        maximum = self.wanted.maximum.get(name, len(self.draft.rooms))
        keep = min(max(self.wanted.kept.get(name, 0), self.count_of(name), 1), maximum)
        for room in sorted(self.draft.hosts(name), key=lambda room: self.leaves_first(name, room)):
            there = len(self.draft.hosts(name))
            if there <= keep:
                return
            if there > maximum:
                self.draft.remove(name, room.name, "remove", f"a person pinned that there are at most {maximum}")
            elif self.fits_without(candidate, room):
                why = f"{keep} of it have been enough for a while"
                self.draft.remove(name, room.name, "remove", why, **self.numbers(name))

    def leaves_first(self, name: str, room: WorkerCapacity) -> tuple[bool, int, int]:
        """Sorts replicas: disturbed ones first, then those on the worker that would drain first."""
        return not self.draft.is_interfered(name, room), len(room.hosted), -number_of(room.name)

    def fits_without(self, candidate: RunnableVariant, room: WorkerCapacity) -> bool:
        """Whether the load fits as well as before without this instance."""
        before = sum(self.missing().values())
        del room.hosted[candidate.name]
        after = sum(spread(self.wanted.work, self.draft.rooms.values()).values())
        room.hosted[candidate.name] = candidate
        self._missing = -1, {}
        return after <= before + _SLACK / 2

    def drop_pinned_off(self, task: str, maximum: int) -> None:
        draft = self.draft
        spare = sorted(
            (self.count_of(name) > 0, -draft.situation.idle_of(name), name, room.name)
            for room in draft.rooms.values()
            if room.open
            for name, candidate in room.hosted.items()
            if candidate.variant.task == task
        )
        for _, _, name, worker in spare[: max(len(spare) - maximum, 0)]:
            draft.remove(name, worker, "remove", f"a person pinned that {task} has at most {maximum} instances")

    def place_best(self) -> None:
        draft = self.draft
        not_now = self.wanted.idle_tasks | self.cold_tasks()
        for name, choice in draft.ranking.best.items():
            candidate = choice.candidate
            if draft.is_placed(name) or draft.is_awaited(name) or candidate.variant.task in not_now:
                continue
            if self.may_have(candidate) and not draft.place(candidate, choice.reason):
                draft.unplaced.setdefault(name, "worth serving, but no live worker that can run it has the room")

    def cold_tasks(self) -> set[str]:
        """Tasks with a demanded variant that is still to be loaded: nothing must be loaded before it."""
        draft = self.draft
        serving = {name for (name, _worker), row in draft.rows.items() if row.state in SERVING}
        return {
            draft.variants[name].task
            for name in draft.situation.demand_age_s
            if name in draft.variants and draft.is_fresh(name) and draft.is_placed(name) and name not in serving
        }

    def move_drained(self) -> None:
        """What a worker that drains has, also what is not best, but may be in use."""
        draft = self.draft
        for room in draft.rooms.values():
            for name, candidate in list(room.hosted.items()) if not room.open else []:
                idle = candidate.variant.task in self.wanted.idle_tasks
                if not draft.is_placed(name) and not idle and self.may_have(candidate):
                    draft.place(candidate, f"{room.name} drains")

    # -- rule 8 --------------------------------------------------------------------------------------------------------

    def limit_batches(self) -> None:
        for (variant, worker), row in list(self.draft.rows.items()):
            limit = self.wanted.batches.get(variant, row.max_batch)
            if limit < row.max_batch:
                self.draft.limit(variant, worker, limit, "larger batches would keep what is urgent waiting")
            elif limit > row.max_batch:
                self.draft.limit(variant, worker, limit, "nothing so urgent has been asked for a while")

    # -- rule 9 --------------------------------------------------------------------------------------------------------

    def drop_replaced(self) -> None:
        draft = self.draft
        for variant, worker in list(draft.rows):
            room = draft.rooms.get(worker)
            if room is not None and variant in room.hosted:
                if not room.open and self.is_dispensable(variant):
                    draft.remove(variant, worker, "remove", f"{worker} drains, and others serve what it served")
            elif draft.is_served(variant):
                state = "is gone" if room is None else "cannot run it any more"
                draft.remove(variant, worker, "remove", f"{worker} {state}; another worker serves it")

    def is_dispensable(self, variant: str) -> bool:
        """Whether a worker that drains need not serve it any longer."""
        there, wanted = len(self.draft.hosts(variant)), self.count_of(variant)
        if there or wanted:
            return there >= max(wanted, 1)
        is_idle = self.draft.situation.idle_of(variant) >= self.draft.limits.evict_idle_s
        return is_idle and self.draft.placed_of(self.draft.variants[variant].task) > 0
