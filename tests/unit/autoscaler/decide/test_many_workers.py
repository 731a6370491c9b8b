"""Tests of decisions with many workers: their cost, and that shortcuts give the results of a full search."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.decide.decide import decide
from autoscaler.decide.pareto import RunnableVariant
from autoscaler.decide.snapshot import ClusterSnapshot, ScalingLimits
from autoscaler.decide.worker_capacity import SLACK, LoadShares, WorkerCapacity, WorkerOrder
from bench.scale.deciding import carried_out, with_workers
from bench.scale.milp import SyntheticCluster, synthetic_cluster
from schemas.latency import BatchLatency, LatencyModel
from schemas.rows.cluster import WorkerRow
from tests.example_rows import a_variant

LIMITS = ScalingLimits()
WORKERS = 200
LOAD = 4.0


@pytest.fixture(scope="module")
def cluster() -> SyntheticCluster:
    return synthetic_cluster(20, seed=3)


def planned(cluster: SyntheticCluster, snapshot: ClusterSnapshot) -> ClusterSnapshot:
    return carried_out(snapshot, decide(cluster.variants, cluster.ranking(snapshot), snapshot, LIMITS))


def test_placement_examines_few_workers(cluster: SyntheticCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot, looks = with_workers(cluster.snapshot(LOAD), WORKERS), 0
    could_take = WorkerCapacity.could_take

    def counted(self: WorkerCapacity, candidate: RunnableVariant) -> bool:
        nonlocal looks
        looks += 1
        return could_take(self, candidate)

    monkeypatch.setattr(WorkerCapacity, "could_take", counted)
    placed = len(planned(cluster, snapshot).instances)
    assert placed > 50
    assert looks < 10 * placed


def test_decide_is_stable_with_many_workers(cluster: SyntheticCluster) -> None:
    first = planned(cluster, with_workers(cluster.snapshot(LOAD), WORKERS))
    settled = planned(cluster, planned(cluster, first))
    again = decide(cluster.variants, cluster.ranking(settled), settled, LIMITS)
    assert not again.changes


def a_candidate(number: int, memory: int = 1, *, concurrent: bool = False) -> RunnableVariant:
    variant = a_variant(f"v{number}.onnx-fp32.cpu")
    return RunnableVariant(
        variant=variant, accuracy=0.9, latency_s=0.01, cost=1.0, memory_bytes=memory, load_s=0.1,
        latency=LatencyModel((BatchLatency(1, 0.01, 0.01),), 1), concurrent=concurrent,
    )  # fmt: skip


def a_worker(number: int, slots: int, memory: int, changed: set[WorkerCapacity], **rest: Any) -> WorkerCapacity:
    row = WorkerRow(
        name=f"cpu-{number}", hardware="cpu", device="", host="", slots=slots, threads=1, memory_bytes=memory,
        price_per_hour=0.1, runtimes=("onnx",), epoch=1, heartbeat_at=datetime.now(UTC),
    )  # fmt: skip
    return WorkerCapacity(row, msgspec.structs.replace(LIMITS, memory_share=1.0), changed, number=number, **rest)


_workers = st.lists(
    st.tuples(st.integers(1, 4), st.integers(1, 8), st.booleans(), st.booleans()), min_size=1, max_size=8
)
_steps = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 5), st.integers(1, 4), st.floats(0, 2), st.booleans()), max_size=30
)


@given(_workers, _steps, st.integers(1, 8), st.booleans())
def test_worker_order_equals_full_search(
    made: list[tuple[int, int, bool, bool]],
    steps: list[tuple[int, int, int, float, bool]],
    memory: int,
    with_slots: bool,
) -> None:
    order = WorkerOrder()
    workers = [
        a_worker(number, slots, memory, order.changed, schedulable=schedulable, disturbed=disturbed)
        for number, (slots, memory, schedulable, disturbed) in enumerate(made)
    ]
    order.changed.update(workers)
    wanted = a_candidate(0, memory)
    for place, number, size, slots, ask in steps:
        worker = workers[place % len(workers)]
        if f"v{number}.onnx-fp32.cpu" in worker.hosted:
            worker.release(f"v{number}.onnx-fp32.cpu")
        else:
            worker.host(a_candidate(number, size))
        worker.load(slots - worker.busy)
        if ask:
            order.least_loaded(wanted)
    fitting = [
        worker
        for worker in workers
        if worker.could_take(wanted) and worker.fits(wanted) and not (with_slots and worker.free_slots <= SLACK)
    ]
    expected = min(fitting, key=lambda worker: (worker.disturbed, *worker.sort_key()), default=None)
    assert order.least_loaded(wanted, with_slots=with_slots) is expected


@given(st.lists(st.integers(1, 3), min_size=1, max_size=8), st.floats(0.1, 12), st.floats(0, 3), st.booleans())
def test_load_shares_incremental_equals_full(slots: list[int], load: float, other: float, concurrent: bool) -> None:
    workers = [a_worker(number, count, 8, set()) for number, count in enumerate(slots)]
    names = [a_candidate(number).name for number in range(2)]
    workers[0].host(a_candidate(1))
    shares = LoadShares({names[0]: load, names[1]: other}, workers)
    for worker in workers:
        worker.host(a_candidate(0, concurrent=concurrent))
        shares.add(names[0], worker)
    bit_by_bit = shares.unserved[names[0]]
    shares.share(names[0], workers)
    assert shares.unserved[names[0]] == pytest.approx(bit_by_bit, abs=1e-9)
    for worker in workers:
        without = shares.unserved_without(names[0], worker)
        shares.share(names[0], [host for host in workers if host is not worker])
        assert shares.unserved[names[0]] == pytest.approx(without, abs=1e-9)
        shares.share(names[0], workers)
    assert sum(worker.busy for worker in workers) == pytest.approx(load + other - sum(shares.unserved.values()))


def test_load_shares_fill_all_slots_if_concurrent() -> None:
    for concurrent, left in ((True, 0.5), (False, 2.5)):
        worker = a_worker(0, 3, 8, set())
        worker.host(a_candidate(0, concurrent=concurrent))
        name = a_candidate(0).name
        assert LoadShares({name: 3.5}, [worker]).unserved[name] == pytest.approx(left)
