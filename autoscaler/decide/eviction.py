"""Eviction by cost of a miss: frees memory on one worker with the fewest evictions, lowest cost first.

A query for a variant that is not loaded waits for its load. So the cost of a miss is the load time multiplied by the
rate of use (`PlacementBuilder.eviction_cost`), and the value of keeping an instance is that cost per byte:
GreedyDual-Size with frequencies (Cherkasova, 1998). Idle instances are evicted for demanded variants, but only after
they were idle for some multiple of their load time.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeAlias

from autoscaler.decide.pareto import RunnableVariant
from autoscaler.decide.placement_builder import PlacementBuilder
from autoscaler.decide.worker_capacity import WorkerCapacity

MayGo: TypeAlias = Callable[[str, WorkerCapacity], bool]
"""Returns true if a variant may be evicted from a worker."""


def make_room_on_demand(builder: PlacementBuilder, candidate: RunnableVariant) -> WorkerCapacity | None:
    """Evict idle instances for a demanded variant."""
    capacities = builder.order.all_of(candidate.variant.hardware)
    return _make_room(builder, candidate, capacities, partial(is_idle, builder), "is demanded")


def make_room_for_load(builder: PlacementBuilder, candidate: RunnableVariant, may_go: MayGo) -> WorkerCapacity | None:
    """Evict instances that `may_go` allows, for a variant that the load needs."""
    capacities = builder.order.all_of(candidate.variant.hardware)
    return _make_room(builder, candidate, capacities, may_go, "is needed for the load")


def is_idle(builder: PlacementBuilder, name: str, capacity: WorkerCapacity) -> bool:
    """Return true if an instance has been unused long enough to be evicted.

    A demanded variant that is not loaded yet does not count as idle until its demand expires.
    """
    limits, load_s = builder.limits, capacity.hosted[name].load_s
    if builder.is_demanded(name) and not builder.is_loaded(name, capacity):
        return False
    return builder.snapshot.idle_of(name) >= max(limits.evict_idle_s, limits.evict_idle_loads * load_s)


def _make_room(
    builder: PlacementBuilder, candidate: RunnableVariant, capacities: Iterable[WorkerCapacity], may_go: MayGo, why: str
) -> WorkerCapacity | None:
    """Evict the fewest instances of one worker that make the candidate fit; None, and no eviction, if none can."""
    best: tuple[int, WorkerCapacity, list[str]] | None = None
    for capacity in capacities:
        if capacity.could_take(candidate) and capacity.fits_alone(candidate):
            victims = _victims(builder, candidate, capacity, may_go)
            if victims is not None and (best is None or len(victims) < best[0]):
                best = len(victims), capacity, victims
                if len(victims) <= 1:  # the minimum: with no eviction it would have been placed already
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
    """Return the variants to evict, in order, so that the candidate fits; None if it cannot fit."""
    free, instances_left, victims = capacity.free_bytes, capacity.max_instances - len(capacity.hosted), list[str]()
    for name in builder.eviction_order(capacity):
        if free >= candidate.memory_bytes and instances_left > 0:
            break
        if may_go(name, capacity):
            victims.append(name)
            free, instances_left = free + capacity.hosted[name].memory_bytes, instances_left + 1
    return victims if free >= candidate.memory_bytes and instances_left > 0 else None
