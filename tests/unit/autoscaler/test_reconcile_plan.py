"""Tests of `plan_reconciliation`: the workers that start, drain, stop or are removed, with one step for each worker."""

from collections.abc import Mapping
from typing import Any

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
from autoscaler.launchers.launched_worker import LaunchedWorker, LaunchState
from schemas.rows.cluster import WantedWorkers, WorkerRow
from tests.example_rows import a_worker

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


def actions(fleet: FleetSnapshot) -> tuple[ReconcileAction, ...]:
    found = plan_reconciliation(fleet, ReconcileTimeouts())
    assert len({action.worker for action in found}) == len(found)
    assert all(action.reason for action in found)
    return found


DRAIN, KEEP, REMOVE, START, STOP = (ReconcileStep(name) for name in ("drain", "keep", "remove", "start", "stop"))
RUNNING, STARTING, STOPPING, FAILED = (LaunchState(name) for name in ("running", "starting", "stopping", "failed"))
HIGHEST = msgspec.structs.replace(CPU, stops_highest=True)
PREFIXED = msgspec.structs.replace(CPU, maximum=1, prefix="box-3f9a-")
TWO, THREE = launched("cpu-0", "cpu-1"), launched("cpu-0", "cpu-1", "cpu-2")
DRAINING: dict[str, Any] = {
    "started": TWO,
    "rows": (row("cpu-0"), row("cpu-1", draining_s=10.0)),
    "hosted": {"cpu-1": 1},
}
LONE: dict[str, Any] = {"started": launched("cpu-1"), "rows": (row("cpu-1", draining_s=1.0),)}
OVERDUE: dict[str, Any] = LONE | {"rows": (row("cpu-1", draining_s=61.0),), "hosted": {"cpu-1": 2}}
ENDED = (row("cpu-1", draining_s=1.0, alive=False),)
SILENT, LOST = (row("cpu-0", alive=False),), (row("cpu-7", alive=False),)
OWN, OTHER = launched("box-3f9a-cpu-0"), row("den-11aa-cpu-0")
BOTH = (row("box-3f9a-cpu-0"), OTHER)
CASES: dict[str, tuple[FleetSnapshot, dict[str, ReconcileStep]]] = {
    "nothing is wanted": (fleet(started=TWO), {}),
    "lowest free names start": (fleet(3, started=launched("cpu-1")), {"cpu-0": START, "cpu-2": START}),
    "starting workers count": (fleet(2, started=launched("cpu-0", "cpu-1", state=STARTING), rows=()), {}),
    "a stopping worker counts against the maximum": (fleet(9, started=THREE + launched("cpu-3", state=STOPPING)), {}),
    "the launcher's maximum is filled": (fleet(9, started=THREE), {"cpu-3": START}),
    "external workers count": (fleet(2, rows=(row("cpu-0"),)), {"cpu-1": START}),
    "external workers are not ended": (fleet(0, rows=(row("cpu-0"),)), {}),
    "the name of a dead worker is free": (fleet(1, rows=SILENT), {"cpu-0": START}),
    "the fewest instances drain": (
        fleet(2, started=THREE, hosted={"cpu-0": 1, "cpu-1": 0, "cpu-2": 1}),
        {"cpu-1": DRAIN},
    ),
    "of equals the highest number drains": (fleet(2, started=THREE), {"cpu-2": DRAIN}),
    "the highest number drains if the launcher requires it": (
        fleet(1, started=launched("cpu-9", "cpu-10"), kind=HIGHEST, hosted={"cpu-10": 5}),
        {"cpu-10": DRAIN},
    ),
    "failed workers leave first": (
        fleet(2, started=launched("cpu-0") + launched("cpu-1", state=FAILED) + launched("cpu-2")),
        {"cpu-1": DRAIN},
    ),
    "starting workers stop at once": (
        fleet(1, started=launched("cpu-0", state=STARTING) + launched("cpu-1"), rows=(row("cpu-1"),)),
        {"cpu-0": STOP},
    ),
    "draining workers do not count": (fleet(1, **DRAINING), {}),
    "a draining worker is kept for a newer wish": (fleet(2, **DRAINING, age_s=3.0), {"cpu-1": KEEP}),
    "a draining worker is replaced for an older wish": (fleet(2, **DRAINING, age_s=30.0), {"cpu-2": START}),
    "a drained worker stops": (
        fleet(0, started=launched("cpu-1"), rows=(row("cpu-1", draining_s=1.0),)),
        {"cpu-1": STOP},
    ),
    "a draining worker may keep its instances": (fleet(0, **LONE, hosted={"cpu-1": 2}), {}),
    "an overdue worker stops": (fleet(0, **OVERDUE), {"cpu-1": STOP}),
    "a stopping worker is not stopped again": (fleet(0, started=launched("cpu-1", state=STOPPING), rows=ENDED), {}),
    "the row of an ended worker goes": (fleet(0, rows=ENDED), {"cpu-1": REMOVE}),
    "a worker may be silent for a while": (
        fleet(1, started=launched("cpu-0"), rows=SILENT, silent_s={"cpu-0": 10.0}),
        {},
    ),
    "a lost worker may be silent for a while": (fleet(0, rows=LOST, silent_s={"cpu-7": 10.0}), {}),
    "the row of a lost worker goes": (fleet(0, rows=LOST, silent_s={"cpu-7": 31.0}), {"cpu-7": REMOVE}),
    "workers of other machines count as wanted": (fleet(2, kind=PREFIXED, started=OWN, rows=BOTH), {}),
    "workers of other machines are not in the maximum": (
        fleet(2, kind=PREFIXED, rows=(OTHER,)),
        {"box-3f9a-cpu-0": START},
    ),
    "own workers drain, not others": (fleet(1, kind=PREFIXED, started=OWN, rows=BOTH), {"box-3f9a-cpu-0": DRAIN}),
}


@pytest.mark.parametrize(("fleet", "steps"), CASES.values(), ids=CASES)
def test_plan_reconciliation_steps(fleet: FleetSnapshot, steps: dict[str, ReconcileStep]) -> None:
    assert {action.worker: action.step for action in actions(fleet)} == steps


def test_plan_reconciliation_replaces_silent_worker() -> None:
    silent = fleet(1, started=launched("cpu-0"), rows=SILENT, silent_s={"cpu-0": 31.0})
    assert next(action.step for action in actions(silent) if action.worker == "cpu-0") is STOP


def test_plan_reconciliation_names_reason_of_restart() -> None:
    [action] = actions(fleet(1, started=launched("cpu-0", state=FAILED, reason="no disk"), rows=()))
    assert (action.step, action.worker) == (START, "cpu-0")
    assert "no disk" in action.reason
