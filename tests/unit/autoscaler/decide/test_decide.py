"""Tests of `decide`: memory limits, placement of useful variants, stability, and replacement after failures."""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.decide.decide import decide
from autoscaler.decide.pareto import (
    VariantRanking,
    launchable_cores,
    live_cores,
    pareto_best,
    rank_variants,
    unloadable_variants,
)
from autoscaler.decide.placement_builder import share_partitions
from autoscaler.decide.plan import ScalePlan
from autoscaler.decide.snapshot import ClusterSnapshot, InstanceLoad, ScalingLimits
from schemas.rows.catalog import Profile, Variant
from schemas.rows.cluster import InstanceRow, Pin, PinKind, WorkerRow
from schemas.status import InstanceState
from tests.example_rows import a_profile, a_variant, a_worker, an_instance
from tests.unit.autoscaler.decide.snapshots import cpus, load

LIMITS = ScalingLimits(memory_share=1.0, instances_per_slot=3)


class ClusterCase(msgspec.Struct, frozen=True):
    variants: dict[str, Variant]
    profiles: dict[str, Profile]
    snapshot: ClusterSnapshot
    limits: ScalingLimits = LIMITS

    def ranking(self) -> VariantRanking:
        snapshot = self.snapshot
        prices = live_cores(snapshot.workers), launchable_cores(snapshot.hardware)
        unloadable = unloadable_variants(self.variants, self.profiles, snapshot.workers, snapshot.instances)
        able = {name: variant for name, variant in self.variants.items() if name not in unloadable}
        return rank_variants(able, self.profiles, *prices)

    def plan(self) -> ScalePlan:
        return decide(self.variants, self.ranking(), self.snapshot, self.limits)

    def after(self, plan: ScalePlan, **changes: Any) -> "ClusterCase":
        rows = {(row.variant, row.worker): row for row in self.snapshot.instances}
        for change in plan.changes:
            if change.wanted is None:
                del rows[change.variant, change.worker]
            else:
                rows[change.variant, change.worker] = change.wanted
        snapshot = msgspec.structs.replace(self.snapshot, **{"instances": tuple(rows.values())} | changes)
        return msgspec.structs.replace(self, snapshot=snapshot)

    def rows(self) -> set[tuple[str, str]]:
        return {(row.variant, row.worker) for row in self.snapshot.instances}


def a_cluster(profiles: list[Profile], workers: list[WorkerRow], *rows: InstanceRow, **snapshot: Any) -> ClusterCase:
    variants = {p.variant: a_variant(p.variant, task=p.variant.split("-")[0]) for p in profiles}
    seen = ClusterSnapshot(workers=tuple(workers), instances=rows, **snapshot)
    return ClusterCase(variants, {p.variant: p for p in profiles}, seen)


def profile(name: str, accuracy: float = 0.9, batch_s: float = 0.001, memory: int = 10) -> Profile:
    return a_profile(f"{name}.onnx-fp32.cpu", accuracy, batch_s, memory)


def a_pin(named: tuple[str, str], minimum: int | None, maximum: int | None) -> Pin:
    return Pin(kind=PinKind(named[0]), name=named[1], minimum=minimum, maximum=maximum)


names = st.sampled_from([f"{task}-{letter}" for task in ("digits", "mnist") for letter in "abcd"])
profiles = st.lists(
    st.builds(
        profile,
        names,
        accuracy=st.sampled_from([0.7, 0.8, 0.9]),
        batch_s=st.sampled_from([0.001, 0.002, 0.004]),
        memory=st.integers(0, 60),
    ),
    unique_by=lambda p: p.variant,
)
workers = st.lists(
    st.builds(
        a_worker,
        st.sampled_from(["cpu-0", "cpu-1", "cpu-2"]),
        hardware=st.sampled_from(["cpu", "cpu", "cuda"]),
        slots=st.integers(1, 2),
        memory_bytes=st.integers(1, 100),
        runtimes=st.sampled_from([("onnx",), ("onnx", "torch-eager"), ()]),
        alive=st.booleans(),
    ),
    unique_by=lambda w: w.name,
)
ages = st.dictionaries(names.map(lambda name: f"{name}.onnx-fp32.cpu"), st.sampled_from([0.0, 5.0, 60.0, 900.0]))
partitions = st.sets(st.integers(0, 3)).map(lambda found: tuple(sorted(found)))


