"""Pure plan that turns the workers that run into the workers that are wanted, with one step per worker.

Rules.
1. A worker is present if its process runs or the worker is alive, no matter what started it; draining and ending
   workers do not count. The launcher's maximum covers only workers that it started; workers of other machines are not
   counted against it.
2. Too few: a draining worker is kept if the wish for more is newer than its drain. For the rest new workers start under
   the lowest free numbers, so a repeated plan names the same workers. The name of any living worker is not free.
3. Too many: failed workers drain first, then those with the fewest instances; a worker that is not up yet is stopped at
   once. Only workers that the launcher started can be ended.
4. A draining worker is stopped when it hosts nothing, or when its drain exceeds the timeout.
5. A failed process is started again. A process whose worker is silent beyond the liveness timeout is stopped; rule 2
   replaces it.
6. The row of a worker is removed when the worker has drained and ended, or is silent beyond the liveness timeout.
"""

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from itertools import count

import msgspec

from autoscaler.decide.snapshot import HardwareType
from autoscaler.launchers.launched_worker import LaunchedWorker, LaunchState
from schemas.names import number_of, worker_name
from schemas.rows.cluster import WantedWorkers, WorkerRow


class ReconcileStep(StrEnum):
    """Kind of step to take with a worker."""

    START = "start"
    DRAIN = "drain"
    KEEP = "keep"
    STOP = "stop"
    REMOVE = "remove"


class ReconcileAction(msgspec.Struct, frozen=True, kw_only=True):
    """A step to take with a worker, and its reason."""

    step: ReconcileStep
    worker: str
    hardware: str
    reason: str


class FleetSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Wanted workers and running workers."""

    wanted: tuple[WantedWorkers, ...] = ()
    hardware: Mapping[str, HardwareType] = {}
    launched: tuple[LaunchedWorker, ...] = ()
    workers: tuple[WorkerRow, ...] = ()
    """Rows of workers; `alive` is derived from heartbeat or status."""
    hosted: Mapping[str, int] = {}
    """Number of instances by worker: wanted there, or not unloaded yet."""
    silent_s: Mapping[str, float] = {}
    """Seconds since the last sign of life, by worker, for workers that are not alive."""


class ReconcileTimeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Timeouts of reconciliation, in seconds."""

    worker_drain_timeout_s: float = 60.0
    liveness_timeout_s: float = 30.0


def plan_reconciliation(fleet: FleetSnapshot, timeouts: ReconcileTimeouts) -> tuple[ReconcileAction, ...]:
    """Return the steps to take now, at most one per worker."""
    return tuple(
        action
        for hardware_type in fleet.hardware.values()
        for action in _PoolReconciler(hardware_type, fleet, timeouts).plan()
    )


