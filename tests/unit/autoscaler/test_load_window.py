"""Tests of `LoadWindow`: rates of the last seconds, by times that the test passes."""

import msgspec
import pytest

from autoscaler.decide.expected_load import TREND_S
from autoscaler.decide.snapshot import ClassLoad, InstanceLoad, WorkerLoad
from autoscaler.observe.load_window import LoadWindow
from autoscaler.observe.status_cache import WorkerStatusCache
from schemas.load_classes import ClassAnswers, ClassCount, LoadClass, SelectorLoad
from schemas.status import InstanceState, InstanceStatus, PartitionStatus, WorkerStatus
from tests.example_rows import a_worker

VARIANT = "mlp.onnx-fp32.cpu"
FAST = LoadClass("digits", None, 0.9, 32.0)
ANY = LoadClass("digits")
OTHER = LoadClass("sentiment")
NOBODY = WorkerStatusCache(lambda: 0.0, status_ttl_s=3.0)
"""Cache that has received no status."""


def said(at_s: float, *counts: tuple[LoadClass, int], selector: str = "s0") -> SelectorLoad:
    return SelectorLoad(
        selector=selector,
        at_ms=at_s * 1000,
        classes=tuple(ClassCount(load_class=c, queries=n, inputs=2 * n) for c, n in counts),
    )


def a_status(
    *instances: InstanceStatus, busy_s: float = 0.0, epoch: int = 1, slots: int = 2, leaving: bool = False
) -> WorkerStatus:
    return WorkerStatus(
        worker="cpu-0", hardware="cpu", epoch=epoch, at_ms=0, slots=slots, price_per_hour=0.1,
        memory_used=7, memory_total=9, instances=instances, busy_s=busy_s, leaving=leaving,
    )  # fmt: skip


def an_instance(
    inputs: int = 0, state: InstanceState = InstanceState.ACTIVE, unread: int = 0, queued: int = 0
) -> InstanceStatus:
    owned = (PartitionStatus(0, 5, 5 + unread), PartitionStatus(1, 0, 0))
    return InstanceStatus(
        variant=VARIANT, state=state, partitions=owned, queued_inputs=queued, answered=inputs // 2, inputs=inputs,
        slowdown=1.5,
    )  # fmt: skip


class Site:
    """Load window over a status cache, with the clock of both."""

    def __init__(self, seconds: int = 10, status_ttl_s: float = 3.0) -> None:
        self.now_s = 0.0
        self.statuses = WorkerStatusCache(lambda: self.now_s, status_ttl_s, kept_s=seconds)
        self.window = LoadWindow(self.statuses, seconds)

    def on_status(self, status: WorkerStatus, now_s: float) -> None:
        self.now_s = now_s
        self.statuses.on_status(status)

    def instance_loads(self, now_s: float) -> tuple[InstanceLoad, ...]:
        self.now_s = now_s
        return self.window.instance_loads()

    def worker_loads(self, now_s: float) -> tuple[WorkerLoad, ...]:
        self.now_s = now_s
        return self.window.worker_loads()


def test_class_loads_have_mean_and_batch() -> None:
    window = LoadWindow(NOBODY, seconds=4)
    for second, queries in enumerate((10, 30, 10, 10)):
        window.on_load(said(second, (FAST, queries)), float(second))
    (load,) = window.class_loads(3.0)
    assert (load.load_class, load.inputs_per_s, load.mean_batch) == (FAST, 30.0, 2.0)
    window.on_load(said(4, (ANY, 1)), 4.0)
    assert {load.load_class: load.inputs_per_s for load in window.class_loads(4.0)} == {FAST: 25.0, ANY: 0.5}


def test_class_loads_peak_is_third_busiest_second_of_last_minute() -> None:
    window = LoadWindow(NOBODY)
    peaks = list[float]()
    for second in range(90):
        queries = 0 if second == 20 else 40 if second in (5, 9, 25) else 10
        window.on_load(said(second, (FAST, queries), (ANY, 1)), float(second))
        window.tick(float(second))
        peaks.append({load.load_class: load.peak_per_s for load in window.class_loads(float(second))}[FAST])
    assert peaks[:3] == [0.0, 0.0, 20.0], "three seconds are known"
    assert peaks[9] == 20.0, "two bursts of a second"
    assert peaks[25:65] == [80.0] * 40, "three of them, until the first is a minute ago"
    assert set(peaks[65:]) == {20.0}


def test_class_loads_peak_outlives_window() -> None:
    window = LoadWindow(NOBODY)
    loads: dict[LoadClass, ClassLoad] = {}
    for second in range(30):
        window.on_load(said(second, (FAST, 40 if second < 5 else 0), (ANY, 1)), float(second))
        window.tick(float(second))
        loads = {load.load_class: load for load in window.class_loads(float(second))}
    load = loads[FAST]
    assert load.peak_per_s == 80.0
    assert load.age_s > 0, "its queries left the window"