loads = st.lists(
    st.builds(
        load,
        st.sampled_from(["digits", "mnist"]),
        st.sampled_from([0.0, 10.0, 1000.0, 20000.0]),
        accuracy=st.sampled_from([0.0, 0.75, 0.85]),
        ms=st.sampled_from([None, 3.0, 50.0]),
        offline=st.booleans(),
    ),
    max_size=3,
    unique_by=lambda found: found.load_class,
)
pins = st.lists(
    st.builds(
        a_pin,
        st.sampled_from([("task", "digits"), ("variant", "digits-a.onnx-fp32.cpu"), ("hardware", "cpu")]),
        st.sampled_from([None, 0, 1]),
        st.sampled_from([None, 1, 2]),
    ),
    max_size=3,
    unique_by=lambda bound: bound.kind,
)
disturbances = st.lists(
    st.builds(
        InstanceLoad,
        variant=names.map(lambda name: f"{name}.onnx-fp32.cpu"),
        worker=st.sampled_from(["cpu-0", "cpu-1"]),
        state=st.sampled_from([InstanceState.ACTIVE, InstanceState.INTERFERED]),
        inputs_per_s=st.just(1.0),
        slowdown=st.sampled_from([1.0, 3.0]),
    ),
    max_size=2,
)


@st.composite
def busy_clusters(draw: st.DrawFn) -> ClusterCase:
    """Draw a cluster with load, a launcher, pins and disturbances."""
    cluster = draw(clusters())
    launched = draw(st.sampled_from([(), (cpus(3, memory_bytes=50),)]))
    there = tuple(msgspec.structs.replace(w, draining=draw(st.booleans())) for w in cluster.snapshot.workers)
    snapshot = msgspec.structs.replace(
        cluster.snapshot,
        workers=there,
        classes=tuple(draw(loads)),
        hardware=launched,
        wanted_workers=draw(st.sampled_from([{}, {"cpu": 2}])),
        bounds=tuple(draw(pins)),
        instance_loads=tuple(draw(disturbances)),
    )
    return msgspec.structs.replace(cluster, snapshot=snapshot)


@st.composite
def clusters(draw: st.DrawFn) -> ClusterCase:
    known, there = draw(profiles), draw(workers)
    pairs = [(p.variant, w.name) for p in known for w in there]
    placed = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    rows = [an_instance(variant, worker, draw(partitions)) for variant, worker in placed]
    demand, idle = draw(ages), draw(ages)
    observed_s = draw(st.sampled_from([1.0, 20.0, 1000.0]))
    return a_cluster(known, there, *rows, demand_age_s=demand, idle_s=idle, observed_s=observed_s)


@st.composite
def failing_clusters(draw: st.DrawFn) -> ClusterCase:
    """Draw a busy cluster in which some instances failed to load."""
    cluster = draw(busy_clusters())
    states = st.sampled_from([InstanceState.ACTIVE, InstanceState.FAILED])
    rows = tuple(msgspec.structs.replace(row, state=draw(states)) for row in cluster.snapshot.instances)
    return cluster.after(ScalePlan(), instances=rows)


def failed(rows: Iterable[InstanceRow]) -> set[tuple[str, str]]:
    return {(row.variant, row.worker) for row in rows if row.state is InstanceState.FAILED}


