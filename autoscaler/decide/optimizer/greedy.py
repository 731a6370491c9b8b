"""Allocates by INFaaS's heuristic: fast enough for each decision, and the fallback without a solver.

One requirement after the other, the strictest first, is given to what serves it cheapest by the objective:

    capacity that is loaded and free         what its slots and its accuracy cost
    another instance of the same variant     (replicate) and what it costs to hold and to load
    an instance of another variant           (upgrade, downgrade) the same; batch limits are part of a variant's rate
    the same on one more worker              (ask for a worker) and its price

What nobody takes goes (scale down; `stabilization` says when). As in INFaaS, throughput too little above the load
is a danger: options' slots hold that headroom. Different by intent: it decides from the load of load classes rather
than from each variant's own queries, so that what was refused or given away for free counts, too.

It is done twice: a worker that is asked for costs its whole price, which is right where there is little to run, or only
the part that is taken of it, which is right where others will take the rest; the cheaper answer counts. Where the
workers of a type that may run are used up, their slots are made dearer until all is served, or nothing helps: faster
variants then win over more accurate ones there, what can be served elsewhere is, and the most for a slot goes first.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from autoscaler.decide.optimizer.model import (
    EPSILON,
    Allocation,
    AllocationProblem,
    Requirement,
    ServingOption,
    cost,
    served,
    violations,
)

_DEARER_FACTOR: Final = 10.0
"""Factor by which the slots of an exhausted pool become dearer in each round."""
_EXHAUSTED_SHARE: Final = 0.95
"""Share of what a pool may have from which it counts as used up."""
_LOADED_DISCOUNT: Final = 0.9
"""Factor of the cost of what is loaded: it is left for what is cheaper by a tenth, as measurements are not exact."""
_ROUNDS: Final = 5


def solve_greedy(problem: AllocationProblem) -> Allocation:
    """Best allocation found; what there is, if nothing cheaper is found."""
    allocation = keep_current(problem)
    lowest = math.inf if violations(problem, allocation) else cost(problem, allocation)
    price_factors = [1.0] * len(problem.pools)
    for _ in range(_ROUNDS):
        allocators = [_GreedyAllocator(problem, price_factors, prorated=prorated) for prorated in (False, True)]
        for allocator in allocators:
            found = allocator.fill()
            price = cost(problem, found)
            if price < lowest - EPSILON:
                allocation, lowest = found, price
        exhausted = [
            any(allocator.is_exhausted(pool) for allocator in allocators) for pool in range(len(problem.pools))
        ]
        if all(allocator.serves_all() for allocator in allocators) or not any(exhausted):
            break
        price_factors = [
            factor * _DEARER_FACTOR if full else factor for factor, full in zip(price_factors, exhausted, strict=True)
        ]
    return allocation


def solve_until_stable(problem: AllocationProblem) -> Allocation:
    """Allocation that solving again, once it has been carried out, would not change."""
    allocation = solve_greedy(problem)
    for _ in range(_ROUNDS):
        after = after_applying(problem, allocation)
        again = solve_greedy(after)
        if (again.instances, again.workers) == (allocation.instances, allocation.workers):
            break
        allocation = again
    return allocation


def after_applying(problem: AllocationProblem, allocation: Allocation) -> AllocationProblem:
    """Problem that is left once the allocation has been carried out."""
    variants = (msgspec.structs.replace(v, now=n) for v, n in zip(problem.variants, allocation.instances, strict=True))
    pools = (msgspec.structs.replace(p, now=n) for p, n in zip(problem.pools, allocation.workers, strict=True))
    return msgspec.structs.replace(problem, variants=tuple(variants), pools=tuple(pools))


def keep_current(problem: AllocationProblem) -> Allocation:
    """Allocation of what there is, without the instances that no load needs: never dearer than doing nothing."""
    return _GreedyAllocator(problem, frozen=True).fill()


class _Move(NamedTuple):
    """Share of a requirement for one option, with what it takes."""

    option_number: int
    share: float
    instances: int
    workers: int
    """Number of workers of the option's pool afterwards."""
    unit: float
    """Cost of the whole requirement at this rate."""


