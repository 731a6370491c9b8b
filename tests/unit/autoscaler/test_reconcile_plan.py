"""Tests of `plan_reconciliation`: the workers that start, drain, stop or are removed, with one step for each worker."""

from collections.abc import Mapping

import msgspec
import pytest

from autoscaler.apply.reconcile_plan import (
    FleetSnapshot,
    ReconcileAction,
    ReconcileStep,
    ReconcileTimeouts,
    plan_reconciliation,
)
from autoscaler.decide.snapshot import HardwareType
from autoscaler.launchers.base import LaunchedWorker, LaunchState
from schemas.rows.placement import WorkerRow
from schemas.rows.scaling import WantedWorkers
from tests.store_rows import a_worker

CPU = HardwareType(name="cpu", price_per_hour=0.1, start_s=2.0, slots=1, memory_bytes=10**9, maximum=4)


def launched(*names: str, state: LaunchState = LaunchState.RUNNING, reason: str = "") -> tuple[LaunchedWorker, ...]:
    return tuple(LaunchedWorker(worker=name, hardware="cpu", state=state, reason=reason) for name in names)


def row(name: str, *, alive: bool = True, draining_s: float | None = None) -> WorkerRow:
    worker = a_worker(name, alive=alive)
    return msgspec.structs.replace(worker, draining=draining_s is not None, draining_s=draining_s or 0.0)


def fleet(
    wanted: int | None = None, *, started: tuple[LaunchedWorker, ...] = (), rows: tuple[WorkerRow, ...] | None = None,
    kind: HardwareType = CPU, age_s: float = 5.0, hosted: Mapping[str, int] | None = None,
    silent_s: Mapping[str, float] | None = None,
) -> FleetSnapshot:  # fmt: skip
    want = WantedWorkers(hardware="cpu", count=wanted or 0, reason="load", age_s=age_s)
    return FleetSnapshot(
        wanted=() if wanted is None else (want,),
        hardware={"cpu": kind},
        launched=started,
        workers=tuple(row(one.worker) for one in started) if rows is None else rows,
        hosted=hosted or {},
        silent_s=silent_s or {},
    )


def plan(fleet: FleetSnapshot) -> dict[str, ReconcileStep]:
    return {action.worker: action.step for action in actions(fleet)}


def actions(fleet: FleetSnapshot) -> tuple[ReconcileAction, ...]:
    found = plan_reconciliation(fleet, ReconcileTimeouts())
    assert len({action.worker for action in found}) == len(found)
    assert all(action.reason for action in found)
    return found


def test_reconcile_plan_is_empty_without_wanted_workers() -> None:
    assert plan(fleet(started=launched("cpu-0", "cpu-1"))) == {}


def test_reconcile_plan_starts_lowest_free_names() -> None:
    assert plan(fleet(3, started=launched("cpu-1"))) == {"cpu-0": ReconcileStep.START, "cpu-2": ReconcileStep.START}


def test_reconcile_plan_counts_starting_workers() -> None:
    assert plan(fleet(2, started=launched("cpu-0", "cpu-1", state=LaunchState.STARTING), rows=())) == {}


def test_reconcile_plan_never_exceeds_launcher_maximum() -> None:
    started = launched("cpu-0", "cpu-1", "cpu-2") + launched("cpu-3", state=LaunchState.STOPPING)
    assert plan(fleet(9, started=started)) == {}
    assert plan(fleet(9, started=started[:3])) == {"cpu-3": ReconcileStep.START}


def test_reconcile_plan_counts_external_workers() -> None:
    assert plan(fleet(2, rows=(row("cpu-0"),))) == {"cpu-1": ReconcileStep.START}
    assert plan(fleet(0, rows=(row("cpu-0"),))) == {}


def test_reconcile_plan_reuses_name_of_dead_worker() -> None:
    assert plan(fleet(1, rows=(row("cpu-0", alive=False),))) == {"cpu-0": ReconcileStep.START}


def test_reconcile_plan_drains_worker_with_fewest_instances() -> None:
    started = launched("cpu-0", "cpu-1", "cpu-2")
    assert plan(fleet(2, started=started, hosted={"cpu-0": 1, "cpu-1": 0, "cpu-2": 1})) == {
        "cpu-1": ReconcileStep.DRAIN
    }
    assert plan(fleet(2, started=started)) == {"cpu-2": ReconcileStep.DRAIN}