@given(clusters() | busy_clusters())
def test_decide_respects_memory_and_slots(cluster: ClusterCase) -> None:
    after = cluster.after(cluster.plan())
    for worker in cluster.snapshot.workers:
        hosted = [row.variant for row in after.snapshot.instances if row.worker == worker.name]
        if worker.alive and worker.hardware == "cpu" and "onnx" in worker.runtimes:
            assert sum(cluster.profiles[name].memory_bytes for name in hosted) <= worker.memory_bytes
            assert len(hosted) <= worker.slots * LIMITS.instances_per_slot


@given(clusters())
def test_decide_places_best_or_demanded_on_able_workers(cluster: ClusterCase) -> None:
    ranking, alive = cluster.ranking(), {w.name: w for w in cluster.snapshot.workers if w.alive}
    for change in cluster.plan().changes:
        assert change.reason
        if change.action in ("place", "replace"):
            fresh = cluster.snapshot.demand_age_s.get(change.variant, 1e9) <= LIMITS.demand_s
            assert change.variant in ranking.best or fresh
            assert alive[change.worker].hardware == "cpu"
            assert "onnx" in alive[change.worker].runtimes


@given(failing_clusters())
def test_decide_does_not_retry_failed_load_on_its_worker(cluster: ClusterCase) -> None:
    placed = {(c.variant, c.worker) for c in cluster.plan().changes if c.action in ("place", "replicate", "replace")}
    assert not placed & failed(cluster.snapshot.instances)


@given(clusters() | busy_clusters() | failing_clusters())
def test_decide_is_stable(cluster: ClusterCase) -> None:
    """A plan applied to its own result changes nothing.

    The plan of a worker with too little memory for its instances knows only afterwards that their load needs another
    one, and that an emptied worker may leave.
    """
    evicts = any(change.action == "evict" for change in cluster.plan().changes)
    again = applied(applied(cluster) if evicts else cluster).plan()
    assert (again.changes, again.workers) == ((), ())
    if again.drain:
        last = applied(applied(cluster)).plan()
        assert (last.changes, last.workers, last.drain) == ((), (), ())


def applied(cluster: ClusterCase) -> ClusterCase:
    """Return the cluster after its plan."""
    plan = cluster.plan()
    drained = tuple(
        msgspec.structs.replace(w, draining=w.draining or w.name in plan.drain) for w in cluster.snapshot.workers
    )
    wanted = cluster.snapshot.wanted_workers | {change.hardware: change.count for change in plan.workers}
    return cluster.after(plan, memory=plan.memory, workers=drained, wanted_workers=wanted)


def test_decide_is_stable_if_a_pinned_variant_no_longer_fits() -> None:
    """The worker has memory for two of three variants; two rows of the pinned one are left from dead workers."""
    names = [f"digits-{letter}.onnx-fp32.cpu" for letter in "abc"]
    known = [profile("digits-a", 0.7, memory=43), profile("digits-b", 0.7, memory=4), profile("digits-c", memory=41)]
    there = [a_worker(f"cpu-{number}", memory_bytes=87, alive=number == 1) for number in range(3)]
    rows = [an_instance(name, "cpu-1") for name in names] + [an_instance(names[0], f"cpu-{n}") for n in (0, 2)]
    cluster = a_cluster(
        known, there, *rows, demand_age_s={names[1]: 0.0}, idle_s=dict(zip(names, (900.0, 0.0, 0.0), strict=True)),
        classes=(load("digits", 10.0, accuracy=0.75),), bounds=(a_pin(("variant", names[0]), 1, None),),
        observed_s=1000.0,
    )  # fmt: skip
    plan = cluster.plan()
    assert names[0] in plan.unplaced
    assert not cluster.after(plan, memory=plan.memory).plan().changes


