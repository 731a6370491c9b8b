"""How much of what should run, as a problem in numbers: what must be served, by what it can be, and what it costs.

    minimise    workers' prices + the loading of new ones
              + hold * (instances + loading of new ones)                  INFaaS's C (N + lambda T max(delta, 0))
              + share of needs * (slots taken, accuracy that is lost)
              + penalty * share of needs that is not served
    such that   an instance computes one batch at a time:                 slots used <= instances
                a need is served only by what it accepts in time          (others are not among its options)
                the workers of a type have the slots, memory and places   summed up: which worker is packing's affair
                bounds

A worker that runs is paid for in full, so what an instance takes of it is weighed only a little: to prefer the smaller
where both would do. A need is a stream of queries that ask for the same; what a person pins and what every task keeps
warm are needs of rate 0, which take no slots but an instance. Costs are USD an hour.

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
    """A variant."""

    name: str
    task: str
    pool: int
    memory_bytes: float
    hold: float
    """Of one instance."""
    load: float
    """Of loading another one, once."""
    now: int
    """Instances there are."""
    maximum: int


class WorkerPool(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The workers of one hardware type, taken as equal."""

    hardware: str
    price: float
    """Of one worker."""
    start: float
    """Of starting another one, once."""
    slots: float
    memory_bytes: float
    places: float
    now: int
    minimum: int
    maximum: int


class ServingOption(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A kind that may serve a need. Numbers are for the whole need."""

    kind: int
    slots: float = 0.0
    """Slots it takes, headroom included."""
    batch: int = 0
    """Inputs in the batches by which a slot serves the most in time, as profiled; 0: there is no load."""
    floor: int = 1
    """Instances without which it serves nothing."""
    slot_cost: float = 0.0
    loss_cost: float = 0.0
    """Of the accuracy lost against the best option."""


class Requirement(msgspec.Struct, frozen=True, kw_only=True):
    """What must be served."""

    task: str
    options: tuple[ServingOption, ...]
    penalty: float
    """Of serving nothing of it."""
    rate: float = 0.0
    """Inputs a second."""
    load_class: LoadClass | None = None


class AllocationProblem(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of it."""

    kinds: tuple[VariantSpec, ...] = ()
    pools: tuple[WorkerPool, ...] = ()
    needs: tuple[Requirement, ...] = ()
    task_maximum: dict[str, int] = {}
    """Pinned: instances of all kinds of a task."""


class Allocation(msgspec.Struct, frozen=True, kw_only=True):
    """Instances by kind, workers by pool, and which share of a need goes where, by need and option."""

    instances: tuple[int, ...] = ()
    workers: tuple[int, ...] = ()
    shares: dict[tuple[int, int], float] = {}


def cost(problem: AllocationProblem, answer: Allocation) -> float:
    """What the answer costs; lower is better."""
    total = 0.0
    for pool, workers in zip(problem.pools, answer.workers, strict=True):
        total += pool.price * workers + pool.start * max(workers - pool.now, 0)
    for kind, count in zip(problem.kinds, answer.instances, strict=True):
        total += kind.hold * count + kind.load * max(count - kind.now, 0)
    for (number, place), share in answer.shares.items():
        option = problem.needs[number].options[place]
        total += share * (option.slot_cost + option.loss_cost)
    return total + sum(
        need.penalty * (1.0 - share) for need, share in zip(problem.needs, served(problem, answer), strict=True)
    )


def served(problem: AllocationProblem, answer: Allocation) -> list[float]:
    """The share of each need that is served."""
    shares = [0.0] * len(problem.needs)
    for (number, _place), share in answer.shares.items():
        shares[number] += share
    return [min(share, 1.0) for share in shares]


def slots_used(problem: AllocationProblem, shares: Mapping[tuple[int, int], float]) -> list[float]:
    """By kind."""
    used = [0.0] * len(problem.kinds)
    for (number, place), share in shares.items():
        option = problem.needs[number].options[place]
        used[option.kind] += share * option.slots
    return used


def violations(problem: AllocationProblem, answer: Allocation) -> list[str]:
    """Which constraints the answer breaks, in words; for tests and for distrust of a solver."""
    found = list[str]()
    used = slots_used(problem, answer.shares)
    for index, kind in enumerate(problem.kinds):
        count = answer.instances[index]
        if used[index] > count + EPSILON:
            found.append(f"{kind.name}: {used[index]:.6g} slots on {count} instances")
        if count > kind.maximum:
            found.append(f"{kind.name}: {count} instances, at most {kind.maximum}")
        if count > answer.workers[kind.pool]:
            found.append(f"{kind.name}: {count} instances on {answer.workers[kind.pool]} workers")
    for index, pool in enumerate(problem.pools):
        found += _overfull(problem, answer, index, pool, used)
    for (number, place), share in answer.shares.items():
        option = problem.needs[number].options[place]
        if share * option.floor > answer.instances[option.kind] + EPSILON:
            found.append(f"{problem.kinds[option.kind].name}: fewer than {option.floor} instances serve need {number}")
    for task, count in instances_by_task(problem, answer.instances).items():
        if count > problem.task_maximum.get(task, count):
            found.append(f"{task}: {count} instances")
    return found


def _overfull(
    problem: AllocationProblem, answer: Allocation, index: int, pool: WorkerPool, used: Sequence[float]
) -> list[str]:
    workers = answer.workers[index]
    mine = [i for i, kind in enumerate(problem.kinds) if kind.pool == index]
    amounts = {
        "slots": (sum(used[i] for i in mine), pool.slots),
        "bytes": (sum(problem.kinds[i].memory_bytes * answer.instances[i] for i in mine), pool.memory_bytes),
        "places": (sum(answer.instances[i] for i in mine), pool.places),
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
    """Summed up."""
    counts: defaultdict[str, int] = defaultdict(int)
    for kind, count in zip(problem.kinds, instances, strict=True):
        counts[kind.task] += count
    return counts
