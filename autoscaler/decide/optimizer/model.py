"""The allocation problem: requirements, the options to serve them, and costs.

    minimise    workers' prices + the starting of new ones
              + hold cost * (instances + loading of new ones)             INFaaS's C (N + lambda T max(delta, 0))
              + share of requirements * (cost of slots, cost of lost accuracy)
              + penalty * unserved share of requirements
    such that   an instance fills at most its slots:                      used slots <= instances * slots of each
                a requirement is served only by its options               (accurate and fast enough)
                a hardware type has enough slots, memory and places       (in sum: placement picks the worker)
                bounds

A running worker is paid in full, so the resources that an instance takes on it count only with a small weight: they
decide between variants that would both do. A requirement is a stream of queries with equal needs. Pins and demands are
requirements of rate 0: they take an instance but no slots. Costs are in USD per hour.

The penalty for unserved load is far above any price. So accuracy is given up before load, and both only when no more
workers may run.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from schemas.load_classes import LoadClass

EPSILON: Final = 1e-6


class VariantSpec(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A variant that may have instances."""

    name: str
    task: str
    pool: int
    """Index of its pool in the problem."""
    memory_bytes: float
    hold_cost: float
    """Cost of holding one instance."""
    load_cost: float
    """One-time cost of loading another instance."""
    now: int
    """Current number of instances."""
    maximum: int
    slots: float = 1.0
    """Number of slots that an instance may fill."""


class WorkerPool(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Pool of the workers of one hardware type, treated as equal."""

    hardware: str
    price: float
    """Price of one worker."""
    slots: float
    """Slots of each worker; a slot has `threads` cores."""
    memory_bytes: float
    instances_per_worker: float
    """Number of places for instances on a worker."""
    now: int
    """Current number of workers, starting ones included."""
    minimum: int
    maximum: int
    threads: int = 1


class ServingOption(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A variant that may serve a requirement. Numbers are for the whole requirement."""

    variant: int
    """Index of the variant in the problem."""
    slots: float = 0.0
    """Number of slots that it takes, headroom included."""
    batch: int = 0
    """Profiled batch size with the highest throughput per slot within the latency; 0 without load."""
    floor: int = 1
    """Number of instances below which the option serves nothing."""
    slot_cost: float = 0.0
    """Cost of its slots."""
    loss_cost: float = 0.0
    """Cost of the accuracy lost against the best option."""


class Requirement(msgspec.Struct, frozen=True, kw_only=True):
    """A requirement to serve: load of a class, a pin or a demand."""

    task: str
    options: tuple[ServingOption, ...]
    penalty: float
    """Cost of leaving it unserved."""
    rate: float = 0.0
    """Inputs a second."""
    mean_batch: float = 1.0
    """Mean inputs of a query."""
    load_class: LoadClass | None = None


class AllocationProblem(msgspec.Struct, frozen=True, kw_only=True):
    """An allocation problem: requirements, and the variants and workers that may exist."""

    variants: tuple[VariantSpec, ...] = ()
    pools: tuple[WorkerPool, ...] = ()
    requirements: tuple[Requirement, ...] = ()
    task_maximum: dict[str, int] = {}
    """Pinned maximum of instances over all variants, by task."""


class Allocation(msgspec.Struct, frozen=True, kw_only=True):
    """An allocation of instances and workers, in the order of the problem's variants and pools."""

    instances: tuple[int, ...] = ()
    workers: tuple[int, ...] = ()
    shares: dict[tuple[int, int], float] = {}
    """Share of a requirement that goes to an option, by the indices of both."""


def cost(problem: AllocationProblem, allocation: Allocation) -> float:
    """Return the cost of an allocation; lower is better."""
    total = 0.0
    for pool, workers in zip(problem.pools, allocation.workers, strict=True):
        total += pool.price * workers
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
    """Return the served share of each requirement."""
    shares = [0.0] * len(problem.requirements)
    for (number, _place), share in allocation.shares.items():
        shares[number] += share
    return [min(share, 1.0) for share in shares]


def slots_used(problem: AllocationProblem, shares: Mapping[tuple[int, int], float]) -> list[float]:
    """Return the number of slots that shares take, by variant."""
    used = [0.0] * len(problem.variants)
    for (number, option_number), share in shares.items():
        option = problem.requirements[number].options[option_number]
        used[option.variant] += share * option.slots
    return used


def violations(problem: AllocationProblem, allocation: Allocation) -> list[str]:
    """List the constraints that an allocation breaks, in words: for tests, and to check a solver's result."""
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
    """Return the number of instances by task."""
    counts: defaultdict[str, int] = defaultdict(int)
    for variant, count in zip(problem.variants, instances, strict=True):
        counts[variant.task] += count
    return counts