class _PoolReconciler:
    """Planner for the workers of one hardware type."""

    def __init__(self, hardware_type: HardwareType, fleet: FleetSnapshot, timeouts: ReconcileTimeouts) -> None:
        self.hardware_type = hardware_type
        self.timeouts = timeouts
        self.hosted = fleet.hosted
        self.silent_s = fleet.silent_s
        self.launched = {one.worker: one for one in fleet.launched if one.hardware == hardware_type.name}
        self.rows = {row.name: row for row in fleet.workers if row.hardware == hardware_type.name}
        self.wanted = next((want for want in fleet.wanted if want.hardware == hardware_type.name), None)

    def plan(self) -> Iterator[ReconcileAction]:
        ended = [self.action(ReconcileStep.STOP, name, why) for name, why in self.stops()]
        yield from ended
        yield from self.removals()
        present = self.present() - {action.worker for action in ended}
        missing = 0
        if self.wanted is not None:
            most = self.hardware_type.maximum + len(present - self.launched.keys())
            missing = min(self.wanted.count, most) - len(present)
        yield from self.scale_up(missing)
        leaving = list(self.scale_down(-missing, present))
        yield from leaving
        yield from self.restarts(present - {action.worker for action in leaving})

    # -- rules 1 to 3 --------------------------------------------------------------------------------------------------

    def present(self) -> set[str]:
        living = {name for name, row in self.rows.items() if row.alive}
        started = {name for name, one in self.launched.items() if one.state is not LaunchState.STOPPING}
        return {name for name in living | started if not self.drains(name) and not self.is_stopping(name)}

    def scale_up(self, missing: int) -> Iterator[ReconcileAction]:
        if self.wanted is None or missing <= 0:
            return
        why = self.wanted.reason
        since_s = self.wanted.age_s
        back = [name for name, row in sorted(self.rows.items()) if self.may_stay(row, since_s)][:missing]
        for name in back:
            yield self.action(ReconcileStep.KEEP, name, why)
        room = self.hardware_type.maximum - len(self.launched)
        for name in self.free_names(min(missing - len(back), room)):
            yield self.action(ReconcileStep.START, name, why)

    def may_stay(self, row: WorkerRow, since_s: float) -> bool:
        return row.alive and row.draining and since_s < row.draining_s and not self.is_stopping(row.name)

    def free_names(self, wanted: int) -> list[str]:
        taken = self.launched.keys() | {name for name, row in self.rows.items() if row.alive}
        names = (worker_name(self.hardware_type.name, number, self.hardware_type.prefix) for number in count())
        free = (name for name in names if name not in taken)
        return [next(free) for _ in range(wanted)]

    def scale_down(self, surplus: int, present: Iterable[str]) -> Iterator[ReconcileAction]:
        if self.wanted is None or surplus <= 0:
            return
        ours = sorted((name for name in present if name in self.launched), key=self.first_to_leave)
        for name in ours[:surplus]:
            yield self.action(
                ReconcileStep.DRAIN if name in self.rows else ReconcileStep.STOP, name, self.wanted.reason
            )

    def first_to_leave(self, name: str) -> tuple[bool, bool, int, int]:
        if self.hardware_type.stops_highest:
            return False, False, 0, -number_of(name)
        failed = self.launched[name].state is LaunchState.FAILED
        return not failed, name in self.rows, self.hosted.get(name, 0), -number_of(name)

    # -- rules 4 to 6 --------------------------------------------------------------------------------------------------

    def stops(self) -> Iterator[tuple[str, str]]:
        for name, one in self.launched.items():
            row = self.rows.get(name)
            if one.state is LaunchState.STOPPING or row is None:
                continue
            if row.draining and (not self.hosted.get(name) or one.state is LaunchState.FAILED):
                yield name, "drain finished"
            elif row.draining and row.draining_s > self.timeouts.worker_drain_timeout_s:
                yield name, f"drain not finished within {self.timeouts.worker_drain_timeout_s:g} s"
            elif self.is_hung(one):
                yield name, f"process is running but worker silent for {self.silent_s[name]:.0f} s"

    def is_hung(self, one: LaunchedWorker) -> bool:
        """Return true if the worker's process hangs; with `stops_highest` the launcher's own probes handle that."""
        late = self.silent_s.get(one.worker, 0.0) > self.timeouts.liveness_timeout_s
        return late and one.state is LaunchState.RUNNING and not self.hardware_type.stops_highest

    def restarts(self, present: Iterable[str]) -> Iterator[ReconcileAction]:
        for name in sorted(present):
            one = self.launched.get(name)
            if one is not None and one.state is LaunchState.FAILED:
                yield self.action(ReconcileStep.START, name, f"it failed: {one.reason}")

    def removals(self) -> Iterator[ReconcileAction]:
        for name, row in self.rows.items():
            if row.alive or name in self.launched:
                continue
            if row.draining or self.silent_s.get(name, 0.0) > self.timeouts.liveness_timeout_s:
                yield self.action(
                    ReconcileStep.REMOVE, name, "it has ended" if row.draining else "it does not exist any more"
                )

    # -- shared --------------------------------------------------------------------------------------------------------

    def drains(self, name: str) -> bool:
        row = self.rows.get(name)
        return row is not None and row.draining

    def is_stopping(self, name: str) -> bool:
        one = self.launched.get(name)
        return one is not None and one.state is LaunchState.STOPPING

    def action(self, step: ReconcileStep, worker: str, reason: str) -> ReconcileAction:
        return ReconcileAction(step=step, worker=worker, hardware=self.hardware_type.name, reason=reason)
