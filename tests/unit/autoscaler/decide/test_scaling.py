"""Tests of scaling under changing load: a simulator applies the plans."""

from itertools import pairwise

import msgspec
import pytest

from autoscaler.decide.optimizer.milp import solve_targets
from autoscaler.decide.snapshot import Backlog, ScaleDownTimer, ScalingLimits, WorkerLoad
from autoscaler.decide.stabilization import ScaleDownStabilizer
from schemas.rows.cluster import Pin, PinKind
from tests.unit.autoscaler.decide.simulator import Simulator
from tests.unit.autoscaler.decide.snapshots import cpus, full, load, profile, ranking

# One slot serves 16 inputs in 8.26 batch times: `a` about 190/s within a second, `b` 1900/s. There is no headroom.
A, B = profile("digits-a", 0.9, 0.010, load_s=0.5), profile("digits-b", 0.8, 0.001, load_s=0.5)
SLOT = 16 / (8.26 * 0.010)


def owners(simulator: Simulator) -> bool:
    """Return true if each partition of each placed variant has exactly one owner."""
    by_variant: dict[str, list[int]] = {}
    for (variant, _), row in simulator.rows.items():
        by_variant.setdefault(variant, []).extend(row.partitions)
    return all(sorted(held) == list(range(simulator.partitions.get(name, 4))) for name, held in by_variant.items())


def test_scaling_up_at_once_and_down_after_delay() -> None:
    simulator = Simulator([A]).run(3, {"digits": 0.5 * SLOT})
    assert (simulator.replicas("digits-a"), len(simulator.workers)) == (1, 1)
    simulator.run(3, {"digits": 3.5 * SLOT})
    assert (simulator.replicas("digits-a"), len(simulator.workers)) == (4, 4)
    assert owners(simulator)
    simulator.run(15, {"digits": 0.5 * SLOT})
    assert len(simulator.workers) == 4  # the load window and then the delay must pass first
    simulator.run(60, {"digits": 0.5 * SLOT})
    assert (simulator.replicas("digits-a"), len(simulator.workers)) == (1, 1)
    assert owners(simulator)


def test_scaling_fills_slots_before_adding_workers() -> None:
    simulator = Simulator([A], hardware=cpus(slots=4)).run(5, {"digits": 3.5 * SLOT})
    assert (simulator.replicas("digits-a"), len(simulator.workers)) == (1, 1)
    simulator.run(5, {"digits": 4.5 * SLOT})
    assert (simulator.replicas("digits-a"), len(simulator.workers)) == (2, 2)


def test_scaling_down_is_tried_until_it_has_happened() -> None:
    timers: dict[str, ScaleDownTimer] = {}
    kept = list[int]()
    for now_s in range(40):
        stabilizer = ScaleDownStabilizer(timers, now_s)
        kept.append(stabilizer.apply("workers cpu", 2, 1, 30.0))
        timers = stabilizer.surplus
    assert kept == [2] * 30 + [1] * 10


def test_scaling_ignores_swings_shorter_than_delay() -> None:
    simulator = Simulator([A]).run(30, {"digits": 3.5 * SLOT})
    before = len(simulator.changes)
    for _ in range(20):
        simulator.run(12, {"digits": 0.5 * SLOT}).run(3, {"digits": 3.5 * SLOT})
    assert len(simulator.changes) == before


def test_scaling_follows_slow_swings_once_each_way() -> None:
    simulator = Simulator([A]).run(10, {"digits": 3.5 * SLOT})
    before, periods = len(simulator.changes), 5
    for _ in range(periods):
        simulator.run(100, {"digits": 0.5 * SLOT}).run(100, {"digits": 3.5 * SLOT})
    # Each way changes three workers, three instances, and the partitions of four instances in at most two steps.
    assert len(simulator.changes) - before <= periods * 2 * (3 + 3 + 8)


