"""Allocates by a mixed integer program, solved by HiGHS: INFaaS's, extended by accuracy and by sharing of workers.

Instances are counted by variant and workers by hardware type rather than one by one, as INFaaS does: its program grows
with variants times workers and took Gurobi 50 s for 100 architectures; this one has one integer a variant and one a
hardware type whatever the number of workers. Which worker hosts what is left to `placement`.

Columns: share of each requirement on each option (0..1), share unserved, instances and new instances by variant,
workers and new workers by pool. `share <= instances` for each option is implied by the sums where integers are whole,
and keeps a relaxed solution from loading a thousandth of an instance for a thousandth of the load.

Three steps, since what is relaxed here says nearly all. First with workers in whole and instances in real numbers: its
bound is within thousandths of the optimum, and its instances rounded up are often good enough. If not, in whole numbers
with only the variants that it or the present uses, which is small. Only if that is not within the gap either, the whole
program in the time that is left. HiGHS on the whole program at once takes ten times as long.

The allocation is never worse than the heuristic's or than doing nothing; one that breaks a rule is not believed.
"""

from collections import defaultdict
from typing import Final, NamedTuple, TypeAlias

import highspy
import numpy as np
from numpy.typing import NDArray

from autoscaler.decide.optimizer.greedy import keep_current, solve_greedy
from autoscaler.decide.optimizer.model import EPSILON, Allocation, AllocationProblem, cost, violations
from autoscaler.decide.pareto import VariantRanking
from autoscaler.decide.plan import SolverTargets
from autoscaler.decide.requirements import build_problem
from autoscaler.decide.snapshot import ClusterSnapshot, ScalingLimits

GAP: Final = 0.01
TIME_LIMIT_S: Final = 1.0
_LEAST_TIME_S: Final = 0.05
_MOST_NODES: Final = 40
_INF: Final = highspy.kHighsInf
_Vector: TypeAlias = NDArray[np.float64]
_Node: TypeAlias = tuple[float, _Vector | None, _Vector, _Vector]


class MilpSolution(NamedTuple):
    """Best allocation found, and the cost below which there is none."""

    allocation: Allocation
    bound: float


def solve_targets(
    ranking: VariantRanking, snapshot: ClusterSnapshot, limits: ScalingLimits, time_limit_s: float = TIME_LIMIT_S
) -> SolverTargets | None:
    """Targets for `decide` to follow until there are newer ones; None while the load is unknown or a person pauses."""
    if not snapshot.known or snapshot.paused:
        return None
    problem = build_problem(ranking, snapshot, limits)
    found = solve_milp(problem, time_limit_s)
    allocation, price = found.allocation, cost(problem, found.allocation)
    there = keep_current(problem)
    if cost(problem, there) <= max(price, found.bound) * (1 + GAP) and not violations(problem, there):
        allocation = there  # what is there is as good as can be told: leave it
    return SolverTargets(
        instances={variant.name: n for variant, n in zip(problem.variants, allocation.instances, strict=True) if n},
        workers={pool.hardware: n for pool, n in zip(problem.pools, allocation.workers, strict=True)},
        reason=f"{price:.4g} USD/h, at least {found.bound:.4g}",
    )


def solve_milp(
    problem: AllocationProblem, time_limit_s: float = TIME_LIMIT_S, gap: float = GAP, *, warm: bool = True
) -> MilpSolution:
    """Best of what the solver finds, the heuristic finds and there is. Blocks; releases the interpreter's lock."""
    start = solve_greedy(problem)
    if not problem.pools:
        return MilpSolution(start, cost(problem, start))
    return _Search(problem, start, gap, warm=warm).run(time_limit_s)


