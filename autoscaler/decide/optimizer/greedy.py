"""INFaaS's heuristic: the fast path each second, and the fallback when there is no solver's answer.

One need after the other, the strictest first, is given to what serves it cheapest by the objective:

    capacity that is loaded and free         what its slots and its accuracy cost
    another instance of the same variant     (replicate) and what it costs to hold and to load
    an instance of another variant           (upgrade, downgrade) the same; batch limits are part of a variant's rate
    the same on one more worker              (ask for a worker) and its price

What nobody takes goes (scale down; `hysteresis` says when). As in INFaaS, throughput too little above the load
is a danger: options' slots hold that headroom. Different by intent: it decides from the load of needs classes rather
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

_DEARER: Final = 10.0
_NEARLY: Final = 0.95
_STICKY: Final = 0.9
"""What is loaded is left for what is cheaper by a tenth, not by less: measurements are not that exact."""
_ROUNDS: Final = 5


def solve_greedy(problem: AllocationProblem) -> Allocation:
    """The best answer found; what there is, if nothing cheaper is found."""
    answer = keep_current(problem)
    lowest = math.inf if violations(problem, answer) else cost(problem, answer)
    dearness = [1.0] * len(problem.pools)
    for _ in range(_ROUNDS):
        drafts = [_GreedyAllocator(problem, dearness, prorated=prorated) for prorated in (False, True)]
        for draft in drafts:
            found = draft.fill()
            price = cost(problem, found)
            if price < lowest - EPSILON:
                answer, lowest = found, price
        used_up = [any(draft.is_used_up(pool) for draft in drafts) for pool in range(len(problem.pools))]
        if all(draft.serves_all() for draft in drafts) or not any(used_up):
            break
        dearness = [dear * _DEARER if full else dear for dear, full in zip(dearness, used_up, strict=True)]
    return answer


def solve_until_stable(problem: AllocationProblem) -> Allocation:
    """The answer that its own result would not be changed by again."""
    answer = solve_greedy(problem)
    for _ in range(_ROUNDS):
        after = after_applying(problem, answer)
        again = solve_greedy(after)
        if (again.instances, again.workers) == (answer.instances, answer.workers):
            break
        answer = again
    return answer


def after_applying(problem: AllocationProblem, answer: Allocation) -> AllocationProblem:
    """The problem once the answer has been carried out."""
    kinds = (msgspec.structs.replace(k, now=n) for k, n in zip(problem.kinds, answer.instances, strict=True))
    pools = (msgspec.structs.replace(p, now=n) for p, n in zip(problem.pools, answer.workers, strict=True))
    return msgspec.structs.replace(problem, kinds=tuple(kinds), pools=tuple(pools))


def keep_current(problem: AllocationProblem) -> Allocation:
    """The workers there are and what the load needs of the instances there are: never dearer than doing nothing."""
    return _GreedyAllocator(problem, frozen=True).fill()


class _Move(NamedTuple):
    """A share of a need for one option, with what it takes."""

    place: int
    share: float
    instances: int
    workers: int
    """Of the option's pool afterwards."""
    unit: float
    """Cost for each share."""