def test_decide_replaces_surplus_by_demanded_at_once() -> None:
    """A pin limits the task to two instances; a surplus one makes room for the demanded one."""
    rows = [an_instance("mnist-b.onnx-fp32.cpu", f"cpu-{number}") for number in range(2)]
    workers = [a_worker(f"cpu-{number}") for number in range(2)]
    known = [profile("mnist-a", 0.8), profile("mnist-b", 0.95)]
    pinned = (a_pin(("task", "mnist"), None, 2),)
    cluster = a_cluster(known, workers, *rows, bounds=pinned, observed_s=100.0, **demanded())
    first = cluster.plan()
    later = cluster.after(first, memory=first.memory, observed_s=1e6)
    plan = later.plan()
    changes = {(change.action, change.variant) for change in plan.changes}
    assert changes >= {("place", "mnist-a.onnx-fp32.cpu"), ("remove", "mnist-b.onnx-fp32.cpu")}
    assert plan.unplaced == {}


@given(busy_clusters())
def test_decide_respects_pins(cluster: ClusterCase) -> None:
    plan = cluster.plan()
    staying = [w for w in cluster.snapshot.workers if w.alive and not w.draining and w.name not in plan.drain]
    able = {w.name for w in staying if w.hardware == "cpu" and "onnx" in w.runtimes}
    for bound in cluster.snapshot.bounds:
        if bound.maximum is not None and bound.kind == "hardware":
            assert all(change.count <= bound.maximum for change in plan.workers)
        elif bound.maximum is not None:
            rows = (row for row in cluster.after(plan).snapshot.instances if row.worker in able)
            assert sum(row.variant.startswith(bound.name) for row in rows) <= bound.maximum


@given(clusters() | busy_clusters())
def test_decide_gives_each_partition_one_owner(cluster: ClusterCase) -> None:
    after = cluster.after(cluster.plan())
    alive = {w.name for w in cluster.snapshot.workers if w.alive and w.hardware == "cpu" and "onnx" in w.runtimes}
    for variant in {row.variant for row in after.snapshot.instances if row.worker in alive}:
        held = [row for row in after.snapshot.instances if row.variant == variant]
        live = [p for row in held if row.worker in alive for p in row.partitions]
        assert sorted(live) == [0, 1, 2, 3]
        assert all(row.worker in alive for row in held)


@given(clusters())
def test_decide_changes_nothing_if_reading_failed(cluster: ClusterCase) -> None:
    held = msgspec.structs.replace(cluster, snapshot=msgspec.structs.replace(cluster.snapshot, known=False))
    assert held.plan() == ScalePlan()


@given(st.integers(1, 8), st.dictionaries(st.sampled_from("abcd"), partitions, min_size=1))
def test_share_partitions_is_complete_and_stable(count: int, held: dict[str, tuple[int, ...]]) -> None:
    shares = share_partitions(count, held)
    assert sorted(p for share in shares.values() for p in share) == list(range(count))
    assert share_partitions(count, shares) == shares


@given(profiles)
def test_rank_variants_best_dominate_all_variants(known: list[Profile]) -> None:
    ranking = a_cluster(known, [a_worker()]).ranking()
    best = [choice.candidate for choice in ranking.best.values()]
    for candidate in ranking.candidates.values():
        assert any(
            b.variant.task == candidate.variant.task
            and b.accuracy >= candidate.accuracy
            and b.latency_s <= candidate.latency_s
            and b.cost <= candidate.cost
            and b.memory_bytes <= candidate.memory_bytes
            for b in best
        )
    for task in {b.variant.task for b in best}:
        same = [b for b in best if b.variant.task == task]
        assert pareto_best(same) == sorted(same, key=lambda b: (-b.accuracy, b.latency_s, b.cost, b.memory_bytes))


@pytest.mark.parametrize(("maximum", "left"), [(None, 2), (2, 2), (1, 1), (0, 0)])
def test_decide_removes_instances_above_pinned_maximum(maximum: int | None, left: int) -> None:
    known = [profile("digits-a"), profile("mnist-a")]
    rows = [an_instance(f"{name}.onnx-fp32.cpu", "cpu-0") for name in ("digits-a", "mnist-a")]
    rows.append(an_instance("digits-a.onnx-fp32.cpu", "cpu-1"))
    pinned = a_pin(("task", "digits"), 2, None) if maximum is None else a_pin(("task", "digits"), None, maximum)
    cluster = a_cluster(known, [a_worker("cpu-0"), a_worker("cpu-1")], *rows, bounds=(pinned,))
    after = cluster.after(cluster.plan()).rows()
    assert [name.partition("-")[0] for name, _ in sorted(after)].count("digits") == left
    assert ("mnist-a.onnx-fp32.cpu", "cpu-0") in after


