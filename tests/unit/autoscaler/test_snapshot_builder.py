"""Tests of the snapshot builder: the clock, waiting inputs, bounds of pins and settings, and external workers."""

from datetime import UTC, datetime

from autoscaler.decide.snapshot import Backlog, ClusterSnapshot, DecisionMemory, HardwareType
from autoscaler.launchers.launched_worker import LaunchedWorker, LaunchState
from autoscaler.observe.load_window import LoadWindow
from autoscaler.observe.snapshot_builder import (
    SnapshotBuilder,
    TopicBacklog,
    backlogs_of,
    bounds_of,
    with_lanes,
    with_others,
)
from autoscaler.observe.status_cache import WorkerStatusCache
from schemas.catalog import Catalog
from schemas.jobs import DatedWork
from schemas.load_classes import ClassCount, LoadClass, SelectorLoad
from schemas.rows.cluster import ClusterRows, Pin, PinKind, ScaleControl, WantedWorkers
from schemas.status import Demand
from schemas.topics import offline_topic, offline_variant_topic, task_topic, variant_topic
from tests.example_rows import a_task, a_variant, a_worker, an_instance

CPU = HardwareType(name="cpu", price_per_hour=0.1, start_s=2.0, slots=1, memory_bytes=10**9, maximum=1)


def test_build_uses_only_the_given_clock() -> None:
    now_s = 1000.0
    statuses = WorkerStatusCache(lambda: now_s, status_ttl_s=3.0)
    window = LoadWindow(statuses)
    builder = SnapshotBuilder(statuses, window, {"cpu": 1}, can_add_partitions=True, clock=lambda: now_s)
    catalog = Catalog(tasks={"digits": a_task()}, variants={VARIANT: a_variant(VARIANT)})
    rows = ClusterRows(
        control=ScaleControl(paused=False, changed_by="", changed_at=datetime.now(UTC)),
        wanted=[WantedWorkers(hardware="cpu", count=2, reason="")], workers=[a_worker()], instances=[an_instance()],
        pins=[],
    )  # fmt: skip

    def build() -> ClusterSnapshot:
        return builder.build(rows, catalog, DecisionMemory(), [CPU], (), {}, readings_known=True)

    counted = ClassCount(load_class=LoadClass("digits"), queries=5, inputs=10)
    window.on_load(SelectorLoad(selector="s0", at_ms=0.0, classes=(counted,)), now_s)
    statuses.on_demand(Demand(task="digits", variant=VARIANT, at_ms=0.0, reason=""))
    now_s += 1.5
    snapshot = build()
    assert snapshot.known
    assert snapshot.wanted_workers == {"cpu": 2}
    assert snapshot.bounds == (Pin(kind=PinKind.HARDWARE, name="cpu", minimum=2),)  # cpu-0 is not the launcher's
    assert snapshot.demand_age_s == {VARIANT: 1.5}
    assert snapshot.hardware[0].runtimes == ("onnx",)
    assert [loaded.inputs_per_s for loaded in snapshot.classes] == [5.0]
    now_s += 10.0
    assert not build().known  # the only selector is silent


def test_bounds_of_use_minimum_setting_without_pin() -> None:
    pins = [Pin(kind=PinKind.TASK, name="digits", maximum=3), Pin(kind=PinKind.HARDWARE, name="cuda", minimum=0)]
    assert set(bounds_of(pins, {"cpu": 2, "cuda": 1})) == {
        Pin(kind=PinKind.TASK, name="digits", maximum=3),
        Pin(kind=PinKind.HARDWARE, name="cuda", minimum=0),
        Pin(kind=PinKind.HARDWARE, name="cpu", minimum=2),
    }


def test_bounds_of_prefer_pinned_maximum() -> None:
    pins = [Pin(kind=PinKind.HARDWARE, name="cpu", maximum=1)]
    assert bounds_of(pins, {"cpu": 2}) == (Pin(kind=PinKind.HARDWARE, name="cpu", minimum=1, maximum=1),)


def test_with_others_lists_live_external_workers() -> None:
    workers = (a_worker("box-3f9a-cpu-0"), a_worker("den-11aa-cpu-0"), a_worker("den-11aa-cpu-1", alive=False))
    own = LaunchedWorker(worker="box-3f9a-cpu-0", hardware="cpu", state=LaunchState.RUNNING)
    (cpu,) = with_others([CPU], workers, [own])
    assert cpu.others == ("den-11aa-cpu-0",)


VARIANT = "mlp.onnx-fp32.cpu"


def test_backlogs_of_counts_inputs_by_task_and_variant() -> None:
    waiting = {
        task_topic("digits"): TopicBacklog(1, 2.0),
        offline_topic("digits"): TopicBacklog(10, None),
        variant_topic(VARIANT): TopicBacklog(3, 5.0),
        task_topic("sentiment"): TopicBacklog(7, 1.0),
        variant_topic("gone.onnx-fp32.cpu"): TopicBacklog(9, 9.0),
    }
    found = backlogs_of(waiting, ["digits", "sentiment"], [a_variant(VARIANT)], {"digits": 4.0})
    assert found == (
        Backlog(task="digits", inputs=4.0, age_s=2.0),
        Backlog(task="digits", offline=True, inputs=40.0),
        Backlog(task="digits", variant=VARIANT, inputs=12.0, age_s=5.0),
        Backlog(task="sentiment", inputs=7.0, age_s=1.0),
    )


def test_backlogs_of_counts_dated_work_once() -> None:
    waiting = {offline_topic("digits"): TopicBacklog(10, 5.0), offline_variant_topic(VARIANT): TopicBacklog(2, 1.0)}
    soon = DatedWork(task="digits", left_s=60.0, sent=6, unsent=3.5)
    later = DatedWork(task="digits", left_s=600.0, sent=3, unsent=0.0)
    gone = DatedWork(task="gone", left_s=60.0, sent=1, unsent=0.0)
    found = backlogs_of(waiting, ["digits"], [a_variant(VARIANT)], {"digits": 2.0}, [soon, later, gone])
    assert found == (
        Backlog(task="digits", offline=True, inputs=2.0, age_s=5.0),
        Backlog(task="digits", variant=VARIANT, offline=True, inputs=4.0, age_s=1.0),
        Backlog(task="digits", offline=True, inputs=19.0, left_s=60.0),
        Backlog(task="digits", offline=True, inputs=6.0, left_s=600.0),
    )
    many = DatedWork(task="digits", left_s=60.0, sent=99, unsent=0.0)
    (rest, _) = backlogs_of({offline_topic("digits"): TopicBacklog(10, 5.0)}, ["digits"], [], {}, [many])
    assert rest.inputs == 0, "some of them are computed already, and their jobs not ended yet"


def test_with_lanes_divides_lanes_by_task() -> None:
    waiting = {"infaas.lanes.offline": TopicBacklog(900, 50.0), "infaas.tasks.digits.offline": TopicBacklog(10, 80.0)}
    found = with_lanes(waiting, {"digits": 100, "reviews": 200})
    assert found["infaas.tasks.digits.offline"] == TopicBacklog(310, 80.0)
    assert found["infaas.tasks.reviews.offline"] == TopicBacklog(600, 50.0)
    assert with_lanes(waiting, {}) == waiting
    assert with_lanes({}, {"digits": 1}) == {}