def test_class_loads_known_after_first_report() -> None:
    window = LoadWindow(NOBODY)
    assert window.class_loads(1.0) == ()
    window.on_load(said(1, (ANY, 10)), 1.0)
    (load,) = window.class_loads(1.2)
    assert load.inputs_per_s == 20.0


def test_class_loads_add_selectors_without_peaks() -> None:
    window = LoadWindow(NOBODY, seconds=5)
    for second in range(8):  # reports drift against the clock's seconds; those of `b` arrive later
        window.on_load(said(second * 1.1, (ANY, 11), selector="a"), second * 1.1)
        window.on_load(said(second * 1.1 - 0.02, (ANY, 11), selector="b"), second * 1.1 + 0.05)
        window.tick(second * 1.1 + 0.06)
    (load,) = window.class_loads(7.8)
    assert load.peak_per_s == pytest.approx(40.0)
    assert load.inputs_per_s == pytest.approx(40.0)


def test_load_window_unknown_if_all_selectors_silent() -> None:
    window = LoadWindow(NOBODY, seconds=5)
    assert window.loads_known(0.0), "there was never anybody to hear"
    window.on_load(said(0, (ANY, 10), selector="a"), 0.0)
    window.on_load(said(4, (ANY, 10), selector="b"), 4.0)
    assert len(window.class_loads(4.0)) == 1
    assert window.loads_known(6.9)
    assert not window.loads_known(7.1)
    window.forget(["digits"], 20.0)
    (remembered,) = window.class_loads(20.0)
    assert (remembered.load_class, remembered.age_s) == (ANY, 16.0)
    assert not window.loads_known(20.0), "silence does not become knowledge by waiting"
    window.forget([], 20.0)
    assert window.class_loads(20.0) == ()


def test_load_window_remembers_rare_class() -> None:
    window = LoadWindow(NOBODY, seconds=10)
    window.on_load(said(0, (ANY, 10), (FAST, 5)), 0.0)
    assert {load.age_s for load in window.class_loads(0.0)} == {0.0}
    loads: dict[LoadClass, ClassLoad] = {}
    for second in range(1, 400):
        window.on_load(said(second, (ANY, 10)), float(second))
        loads = {load.load_class: load for load in window.class_loads(float(second))}
        assert loads[ANY].inputs_per_s == pytest.approx(20.0)
        if second in (10, 100):
            assert loads[FAST].age_s == second - 9
            assert loads[FAST].inputs_per_s == pytest.approx(10 / (second + 1))
    assert set(loads) == {ANY}


def test_load_window_history_has_one_value_per_second() -> None:
    window = LoadWindow(NOBODY)
    for second in (1, 2):
        window.on_load(said(second, (FAST, 10), (ANY, 5), (OTHER, 1)), float(second))
        window.tick(second + 0.5)
    window.on_load(said(3), 3.0)
    window.tick(3.5)
    window.tick(9.0)
    window.forget(["digits", "sentiment"], 3.5)
    assert window.history() == {"digits": (30.0, 30.0, 0.0), "sentiment": (2.0, 2.0, 0.0)}


def test_load_window_history_is_bounded_by_trend_and_tasks() -> None:
    window = LoadWindow(NOBODY)
    for second in range(TREND_S + 5):
        window.on_load(said(second, (FAST, second), (OTHER, 1)), float(second))
        window.tick(second + 0.5)
    window.forget(["digits"], TREND_S + 5.0)
    assert window.history() == {"digits": tuple(2.0 * second for second in range(5, TREND_S + 5))}


def test_load_window_derives_rates_from_counters() -> None:
    site = Site(seconds=10)
    for tenth in range(51):
        site.on_status(a_status(an_instance(inputs=20 * tenth), busy_s=tenth * 0.1), tenth / 10)
    (load,) = site.instance_loads(5.0)
    assert load.inputs_per_s == pytest.approx(200.0)
    assert (load.variant, load.worker, load.state) == (VARIANT, "cpu-0", InstanceState.ACTIVE)
    assert load.slowdown == 1.5
    (worker,) = site.worker_loads(5.0)
    assert worker.utilisation == pytest.approx(0.5)
    assert (worker.worker, worker.memory_used, worker.interfered) == ("cpu-0", 7, False)


def test_instance_loads_ignore_old_statuses() -> None:
    site = Site(seconds=2)
    for second, inputs in enumerate((0, 1000, 1000, 1000, 1000)):
        site.on_status(a_status(an_instance(inputs=inputs)), float(second))
    assert site.instance_loads(4.0)[0].inputs_per_s == 0.0


