"""Tests of requirements and their options: accuracy, target, latency, slowdown, pins, forecast and backlog."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.decide.optimizer.greedy import solve_greedy
from autoscaler.decide.optimizer.model import AllocationProblem, Requirement
from autoscaler.decide.requirements import build_problem, idle_tasks
from autoscaler.decide.snapshot import Backlog, ClassLoad, ClusterSnapshot, ScalingLimits
from autoscaler.decide.throughput import best_throughput
from schemas.latency import BatchLatency, LatencyModel
from schemas.rows.cluster import Pin, PinKind
from tests.example_rows import a_worker, an_instance
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


def backlog(inputs: float, **rest: Any) -> Backlog:
    return Backlog(task="digits", inputs=inputs, **rest)


def options(found: AllocationProblem) -> set[str]:
    return {found.variants[option.variant].name for option in only(found).options}


@pytest.mark.parametrize(
    ("budget_s", "rate"),
    [
        (math.inf, 32 / 0.120),
        (0.240, 16 / (0.020 + 0.100 * 12 / 28)),  # two batches of 32 would fit, but are hardly faster
        (0.040, 4 / 0.020),  # two of 4
        (0.015, 0.5 / 0.010),  # one of 1, which waits for half of another
        (0.010, 0.1 / 0.010),
        (0.009, 0.0),
    ],
)
def test_best_throughput_within_latency_budget(budget_s: float, rate: float) -> None:
    assert best_throughput(MODEL, budget_s, 1.0, 1.0).rate == pytest.approx(rate)


def test_best_throughput_falls_with_slowdown_and_query_size() -> None:
    assert best_throughput(MODEL, 0.240, 2.0, 1.0).rate < best_throughput(MODEL, 0.240, 1.0, 1.0).rate / 1.9
    assert best_throughput(MODEL, 0.030, 1.0, 8.0).rate == 0.0


def test_build_problem_options_meet_the_needs() -> None:
    assert options(problem(load("digits", 10))) == {full("digits-a"), full("digits-b")}
    assert options(problem(load("digits", 10, accuracy=0.85))) == {full("digits-a")}
    assert options(problem(load("digits", 10, ms=9))) == {full("digits-b")}
    assert options(problem(load("digits", 10, target="digits-a"))) == {full("digits-a")}
    assert options(problem(load("digits", 10, target=full("digits-b")))) == {full("digits-b")}


@pytest.mark.parametrize(("busy", "slots"), [(0.5, 0.7), (1, 1.4), (4, 4.8), (16, 17.6)])
def test_build_problem_spares_slots_by_square_root(busy: float, slots: float) -> None:
    per_slot = 16 / (0.010 * (1 + 15 * 15 / 31))
    [option] = only(problem(load("digits", busy * per_slot, target=full("digits-a")))).options
    assert option.slots == pytest.approx(slots)


def test_build_problem_skips_classes_without_variant() -> None:
    assert problem(load("digits", 10, accuracy=0.99)).requirements == ()
    assert problem(load("digits", 10, ms=0.1)).requirements == ()
    assert problem(load("digits", 0)).requirements == ()


def test_build_problem_uses_peak_of_online_load() -> None:
    assert only(problem(load("digits", 100, peak_per_s=400))).rate == 370, "less three standard deviations"
    assert only(problem(load("digits", 100, peak_per_s=125))).rate == 100, "arrivals vary so much at a constant rate"
    assert only(problem(load("digits", 100, peak_per_s=180, mean_batch=9))).rate == 100
    assert problem(load("digits", 10, peak_per_s=30, offline=True)).requirements == (), "it is a backlog while it waits"


def test_build_problem_forecasts_rising_load_only() -> None:
    rising = tuple(float(rate) for rate in range(10, 110, 2))
    ahead = only(problem(load("digits", 100), history={"digits": rising}, hardware=(cpus(start_s=10.0),)))
    assert 100 < ahead.rate <= 200
    falling = only(problem(load("digits", 100), history={"digits": rising[::-1]}))
    assert falling.rate == 100


def test_build_problem_requires_catch_up_of_old_backlog() -> None:
    waits = only(problem(backlogs=(backlog(500, age_s=5.0),)))
    assert (waits.rate, len(waits.options)) == (500 / LIMITS.catch_up_s, 2)
    assert only(problem(backlogs=(backlog(500),))).rate == 500 / LIMITS.catch_up_s, "it came before anybody looked"
    assert options(problem(backlogs=(backlog(500, variant=full("digits-b"), age_s=5.0),))) == {full("digits-b")}
    assert problem(backlogs=(backlog(500, age_s=0.1),)).requirements == ()
    beside = problem(load("digits", 10), backlogs=(backlog(500, age_s=5.0),)).requirements
    assert [requirement.rate for requirement in beside] == [10, 500 / LIMITS.catch_up_s]
    assert beside[0].penalty == pytest.approx(beside[1].penalty, rel=0.01)
    slow_to_come = problem(backlogs=(backlog(500, age_s=5.0),), hardware=(cpus(start_s=99.9),))
    assert only(slow_to_come).rate == pytest.approx(500 / 100.0)


def test_build_problem_offline_backlog_is_worked_off_within_hours() -> None:
    drained = only(problem(backlogs=(backlog(200_000, offline=True),)))
    assert drained.rate == 200_000 / LIMITS.offline_drain_s
    online = problem(load("digits", 0.001)).requirements[0]
    assert drained.penalty < online.penalty / 10


def test_build_problem_plans_offline_work_by_its_deadline() -> None:
    drained = only(problem(backlogs=(backlog(200_000, offline=True),)))
    a_day, soon = (
        only(problem(backlogs=(backlog(200_000, offline=True, left_s=left_s),))) for left_s in (86_400.0, 5400.0)
    )
    assert (a_day.rate, soon.rate) == (drained.rate, pytest.approx(200_000 / (5400 - LIMITS.catch_up_s)))
    beside = only(problem(backlogs=(backlog(200_000, offline=True), backlog(200_000, offline=True, left_s=5400.0))))
    assert beside.rate == pytest.approx(drained.rate + soon.rate)
    [option] = [option for option in soon.options if option.variant == beside.options[0].variant]
    online = only(problem(load("digits", soon.rate)))
    assert soon.penalty < online.penalty / 10, "online queries come first"
    assert option.slots > 2 * drained.options[0].slots


@given(
    st.floats(0, 1e7), st.floats(0, 1e7), st.integers(0, 8), st.booleans(),
    st.sampled_from([None, full("digits-a"), full("digits-b")]),
)  # fmt: skip
def test_build_problem_grows_with_the_backlog(
    one: float, other: float, instances: int, offline: bool, variant: str | None
) -> None:
    workers = tuple(a_worker(f"cpu-{number}") for number in range(8))
    rows = tuple(an_instance(full("digits-a"), worker.name) for worker in workers[:instances])
    few, many = (
        problem(workers=workers, instances=rows, backlogs=(backlog(inputs, variant=variant, offline=offline),))
        for inputs in sorted((one, other))
    )
    assert rate(few) <= rate(many)
    assert all(floor <= floors(many).get(name, 0) for name, floor in floors(few).items())
    less, more = (solve_greedy(found) for found in (few, many))
    assert sum(less.instances) <= sum(more.instances)


def rate(found: AllocationProblem) -> float:
    return sum(requirement.rate for requirement in found.requirements)


def floors(found: AllocationProblem) -> dict[str, int]:
    """Return the instances that requirements without load keep, by variant."""
    return {
        found.variants[requirement.options[0].variant].name: requirement.options[0].floor
        for requirement in found.requirements
        if not requirement.rate
    }


def test_build_problem_slowdown_takes_more_slots() -> None:
    quiet = only(problem(load("digits", 10, target="digits-a"))).options[0]
    disturbed = problem(
        load("digits", 10, target="digits-a"), instance_loads=(instance_load("digits-a", slowdown=2.0),)
    )
    assert only(disturbed).options[0].slots == pytest.approx(2 * quiet.slots)


def test_build_problem_correction_affects_its_variant_only() -> None:
    quiet = problem(load("digits", 10, target="digits-a"), load("digits", 10, target="digits-b"))
    loads = (instance_load("digits-a", correction=2.0),)
    corrected = problem(
        load("digits", 10, target="digits-a"), load("digits", 10, target="digits-b"), instance_loads=loads
    )
    slots = [[requirement.options[0].slots for requirement in found.requirements] for found in (quiet, corrected)]
    assert slots[1] == pytest.approx([2 * slots[0][0], slots[0][1]])


def test_build_problem_requires_pins_and_demands() -> None:
    pinned = problem(bounds=(Pin(kind=PinKind.VARIANT, name=full("digits-a"), minimum=2, maximum=3),))
    assert options(pinned) == {full("digits-a")}
    assert only(pinned).options[0].floor == 2
    assert {kind.name: kind.maximum for kind in pinned.variants}[
        full("digits-a")
    ] == 1  # one worker, none can be started
    assert options(problem(bounds=(Pin(kind=PinKind.TASK, name="digits", minimum=1),))) == {
        full("digits-a"),
        full("digits-b"),
    }
    assert problem(bounds=(Pin(kind=PinKind.TASK, name="digits", maximum=1),)).task_maximum == {"digits": 1}
    assert options(problem(demand_age_s={full("mnist-a"): 1.0})) == {full("mnist-a")}
    assert problem(demand_age_s={full("mnist-a"): 11.0}).requirements == ()


def test_build_problem_bounds_workers_by_launcher_and_pins() -> None:
    fixed = problem().pools[0]
    assert (fixed.now, fixed.minimum, fixed.maximum) == (1, 1, 1)
    launched = problem(hardware=(cpus(4),), wanted_workers={"cpu": 2}).pools[0]
    assert (launched.now, launched.minimum, launched.maximum) == (2, 1, 4)
    pinned = problem(hardware=(cpus(4),), bounds=(Pin(kind=PinKind.HARDWARE, name="cpu", minimum=2, maximum=3),)).pools[
        0
    ]
    assert (pinned.minimum, pinned.maximum) == (2, 3)
    none = problem(hardware=(cpus(4),), bounds=(Pin(kind=PinKind.HARDWARE, name="cpu", minimum=0),)).pools[0]
    assert none.minimum == 0


@pytest.mark.parametrize(
    ("there", "rate", "minimums"),
    [
        ((), 0, {"cpu": 1, "dear": 0}),  # the cheapest type that can be started
        (("dear-0",), 0, {"cpu": 0, "dear": 1}),  # the one that runs
        (("cpu-0", "dear-0"), 0, {"cpu": 1, "dear": 0}),  # the cheapest that runs
        (("dear-0",), 10, {"cpu": 0, "dear": 0}),  # load keeps what it needs
    ],
)
def test_build_problem_keeps_one_worker_without_load(
    there: tuple[str, ...], rate: float, minimums: dict[str, int]
) -> None:
    types = cpus(4), msgspec.structs.replace(cpus(4), name="dear", price_per_hour=9.0)
    workers = tuple(msgspec.structs.replace(a_worker(name), hardware=name.partition("-")[0]) for name in there)
    found = problem(load("digits", rate), workers=workers, hardware=types)
    assert {pool.hardware: pool.minimum for pool in found.pools} == minimums


def test_build_problem_limits_replicas_to_fixed_partitions() -> None:
    found = problem(hardware=(cpus(9),), can_add_partitions=False)
    assert {kind.maximum for kind in found.variants} == {4}


def test_build_problem_counts_instances_of_live_workers() -> None:
    workers = (a_worker("cpu-0"), a_worker("cpu-1", alive=False))
    rows = (an_instance(full("digits-a"), "cpu-0"), an_instance(full("digits-a"), "cpu-1"))
    found = problem(workers=workers, instances=rows)
    assert {kind.name: kind.now for kind in found.variants if kind.now} == {full("digits-a"): 1}


def test_idle_tasks_have_no_used_variant() -> None:
    limits = ScalingLimits(scale_to_zero_delay_s=60)
    idle = {full("digits-a"): 100.0, full("digits-b"): 30.0, full("mnist-a"): 100.0}
    snapshot = ClusterSnapshot(workers=(a_worker(),), idle_s=idle)
    assert idle_tasks(ranking(KNOWN, snapshot), snapshot, limits) == {"mnist"}
    asked = ClusterSnapshot(workers=(a_worker(),), idle_s=idle, classes=(load("mnist", 1.0),))
    assert idle_tasks(ranking(KNOWN, asked), asked, limits) == set()
    late = ClusterSnapshot(
        workers=(a_worker(),), idle_s=idle, backlogs=(Backlog(task="mnist", offline=True, inputs=1),)
    )
    assert idle_tasks(ranking(KNOWN, late), late, limits) == set()
    assert idle_tasks(ranking(KNOWN, snapshot), snapshot, ScalingLimits()) == set()


def test_build_problem_wide_variant_takes_two_slots() -> None:
    """The wide variant is twice as fast and takes twice the slots, so the same load takes as many slots."""
    narrow = profile("digits-a", 0.9, 0.010)
    wide = msgspec.structs.replace(profile("digits-b", 0.9, 0.005), threads=2)
    snapshot = ClusterSnapshot(workers=(a_worker(slots=4),), classes=(load("digits", 100.0, ms=1000.0),))
    found = build_problem(ranking([narrow, wide], snapshot), snapshot, LIMITS)
    by_name = {found.variants[option.variant].name: option for option in only(found).options}
    assert by_name[full("digits-b")].slots == pytest.approx(by_name[full("digits-a")].slots)
    slots = {variant.name: variant.slots for variant in found.variants}
    assert slots == {full("digits-a"): 4.0, full("digits-b"): 2.0}, "threads of a session are not shared by batches"


@pytest.mark.parametrize(("slots", "threads", "wide_slots"), [(2, 2, 2.0), (1, 4, 1.0)])
def test_build_problem_supports_slots_of_several_cores(slots: int, threads: int, wide_slots: float) -> None:
    wide = msgspec.structs.replace(profile("digits-a", 0.9, 0.005), threads=threads)
    worker = msgspec.structs.replace(a_worker(slots=slots), threads=threads)
    snapshot = ClusterSnapshot(workers=(worker,), classes=(load("digits", 100.0, ms=1000.0),))
    found = build_problem(ranking([wide], snapshot), snapshot, LIMITS)
    assert [variant.slots for variant in found.variants] == [wide_slots]


def test_rank_variants_excludes_too_wide_variants() -> None:
    wide = msgspec.structs.replace(profile("digits-a", 0.9, 0.005), threads=4)
    found = ranking([wide, profile("digits-b", 0.8, 0.010)], ClusterSnapshot(workers=(a_worker(slots=2),)))
    assert set(found.candidates) == set(found.best) == {full("digits-b")}
    found = ranking([wide], ClusterSnapshot(workers=(a_worker(slots=2),), hardware=(cpus(slots=4),)))
    assert (set(found.candidates), set(found.best)) == ({full("digits-a")}, set[str]()), "a larger one may be started"
