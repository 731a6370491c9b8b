"""Allocates by a mixed integer program, solved by HiGHS: INFaaS's program, extended by accuracy and shared workers.

INFaaS has one variable for each pair of variant and worker; its program took Gurobi 50 s for 100 architectures. This
program counts instances by variant and workers by hardware type. It has one integer per variant and one per hardware
type, independent of the number of workers. `placement` then decides which worker hosts which variant.

Columns: share of each requirement on each option (0..1), unserved share, instances and new instances by variant,
workers and new workers by pool. `share <= instances` for each option follows from the sums if integers are whole. It is
stated nevertheless, because otherwise a relaxed solution loads a thousandth of an instance for a thousandth of the
load.

The search has three steps, because this program's relaxation is tight.
1. Workers are integers, instances are real numbers. The bound is within thousandths of the optimum, and the instances
   rounded up are often within the gap.
2. If not: all integers, with only the variants that the relaxed solution or the current allocation uses.
3. If that is not within the gap either: the whole program, in the remaining time. HiGHS takes ten times as long if it
   starts with this step.

The result is never worse than the heuristic's or the current allocation; a result that breaks a constraint is dropped.
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
    """The best allocation found, and a lower bound of the cost."""

    allocation: Allocation
    bound: float


def solve_targets(
    ranking: VariantRanking, snapshot: ClusterSnapshot, limits: ScalingLimits, time_limit_s: float = TIME_LIMIT_S
) -> SolverTargets | None:
    """Return targets for `decide` to follow until there are newer ones; None in a pause or with unknown load."""
    if not snapshot.known or snapshot.paused:
        return None
    problem = build_problem(ranking, snapshot, limits)
    found = solve_milp(problem, time_limit_s)
    allocation, price = found.allocation, cost(problem, found.allocation)
    there = keep_current(problem)
    if cost(problem, there) <= max(price, found.bound) * (1 + GAP) and not violations(problem, there):
        allocation = there  # equal within the gap: change nothing
    return SolverTargets(
        instances={variant.name: n for variant, n in zip(problem.variants, allocation.instances, strict=True) if n},
        workers={pool.hardware: n for pool, n in zip(problem.pools, allocation.workers, strict=True)},
        reason=f"{price:.4g} USD/h, at least {found.bound:.4g}",
    )


def solve_milp(
    problem: AllocationProblem, time_limit_s: float = TIME_LIMIT_S, gap: float = GAP, *, warm: bool = True
) -> MilpSolution:
    """Return the best of the solver's, the heuristic's and the current allocation. Blocks, but releases the GIL."""
    start = solve_greedy(problem)
    if not problem.pools:
        return MilpSolution(start, cost(problem, start))
    return _Search(problem, start, gap, warm=warm).run(time_limit_s)


class _Search:
    """Search that starts at an allocation and ends within `gap` of the bound, or at the best one when time is up."""

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
        """Search until the solver's own clock reaches `time_limit_s`."""
        relaxed, bound = self.relaxed(time_limit_s)
        if relaxed is None:
            return MilpSolution(self.best, 0.0)
        self.keep_if_better(self.program.rounded(relaxed))
        if self.lowest > bound * (1 + self.gap) + EPSILON:
            self.keep_if_better(self.whole(self.promising(relaxed), time_limit_s, warm=self.warm))
        if self.lowest > bound * (1 + self.gap) + EPSILON:
            # Cold, because HiGHS 1.16 sometimes returns the start with the objective of another solution.
            self.keep_if_better(self.whole(np.full(len(self.problem.variants), True), time_limit_s, warm=False))
            bound = max(bound, self.solver.getInfo().mip_dual_bound)
        return MilpSolution(self.best, min(bound, self.lowest))

    def relaxed(self, time_limit_s: float) -> tuple[_Vector | None, float]:
        """Return the optimum with integer workers and real instances, and the bound that it proves.

        Branches on the number of workers by hardware type, best bound first. Workers are few integers with high prices,
        and HiGHS does not know to branch on them first. Each node changes only bounds of a program that is solved
        already.
        """
        whole, self.model.integrality_ = self.model.integrality_, []
        self.solver.passModel(self.model)
        self.model.integrality_ = whole
        lower, upper = (side[self.program.workers :] for side in self.program.bounds())
        nodes = [self.node(lower, upper, time_limit_s)]
        for _ in range(_MOST_NODES):
            _, values, lower, upper = node = min(nodes, key=lambda node: node[0])
            workers = values[self.program.workers :] if values is not None else lower
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

    def node(self, lower: _Vector, upper: _Vector, time_limit_s: float) -> _Node:
        """Solve the relaxed program within bounds on workers; return its value, its columns and the bounds."""
        columns = np.arange(self.program.workers, self.program.columns, dtype=np.int32)
        self.solver.changeColsBounds(len(columns), columns, lower, upper)
        values = self.columns(time_limit_s)
        value = self.solver.getInfo().objective_function_value if values is not None else highspy.kHighsInf
        return value, values, lower, upper

    def promising(self, relaxed: _Vector) -> NDArray[np.bool_]:
        """Return a mask of the variants that the relaxed solution or the current allocation uses."""
        instances = relaxed[self.program.instances : self.program.fresh]
        now = np.array([variant.now for variant in self.problem.variants])
        return (instances > EPSILON) | (now > 0)

    def whole(self, allowed: NDArray[np.bool_], time_limit_s: float, *, warm: bool) -> Allocation | None:
        """Return the integer optimum with the allowed variants; None if no solution was found in time."""
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
        """Return the columns of the solution found by `time_limit_s` of the solver's clock; None if there is none."""
        self.solver.setOptionValue("time_limit", max(time_limit_s, self.solver.getRunTime() + _LEAST_TIME_S))
        self.solver.run()
        if self.solver.getInfo().primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
            return None
        return np.asarray(self.solver.getSolution().col_value)

    def keep_if_better(self, found: Allocation | None) -> None:
        """Keep an allocation that is cheaper and breaks no constraint."""
        if found is not None and not violations(self.problem, found):
            price = cost(self.problem, found)
            if price < self.lowest:
                self.best, self.lowest = found, price