class _Search:
    """Search from a start to an allocation within `gap` of the bound, or to the best in time."""

    def __init__(self, problem: AllocationProblem, start: Allocation, gap: float, *, warm: bool) -> None:
        self.problem = problem
        self.program = _Program(problem)
        self.model = self.program.model()
        self.best, self.lowest = start, cost(problem, start)
        self.gap = gap
        self.warm = warm
        self.solver = highspy.Highs()
        for name, value in {"output_flag": False, "threads": 1, "mip_rel_gap": gap / 2}.items():
            self.solver.setOptionValue(name, value)

    def run(self, time_limit_s: float) -> MilpSolution:
        """Search until `time_limit_s` of the solver's own clock."""
        relaxed, bound = self.relaxed(time_limit_s)
        if relaxed is None:
            return MilpSolution(self.best, 0.0)
        self.keep_if_better(self.program.rounded(relaxed))
        if self.lowest > bound * (1 + self.gap) + EPSILON:
            self.keep_if_better(self.whole(self.promising(relaxed), time_limit_s, warm=self.warm))
        if self.lowest > bound * (1 + self.gap) + EPSILON:
            # Without a start: HiGHS 1.16 now and then returns the start with the objective of what it found.
            self.keep_if_better(self.whole(np.full(len(self.problem.variants), True), time_limit_s, warm=False))
            bound = max(bound, self.solver.getInfo().mip_dual_bound)
        return MilpSolution(self.best, min(bound, self.lowest))

    def relaxed(self, time_limit_s: float) -> tuple[_Vector | None, float]:
        """Optimum with workers in whole and instances in real numbers, and the bound it proves.

        Branches on the number of workers of a type, from the lowest bound on. Workers are few integers at high prices,
        which HiGHS does not know to branch on first; each node is a small change of a program that is solved already.
        """
        whole, self.model.integrality_ = self.model.integrality_, []
        self.solver.passModel(self.model)
        self.model.integrality_ = whole
        lower, upper = (side[self.program.workers : self.program.added] for side in self.program.bounds())
        nodes = [self.node(lower, upper, time_limit_s)]
        for _ in range(_MOST_NODES):
            _, values, lower, upper = node = min(nodes, key=lambda node: node[0])
            workers = values[self.program.workers : self.program.added] if values is not None else lower
            part = np.abs(workers - np.rint(workers)) * [pool.price for pool in self.problem.pools]
            pool = int(np.argmax(part))
            if values is None or part[pool] < EPSILON:
                break
            nodes.remove(node)
            below, above = upper.copy(), lower.copy()
            below[pool], above[pool] = np.floor(workers[pool]), np.ceil(workers[pool])
            nodes += [self.node(lower, below, time_limit_s), self.node(above, upper, time_limit_s)]
        bound, values, _, _ = min(nodes, key=lambda node: node[0])
        return values, bound

    def node(
        self, lower: _Vector, upper: _Vector, time_limit_s: float
    ) -> tuple[float, _Vector | None, _Vector, _Vector]:
        """Solve the relaxed program with so many workers: its value, its columns, and the limits."""
        columns = np.arange(self.program.workers, self.program.added, dtype=np.int32)
        self.solver.changeColsBounds(len(columns), columns, lower, upper)
        values = self.columns(time_limit_s)
        value = self.solver.getInfo().objective_function_value if values is not None else highspy.kHighsInf
        return value, values, lower, upper

    def promising(self, relaxed: _Vector) -> NDArray[np.bool_]:
        """Variants that the relaxed solution or the present uses."""
        instances = relaxed[self.program.instances : self.program.fresh]
        now = np.array([variant.now for variant in self.problem.variants])
        return (instances > EPSILON) | (now > 0)

    def whole(self, allowed: NDArray[np.bool_], time_limit_s: float, *, warm: bool) -> Allocation | None:
        """Optimum in whole numbers with the variants allowed."""
        program = self.program
        upper = np.array(program.bounds()[1])
        upper[program.instances : program.fresh][~allowed] = 0.0
        self.model.col_upper_ = upper
        self.solver.passModel(self.model)
        if warm:
            start = highspy.HighsSolution()
            start.col_value = program.columns_of(self.best)
            self.solver.setSolution(start)
        values = self.columns(time_limit_s)
        return None if values is None else program.allocation(values)

    def columns(self, time_limit_s: float) -> _Vector | None:
        """Columns of what the solver finds by `time_limit_s` of its clock; None if nothing."""
        self.solver.setOptionValue("time_limit", max(time_limit_s, self.solver.getRunTime() + _LEAST_TIME_S))
        self.solver.run()
        if self.solver.getInfo().primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
            return None
        return np.asarray(self.solver.getSolution().col_value)

    def keep_if_better(self, found: Allocation | None) -> None:
        """Keep an allocation that is cheaper, unless it breaks a rule."""
        if found is not None and not violations(self.problem, found):
            price = cost(self.problem, found)
            if price < self.lowest:
                self.best, self.lowest = found, price