def test_decide_keeps_no_worker_above_pinned_maximum() -> None:
    workers = [a_worker("cpu-0", runtimes=()), a_worker("cpu-1")]  # the instances of cpu-1 fit nowhere else
    rows = [an_instance("digits-a.onnx-fp32.cpu", worker.name) for worker in workers]
    fleet = {"hardware": (cpus(4),), "wanted_workers": {"cpu": 2}, "observed_s": 100.0}
    pinned = a_pin(("hardware", "cpu"), None, 1)
    plan = a_cluster([profile("digits-a")], workers, *rows, bounds=(pinned,), **fleet).plan()
    assert [change.count for change in plan.workers] == [1]


def test_decide_spreads_best_variants() -> None:
    known = [profile(f"digits-{i}", accuracy=0.5 + i / 10, batch_s=0.001 + i / 1000) for i in range(4)]
    cluster = a_cluster(known, [a_worker("cpu-0", memory_bytes=30), a_worker("cpu-1", memory_bytes=30)])
    after = cluster.after(cluster.plan())
    assert sorted(worker for _, worker in after.rows()) == ["cpu-0", "cpu-0", "cpu-1", "cpu-1"]


def test_decide_places_most_accurate_of_each_task_first() -> None:
    known = [
        profile("digits-a", 0.9, 0.002),
        profile("digits-b", 0.8, 0.001),
        profile("mnist-a"),
        profile("mnist-b", 0.8),
    ]
    cluster = a_cluster(known, [a_worker(memory_bytes=20)])
    plan = cluster.plan()
    assert cluster.after(plan).rows() == {("digits-a.onnx-fp32.cpu", "cpu-0"), ("mnist-a.onnx-fp32.cpu", "cpu-0")}
    assert list(plan.unplaced) == ["digits-b.onnx-fp32.cpu"]


def test_decide_replaces_instances_of_dead_worker() -> None:
    known = [profile("digits-a"), profile("mnist-a")]
    cluster = a_cluster(known, [a_worker("cpu-0"), a_worker("cpu-1")])
    cluster = cluster.after(cluster.plan(), workers=(a_worker("cpu-0", alive=False), a_worker("cpu-1")))
    plan = cluster.plan()
    assert cluster.after(plan).rows() == {(p.variant, "cpu-1") for p in known}
    assert {change.action for change in plan.changes} == {"replace", "remove"}


def test_decide_keeps_rows_of_dead_worker_without_replacement() -> None:
    cluster = a_cluster([profile("digits-a")], [a_worker("cpu-0")])
    placed = cluster.after(cluster.plan())
    dead = placed.after(ScalePlan(), workers=(a_worker("cpu-0", alive=False),))
    assert dead.plan().changes == ()
    gone = placed.after(ScalePlan(), workers=())
    assert gone.plan().changes == ()


def test_decide_replaces_no_worker_right_after_start() -> None:
    rows = [an_instance("digits-a.onnx-fp32.cpu", "cpu-0")]
    both = [a_worker("cpu-0", alive=False), a_worker("cpu-1")]
    assert a_cluster([profile("digits-a")], both, *rows, observed_s=1.0).plan().changes == ()
    assert a_cluster([profile("digits-a")], both, *rows, observed_s=6.0).plan().changes != ()


def loaded(variant: str) -> InstanceRow:
    return msgspec.structs.replace(an_instance(variant), state=InstanceState.ACTIVE)