@pytest.mark.parametrize("noise", [0.8, 0.9, 1.1])
def test_scaling_settles_above_noise(noise: float) -> None:
    simulator = Simulator([A]).run(40, {"digits": SLOT})
    for second in range(100):
        simulator.step({"digits": SLOT * (noise if second % 7 else 1.02)})
    before = len(simulator.changes)
    for second in range(200):
        simulator.step({"digits": SLOT * (noise if second % 7 else 1.02)})
    assert len(simulator.changes) == before


def test_scaling_keeps_instances_while_online_backlog_remains() -> None:
    simulator = Simulator([A], hardware=cpus(8)).run(5, {"digits": 7.5 * SLOT})
    waits = (Backlog(task="digits", variant=A.variant, offline=False, inputs=200_000, age_s=60.0),)
    simulator.run(300, {}, backlogs=waits)
    assert (simulator.replicas("digits-a"), len(simulator.workers)) == (8, 8)
    simulator.run(120, {})
    assert (simulator.replicas("digits-a"), len(simulator.workers)) == (1, 1)


def test_scaling_up_for_online_or_very_long_offline_backlog() -> None:
    waits = Backlog(task="digits", inputs=20_000, age_s=60.0)
    assert Simulator([A], hardware=cpus(8)).run(5, {}, backlogs=(waits,)).replicas("digits-a") == 8
    offline = msgspec.structs.replace(waits, offline=True)
    assert Simulator([A], hardware=cpus(8)).run(60, {}, backlogs=(offline,)).replicas("digits-a") == 1
    hours = msgspec.structs.replace(offline, inputs=3.5 * SLOT * ScalingLimits().offline_drain_s)
    assert Simulator([A], hardware=cpus(8)).run(5, {}, backlogs=(hours,)).replicas("digits-a") == 4


def test_scaling_up_further_for_a_shorter_window() -> None:
    def replicas(window_s: float) -> int:
        waits = Backlog(task="digits", offline=True, inputs=3.5 * SLOT * 5400, left_s=window_s)
        return Simulator([A], hardware=cpus(8)).run(5, {}, backlogs=(waits,)).replicas("digits-a")

    assert [replicas(window_s) for window_s in (86_400.0, 5400.0, 2400.0)] == [2, 4, 8]


def test_scaling_protects_online_load_from_offline_backlog() -> None:
    loads, waits = {"digits": 1.5 * SLOT}, Backlog(task="mnist", offline=True, inputs=1e8)
    known, cpu = [A, profile("mnist-a", 0.9, 0.010)], cpus(2)
    simulator = Simulator(known, hardware=cpu, workers=2).run(5, loads)
    assert simulator.replicas("digits-a") == 2
    simulator.run(60, loads, backlogs=(waits,))
    assert simulator.replicas("digits-a") == 2
    digits, mnist = sorted(simulator.plan.explanation["requirements"], key=lambda found: found["class"][0])
    assert digits["served"] == 1.0
    assert 0 < mnist["served"] < 1.0


def test_scaling_gives_up_accuracy_before_load() -> None:
    simulator = Simulator([A, B], hardware=cpus(2), workers=2, limits=ScalingLimits(accuracy_price=0.01))
    simulator.run(5, {"digits": 1.5 * SLOT})
    assert simulator.replicas("digits-a") == 2
    simulator.run(5, {"digits": 15 * SLOT})
    assert simulator.replicas("digits-b") == 2
    assert simulator.plan.explanation["requirements"][0]["served"] == 1.0
    simulator.run(5, {"digits": 100 * SLOT})
    assert 0 < simulator.plan.explanation["requirements"][0]["served"] < 1.0


