"""The decision: which instances should exist, given those that do.

Rules, in the order in which they act:
1. What is fine stays where it is: on a live worker that can run it and has the room. (Stable: deciding again on the
   result of a decision changes nothing.)
2. What is no longer registered goes at once; what is dominated goes when it has been idle for long.
3. A worker that has too much gives up the longest idle first.
4. A demanded variant is placed at once; if it fits nowhere, the longest idle of one worker give way.
5. Every Pareto-best variant is placed where it fits, the emptiest worker first; it displaces nothing.
6. The row of a dead worker is deleted when the variant has a place elsewhere. Otherwise it stays, and the worker finds
   it there when it comes back under its name.
7. The partitions of a variant belong to exactly one of its live instances each.
"""

from collections import defaultdict
from typing import Any

import msgspec

from autoscaler.decide.capacity import Room, emptiest
from autoscaler.decide.pareto import Candidate, Ranking
from autoscaler.decide.partitions import share_partitions
from autoscaler.decide.situation import Change, Limits, Plan, Situation
from schemas.records import InstanceRow, Variant

_Key = tuple[str, str]


def decide(variants: dict[str, Variant], ranking: Ranking, situation: Situation, limits: Limits) -> Plan:
    """What to change. `variants` are all that are ready, `ranking` those of them that live workers can run."""
    if not situation.known:
        return Plan()
    draft = _Draft(variants, ranking, situation, limits)
    draft.drop_unwanted()
    draft.relieve_overfull()
    draft.place_demanded()
    draft.place_best()
    draft.drop_replaced()
    draft.share()
    return Plan(changes=tuple(draft.changes.values()), unplaced=draft.unplaced)