class _Program:
    """Program with columns in this order: shares, unserved, instances, new instances, workers."""

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
        self.columns = self.workers + len(pools)
        self.rows: list[tuple[float, float, list[tuple[int, float]]]] = []

    def model(self) -> highspy.HighsLp:
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
            whole if self.instances <= column < self.fresh or self.workers <= column else any_real
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
            ]
        )

    def bounds(self) -> tuple[_Vector, _Vector]:
        problem = self.problem
        lower, upper = np.zeros(self.columns), np.full(self.columns, _INF)
        upper[: self.instances] = 1.0
        upper[self.instances : self.fresh] = [min(k.maximum, problem.pools[k.pool].maximum) for k in problem.variants]
        lower[self.workers :] = [pool.minimum for pool in problem.pools]
        upper[self.workers :] = [pool.maximum for pool in problem.pools]
        return lower, upper

    def _row(self, lower: float, upper: float, entries: list[tuple[int, float]]) -> None:
        self.rows.append((lower, upper, entries))

    def _serving(self) -> None:
        """Add the rows of serving: shares add up to 1, and used slots are bounded by instances and workers."""
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
        """Add the rows of hosting: memory and places of workers, new instances, and task maximums."""
        variants, pools = self.problem.variants, self.problem.pools
        for number, pool in enumerate(pools):
            mine = [(self.instances + k, variant) for k, variant in enumerate(variants) if variant.pool == number]
            worker = self.workers + number
            memory = [(column, variant.memory_bytes / max(pool.memory_bytes, 1.0)) for column, variant in mine]
            self._row(-_INF, 0.0, [*memory, (worker, -1.0)])
            self._row(-_INF, 0.0, [*((c, 1.0) for c, _ in mine), (worker, -pool.instances_per_worker)])
        for number, variant in enumerate(variants):
            self._row(-_INF, 0.0, [(self.instances + number, 1.0), (self.workers + variant.pool, -1.0)])
            self._row(-_INF, float(variant.now), [(self.instances + number, 1.0), (self.fresh + number, -1.0)])
        for task, maximum in self.problem.task_maximum.items():
            mine = [(self.instances + k, 1.0) for k, variant in enumerate(variants) if variant.task == task]
            self._row(-_INF, float(maximum), mine)

    def columns_of(self, allocation: Allocation) -> _Vector:
        """Return the columns of an allocation, as a start solution."""
        problem = self.problem
        values = np.zeros(self.columns)
        for column, key in enumerate(self.options):
            values[column] = allocation.shares.get(key, 0.0)
            values[self.unserved + key[0]] -= values[column]
        values[self.unserved : self.instances] += 1.0
        counts, workers = np.array(allocation.instances), np.array(allocation.workers)
        values[self.instances : self.fresh] = counts
        values[self.fresh : self.workers] = np.maximum(counts - [variant.now for variant in problem.variants], 0)
        values[self.workers :] = workers
        return values

    def rounded(self, values: _Vector) -> Allocation:
        """Return the relaxed solution with instances rounded up, and enough workers to hold them."""
        instances = np.ceil(values[self.instances : self.fresh] - EPSILON)
        workers = np.rint(values[self.workers :])
        for number, pool in enumerate(self.problem.pools):
            mine = [
                (variant, instances[k]) for k, variant in enumerate(self.problem.variants) if variant.pool == number
            ]
            memory = sum(variant.memory_bytes * count for variant, count in mine) / max(pool.memory_bytes, 1.0)
            places = sum(count for _, count in mine) / pool.instances_per_worker
            minimum = max((count for _, count in mine), default=0.0)
            workers[number] = max(workers[number], minimum, np.ceil(max(memory, places) - EPSILON))
        whole = values.copy()
        whole[self.instances : self.fresh], whole[self.workers :] = instances, workers
        return self.allocation(whole)

    def allocation(self, values: _Vector) -> Allocation:
        whole = np.rint(values).astype(int)
        shares = {key: float(values[column]) for column, key in enumerate(self.options) if values[column] > 1e-9}
        return Allocation(
            instances=tuple(whole[self.instances : self.fresh].tolist()),
            workers=tuple(whole[self.workers :].tolist()),
            shares=shares,
        )
