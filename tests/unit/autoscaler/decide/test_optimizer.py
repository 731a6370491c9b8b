"""Tests of the heuristic and the MILP solver: valid, never worse than no change, and close to the optimum."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import highspy
import msgspec
import pytest
from hypothesis import given, settings

from autoscaler.decide.optimizer.greedy import keep_current, solve_greedy
from autoscaler.decide.optimizer.milp import GAP, solve_milp
from autoscaler.decide.optimizer.model import (
    EPSILON,
    Allocation,
    AllocationProblem,
    ServingOption,
    cost,
    served,
    violations,
)
from tests.unit.autoscaler.decide.problems import a_pool, a_requirement, a_variant_spec, by_name, problems


def allocations(problem: AllocationProblem) -> Iterator[Allocation]:
    """Yield all valid allocations whose shares are multiples of one half."""
    options = [
        [(n, option_number) for option_number in range(len(requirement.options))]
        for n, requirement in enumerate(problem.requirements)
    ]
    halves = [
        [dict(zip(keys, parts, strict=True)) for parts in product((0.0, 0.5, 1.0), repeat=len(keys)) if sum(parts) <= 1]
        for keys in options
    ]
    for workers in product(*(range(pool.maximum + 1) for pool in problem.pools)):
        for instances in product(*(range(variant.maximum + 1) for variant in problem.variants)):
            for chosen in product(*halves):
                shares = {key: share for part in chosen for key, share in part.items() if share}
                allocation = Allocation(instances=instances, workers=workers, shares=shares)
                if not violations(problem, allocation):
                    yield allocation


@given(problems())
@settings(max_examples=40)
def test_solve_milp_within_gap_of_optimum(problem: AllocationProblem) -> None:
    lowest = min(cost(problem, allocation) for allocation in allocations(problem))
    found = solve_milp(problem)
    assert cost(problem, found.allocation) <= lowest * (1 + GAP) + 1e-4
    assert found.bound <= lowest + 1e-4


@given(problems())
def test_solve_greedy_is_the_same_without_bounds(problem: AllocationProblem) -> None:
    def unbounded_unit(_allocator: object, _option: ServingOption) -> float:
        return 0.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autoscaler.decide.optimizer.greedy._GreedyAllocator.least_unit", unbounded_unit)
        unbounded = solve_greedy(problem)
    assert solve_greedy(problem) == unbounded


@given(problems())
def test_solvers_are_valid_and_not_worse_than_no_change(problem: AllocationProblem) -> None:
    greedy, solved = solve_greedy(problem), solve_milp(problem).allocation
    nothing = Allocation(
        instances=tuple(variant.now for variant in problem.variants),
        workers=tuple(pool.now for pool in problem.pools),
        shares=keep_current(problem).shares,
    )
    assert violations(problem, greedy) == []
    assert violations(problem, solved) == []
    assert cost(problem, solved) <= cost(problem, greedy) + EPSILON
    if not violations(problem, nothing):
        assert cost(problem, greedy) <= cost(problem, nothing) + EPSILON


@given(problems())
def test_solve_milp_more_hardware_never_costs_more(problem: AllocationProblem) -> None:
    pools = tuple(msgspec.structs.replace(pool, maximum=pool.maximum + 1) for pool in problem.pools)
    more = msgspec.structs.replace(problem, pools=pools)
    before = cost(problem, solve_milp(problem).allocation)
    assert cost(more, solve_milp(more).allocation) <= before * (1 + GAP) + EPSILON


@given(problems())
def test_solve_greedy_is_stable(problem: AllocationProblem) -> None:
    for _ in range(4):
        allocation = solve_greedy(problem)
        variants = (
            msgspec.structs.replace(k, now=n) for k, n in zip(problem.variants, allocation.instances, strict=True)
        )
        pools = (msgspec.structs.replace(p, now=n) for p, n in zip(problem.pools, allocation.workers, strict=True))
        problem = msgspec.structs.replace(problem, variants=tuple(variants), pools=tuple(pools))
    again = solve_greedy(problem)
    assert again.instances == tuple(variant.now for variant in problem.variants)
    assert again.workers == tuple(pool.now for pool in problem.pools)


def both(problem: AllocationProblem) -> list[Allocation]:
    return [solve_greedy(problem), solve_milp(problem).allocation]


def test_solvers_allocate_nothing_without_workers() -> None:
    for problem in (AllocationProblem(), AllocationProblem(requirements=(a_requirement(),))):
        for allocation in both(problem):
            assert allocation == Allocation()
        found = solve_milp(problem)
        assert found.bound == cost(problem, found.allocation)


def test_solvers_replicate_overloaded_instance() -> None:
    problem = AllocationProblem(
        variants=(a_variant_spec("a", now=1),),
        pools=(a_pool(now=3),),
        requirements=(a_requirement(ServingOption(variant=0, slots=2.2)),),
    )
    for allocation in both(problem):
        assert by_name(problem, allocation) == {"a": 3}
        assert served(problem, allocation) == [1.0]


def test_solvers_add_worker_if_slots_are_short() -> None:
    requirements = (
        a_requirement(ServingOption(variant=0, slots=0.9)),
        a_requirement(ServingOption(variant=1, slots=0.9)),
        a_requirement(ServingOption(variant=2, slots=0.9)),
    )
    variants = (a_variant_spec("a", now=1), a_variant_spec("b", now=1), a_variant_spec("c", now=1))
    problem = AllocationProblem(variants=variants, pools=(a_pool(now=1),), requirements=requirements)
    for allocation in both(problem):
        assert allocation.workers == (2,)


def test_solvers_give_up_accuracy_before_load() -> None:
    accurate, fast = (
        ServingOption(variant=0, slots=4.0, slot_cost=0.1),
        ServingOption(variant=1, slots=1.0, slot_cost=0.05, loss_cost=0.2),
    )
    variants = (a_variant_spec("accurate", now=1), a_variant_spec("fast"))
    roomy = AllocationProblem(
        variants=variants, pools=(a_pool(now=4, minimum=4, maximum=4),), requirements=(a_requirement(accurate, fast),)
    )
    tight = msgspec.structs.replace(roomy, pools=(a_pool(now=1, maximum=1),))
    for allocation in both(roomy):
        assert by_name(roomy, allocation) == {"accurate": 4}
    for allocation in both(tight):
        assert served(tight, allocation) == [1.0]
        assert allocation.shares[0, 1] > 0.7


def test_solvers_serve_all_tasks_under_shortage() -> None:
    variants = tuple(a_variant_spec(name, now=1) for name in ("a-accurate", "a-fast", "b-accurate", "b-fast"))
    requirements = tuple(
        a_requirement(
            ServingOption(variant=n, slots=0.95, slot_cost=0.01),
            ServingOption(variant=n + 1, slots=0.3, slot_cost=0.01, loss_cost=0.2),
        )
        for n in (0, 2, 0, 2)
    )
    problem = AllocationProblem(variants=variants, pools=(a_pool(now=1, maximum=1),), requirements=requirements)
    for allocation in both(problem):
        assert all(share > 1 - EPSILON for share in served(problem, allocation))


def test_solvers_keep_loaded_variant_unless_far_cheaper() -> None:
    variants, pools = (a_variant_spec("a", now=1), a_variant_spec("b")), (a_pool(now=1, minimum=1),)

    def needing(slot_cost: float) -> AllocationProblem:
        requirement = a_requirement(
            ServingOption(variant=0, slots=0.5, slot_cost=0.1), ServingOption(variant=1, slots=0.5, slot_cost=slot_cost)
        )
        return AllocationProblem(variants=variants, pools=pools, requirements=(requirement,))

    for allocation in both(needing(0.097)):
        assert by_name(needing(0.097), allocation) == {"a": 1}
    for allocation in both(needing(0.05)):
        assert by_name(needing(0.05), allocation) == {"b": 1}


@pytest.mark.parametrize(("time_limit_s", "least_s", "most_s"), [(0.0, 0.0, 0.1), (60.0, 50.0, 60.0)])
def test_solve_milp_without_time_not_worse_than_greedy(
    time_limit_s: float, least_s: float, most_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_s, set_option = list[float](), highspy.Highs.setOptionValue

    def record(solver: highspy.Highs, option: str, value: Any) -> Any:
        if option == "time_limit":
            given_s.append(value - solver.getRunTime())
        return set_option(solver, option, value)

    monkeypatch.setattr(highspy.Highs, "setOptionValue", record)
    problem = AllocationProblem(
        variants=(a_variant_spec("a"),),
        pools=(a_pool(),),
        requirements=(a_requirement(ServingOption(variant=0, slots=2.2)),),
    )
    found = solve_milp(problem, time_limit_s)
    assert cost(problem, found.allocation) <= cost(problem, solve_greedy(problem))
    assert given_s, "the solver's own clock limits each of its runs"
    assert least_s <= min(given_s) <= max(given_s) <= most_s