def test_scaling_limits_batches_for_urgent_load() -> None:
    def limits_of(simulator: Simulator) -> set[int]:
        return {row.max_batch for (variant, _), row in simulator.rows.items() if variant == A.variant}

    simulator, urgent = Simulator([A]).run(3, {"digits": 10}), {"classes": (load("digits", 10, ms=90),)}
    assert limits_of(simulator) == {16}
    simulator.run(1, {"digits": 10}, **urgent)
    assert limits_of(simulator) == {4}  # takes 25 ms: a query may wait for one batch and be computed in the next
    before = len(simulator.changes)
    for _ in range(5):
        simulator.run(5, {"digits": 10}).run(5, {"digits": 10}, **urgent)
    assert (limits_of(simulator), len(simulator.changes)) == ({4}, before)
    assert limits_of(simulator.run(60, {"digits": 10})) == {16}
    assert simulator.changes[before:] == ["limit"]


def test_scaling_limits_batches_to_mean_query_at_least() -> None:
    """On several slots a query in pieces is predicted worse, and would go to dearer variants that have no limit."""

    def limits(slots: int) -> list[int]:
        found = list[int]()
        for mean_batch in (1.0, 7.5, 40.0):
            classes = load("digits", 10, ms=90), load("digits", 60, mean_batch=mean_batch)
            simulator = Simulator([A], hardware=cpus(slots=slots)).run(3, {}, classes=classes)
            found.append(simulator.rows[A.variant, "cpu-0"].max_batch)
        return found

    assert limits(slots=4) == [4, 8, 32]
    assert limits(slots=1) == [4, 4, 4]


def test_scaling_to_zero_and_back_on_demand() -> None:
    simulator = Simulator([A, B], limits=ScalingLimits(scale_to_zero_delay_s=60)).run(5, {"digits": 10})
    assert len(simulator.rows) == 2
    simulator.run(90, {})
    assert simulator.rows == {}
    simulator.step({}, demand_age_s={A.variant: 0.0})
    assert simulator.replicas("digits-a") == 1
    pinned = Pin(kind=PinKind.VARIANT, name=B.variant, minimum=1)
    kept = (
        Simulator([A, B], limits=ScalingLimits(scale_to_zero_delay_s=60), bounds=[pinned])
        .run(5, {"digits": 10})
        .run(90, {})
    )
    assert set(kept.rows) == {(B.variant, "cpu-0")}


def test_scaling_starts_a_worker_on_demand() -> None:
    none = Pin(kind=PinKind.HARDWARE, name="cpu", minimum=0)
    simulator = Simulator([A], workers=0, bounds=[none])
    simulator.run(3, {})
    assert simulator.workers == {}
    simulator.run(2, {}, demand_age_s={A.variant: 0.0})
    assert len(simulator.workers) == 1
    assert simulator.replicas("digits-a") == 1


def test_scaling_down_removes_replicas_of_stopped_workers() -> None:
    simulator = Simulator([A, B]).run(5, {"digits": 3.5 * SLOT}).run(80, {"digits": 0.5 * SLOT})
    assert {worker for _, worker in simulator.rows} == {"cpu-0"}
    assert simulator.changes.count("place") == len({variant for variant, _ in simulator.rows})  # each was loaded once


def test_scaling_down_drains_worker_with_least_to_move() -> None:
    idle = [profile(f"mnist-{letter}", 0.5 + number / 10, 0.001 * 2**number) for number, letter in enumerate("abcd")]
    both = Pin(kind=PinKind.HARDWARE, name="cpu", minimum=2)
    simulator = Simulator([A, *idle], workers=2, bounds=[both]).run(5, {"digits": 0.5 * SLOT})
    for (variant, _), row in list(simulator.rows.items()):
        worker = "cpu-1" if variant == A.variant else "cpu-0"
        simulator.rows = {key: r for key, r in simulator.rows.items() if key[0] != variant}
        simulator.rows[variant, worker] = msgspec.structs.replace(row, worker=worker)
    simulator.bounds, before = (), len(simulator.changes)
    busy = (WorkerLoad(worker="cpu-0", utilisation=0.0, memory_used=0),)
    busy += (WorkerLoad(worker="cpu-1", utilisation=0.9, memory_used=0),)
    simulator.run(60, {"digits": 0.5 * SLOT}, worker_loads=busy)
    assert set(simulator.workers) == {"cpu-0"}
    assert simulator.changes[before:].count("replace") == 1


