"""The plan for the workers: what starts, drains, stops and is removed, and that nothing happens twice."""

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


def test_nothing_is_done_where_nothing_is_wanted_yet() -> None:
    assert plan(fleet(started=launched("cpu-0", "cpu-1"))) == {}


def test_what_is_missing_starts_under_the_lowest_free_names() -> None:
    assert plan(fleet(3, started=launched("cpu-1"))) == {"cpu-0": ReconcileStep.START, "cpu-2": ReconcileStep.START}


def test_what_starts_counts_and_needs_no_row() -> None:
    assert plan(fleet(2, started=launched("cpu-0", "cpu-1", state=LaunchState.STARTING), rows=())) == {}


def test_the_launchers_most_is_never_exceeded_not_even_while_one_stops() -> None:
    started = launched("cpu-0", "cpu-1", "cpu-2") + launched("cpu-3", state=LaunchState.STOPPING)
    assert plan(fleet(9, started=started)) == {}
    assert plan(fleet(9, started=started[:3])) == {"cpu-3": ReconcileStep.START}


def test_a_worker_that_somebody_else_started_counts_and_keeps_its_name() -> None:
    assert plan(fleet(2, rows=(row("cpu-0"),))) == {"cpu-1": ReconcileStep.START}
    assert plan(fleet(0, rows=(row("cpu-0"),))) == {}


def test_a_dead_workers_name_is_free() -> None:
    assert plan(fleet(1, rows=(row("cpu-0", alive=False),))) == {"cpu-0": ReconcileStep.START}


def test_who_hosts_least_drains_and_among_equals_the_highest() -> None:
    started = launched("cpu-0", "cpu-1", "cpu-2")
    assert plan(fleet(2, started=started, hosted={"cpu-0": 1, "cpu-1": 0, "cpu-2": 1})) == {
        "cpu-1": ReconcileStep.DRAIN
    }
    assert plan(fleet(2, started=started)) == {"cpu-2": ReconcileStep.DRAIN}


def test_where_only_the_highest_can_stop_it_is_the_one_to_drain() -> None:
    kind = msgspec.structs.replace(CPU, stops_highest=True)
    started = launched("cpu-9", "cpu-10")
    assert plan(fleet(1, started=started, kind=kind, hosted={"cpu-10": 5})) == {"cpu-10": ReconcileStep.DRAIN}


def test_what_failed_or_is_not_up_leaves_first() -> None:
    started = launched("cpu-0") + launched("cpu-1", state=LaunchState.FAILED) + launched("cpu-2")
    assert plan(fleet(2, started=started)) == {"cpu-1": ReconcileStep.DRAIN}
    started = launched("cpu-0", state=LaunchState.STARTING) + launched("cpu-1")
    assert plan(fleet(1, started=started, rows=(row("cpu-1"),))) == {"cpu-0": ReconcileStep.STOP}


def test_those_that_drain_are_not_counted() -> None:
    rows = (row("cpu-0"), row("cpu-1", draining_s=1.0))
    assert plan(fleet(1, started=launched("cpu-0", "cpu-1"), rows=rows, hosted={"cpu-1": 1})) == {}


def test_more_wanted_after_the_drain_began_keeps_the_worker_more_wanted_before_replaces_it() -> None:
    rows = (row("cpu-0"), row("cpu-1", draining_s=10.0))
    started, hosted = launched("cpu-0", "cpu-1"), {"cpu-1": 1}
    assert plan(fleet(2, started=started, rows=rows, hosted=hosted, age_s=3.0)) == {"cpu-1": ReconcileStep.KEEP}
    assert plan(fleet(2, started=started, rows=rows, hosted=hosted, age_s=30.0)) == {"cpu-2": ReconcileStep.START}


@pytest.mark.parametrize(("held", "draining_s", "stops"), [(0, 1.0, True), (2, 1.0, False), (2, 61.0, True)])
def test_a_worker_that_drains_is_stopped_when_empty_or_late(held: int, draining_s: float, stops: bool) -> None:
    started, rows = launched("cpu-1"), (row("cpu-1", draining_s=draining_s),)
    steps = plan(fleet(0, started=started, rows=rows, hosted={"cpu-1": held}))
    assert steps == ({"cpu-1": ReconcileStep.STOP} if stops else {})


def test_what_stops_is_stopped_once_and_its_row_then_removed() -> None:
    rows = (row("cpu-1", draining_s=1.0, alive=False),)
    stopping = launched("cpu-1", state=LaunchState.STOPPING)
    assert plan(fleet(0, started=stopping, rows=rows)) == {}
    assert plan(fleet(0, rows=rows)) == {"cpu-1": ReconcileStep.REMOVE}


def test_what_failed_is_started_again_with_its_reason() -> None:
    [action] = actions(fleet(1, started=launched("cpu-0", state=LaunchState.FAILED, reason="no disk"), rows=()))
    assert (action.step, action.worker) == (ReconcileStep.START, "cpu-0")
    assert "no disk" in action.reason


def test_a_process_whose_worker_is_silent_is_replaced() -> None:
    rows = (row("cpu-0", alive=False),)
    started = launched("cpu-0")
    assert plan(fleet(1, started=started, rows=rows, silent_s={"cpu-0": 10.0})) == {}
    assert plan(fleet(1, started=started, rows=rows, silent_s={"cpu-0": 31.0}))["cpu-0"] is ReconcileStep.STOP


def test_the_row_of_a_worker_that_is_gone_for_long_is_removed() -> None:
    rows = (row("cpu-7", alive=False),)
    assert plan(fleet(0, rows=rows, silent_s={"cpu-7": 10.0})) == {}
    assert plan(fleet(0, rows=rows, silent_s={"cpu-7": 31.0})) == {"cpu-7": ReconcileStep.REMOVE}


def test_workers_of_another_machine_come_on_top() -> None:
    """Two machines with one worker each: the one that leads keeps its own, and starts none for the other."""
    one = msgspec.structs.replace(CPU, maximum=1, prefix="box-3f9a-")
    own, other = launched("box-3f9a-cpu-0"), row("den-11aa-cpu-0")
    both = (row("box-3f9a-cpu-0"), other)
    assert plan(fleet(2, kind=one, started=own, rows=both)) == {}
    assert plan(fleet(2, kind=one, rows=(other,))) == {"box-3f9a-cpu-0": ReconcileStep.START}
    assert plan(fleet(1, kind=one, started=own, rows=both)) == {"box-3f9a-cpu-0": ReconcileStep.DRAIN}