class _Draft:
    """A plan in the making: the rows as they would be after the changes so far."""

    def __init__(self, variants: dict[str, Variant], ranking: Ranking, situation: Situation, limits: Limits) -> None:
        self.variants = variants
        self.ranking = ranking
        self.situation = situation
        self.limits = limits
        self.rooms = {w.name: Room(w, limits) for w in situation.workers if w.alive}
        self.rows: dict[_Key, InstanceRow] = {(row.variant, row.worker): row for row in situation.instances}
        self.changes: dict[_Key, Change] = {}
        self.unplaced: dict[str, str] = {}
        for variant, worker in self.rows:
            candidate, room = ranking.candidates.get(variant), self.rooms.get(worker)
            if candidate and room and room.can_run(candidate):
                room.hosted[variant] = candidate

    # -- rules 2 and 3: what leaves ------------------------------------------------------------------------------------

    def drop_unwanted(self) -> None:
        for variant, worker in list(self.rows):
            if variant not in self.variants:
                self.remove(variant, worker, "remove", "it is no longer registered as ready")
            elif self.is_worn_out(variant):
                idle = f"{self.situation.idle_of(variant):.0f} s"
                self.remove(variant, worker, "remove", f"another variant beats it in everything; idle for {idle}")

    def is_worn_out(self, variant: str) -> bool:
        dominated = variant in self.ranking.candidates and variant not in self.ranking.best
        return dominated and self.situation.idle_of(variant) > max(self.limits.keep_idle_s, self.limits.demand_s)

    def relieve_overfull(self) -> None:
        for room in self.rooms.values():
            victims = self.by_idleness(room)
            while room.overfull and victims:
                self.remove(victims.pop(0), room.worker.name, "evict", "its worker has not enough memory for all")

    def by_idleness(self, room: Room) -> list[str]:
        """Who would leave first: the longest idle, but the last live instance of a task after all others."""
        living: defaultdict[str, int] = defaultdict(int)
        for other in self.rooms.values():
            for candidate in other.hosted.values():
                living[candidate.variant.task] += 1

        def order(name: str) -> tuple[bool, float, int, str]:
            choice, task = self.ranking.best.get(name), room.hosted[name].variant.task
            return living[task] == 1, -self.situation.idle_of(name), -(choice.rank if choice else 10**9), name

        return sorted(room.hosted, key=order)

    # -- rules 4 and 5: what comes -------------------------------------------------------------------------------------

    def place_demanded(self) -> None:
        demanded = [(age, name) for name, age in self.situation.demand_age_s.items() if age <= self.limits.demand_s]
        for _age, variant in sorted(demanded):
            candidate = self.ranking.candidates.get(variant)
            if variant not in self.variants or self.is_placed(variant):
                continue
            if candidate is None:
                self.unplaced[variant] = "demanded, but no live worker has its hardware and runtime"
            elif not self.place(candidate, "demanded by a selector, and nobody served it"):
                self.make_room_for(candidate)

    def make_room_for(self, candidate: Candidate) -> None:
        plans = [
            (victims, room)
            for room in self.rooms.values()
            if room.can_run(candidate) and room.fits_alone(candidate)
            for victims in [self.victims_for(candidate, room)]
            if victims is not None
        ]
        if not plans:
            self.unplaced[candidate.name] = "demanded, but there is no memory that others do not use"
            return
        victims, room = min(plans, key=lambda plan: (len(plan[0]), *plan[1].load()))
        for victim in victims:
            self.remove(victim, room.worker.name, "evict", f"{candidate.name} is demanded and needs its memory")
        self.place(candidate, "demanded by a selector, and nobody served it")

    def victims_for(self, candidate: Candidate, room: Room) -> list[str] | None:
        """The longest idle whose leaving makes room; None if those idle long enough do not suffice."""
        free, places, victims = room.free_bytes, room.places - len(room.hosted), list[str]()
        for name in self.by_idleness(room):
            if free >= candidate.memory_bytes and places > 0:
                break
            if self.situation.idle_of(name) >= self.limits.evict_idle_s:
                victims.append(name)
                free, places = free + room.hosted[name].memory_bytes, places + 1
        return victims if free >= candidate.memory_bytes and places > 0 else None

    def place_best(self) -> None:
        for name, choice in self.ranking.best.items():
            if self.is_placed(name) or self.is_awaited(name):
                continue
            if not self.place(choice.candidate, choice.reason):
                self.unplaced.setdefault(name, "worth serving, but no live worker that can run it has the room")

    def is_placed(self, variant: str) -> bool:
        return any(variant in room.hosted for room in self.rooms.values())

    def is_awaited(self, variant: str) -> bool:
        """Whether a worker that may only be starting has it."""
        return self.situation.observed_s < self.limits.settle_s and any(key[0] == variant for key in self.rows)

    def place(self, candidate: Candidate, reason: str) -> bool:
        room = emptiest(self.rooms.values(), candidate)
        if room is None:
            return False
        variant, worker = candidate.variant, room.worker.name
        lost = sorted(key[1] for key in self.rows if key[0] == variant.name)
        why = f"{reason}; {', '.join(lost)} no longer serves it" if lost else reason
        row = InstanceRow(
            variant=variant.name,
            worker=worker,
            partitions=tuple(range(variant.partitions)),
            max_batch=variant.max_batch,
            reason=why,
        )
        inputs = self.facts(candidate, room)
        self.rows[variant.name, worker] = row
        room.hosted[variant.name] = candidate
        self.changes[variant.name, worker] = Change(
            action="replace" if lost else "place",
            variant=variant.name,
            worker=worker,
            reason=why,
            wanted=row,
            inputs=inputs,
        )
        return True

    # -- rules 6 and 7 -------------------------------------------------------------------------------------------------

    def drop_replaced(self) -> None:
        for variant, worker in list(self.rows):
            room = self.rooms.get(worker)
            hosted = room is not None and variant in room.hosted
            if not hosted and self.is_placed(variant):
                state = "is gone" if room is None else "cannot run it any more"
                self.remove(variant, worker, "remove", f"{worker} {state}; another worker serves it")

    def share(self) -> None:
        held: defaultdict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
        for (variant, worker), row in self.rows.items():
            room = self.rooms.get(worker)
            if room is not None and variant in room.hosted:
                held[variant][worker] = row.partitions
        for variant, workers in held.items():
            shares = share_partitions(self.variants[variant].partitions, workers)
            for worker, partitions in shares.items():
                if partitions != workers[worker]:
                    self.rewrite(variant, worker, partitions)

    def rewrite(self, variant: str, worker: str, partitions: tuple[int, ...]) -> None:
        row = msgspec.structs.replace(self.rows[variant, worker], partitions=partitions)
        self.rows[variant, worker] = row
        earlier = self.changes.get((variant, worker))
        self.changes[variant, worker] = Change(
            action=earlier.action if earlier else "share",
            variant=variant,
            worker=worker,
            reason=earlier.reason if earlier else "each partition belongs to exactly one live instance",
            wanted=row,
            inputs=(earlier.inputs if earlier else {}) | {"partitions": list(partitions)},
        )

    # -- shared --------------------------------------------------------------------------------------------------------

    def remove(self, variant: str, worker: str, action: str, reason: str) -> None:
        del self.rows[variant, worker]
        room, candidate = self.rooms.get(worker), self.ranking.candidates.get(variant)
        inputs = self.facts(candidate, room) if room and candidate else {}
        if room is not None:
            room.hosted.pop(variant, None)
        self.changes[variant, worker] = Change(
            action=action, variant=variant, worker=worker, reason=reason, inputs=inputs
        )

    def facts(self, candidate: Candidate, room: Room) -> dict[str, Any]:
        """What a person would ask for who doubts the decision."""
        idle_s = self.situation.idle_of(candidate.name)
        return {
            "accuracy": candidate.accuracy,
            "latency_s": candidate.latency_s,
            "cost_per_1000": candidate.cost,
            "memory_bytes": candidate.memory_bytes,
            "worker_free_bytes": room.free_bytes,
            "worker_instances": len(room.hosted),
            "worker_slots": room.worker.slots,
            "idle_s": None if idle_s == float("inf") else idle_s,
        }