def test_scaling_down_moves_last_instance_of_dominated_variant() -> None:
    beaten, both = profile("digits-c", 0.7, 0.020), Pin(kind=PinKind.HARDWARE, name="cpu", minimum=2)
    simulator = Simulator([A, beaten], workers=2, bounds=[both]).run(2, {"digits": 1.0})
    simulator.run(1, {"digits": 1.0}, demand_age_s={beaten.variant: 0.0})
    for key in [key for key in simulator.rows if key[0] == beaten.variant]:
        simulator.rows[beaten.variant, "cpu-1"] = msgspec.structs.replace(simulator.rows.pop(key), worker="cpu-1")
    simulator.bounds = ()
    simulator.run(60, {"digits": 1.0})
    assert set(simulator.rows) == {(A.variant, "cpu-0"), (beaten.variant, "cpu-0")}


def test_scaling_down_keeps_no_worker_for_unused_task() -> None:
    unused = profile("mnist-a", memory=600_000_000)
    loaded = profile("digits-a", memory=600_000_000)  # a worker has room for one of them
    simulator = Simulator([loaded, unused], workers=2).run(150, {"digits": 1.0})
    assert set(simulator.workers) == {"cpu-0", "cpu-1"}  # a query might come
    simulator.run(100, {"digits": 1.0})
    assert set(simulator.workers) == {worker for name, worker in simulator.rows if name == loaded.variant}
    assert len(simulator.workers) == 1


def test_scaling_replaces_worker_interfered_for_long() -> None:
    both = Pin(kind=PinKind.HARDWARE, name="cpu", minimum=2)
    simulator = Simulator([A], workers=2, bounds=[both]).run(5, {"digits": 0.5 * SLOT})
    loads = (WorkerLoad(worker="cpu-0", utilisation=0.5, memory_used=0, interfered=True),)
    simulator.run(25, {"digits": 0.5 * SLOT}, worker_loads=loads)
    assert "drain" not in simulator.changes
    simulator.run(20, {"digits": 0.5 * SLOT}, worker_loads=loads)
    assert simulator.changes.count("drain") == 1
    assert len(simulator.workers) == 2
    assert simulator.changes.count("start") == 1


def test_scaling_respects_pins_at_any_load() -> None:
    bounds = [
        Pin(kind=PinKind.VARIANT, name=full("digits-a"), minimum=2, maximum=2),
        Pin(kind=PinKind.HARDWARE, name="cpu", maximum=3),
        Pin(kind=PinKind.TASK, name="mnist", maximum=1),
    ]
    simulator = Simulator([A, B, profile("mnist-a"), profile("mnist-b", 0.8, 0.0001)], workers=3, bounds=bounds)
    for rate in (0.0, 20.0, 0.0):
        simulator.run(60, {"digits": rate * SLOT, "mnist": rate * 10 * SLOT})
        assert simulator.replicas("digits-a") == 2
        assert simulator.replicas("mnist") == 1
        assert len(simulator.workers) <= 3


def test_scaling_adds_partitions_for_replicas() -> None:
    simulator = Simulator([A], hardware=cpus(8)).run(5, {"digits": 5.5 * SLOT})
    assert simulator.replicas("digits-a") == 6
    assert simulator.partitions == {A.variant: 8}
    assert owners(simulator)
    assert all(row.partitions for row in simulator.rows.values())
    fixed = Simulator([A], hardware=cpus(8)).run(5, {"digits": 5.5 * SLOT}, can_add_partitions=False)
    assert fixed.replicas("digits-a") == 4
    assert fixed.partitions == {}


