"""Allocates by INFaaS's heuristic: fast enough for each decision, and the fallback without a solver.

Requirements are served one after the other, the strictest first. Each goes to its cheapest option by the objective:

    capacity that is loaded and free         cost of its slots and of lost accuracy
    another instance of the same variant     (replicate) plus holding and loading it
    an instance of another variant           (upgrade, downgrade) plus the same; batch limits are part of its rate
    the same on one more worker              (start a worker) plus the worker's price

Instances that no requirement uses are removed (scale down; `stabilization` delays it). As in INFaaS, throughput must
exceed the load by a margin: the slots of an option include this headroom. INFaaS decides from the queries of each
variant; here the load is counted by class, so that refused and upgraded queries count, too.

Two variants of the search run. In one a new worker costs its whole price, which is right if little runs. In the other
only the used part counts, which is right if other requirements will use the rest. The cheaper result wins. Where a
hardware type has no more workers to start, the price of its slots is raised in rounds until everything is served or
nothing improves. Then faster variants win over more accurate ones on that hardware, requirements move to other
hardware, and those with the highest gain per slot are served first.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

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
"""Used share of a pool's maximum from which the pool counts as exhausted."""
_ROUNDS: Final = 5


def solve_greedy(problem: AllocationProblem) -> Allocation:
    """Return the best allocation found; the current one if nothing is cheaper."""
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


def keep_current(problem: AllocationProblem) -> Allocation:
    """Return the current allocation without the instances that no load needs; never dearer than no change."""
    return _GreedyAllocator(problem, frozen=True).fill()


class _Move(NamedTuple):
    """Candidate step: a share of a requirement for one option, with the instances and workers that it takes."""

    option_number: int
    share: float
    instances: int
    workers: int
    """Workers of the option's pool after the step."""
    unit: float
    """Cost of the whole requirement at this option's rate."""


class _GreedyAllocator:
    """Builder of an allocation. Counts start at zero; instances up to the current number need no loading."""

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
        """Price factor of the slots of each pool."""
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
        requirements = self.problem.requirements
        order = _most_for_a_slot if max(self.price_factors, default=1.0) > 1.0 else _strictest
        for number in sorted(range(len(requirements)), key=lambda n: order(requirements[n], n)):
            self.serve(number, requirements[number])
        return self.allocation

    @property
    def allocation(self) -> Allocation:
        return Allocation(instances=tuple(self.instances), workers=tuple(self.workers), shares=self.shares)

    def serves_all(self) -> bool:
        return all(share > 1 - EPSILON for share in served(self.problem, self.allocation))

    def is_exhausted(self, number: int) -> bool:
        """Return true if the pool, at its maximum of workers, has almost no slots, memory or places left."""
        pool = self.problem.pools[number]
        slots, memory = pool.slots * pool.maximum, pool.memory_bytes * pool.maximum
        places = pool.instances_per_worker * pool.maximum
        return (
            self.busy[number] >= _EXHAUSTED_SHARE * slots
            or self.memory[number] >= _EXHAUSTED_SHARE * memory
            or self.hosted[number] >= _EXHAUSTED_SHARE * places
        )

    def serve(self, number: int, requirement: Requirement) -> None:
        left, options = 1.0, requirement.options
        bounds = sorted([(self.least_unit(option), n) for n, option in enumerate(options)])
        for _ in range(_ROUNDS * len(options)):
            best = self.cheapest_move(options, bounds, left)
            if best is None or (best.unit >= requirement.penalty and not self.frozen):
                return
            self.apply(number, options[best.option_number], best)
            left -= best.share
            if left <= EPSILON:
                return

    def least_unit(self, option: ServingOption) -> float:
        """Return a lower bound of the `unit` of an option's steps."""
        pool = self.problem.variants[option.variant].pool
        return option.slot_cost * self.price_factors[pool] + option.loss_cost

    def cheapest_move(
        self, options: Sequence[ServingOption], bounds: Sequence[tuple[float, int]], left: float
    ) -> _Move | None:
        """Return the cheapest step, of equal ones the first option's; None if there is none.

        `bounds` are the least units of the options with their numbers, ascending. They spare most options the
        computation of a step.
        """
        best: _Move | None = None
        for bound, option_number in bounds:
            if best is not None and bound > best.unit:
                break
            move = self.move(option_number, options[option_number], left)
            if move is not None and (best is None or (move.unit, option_number) < (best.unit, best.option_number)):
                best = move
        return best

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
        """Return the cheapest step that gives this option a part of the unserved share; None if there is none."""
        variant = self.problem.variants[option.variant]
        share = self.fitting_share(option, left, 0, self.workers[variant.pool])
        if share > EPSILON:
            unit = option.slot_cost * self.price_factors[variant.pool] + option.loss_cost
            return _Move(option_number, share, 0, self.workers[variant.pool], unit)
        return self.expand(option_number, option, left)

    def fitting_share(self, option: ServingOption, left: float, more: int, workers: int) -> float:
        """Return the share that fits with `more` instances and this many workers."""
        variant = self.problem.variants[option.variant]
        count = self.instances[option.variant] + more
        if count < option.floor:
            return 0.0
        if option.slots <= 0.0:
            return left
        free = self.problem.pools[variant.pool].slots * workers - self.busy[variant.pool]
        return min(left, min(count * variant.slots - self.used[option.variant], free) / option.slots)

    def expand(self, option_number: int, option: ServingOption, left: float) -> _Move | None:
        """Return a step that adds instances, and workers if necessary; None if the limits forbid it."""
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
        bought = self.worker_fraction(option, share, more) if self.prorated else workers - self.workers[variant.pool]
        fixed = variant.hold_cost * more + variant.load_cost * fresh + pool.price * bought
        unit = option.slot_cost * self.price_factors[variant.pool] + option.loss_cost + fixed / share
        return _Move(option_number, share, more, workers, unit)

    def worker_fraction(self, option: ServingOption, share: float, more: int) -> float:
        variant = self.problem.variants[option.variant]
        pool = self.problem.pools[variant.pool]
        memory = more * variant.memory_bytes / max(pool.memory_bytes, 1.0)
        return max(share * option.slots / pool.slots, memory, more / pool.instances_per_worker)

    def max_more(self, option: ServingOption) -> int:
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
        """Return the number of workers that the pool needs for its present load and this step."""
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
    """Sort key: fewest options first; requirements without load last, because instances for load serve them, too."""
    return requirement.rate <= 0, len(requirement.options), -requirement.rate, number


def _most_for_a_slot(requirement: Requirement, number: int) -> tuple[bool, float, float, int]:
    """Sort key under scarcity: the highest penalty per slot first."""
    slots = min((option.slots for option in requirement.options), default=0.0)
    return requirement.rate <= 0, -requirement.penalty / max(slots, EPSILON), -requirement.rate, number