class _GreedyAllocator:
    """An answer in the making. Counts begin at nothing; up to those of now an instance needs no load."""

    def __init__(
        self,
        problem: AllocationProblem,
        dearness: Sequence[float] = (),
        *,
        prorated: bool = False,
        frozen: bool = False,
    ) -> None:
        self.problem = problem
        self.dearness = dearness or [1.0] * len(problem.pools)
        """Of the slots of each pool."""
        self.prorated = prorated
        self.frozen = frozen
        self.instances = [0] * len(problem.kinds)
        self.used = [0.0] * len(problem.kinds)
        self.workers = [min(max(p.now, p.minimum), p.maximum) if frozen else p.minimum for p in problem.pools]
        self.busy = [0.0] * len(problem.pools)
        self.memory = [0.0] * len(problem.pools)
        self.hosted = [0] * len(problem.pools)
        self.by_task = dict.fromkeys(problem.task_maximum, 0)
        self.shares: dict[tuple[int, int], float] = {}

    def fill(self) -> Allocation:
        """Serve what can be served."""
        needs = self.problem.needs
        order = _most_for_a_slot if max(self.dearness, default=1.0) > 1.0 else _strictest
        for number in sorted(range(len(needs)), key=lambda n: order(needs[n], n)):
            self.serve(number, needs[number])
        return self.answer

    @property
    def answer(self) -> Allocation:
        """As far as it is filled."""
        return Allocation(instances=tuple(self.instances), workers=tuple(self.workers), shares=self.shares)

    def serves_all(self) -> bool:
        """Whether no need is left."""
        return all(share > 1 - EPSILON for share in served(self.problem, self.answer))

    def is_used_up(self, number: int) -> bool:
        """Whether little more could run on the workers of this pool that there may be."""
        pool = self.problem.pools[number]
        slots, memory = pool.slots * pool.maximum, pool.memory_bytes * pool.maximum
        places = pool.places * pool.maximum
        return (
            self.busy[number] >= _NEARLY * slots
            or self.memory[number] >= _NEARLY * memory
            or self.hosted[number] >= _NEARLY * places
        )

    def serve(self, number: int, need: Requirement) -> None:
        left = 1.0
        for _ in range(_ROUNDS * len(need.options)):
            moves = (self.move(place, option, left) for place, option in enumerate(need.options))
            best = min((move for move in moves if move is not None), key=lambda move: move.unit, default=None)
            if best is None or (best.unit >= need.penalty and not self.frozen):
                return
            self.apply(number, need.options[best.place], best)
            left -= best.share
            if left <= EPSILON:
                return

    def apply(self, number: int, option: ServingOption, move: _Move) -> None:
        kind = self.problem.kinds[option.kind]
        self.instances[option.kind] += move.instances
        self.hosted[kind.pool] += move.instances
        self.memory[kind.pool] += move.instances * kind.memory_bytes
        if kind.task in self.by_task:
            self.by_task[kind.task] += move.instances
        self.workers[kind.pool] = move.workers
        self.used[option.kind] += move.share * option.slots
        self.busy[kind.pool] += move.share * option.slots
        key = number, move.place
        self.shares[key] = self.shares.get(key, 0.0) + move.share

    def move(self, place: int, option: ServingOption, left: float) -> _Move | None:
        """The cheapest way to give this option some of what is left."""
        kind = self.problem.kinds[option.kind]
        share = self.room(option, left, 0, self.workers[kind.pool])
        if share > EPSILON:
            sticky = _STICKY if kind.now else 1.0
            unit = (option.slot_cost * self.dearness[kind.pool] + option.loss_cost) * sticky
            return _Move(place, share, 0, self.workers[kind.pool], unit)
        return self.expand(place, option, left)

    def room(self, option: ServingOption, left: float, more: int, workers: int) -> float:
        """The share that fits, with `more` instances and so many workers."""
        kind = self.problem.kinds[option.kind]
        count = self.instances[option.kind] + more
        if count < option.floor:
            return 0.0
        if option.slots <= 0.0:
            return left
        free = self.problem.pools[kind.pool].slots * workers - self.busy[kind.pool]
        return min(left, min(count - self.used[option.kind], free) / option.slots)

    def expand(self, place: int, option: ServingOption, left: float) -> _Move | None:
        """Another instance or more, on more workers if need be."""
        kind = self.problem.kinds[option.kind]
        pool = self.problem.pools[kind.pool]
        there = self.instances[option.kind]
        wanted = max(option.floor, math.ceil(self.used[option.kind] + left * option.slots - EPSILON), there + 1)
        more = min(wanted - there, self.most_more(option))
        if more <= 0:
            return None
        workers = self.workers_for(option, left, more)
        share = self.room(option, left, more, workers)
        if share <= EPSILON:
            return None
        fresh = max(there + more - max(there, kind.now), 0)
        added = max(workers - max(self.workers[kind.pool], pool.now), 0)
        bought = self.taken(option, share, more) if self.prorated else workers - self.workers[kind.pool]
        fixed = kind.hold * more + kind.load * fresh + pool.price * bought + pool.start * added
        unit = option.slot_cost * self.dearness[kind.pool] + option.loss_cost + fixed / share
        return _Move(place, share, more, workers, unit * (_STICKY if not fresh and not added else 1.0))

    def taken(self, option: ServingOption, share: float, more: int) -> float:
        """The part of a worker that is taken."""
        kind = self.problem.kinds[option.kind]
        pool = self.problem.pools[kind.pool]
        memory = more * kind.memory_bytes / max(pool.memory_bytes, 1.0)
        return max(share * option.slots / pool.slots, memory, more / pool.places)

    def most_more(self, option: ServingOption) -> int:
        """How many instances can be added at all."""
        kind = self.problem.kinds[option.kind]
        pool = self.problem.pools[kind.pool]
        there = self.instances[option.kind]
        if self.frozen:
            return min(kind.now, kind.maximum) - there
        limits = [kind.maximum - there, pool.maximum - there, int(pool.places * pool.maximum) - self.hosted[kind.pool]]
        if kind.memory_bytes > 0:
            limits.append(
                int((pool.memory_bytes * pool.maximum - self.memory[kind.pool]) / kind.memory_bytes + EPSILON)
            )
        if kind.task in self.by_task:
            limits.append(self.problem.task_maximum[kind.task] - self.by_task[kind.task])
        return min(limits)

    def workers_for(self, option: ServingOption, left: float, more: int) -> int:
        """Workers of the pool for its present load and this."""
        kind = self.problem.kinds[option.kind]
        pool = self.problem.pools[kind.pool]
        count = self.instances[option.kind] + more
        slots = min(left * option.slots, count - self.used[option.kind])
        shares = (
            (self.busy[kind.pool] + slots) / pool.slots,
            (self.memory[kind.pool] + more * kind.memory_bytes) / max(pool.memory_bytes, 1.0),
            (self.hosted[kind.pool] + more) / pool.places,
        )
        wanted = max(count, math.ceil(max(shares) - EPSILON), self.workers[kind.pool])
        return self.workers[kind.pool] if self.frozen else min(wanted, pool.maximum)


def _strictest(need: Requirement, number: int) -> tuple[bool, float, float, int]:
    """Who has the fewest options first; what takes no slots last, since what serves the others will do for it."""
    return need.rate <= 0, len(need.options), -need.rate, number


def _most_for_a_slot(need: Requirement, number: int) -> tuple[bool, float, float, int]:
    """Where not all can be served: who gains most by a slot."""
    slots = min((option.slots for option in need.options), default=0.0)
    return need.rate <= 0, -need.penalty / max(slots, EPSILON), -need.rate, number
