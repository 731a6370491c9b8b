"""The allocation problem in numbers: what must be served, by what it can be, and what that costs.

    minimise    workers' prices + the starting of new ones
              + hold cost * (instances + loading of new ones)             INFaaS's C (N + lambda T max(delta, 0))
              + share of requirements * (slots taken, accuracy that is lost)
              + penalty * share of requirements that is not served
    such that   an instance fills the slots that it may:                  slots used <= slots of each * instances
                a requirement is served only by its options               (what it accepts, in time)
                the workers of a type have the slots, memory and places   (in sum: placement says which worker)
                bounds

A worker that runs is paid for in full, so what an instance takes of it is weighed only a little: to prefer the smaller
where both would do. A requirement is a stream of queries that ask for the same; what a person pins and what is demanded
are requirements of rate 0, which take no slots but an instance. Costs are USD an hour.

The penalty of not serving is far above any price, so accuracy is given up before load is, and both only where the
workers that may run are used up.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from schemas.load_classes import LoadClass

EPSILON: Final = 1e-6


class VariantSpec(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Variant of which there may be instances."""

    name: str
    task: str
    pool: int
    """Index of its pool among the problem's."""
    memory_bytes: float
    hold_cost: float
    """Cost of holding one instance."""
    load_cost: float
    """Cost of loading another one, once."""
    now: int
    """Number of instances there are."""
    maximum: int
    slots: float = 1.0
    """Number of slots that an instance may fill."""


class WorkerPool(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Pool of the workers of one hardware type, taken as equal."""

    hardware: str
    price: float
    """Price of one worker."""
    start_cost: float
    """Cost of starting another one, once."""
    slots: float
    """Slots of each; a slot has `threads` cores."""
    memory_bytes: float
    instances_per_worker: float
    """Number of places for instances on a worker."""
    now: int
    """Number of workers there are, or are being started."""
    minimum: int
    maximum: int
    threads: int = 1


class ServingOption(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Variant that may serve a requirement. Numbers are for the whole requirement."""

    variant: int
    """Index of the variant among the problem's."""
    slots: float = 0.0
    """Number of slots it takes, headroom included."""
    batch: int = 0
    """Size of the batches by which a slot serves the most in time, as profiled; 0 if there is no load."""
    floor: int = 1
    """Number of instances below which it serves nothing."""
    slot_cost: float = 0.0
    """Cost of the slots it takes."""
    loss_cost: float = 0.0
    """Cost of the accuracy that is lost against the best option."""


class Requirement(msgspec.Struct, frozen=True, kw_only=True):
    """Requirement that must be served: load of a class, a pin or a demand."""

    task: str
    options: tuple[ServingOption, ...]
    penalty: float
    """Cost of serving nothing of it."""
    rate: float = 0.0
    """Inputs a second."""
    load_class: LoadClass | None = None


class AllocationProblem(msgspec.Struct, frozen=True, kw_only=True):
    """Allocation problem: requirements, and the variants and workers there may be."""

    variants: tuple[VariantSpec, ...] = ()
    pools: tuple[WorkerPool, ...] = ()
    requirements: tuple[Requirement, ...] = ()
    task_maximum: dict[str, int] = {}
    """Number of instances of all variants that a person allows, by task."""


class Allocation(msgspec.Struct, frozen=True, kw_only=True):
    """Allocation of instances and workers, in the order of the problem's variants and pools."""

    instances: tuple[int, ...] = ()
    workers: tuple[int, ...] = ()
    shares: dict[tuple[int, int], float] = {}
    """Share of a requirement that goes to an option, by the numbers of both."""


def cost(problem: AllocationProblem, allocation: Allocation) -> float:
    """Cost of an allocation; lower is better."""
    total = 0.0
    for pool, workers in zip(problem.pools, allocation.workers, strict=True):
        total += pool.price * workers + pool.start_cost * max(workers - pool.now, 0)
    for variant, count in zip(problem.variants, allocation.instances, strict=True):
        total += variant.hold_cost * count + variant.load_cost * max(count - variant.now, 0)
    for (number, option_number), share in allocation.shares.items():
        option = problem.requirements[number].options[option_number]
        total += share * (option.slot_cost + option.loss_cost)
    return total + sum(
        requirement.penalty * (1.0 - share)
        for requirement, share in zip(problem.requirements, served(problem, allocation), strict=True)
    )


def served(problem: AllocationProblem, allocation: Allocation) -> list[float]:
    """Share of each requirement that is served."""
    shares = [0.0] * len(problem.requirements)
    for (number, _place), share in allocation.shares.items():
        shares[number] += share
    return [min(share, 1.0) for share in shares]


def slots_used(problem: AllocationProblem, shares: Mapping[tuple[int, int], float]) -> list[float]:
    """Number of slots that shares take, by variant."""
    used = [0.0] * len(problem.variants)
    for (number, option_number), share in shares.items():
        option = problem.requirements[number].options[option_number]
        used[option.variant] += share * option.slots
    return used


def violations(problem: AllocationProblem, allocation: Allocation) -> list[str]:
    """List the constraints that an allocation breaks, in words; for tests and for distrust of a solver."""
    found = list[str]()
    used = slots_used(problem, allocation.shares)
    for index, variant in enumerate(problem.variants):
        count = allocation.instances[index]
        if used[index] > count * variant.slots + EPSILON:
            found.append(f"{variant.name}: {used[index]:.6g} slots on {count} instances")
        if count > variant.maximum:
            found.append(f"{variant.name}: {count} instances, at most {variant.maximum}")
        if count > allocation.workers[variant.pool]:
            found.append(f"{variant.name}: {count} instances on {allocation.workers[variant.pool]} workers")
    for index, pool in enumerate(problem.pools):
        found += _overfull(problem, allocation, index, pool, used)
    for (number, option_number), share in allocation.shares.items():
        option = problem.requirements[number].options[option_number]
        if share * option.floor > allocation.instances[option.variant] + EPSILON:
            found.append(
                f"{problem.variants[option.variant].name}: under {option.floor} instances serve requirement {number}"
            )
    for task, count in instances_by_task(problem, allocation.instances).items():
        if count > problem.task_maximum.get(task, count):
            found.append(f"{task}: {count} instances")
    return found


def _overfull(
    problem: AllocationProblem, allocation: Allocation, index: int, pool: WorkerPool, used: Sequence[float]
) -> list[str]:
    workers = allocation.workers[index]
    mine = [i for i, variant in enumerate(problem.variants) if variant.pool == index]
    amounts = {
        "slots": (sum(used[i] for i in mine), pool.slots),
        "bytes": (sum(problem.variants[i].memory_bytes * allocation.instances[i] for i in mine), pool.memory_bytes),
        "places": (sum(allocation.instances[i] for i in mine), pool.instances_per_worker),
    }
    found = [
        f"{pool.hardware}: {amount:.6g} {what} on {workers} workers"
        for what, (amount, each) in amounts.items()
        if amount > each * workers * (1 + EPSILON) + EPSILON
    ]
    if not pool.minimum <= workers <= pool.maximum:
        found.append(f"{pool.hardware}: {workers} workers")
    return found


def instances_by_task(problem: AllocationProblem, instances: Sequence[int]) -> dict[str, int]:
    """Number of instances per task."""
    counts: defaultdict[str, int] = defaultdict(int)
    for variant, count in zip(problem.variants, instances, strict=True):
        counts[variant.task] += count
    return counts
