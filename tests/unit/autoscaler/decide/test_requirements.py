"""What must be served, and by what it can be: accuracy, target, latency, slowdown, pins, forecast and backlog."""

import math
from typing import Any

import pytest

from autoscaler.decide.optimizer.model import AllocationProblem, Requirement
from autoscaler.decide.requirements import best_throughput, build_problem, idle_tasks
from autoscaler.decide.snapshot import ClassLoad, ClusterSnapshot, ScaleBounds, ScalingLimits
from schemas.latency import BatchLatency, LatencyModel
from tests.store_rows import a_worker, an_instance
from tests.unit.autoscaler.decide.snapshots import LIMITS, cpus, full, instance_load, load, profile, ranking

MODEL = LatencyModel([BatchLatency(1, 0.010, 0.02), BatchLatency(4, 0.020, 0.04), BatchLatency(32, 0.120, 0.24)], 32)
KNOWN = [profile("digits-a", 0.9, 0.010), profile("digits-b", 0.8, 0.001), profile("mnist-a")]


def problem(*classes: ClassLoad, **rest: Any) -> AllocationProblem:
    found: dict[str, Any] = {"workers": (a_worker(),), "classes": classes} | rest
    snapshot = ClusterSnapshot(**found)
    return build_problem(ranking(KNOWN, snapshot), snapshot, LIMITS)


def only(found: AllocationProblem) -> Requirement:
    assert len(found.requirements) == 1
    return found.requirements[0]


def options(found: AllocationProblem) -> set[str]:
    return {found.variants[option.variant].name for option in only(found).options}


@pytest.mark.parametrize(
    ("budget_s", "rate"),
    [
        (math.inf, 32 / 0.120),
        (0.240, 32 / 0.120),  # two batches of 32: the slot may be busy all the time
        (0.040, 4 / 0.020),  # two of 4
        (0.015, 0.5 / 0.010),  # one of 1 may wait for half of another
        (0.010, 0.1 / 0.010),
        (0.009, 0.0),
    ],
)
def test_a_latency_allows_batches_that_may_wait_for_one_another(budget_s: float, rate: float) -> None:
    assert best_throughput(MODEL, budget_s, 1.0, 1.0).rate == pytest.approx(rate)


def test_what_is_slowed_down_serves_less_and_a_query_of_many_inputs_is_one_batch() -> None:
    assert best_throughput(MODEL, 0.240, 2.0, 1.0).rate < best_throughput(MODEL, 0.240, 1.0, 1.0).rate / 1.9
    assert best_throughput(MODEL, 0.030, 1.0, 8.0).rate == 0.0


def test_a_class_is_served_by_what_is_accurate_enough_in_time_and_the_target() -> None:
    assert options(problem(load("digits", 10))) == {full("digits-a"), full("digits-b")}
    assert options(problem(load("digits", 10, accuracy=0.85))) == {full("digits-a")}
    assert options(problem(load("digits", 10, ms=9))) == {full("digits-b")}
    assert options(problem(load("digits", 10, target="digits-a"))) == {full("digits-a")}
    assert options(problem(load("digits", 10, target=full("digits-b")))) == {full("digits-b")}


def test_a_class_that_nobody_can_serve_is_no_requirement() -> None:
    assert problem(load("digits", 10, accuracy=0.99)).requirements == ()
    assert problem(load("digits", 10, ms=0.1)).requirements == ()
    assert problem(load("digits", 0)).requirements == ()


def test_the_busiest_second_counts_for_online_load_and_the_mean_for_offline() -> None:
    assert only(problem(load("digits", 10, peak_per_s=30))).rate == 30
    assert only(problem(load("digits", 10, peak_per_s=30, offline=True))).rate == 10


def test_rising_load_is_needed_ahead_and_falling_load_as_it_is() -> None:
    rising = tuple(float(rate) for rate in range(10, 110, 2))
    ahead = only(problem(load("digits", 100), history={"digits": rising}, hardware=(cpus(start_s=10.0),)))
    assert 100 < ahead.rate <= 200
    falling = only(problem(load("digits", 100), history={"digits": rising[::-1]}))
    assert falling.rate == 100


