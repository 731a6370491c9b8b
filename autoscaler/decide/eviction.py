"""What gives way where not all fits: of one worker, the fewest that make room, the cheapest to be without first.

Who asks for a variant that is not loaded waits for a load, so being without one costs that time as often as it is asked
for (`PlacementBuilder.absence_cost`), and that for each byte is what it is worth to keep: GreedyDual-Size with
frequencies (Cherkasova, 1998). What is idle gives way to what is demanded, but not before it was idle for some of its
load times, and not for what its worker would only load later.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, TypeAlias

from autoscaler.decide.pareto import RunnableVariant
from autoscaler.decide.placement_builder import PlacementBuilder
from autoscaler.decide.worker_capacity import WorkerCapacity

LOADS_AHEAD: Final = 2
"""Loads for which a worker gives something up: the one that it does, and the next. It does one after the other, and
what waited for the others would have been of use meanwhile."""
MayGo: TypeAlias = Callable[[str, WorkerCapacity], bool]
"""Says whether a variant may leave a worker."""


def make_room_on_demand(builder: PlacementBuilder, candidate: RunnableVariant) -> WorkerCapacity | None:
    """Make room for a variant that is demanded, on a worker that would load it soon and where others are idle."""
    capacities = builder.order.all_of(candidate.variant.hardware)
    soon = (capacity for capacity in capacities if builder.loading_count(capacity) < LOADS_AHEAD)
    return _make_room(builder, candidate, soon, partial(is_idle, builder), "is demanded")


def make_room_for_load(builder: PlacementBuilder, candidate: RunnableVariant, may_go: MayGo) -> WorkerCapacity | None:
    """Make room for a variant that the load needs, as far as others may go."""
    capacities = builder.order.all_of(candidate.variant.hardware)
    return _make_room(builder, candidate, capacities, may_go, "is needed for the load")


def is_idle(builder: PlacementBuilder, name: str, capacity: WorkerCapacity) -> bool:
    """Whether nobody has asked for an instance for so long that it need not be there.

    What was demanded itself is loaded before that, or has been demanded in vain for too long.
    """
    limits, load_s = builder.limits, capacity.hosted[name].load_s
    if builder.is_demanded(name) and not builder.is_loaded(name, capacity):
        return False
    return builder.snapshot.idle_of(name) >= max(limits.evict_idle_s, limits.evict_idle_loads * load_s)


def _make_room(
    builder: PlacementBuilder,
    candidate: RunnableVariant,
    capacities: Iterable[WorkerCapacity],
    may_go: MayGo,
    why: str,
) -> WorkerCapacity | None:
    """Evict the fewest on one worker so that the candidate fits; None, and nobody is evicted, if it cannot."""
    best: tuple[int, WorkerCapacity, list[str]] | None = None
    for capacity in capacities:
        if capacity.could_take(candidate) and capacity.fits_alone(candidate):
            victims = _victims(builder, candidate, capacity, may_go)
            if victims is not None and (best is None or len(victims) < best[0]):
                best = len(victims), capacity, victims
                if len(victims) <= 1:  # less would not do, or it would fit already
                    break
    if best is None:
        return None
    _, capacity, victims = best
    for victim in victims:
        builder.remove(victim, capacity.name, "evict", f"{candidate.name} {why} and needs its memory")
    return capacity


def _victims(
    builder: PlacementBuilder, candidate: RunnableVariant, capacity: WorkerCapacity, may_go: MayGo
) -> list[str] | None:
    """Variants, in the order in which they leave, that make room by leaving; None if those that may are too few."""
    free, instances_left, victims = capacity.free_bytes, capacity.max_instances - len(capacity.hosted), list[str]()
    for name in builder.eviction_order(capacity):
        if free >= candidate.memory_bytes and instances_left > 0:
            break
        if may_go(name, capacity):
            victims.append(name)
            free, instances_left = free + capacity.hosted[name].memory_bytes, instances_left + 1
    return victims if free >= candidate.memory_bytes and instances_left > 0 else None