class _GreedyAllocator:
    """Builder of an allocation. Counts begin at nothing; up to those of now an instance needs no loading."""

    def __init__(
        self,
        problem: AllocationProblem,
        price_factors: Sequence[float] = (),
        *,
        prorated: bool = False,
        frozen: bool = False,
    ) -> None:
        self.problem = problem
        self.price_factors = price_factors or [1.0] * len(problem.pools)
        """Factors of the slot costs of each pool."""
        self.prorated = prorated
        self.frozen = frozen
        self.instances = [0] * len(problem.variants)
        self.used = [0.0] * len(problem.variants)
        self.workers = [min(max(p.now, p.minimum), p.maximum) if frozen else p.minimum for p in problem.pools]
        self.busy = [0.0] * len(problem.pools)
        self.memory = [0.0] * len(problem.pools)
        self.hosted = [0] * len(problem.pools)
        self.by_task = dict.fromkeys(problem.task_maximum, 0)
        self.shares: dict[tuple[int, int], float] = {}

    def fill(self) -> Allocation:
        """Serve all requirements as far as possible."""
        requirements = self.problem.requirements
        order = _most_for_a_slot if max(self.price_factors, default=1.0) > 1.0 else _strictest
        for number in sorted(range(len(requirements)), key=lambda n: order(requirements[n], n)):
            self.serve(number, requirements[number])
        return self.allocation

    @property
    def allocation(self) -> Allocation:
        """Allocation as far as it is built."""
        return Allocation(instances=tuple(self.instances), workers=tuple(self.workers), shares=self.shares)

    def serves_all(self) -> bool:
        """Whether every requirement is served."""
        return all(share > 1 - EPSILON for share in served(self.problem, self.allocation))

    def is_exhausted(self, number: int) -> bool:
        """Whether little more could run on the workers of this pool that there may be."""
        pool = self.problem.pools[number]
        slots, memory = pool.slots * pool.maximum, pool.memory_bytes * pool.maximum
        places = pool.instances_per_worker * pool.maximum
        return (
            self.busy[number] >= _EXHAUSTED_SHARE * slots
            or self.memory[number] >= _EXHAUSTED_SHARE * memory
            or self.hosted[number] >= _EXHAUSTED_SHARE * places
        )

    def serve(self, number: int, requirement: Requirement) -> None:
        left = 1.0
        for _ in range(_ROUNDS * len(requirement.options)):
            moves = (self.move(option_number, option, left) for option_number, option in enumerate(requirement.options))
            best = min((move for move in moves if move is not None), key=lambda move: move.unit, default=None)
            if best is None or (best.unit >= requirement.penalty and not self.frozen):
                return
            self.apply(number, requirement.options[best.option_number], best)
            left -= best.share
            if left <= EPSILON:
                return

    def apply(self, number: int, option: ServingOption, move: _Move) -> None:
        variant = self.problem.variants[option.variant]
        self.instances[option.variant] += move.instances
        self.hosted[variant.pool] += move.instances
        self.memory[variant.pool] += move.instances * variant.memory_bytes
        if variant.task in self.by_task:
            self.by_task[variant.task] += move.instances
        self.workers[variant.pool] = move.workers
        self.used[option.variant] += move.share * option.slots
        self.busy[variant.pool] += move.share * option.slots
        key = number, move.option_number
        self.shares[key] = self.shares.get(key, 0.0) + move.share

    def move(self, option_number: int, option: ServingOption, left: float) -> _Move | None:
        """Cheapest way to give this option some of what is left."""
        variant = self.problem.variants[option.variant]
        share = self.fitting_share(option, left, 0, self.workers[variant.pool])
        if share > EPSILON:
            sticky = _LOADED_DISCOUNT if variant.now else 1.0
            unit = (option.slot_cost * self.price_factors[variant.pool] + option.loss_cost) * sticky
            return _Move(option_number, share, 0, self.workers[variant.pool], unit)
        return self.expand(option_number, option, left)

    def fitting_share(self, option: ServingOption, left: float, more: int, workers: int) -> float:
        """Share that fits, with `more` instances and so many workers."""
        variant = self.problem.variants[option.variant]
        count = self.instances[option.variant] + more
        if count < option.floor:
            return 0.0
        if option.slots <= 0.0:
            return left
        free = self.problem.pools[variant.pool].slots * workers - self.busy[variant.pool]
        return min(left, min(count * variant.slots - self.used[option.variant], free) / option.slots)

    def expand(self, option_number: int, option: ServingOption, left: float) -> _Move | None:
        """Way to serve by more instances, on more workers if need be; None if there may be none."""
        variant = self.problem.variants[option.variant]
        pool = self.problem.pools[variant.pool]
        there = self.instances[option.variant]
        slots = self.used[option.variant] + left * option.slots
        wanted = max(option.floor, math.ceil(slots / variant.slots - EPSILON), there + 1)
        more = min(wanted - there, self.max_more(option))
        if more <= 0:
            return None
        workers = self.workers_for(option, left, more)
        share = self.fitting_share(option, left, more, workers)
        if share <= EPSILON:
            return None
        fresh = max(there + more - max(there, variant.now), 0)
        added = max(workers - max(self.workers[variant.pool], pool.now), 0)
        bought = self.worker_fraction(option, share, more) if self.prorated else workers - self.workers[variant.pool]
        fixed = variant.hold_cost * more + variant.load_cost * fresh + pool.price * bought + pool.start_cost * added
        unit = option.slot_cost * self.price_factors[variant.pool] + option.loss_cost + fixed / share
        return _Move(option_number, share, more, workers, unit * (_LOADED_DISCOUNT if not fresh and not added else 1.0))

    def worker_fraction(self, option: ServingOption, share: float, more: int) -> float:
        """Fraction of a worker that is taken."""
        variant = self.problem.variants[option.variant]
        pool = self.problem.pools[variant.pool]
        memory = more * variant.memory_bytes / max(pool.memory_bytes, 1.0)
        return max(share * option.slots / pool.slots, memory, more / pool.instances_per_worker)

    def max_more(self, option: ServingOption) -> int:
        """Number of instances that can be added at all."""
        variant = self.problem.variants[option.variant]
        pool = self.problem.pools[variant.pool]
        there = self.instances[option.variant]
        if self.frozen:
            return min(variant.now, variant.maximum) - there
        limits = [
            variant.maximum - there,
            pool.maximum - there,
            int(pool.instances_per_worker * pool.maximum) - self.hosted[variant.pool],
        ]
        if variant.memory_bytes > 0:
            limits.append(
                int((pool.memory_bytes * pool.maximum - self.memory[variant.pool]) / variant.memory_bytes + EPSILON)
            )
        if variant.task in self.by_task:
            limits.append(self.problem.task_maximum[variant.task] - self.by_task[variant.task])
        return min(limits)

    def workers_for(self, option: ServingOption, left: float, more: int) -> int:
        """Number of workers of the pool for its present load and this."""
        variant = self.problem.variants[option.variant]
        pool = self.problem.pools[variant.pool]
        count = self.instances[option.variant] + more
        slots = min(left * option.slots, count * variant.slots - self.used[option.variant])
        shares = (
            (self.busy[variant.pool] + slots) / pool.slots,
            (self.memory[variant.pool] + more * variant.memory_bytes) / max(pool.memory_bytes, 1.0),
            (self.hosted[variant.pool] + more) / pool.instances_per_worker,
        )
        wanted = max(count, math.ceil(max(shares) - EPSILON), self.workers[variant.pool])
        return self.workers[variant.pool] if self.frozen else min(wanted, pool.maximum)


def _strictest(requirement: Requirement, number: int) -> tuple[bool, float, float, int]:
    """Key: the fewest options first; what takes no slots last, since what serves the others will do for it."""
    return requirement.rate <= 0, len(requirement.options), -requirement.rate, number


def _most_for_a_slot(requirement: Requirement, number: int) -> tuple[bool, float, float, int]:
    """Key where not all can be served: what gains most by a slot first."""
    slots = min((option.slots for option in requirement.options), default=0.0)
    return requirement.rate <= 0, -requirement.penalty / max(slots, EPSILON), -requirement.rate, number