def test_a_backlog_that_is_old_shall_be_worked_off() -> None:
    late = instance_load("digits-a", backlog_inputs=500, lag_s=5.0)
    assert only(problem(load("digits", 10), instance_loads=(late,))).rate == 10 + 500 / LIMITS.catch_up_s
    fresh = instance_load("digits-a", backlog_inputs=500, lag_s=0.1)
    assert only(problem(load("digits", 10), instance_loads=(fresh,))).rate == 10


def test_measured_slowdown_makes_options_take_more_slots() -> None:
    quiet = only(problem(load("digits", 10, target="digits-a"))).options[0]
    disturbed = problem(
        load("digits", 10, target="digits-a"), instance_loads=(instance_load("digits-a", slowdown=2.0),)
    )
    assert only(disturbed).options[0].slots == pytest.approx(2 * quiet.slots)


def test_pins_and_demands_are_requirements_without_load() -> None:
    pinned = problem(bounds=(ScaleBounds(kind="variant", name=full("digits-a"), minimum=2, maximum=3),))
    assert options(pinned) == {full("digits-a")}
    assert only(pinned).options[0].floor == 2
    assert {kind.name: kind.maximum for kind in pinned.variants}[
        full("digits-a")
    ] == 1  # one worker, none can be started
    assert options(problem(bounds=(ScaleBounds(kind="task", name="digits", minimum=1),))) == {
        full("digits-a"),
        full("digits-b"),
    }
    assert problem(bounds=(ScaleBounds(kind="task", name="digits", maximum=1),)).task_maximum == {"digits": 1}
    assert options(problem(demand_age_s={full("mnist-a"): 1.0})) == {full("mnist-a")}
    assert problem(demand_age_s={full("mnist-a"): 11.0}).requirements == ()


def test_workers_are_bounded_by_the_launcher_and_by_pins() -> None:
    fixed = problem().pools[0]
    assert (fixed.now, fixed.minimum, fixed.maximum) == (1, 1, 1)
    launched = problem(hardware=(cpus(4),), wanted_workers={"cpu": 2}).pools[0]
    assert (launched.now, launched.minimum, launched.maximum) == (2, 1, 4)
    pinned = problem(
        hardware=(cpus(4),), bounds=(ScaleBounds(kind="hardware", name="cpu", minimum=2, maximum=3),)
    ).pools[0]
    assert (pinned.minimum, pinned.maximum) == (2, 3)
    none = problem(hardware=(cpus(4),), bounds=(ScaleBounds(kind="hardware", name="cpu", minimum=0),)).pools[0]
    assert none.minimum == 0


def test_where_topics_cannot_grow_replicas_are_at_most_the_partitions() -> None:
    found = problem(hardware=(cpus(9),), can_add_partitions=False)
    assert {kind.maximum for kind in found.variants} == {4}


def test_what_is_there_is_counted_on_workers_that_stay() -> None:
    workers = (a_worker("cpu-0"), a_worker("cpu-1", alive=False))
    rows = (an_instance(full("digits-a"), "cpu-0"), an_instance(full("digits-a"), "cpu-1"))
    found = problem(workers=workers, instances=rows)
    assert {kind.name: kind.now for kind in found.variants if kind.now} == {full("digits-a"): 1}


def test_a_task_is_idle_when_nobody_asked_for_any_of_its_variants() -> None:
    limits = ScalingLimits(scale_to_zero_delay_s=60)
    idle = {full("digits-a"): 100.0, full("digits-b"): 30.0, full("mnist-a"): 100.0}
    snapshot = ClusterSnapshot(workers=(a_worker(),), idle_s=idle)
    assert idle_tasks(ranking(KNOWN, snapshot), snapshot, limits) == {"mnist"}
    asked = ClusterSnapshot(workers=(a_worker(),), idle_s=idle, classes=(load("mnist", 1.0),))
    assert idle_tasks(ranking(KNOWN, asked), asked, limits) == set()
    assert idle_tasks(ranking(KNOWN, snapshot), snapshot, ScalingLimits()) == set()