class _Program:
    """Program with columns in this order: shares, unserved, instances, new instances, workers, new workers."""

    def __init__(self, problem: AllocationProblem) -> None:
        self.problem = problem
        requirements, variants, pools = problem.requirements, problem.variants, problem.pools
        self.options = [
            (n, option_number)
            for n, requirement in enumerate(requirements)
            for option_number in range(len(requirement.options))
        ]
        self.unserved = len(self.options)
        self.instances = self.unserved + len(requirements)
        self.fresh = self.instances + len(variants)
        self.workers = self.fresh + len(variants)
        self.added = self.workers + len(pools)
        self.columns = self.added + len(pools)
        self.rows: list[tuple[float, float, list[tuple[int, float]]]] = []

    def model(self) -> highspy.HighsLp:
        """Build the program as HiGHS takes it."""
        self._serving()
        self._hosting()
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = self.columns, len(self.rows)
        lp.col_cost_ = self._costs()
        lp.col_lower_, lp.col_upper_ = self.bounds()
        lp.row_lower_ = np.array([lower for lower, _, _ in self.rows])
        lp.row_upper_ = np.array([upper for _, upper, _ in self.rows])
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_ = np.cumsum([0, *(len(entries) for *_, entries in self.rows)])
        lp.a_matrix_.index_ = np.array([column for *_, entries in self.rows for column, _ in entries])
        lp.a_matrix_.value_ = np.array([value for *_, entries in self.rows for _, value in entries])
        whole, any_real = highspy.HighsVarType.kInteger, highspy.HighsVarType.kContinuous
        lp.integrality_ = [
            whole if self.instances <= column < self.fresh or self.workers <= column < self.added else any_real
            for column in range(self.columns)
        ]
        return lp

    def _costs(self) -> _Vector:
        problem = self.problem
        options = [problem.requirements[n].options[option_number] for n, option_number in self.options]
        return np.array(
            [
                *(option.slot_cost + option.loss_cost for option in options),
                *(requirement.penalty for requirement in problem.requirements),
                *(variant.hold_cost for variant in problem.variants),
                *(variant.load_cost for variant in problem.variants),
                *(pool.price for pool in problem.pools),
                *(pool.start_cost for pool in problem.pools),
            ]
        )

    def bounds(self) -> tuple[_Vector, _Vector]:
        """Lowest and highest value of each column."""
        problem = self.problem
        lower, upper = np.zeros(self.columns), np.full(self.columns, _INF)
        upper[: self.instances] = 1.0
        upper[self.instances : self.fresh] = [min(k.maximum, problem.pools[k.pool].maximum) for k in problem.variants]
        lower[self.workers : self.added] = [pool.minimum for pool in problem.pools]
        upper[self.workers : self.added] = [pool.maximum for pool in problem.pools]
        return lower, upper

    def _row(self, lower: float, upper: float, entries: list[tuple[int, float]]) -> None:
        self.rows.append((lower, upper, entries))

    def _serving(self) -> None:
        """Rows: every requirement is served or not; what serves it has the instances and the slots."""
        variants, pools = self.problem.variants, self.problem.pools
        by_requirement: defaultdict[int, list[tuple[int, float]]] = defaultdict(list)
        by_variant: defaultdict[int, list[tuple[int, float]]] = defaultdict(list)
        by_pool: defaultdict[int, list[tuple[int, float]]] = defaultdict(list)
        for column, (number, option_number) in enumerate(self.options):
            option = self.problem.requirements[number].options[option_number]
            by_requirement[number].append((column, 1.0))
            if option.slots > 0:
                by_variant[option.variant].append((column, option.slots))
                by_pool[variants[option.variant].pool].append((column, option.slots))
            if option.slots < variants[option.variant].slots or option.floor > 1:
                self._row(-_INF, 0.0, [(column, float(option.floor)), (self.instances + option.variant, -1.0)])
        for number in range(len(self.problem.requirements)):
            self._row(1.0, 1.0, [*by_requirement[number], (self.unserved + number, 1.0)])
        for variant, entries in by_variant.items():
            self._row(-_INF, 0.0, [*entries, (self.instances + variant, -variants[variant].slots)])
        for pool, entries in by_pool.items():
            self._row(-_INF, 0.0, [*entries, (self.workers + pool, -pools[pool].slots)])

    def _hosting(self) -> None:
        """Rows: what is there has memory and a place, and what is new is counted."""
        variants, pools = self.problem.variants, self.problem.pools
        for number, pool in enumerate(pools):
            mine = [(self.instances + k, variant) for k, variant in enumerate(variants) if variant.pool == number]
            worker = self.workers + number
            memory = [(column, variant.memory_bytes / max(pool.memory_bytes, 1.0)) for column, variant in mine]
            self._row(-_INF, 0.0, [*memory, (worker, -1.0)])
            self._row(-_INF, 0.0, [*((c, 1.0) for c, _ in mine), (worker, -pool.instances_per_worker)])
            self._row(-_INF, float(pool.now), [(worker, 1.0), (self.added + number, -1.0)])
        for number, variant in enumerate(variants):
            self._row(-_INF, 0.0, [(self.instances + number, 1.0), (self.workers + variant.pool, -1.0)])
            self._row(-_INF, float(variant.now), [(self.instances + number, 1.0), (self.fresh + number, -1.0)])
        for task, maximum in self.problem.task_maximum.items():
            mine = [(self.instances + k, 1.0) for k, variant in enumerate(variants) if variant.task == task]
            self._row(-_INF, float(maximum), mine)

    def columns_of(self, allocation: Allocation) -> _Vector:
        """Columns of an allocation, to start from."""
        problem = self.problem
        values = np.zeros(self.columns)
        for column, key in enumerate(self.options):
            values[column] = allocation.shares.get(key, 0.0)
            values[self.unserved + key[0]] -= values[column]
        values[self.unserved : self.instances] += 1.0
        counts, workers = np.array(allocation.instances), np.array(allocation.workers)
        values[self.instances : self.fresh] = counts
        values[self.fresh : self.workers] = np.maximum(counts - [variant.now for variant in problem.variants], 0)
        values[self.workers : self.added] = workers
        values[self.added :] = np.maximum(workers - [pool.now for pool in problem.pools], 0)
        return values

    def rounded(self, values: _Vector) -> Allocation:
        """Allocation of a relaxed solution with instances rounded up, and as many workers as hold them."""
        instances = np.ceil(values[self.instances : self.fresh] - EPSILON)
        workers = np.rint(values[self.workers : self.added])
        for number, pool in enumerate(self.problem.pools):
            mine = [
                (variant, instances[k]) for k, variant in enumerate(self.problem.variants) if variant.pool == number
            ]
            memory = sum(variant.memory_bytes * count for variant, count in mine) / max(pool.memory_bytes, 1.0)
            places = sum(count for _, count in mine) / pool.instances_per_worker
            minimum = max((count for _, count in mine), default=0.0)
            workers[number] = max(workers[number], minimum, np.ceil(max(memory, places) - EPSILON))
        whole = values.copy()
        whole[self.instances : self.fresh], whole[self.workers : self.added] = instances, workers
        return self.allocation(whole)

    def allocation(self, values: _Vector) -> Allocation:
        """Allocation read from the columns."""
        whole = np.rint(values).astype(int)
        shares = {key: float(values[column]) for column, key in enumerate(self.options) if values[column] > 1e-9}
        return Allocation(
            instances=tuple(whole[self.instances : self.fresh].tolist()),
            workers=tuple(whole[self.workers : self.added].tolist()),
            shares=shares,
        )