def test_scaling_pause_keeps_scale_and_replaces_losses() -> None:
    simulator = Simulator([A], workers=2).run(5, {"digits": 0.5 * SLOT})
    simulator.run(20, {"digits": 3.5 * SLOT}, paused=True)
    assert (simulator.replicas("digits-a"), len(simulator.workers)) == (1, 2)
    ((_, lost),) = simulator.rows
    del simulator.workers[lost]
    simulator.wanted = 1
    simulator.run(1, {"digits": SLOT}, paused=True)
    ((_, found),) = simulator.rows
    assert found in simulator.workers


def test_scaling_changes_have_reasons() -> None:
    simulator = Simulator([A]).run(1, {"digits": 2.5 * SLOT})
    change = simulator.plan.workers[0]
    assert change.count == 3
    assert "slots" in change.reason
    simulator.run(1, {"digits": 2.5 * SLOT})
    replicated = [change for change in simulator.plan.changes if change.action == "replicate"]
    assert "inputs/s of digits" in replicated[0].reason
    assert replicated[0].inputs["wanted"] == 3


def test_scaling_follows_solver_targets_and_adds_for_load() -> None:
    simulator = Simulator([A, B], workers=2).run(3, {"digits": 1.5 * SLOT})
    snapshot = simulator.snapshot()
    targets = solve_targets(ranking(simulator.profiles, snapshot), snapshot, simulator.limits)
    assert targets is not None
    simulator.run(60, {"digits": 1.5 * SLOT}, targets=targets)
    assert len(simulator.workers) == targets.workers["cpu"]
    assert simulator.step({"digits": 1.5 * SLOT}, targets=targets).changes == ()
    simulator.run(5, {"digits": 30 * SLOT}, targets=targets)
    assert simulator.plan.explanation["requirements"][0]["served"] == 1.0
    assert len(simulator.workers) > targets.workers["cpu"]


def test_solve_targets_is_stable_at_steady_load() -> None:
    simulator = Simulator([A, B, profile("mnist-a", load_s=0.5)], hardware=cpus(6))
    loads = {"digits": 6 * SLOT, "mnist": 4 * SLOT}
    simulator.run(5, loads)
    found = list[dict[str, int]]()
    for _ in range(4):
        snapshot = simulator.snapshot()
        targets = solve_targets(ranking(simulator.profiles, snapshot), snapshot, simulator.limits)
        assert targets is not None
        found.append(dict(targets.instances))
        simulator.run(40, loads, targets=targets)
    assert all(before == after for before, after in pairwise(found[1:]))


def test_scaling_counts_two_slots_for_wide_variant() -> None:
    wide = msgspec.structs.replace(profile("digits-a", 0.9, 0.005, load_s=0.5), threads=2)
    simulator = Simulator([wide], hardware=cpus(slots=3)).run(5, {"digits": 0.5 * SLOT})
    assert (simulator.replicas("digits-a"), len(simulator.workers)) == (1, 1)
    # An instance takes at most two slots, which serve the load of two slots; the rest needs another worker.
    simulator.run(5, {"digits": 2.5 * SLOT})
    assert (simulator.replicas("digits-a"), len(simulator.workers)) == (2, 2)


def test_scaling_spreads_instances_that_share_busy_workers() -> None:
    other = profile("mnist-a", 0.9, 0.010, load_s=0.5)
    simulator = Simulator([A, other], hardware=cpus(8))
    simulator.run(5, {"digits": 0.5 * SLOT, "mnist": 0.2 * SLOT})
    assert (simulator.replicas("digits-a"), simulator.replicas("mnist-a"), len(simulator.workers)) == (1, 1, 1)
    simulator.run(70, {"digits": 5 * SLOT, "mnist": 0.2 * SLOT})
    before = len(simulator.changes)
    assert (simulator.replicas("digits-a"), simulator.replicas("mnist-a"), len(simulator.workers)) == (6, 5, 6)
    simulator.run(60, {"digits": 5 * SLOT, "mnist": 0.2 * SLOT})
    assert len(simulator.changes) == before