def demanded_of(name: str) -> dict[str, Any]:
    return {"demand_age_s": {f"{name}.onnx-fp32.cpu": 0.0}}


def demanded(age_s: float = 0.0) -> dict[str, Any]:
    return {"demand_age_s": {"mnist-a.onnx-fp32.cpu": age_s}, "idle_s": {"mnist-a.onnx-fp32.cpu": age_s}}


def test_decide_evicts_nothing_used_or_without_need() -> None:
    known = [profile("digits-a"), profile("mnist-a")]
    rows = [loaded("digits-a.onnx-fp32.cpu")]
    idle = {"digits-a.onnx-fp32.cpu": 1.0}
    busy = a_cluster(known, [a_worker(memory_bytes=15)], *rows, demand_age_s=demanded()["demand_age_s"], idle_s=idle)
    assert busy.plan().changes == ()
    assert "mnist-a.onnx-fp32.cpu" in busy.plan().unplaced
    roomy = a_cluster(known, [a_worker(memory_bytes=20)], *rows, **demanded())
    assert [change.action for change in roomy.plan().changes] == ["place"]


def test_decide_keeps_dominated_variant_on_demand_until_idle() -> None:
    known = [profile("mnist-a", 0.8), profile("mnist-b", 0.9)]
    cluster = a_cluster(known, [a_worker()], **demanded())
    placed = cluster.after(cluster.plan())
    assert placed.rows() == {("mnist-a.onnx-fp32.cpu", "cpu-0"), ("mnist-b.onnx-fp32.cpu", "cpu-0")}
    still = placed.after(ScalePlan(), demand_age_s={}, idle_s={"mnist-a.onnx-fp32.cpu": 299.0})
    assert still.plan().changes == ()
    idle = placed.after(ScalePlan(), demand_age_s={}, idle_s={"mnist-a.onnx-fp32.cpu": 301.0})
    assert [(c.action, c.variant) for c in idle.plan().changes] == [("remove", "mnist-a.onnx-fp32.cpu")]


def test_decide_removes_variant_that_is_not_ready() -> None:
    cluster = a_cluster([profile("digits-a")], [a_worker()], an_instance("mnist-a.onnx-fp32.cpu"))
    assert [(c.action, c.variant) for c in cluster.plan().changes] == [
        ("remove", "mnist-a.onnx-fp32.cpu"),
        ("place", "digits-a.onnx-fp32.cpu"),
    ]


def test_rank_variants_ignores_variants_without_worker() -> None:
    gpu = a_profile("digits-a.onnx-fp32.cuda", accuracy=0.99)
    known = [gpu, profile("digits-b", 0.9)]
    assert list(a_cluster(known, [a_worker()]).ranking().best) == ["digits-b.onnx-fp32.cpu"]
    both = a_cluster(known, [a_worker(), a_worker("cuda-0", hardware="cuda")])
    assert next(iter(both.ranking().best)) == "digits-a.onnx-fp32.cuda"


def test_decide_evicts_from_worker_with_less_memory() -> None:
    known = [profile("digits-a", 0.9, 0.002), profile("digits-b", 0.8, 0.001)]
    rows = [an_instance(p.variant) for p in known]
    idle = {"digits-a.onnx-fp32.cpu": 5.0, "digits-b.onnx-fp32.cpu": 50.0}
    plan = a_cluster(known, [a_worker(memory_bytes=15)], *rows, idle_s=idle).plan()
    assert [(c.action, c.variant) for c in plan.changes] == [("evict", "digits-b.onnx-fp32.cpu")]


def failed_instance(worker: str, partitions: tuple[int, ...] = (0, 1, 2, 3)) -> InstanceRow:
    row = an_instance("mnist-a.onnx-fp32.cpu", worker, partitions)
    return msgspec.structs.replace(row, state=InstanceState.FAILED, reason="cannot load: it raises")


