"""Tests of `StepScheduler`: back-off of steps, silence of workers, and instances that a worker still hosts."""

from datetime import UTC, datetime

import msgspec

from autoscaler.apply.reconcile_plan import ReconcileAction, ReconcileStep, ReconcileTimeouts
from autoscaler.apply.step_scheduler import StepScheduler
from autoscaler.decide.snapshot import HardwareType
from autoscaler.launchers.launched_worker import LaunchedWorker, LaunchState
from autoscaler.observe.status_cache import WorkerStatusCache
from schemas.rows.cluster import ClusterRows, InstanceRow, ScaleControl, WantedWorkers, WorkerRow
from schemas.status import InstanceState, InstanceStatus, WorkerStatus
from tests.example_rows import a_worker, an_instance

CPU = {"cpu": HardwareType(name="cpu", price_per_hour=0.1, start_s=5.0, slots=1, memory_bytes=10**9, maximum=1)}
RUNNING = (LaunchedWorker(worker="cpu-0", hardware="cpu", state=LaunchState.RUNNING),)
TIMEOUTS = ReconcileTimeouts(liveness_timeout_s=30.0)


class Fleet:
    """Scheduler of workers that the test sets, with its clock."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.statuses = WorkerStatusCache(lambda: self.now_s, status_ttl_s=3.0)
        self.scheduler = StepScheduler(TIMEOUTS, self.statuses)

    def due(
        self, now_s: float, launched: tuple[LaunchedWorker, ...] = (), *workers: WorkerRow,
        instances: tuple[InstanceRow, ...] = (),
    ) -> list[ReconcileAction]:  # fmt: skip
        self.now_s = now_s
        rows = ClusterRows(
            control=ScaleControl(paused=False, changed_by="", changed_at=datetime.now(UTC)),
            wanted=[WantedWorkers(hardware="cpu", count=1, reason="load", age_s=60.0)], workers=list(workers),
            instances=list(instances), pins=[],
        )  # fmt: skip
        return list(self.scheduler.due(rows, launched, CPU, now_s))

    def steps(self, now_s: float, launched: tuple[LaunchedWorker, ...] = (), *workers: WorkerRow) -> list[str]:
        return [action.step for action in self.due(now_s, launched, *workers)]


def test_due_waits_for_start_time_then_backs_off() -> None:
    fleet = Fleet()
    (start,) = fleet.due(0.0)
    assert (start.step, start.worker) == (ReconcileStep.START, "cpu-0")
    fleet.scheduler.begin(start, CPU, 0.0)
    assert fleet.steps(4.9) == []
    assert fleet.steps(5.0) == ["start"]
    for _ in range(4):
        fleet.scheduler.begin(start, CPU, 5.0)
    assert fleet.steps(20.9) == []
    assert fleet.steps(21.0) == ["start"]


def test_due_forgets_failures_of_a_running_worker() -> None:
    fleet = Fleet()
    (start,) = fleet.due(0.0)
    for _ in range(6):
        fleet.scheduler.begin(start, CPU, 0.0)
    assert fleet.steps(10.0, RUNNING, a_worker()) == []
    assert fleet.steps(11.0) == ["start"]


def test_due_replaces_worker_after_its_silence() -> None:
    fleet, silent = Fleet(), a_worker(alive=False)
    assert fleet.steps(0.0, RUNNING, a_worker()) == []
    assert fleet.steps(30.0, RUNNING, silent) == []
    assert fleet.steps(30.1, RUNNING, silent) == ["stop"]


def test_due_stops_drained_worker_only_when_it_hosts_nothing() -> None:
    fleet = Fleet()
    draining = msgspec.structs.replace(a_worker(), draining=True, draining_s=10.0)
    loaded = WorkerStatus(
        worker="cpu-0", hardware="cpu", epoch=0, at_ms=0, slots=1, price_per_hour=0.1, memory_used=0,
        memory_total=1, instances=(InstanceStatus(variant="mlp.onnx-fp32.cpu", state=InstanceState.ACTIVE),),
    )  # fmt: skip
    assert not fleet.due(0.0, RUNNING, draining, instances=(an_instance(),))
    fleet.statuses.on_status(loaded)
    assert fleet.steps(1.0, RUNNING, draining) == []  # its row is gone, but it is not unloaded yet
    fleet.statuses.on_status(msgspec.structs.replace(loaded, instances=()))
    assert fleet.steps(1.0, RUNNING, draining) == ["stop"]