def test_reconcile_plan_drains_highest_if_launcher_requires() -> None:
    kind = msgspec.structs.replace(CPU, stops_highest=True)
    started = launched("cpu-9", "cpu-10")
    assert plan(fleet(1, started=started, kind=kind, hosted={"cpu-10": 5})) == {"cpu-10": ReconcileStep.DRAIN}


def test_reconcile_plan_removes_failed_and_starting_first() -> None:
    started = launched("cpu-0") + launched("cpu-1", state=LaunchState.FAILED) + launched("cpu-2")
    assert plan(fleet(2, started=started)) == {"cpu-1": ReconcileStep.DRAIN}
    started = launched("cpu-0", state=LaunchState.STARTING) + launched("cpu-1")
    assert plan(fleet(1, started=started, rows=(row("cpu-1"),))) == {"cpu-0": ReconcileStep.STOP}


def test_reconcile_plan_excludes_draining_workers() -> None:
    rows = (row("cpu-0"), row("cpu-1", draining_s=1.0))
    assert plan(fleet(1, started=launched("cpu-0", "cpu-1"), rows=rows, hosted={"cpu-1": 1})) == {}


def test_reconcile_plan_keeps_or_replaces_draining_worker() -> None:
    rows = (row("cpu-0"), row("cpu-1", draining_s=10.0))
    started, hosted = launched("cpu-0", "cpu-1"), {"cpu-1": 1}
    assert plan(fleet(2, started=started, rows=rows, hosted=hosted, age_s=3.0)) == {"cpu-1": ReconcileStep.KEEP}
    assert plan(fleet(2, started=started, rows=rows, hosted=hosted, age_s=30.0)) == {"cpu-2": ReconcileStep.START}


@pytest.mark.parametrize(("held", "draining_s", "stops"), [(0, 1.0, True), (2, 1.0, False), (2, 61.0, True)])
def test_reconcile_plan_stops_drained_or_overdue_worker(held: int, draining_s: float, stops: bool) -> None:
    started, rows = launched("cpu-1"), (row("cpu-1", draining_s=draining_s),)
    steps = plan(fleet(0, started=started, rows=rows, hosted={"cpu-1": held}))
    assert steps == ({"cpu-1": ReconcileStep.STOP} if stops else {})


def test_reconcile_plan_stops_once_and_removes_row() -> None:
    rows = (row("cpu-1", draining_s=1.0, alive=False),)
    stopping = launched("cpu-1", state=LaunchState.STOPPING)
    assert plan(fleet(0, started=stopping, rows=rows)) == {}
    assert plan(fleet(0, rows=rows)) == {"cpu-1": ReconcileStep.REMOVE}


def test_reconcile_plan_restarts_failed_worker() -> None:
    [action] = actions(fleet(1, started=launched("cpu-0", state=LaunchState.FAILED, reason="no disk"), rows=()))
    assert (action.step, action.worker) == (ReconcileStep.START, "cpu-0")
    assert "no disk" in action.reason


def test_reconcile_plan_replaces_silent_worker() -> None:
    rows = (row("cpu-0", alive=False),)
    started = launched("cpu-0")
    assert plan(fleet(1, started=started, rows=rows, silent_s={"cpu-0": 10.0})) == {}
    assert plan(fleet(1, started=started, rows=rows, silent_s={"cpu-0": 31.0}))["cpu-0"] is ReconcileStep.STOP


def test_reconcile_plan_removes_row_of_lost_worker() -> None:
    rows = (row("cpu-7", alive=False),)
    assert plan(fleet(0, rows=rows, silent_s={"cpu-7": 10.0})) == {}
    assert plan(fleet(0, rows=rows, silent_s={"cpu-7": 31.0})) == {"cpu-7": ReconcileStep.REMOVE}


def test_reconcile_plan_counts_workers_of_other_machines() -> None:
    """Workers of another machine count as wanted workers, but not against the launcher's maximum."""
    one = msgspec.structs.replace(CPU, maximum=1, prefix="box-3f9a-")
    own, other = launched("box-3f9a-cpu-0"), row("den-11aa-cpu-0")
    both = (row("box-3f9a-cpu-0"), other)
    assert plan(fleet(2, kind=one, started=own, rows=both)) == {}
    assert plan(fleet(2, kind=one, rows=(other,))) == {"box-3f9a-cpu-0": ReconcileStep.START}
    assert plan(fleet(1, kind=one, started=own, rows=both)) == {"box-3f9a-cpu-0": ReconcileStep.DRAIN}