def test_decide_retries_failed_load_on_another_worker() -> None:
    cluster = a_cluster([profile("mnist-a")], [a_worker("cpu-0"), a_worker("cpu-1")], failed_instance("cpu-0"))
    plan = cluster.plan()
    wanted = {change.worker: change.wanted for change in plan.changes}
    assert {worker: row.partitions for worker, row in wanted.items() if row} == {"cpu-0": (), "cpu-1": (0, 1, 2, 3)}
    assert cluster.after(plan).plan().changes == ()


def test_decide_reports_unloadable_variant_and_uses_another() -> None:
    known = [profile("mnist-a", 0.9, 0.001), profile("mnist-b", 0.8, 0.004)]
    cluster = a_cluster(known, [a_worker("cpu-0")], failed_instance("cpu-0"), **demanded_of("mnist-a"))
    plan = cluster.plan()
    assert [(change.action, change.variant) for change in plan.changes] == [("place", "mnist-b.onnx-fp32.cpu")]
    assert "could load it" in plan.unplaced["mnist-a.onnx-fp32.cpu"]
    newcomer = cluster.after(plan, workers=(a_worker("cpu-0"), a_worker("cpu-1")))
    assert ("mnist-a.onnx-fp32.cpu", "cpu-1") in newcomer.after(newcomer.plan()).rows()


def test_decide_ignores_workers_with_too_few_cores() -> None:
    wide = msgspec.structs.replace(profile("mnist-a", 0.9, 0.001), threads=2)
    known = [wide, profile("mnist-b", 0.8, 0.004)]
    workers = [a_worker("cpu-0", slots=2), a_worker("cpu-1", slots=1)]
    plan = a_cluster(known, workers, failed_instance("cpu-0")).plan()
    assert {(change.action, change.variant) for change in plan.changes} == {("place", "mnist-b.onnx-fp32.cpu")}


def test_decide_removes_failed_row_of_dead_worker() -> None:
    rows = failed_instance("cpu-0", ()), an_instance("mnist-a.onnx-fp32.cpu", "cpu-1")
    workers = [a_worker("cpu-0", alive=False), a_worker("cpu-1")]
    plan = a_cluster([profile("mnist-a")], workers, *rows, observed_s=1e3).plan()
    assert [(change.action, change.worker) for change in plan.changes] == [("remove", "cpu-0")]


@pytest.mark.parametrize(
    ("worker", "state", "removed"),
    [
        ("cpu-0", InstanceState.ACTIVE, True),
        ("cpu-0", InstanceState.LOADING, False),  # nothing else serves yet
        ("cpu-1", InstanceState.ACTIVE, True),  # it moves, and serves until then
    ],
)
def test_decide_empties_draining_worker_of_variant_that_load_does_not_need(
    worker: str, state: InstanceState, removed: bool
) -> None:
    good, cheap = (
        a_profile("digits-a.onnx-fp32.cpu", 0.9, 0.010, 900),
        a_profile("digits-b.onnx-fp32.cpu", 0.8, 0.001, 900),
    )
    instances = (
        msgspec.structs.replace(an_instance(good.variant, worker), state=state),
        msgspec.structs.replace(an_instance(cheap.variant, "cpu-1"), state=InstanceState.ACTIVE),
    )
    snapshot = ClusterSnapshot(
        workers=(
            a_worker("cpu-0", memory_bytes=1000),
            msgspec.structs.replace(a_worker("cpu-1", memory_bytes=2000), draining=True),
        ),
        instances=instances,
        classes=(load("digits", 1.0, accuracy=0.85),),
        idle_s={good.variant: 0.0, cheap.variant: 0.0},  # selectors prefer the cheaper one for each query
    )
    variants = {p.variant: a_variant(p.variant, task="digits") for p in (good, cheap)}
    plan = ClusterCase(variants, {p.variant: p for p in (good, cheap)}, snapshot).plan()
    gone = {(change.variant, change.worker) for change in plan.changes if change.wanted is None}
    assert ((cheap.variant, "cpu-1") in gone) == removed