def test_load_window_restarts_with_new_epoch() -> None:
    site = Site()
    site.on_status(a_status(an_instance(inputs=1000), busy_s=100.0), 0.0)
    site.on_status(a_status(an_instance(inputs=10), busy_s=0.0, epoch=2), 1.0)
    site.on_status(a_status(an_instance(inputs=9999), busy_s=200.0, epoch=1), 1.5)
    site.on_status(a_status(an_instance(inputs=30), busy_s=1.0, epoch=2), 2.0)
    assert site.instance_loads(2.0)[0].inputs_per_s == 20.0
    assert site.worker_loads(2.0)[0].utilisation == 0.5


def test_instance_loads_restart_after_reload() -> None:
    site = Site()
    site.on_status(a_status(an_instance(inputs=1000)), 0.0)
    site.on_status(a_status(), 1.0)
    site.on_status(a_status(an_instance(inputs=0)), 2.0)
    site.on_status(a_status(an_instance(inputs=50)), 3.0)
    assert site.instance_loads(3.0)[0].inputs_per_s == 50.0


def test_worker_loads_of_interfered_silent_and_leaving() -> None:
    site = Site()
    site.on_status(a_status(an_instance(state=InstanceState.INTERFERED)), 0.0)
    assert site.worker_loads(0.0)[0].interfered
    assert site.instance_loads(3.1) == site.worker_loads(3.1) == ()
    site.on_status(a_status(an_instance(), leaving=True), 3.2)
    assert site.worker_loads(3.2) == ()


def test_load_window_agrees_with_worker_liveness() -> None:
    site = Site(status_ttl_s=8.0)
    site.on_status(a_status(an_instance()), 0.0)
    row = msgspec.structs.replace(a_worker(alive=False), epoch=1)
    for now_s, lives in ((5.0, True), (8.1, False)):
        assert len(site.worker_loads(now_s)) == len(site.instance_loads(now_s)) == lives
        assert site.statuses.is_alive(row) == lives


def test_load_window_restarts_after_long_silence() -> None:
    site = Site(seconds=10)
    site.on_status(a_status(an_instance(inputs=0), busy_s=0.0), 0.0)
    site.on_status(a_status(an_instance(inputs=1000), busy_s=10.0), 20.0)
    assert site.instance_loads(20.0)[0].inputs_per_s == 0.0, "nothing is known of the time between"
    site.on_status(a_status(an_instance(inputs=1010), busy_s=11.0), 21.0)
    assert site.instance_loads(21.0)[0].inputs_per_s == 10.0


def test_mean_inputs_follow_recent_queries() -> None:
    window = LoadWindow(WorkerStatusCache(lambda: 0.0, 3.0))
    assert window.mean_inputs() == {}
    for second in range(100):
        count = ClassCount(load_class=LoadClass("digits"), queries=2, inputs=2 if second < 50 else 8)
        window.on_load(SelectorLoad(selector="s", at_ms=second * 1000, classes=(count,)), float(second))
    idle = ClassCount(load_class=LoadClass("digits", offline=True))
    window.on_load(SelectorLoad(selector="s", at_ms=101_000, classes=(idle,)), 101.0)
    assert window.mean_inputs()["digits"] == pytest.approx(4.0, rel=0.05)
    window.forget([], 101.0)
    assert window.mean_inputs() == {}


def test_class_loads_exclude_unfounded_inputs() -> None:
    window = LoadWindow(WorkerStatusCache(lambda: 0.0, 3.0))
    window.on_answers([ClassAnswers(LoadClass("digits"), queries=2, failed=2, unfounded=1998)])
    claims = [(LoadClass("digits", tenant="acme"), 2, 1000), (LoadClass("digits"), 3, 1002), (OTHER, 1, 50)]
    counts = tuple(ClassCount(load_class=c, queries=queries, inputs=inputs) for c, queries, inputs in claims)
    window.on_load(SelectorLoad(selector="s", at_ms=1000, classes=counts), 1.0)
    found = {load.load_class: load.inputs_per_s for load in window.class_loads(1.0)}
    # Workers did not find 1,998 of the 2,002 stated inputs, but each query counts as one input at least.
    assert found == {LoadClass("digits", tenant="acme"): 2.0, LoadClass("digits"): 3.0, OTHER: 50.0}
    assert {(count.load_class, count.inputs) for count in window.take_arrivals()} == {(ANY, 5), (OTHER, 50)}
    window.on_load(SelectorLoad(selector="s", at_ms=2000, classes=counts[1:2]), 2.0)
    found = {load.load_class: load.inputs_per_s for load in window.class_loads(2.0)}
    assert found[ANY] == pytest.approx((3 + 1002 - 1) / 2)
