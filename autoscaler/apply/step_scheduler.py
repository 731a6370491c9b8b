"""Schedules the steps of workers: the steps that the present state requires, except during a back-off.

Pure: the caller reads rows and the launcher's list, passes the time, and takes the steps.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from autoscaler.apply.reconcile_plan import (
    FleetSnapshot,
    ReconcileAction,
    ReconcileStep,
    ReconcileTimeouts,
    plan_reconciliation,
)
from autoscaler.decide.snapshot import HardwareType
from autoscaler.launchers.launched_worker import LaunchedWorker, LaunchState
from autoscaler.observe.status_cache import WorkerStatusCache
from process.backoff import Backoff, KeyedBackoff
from schemas.rows.cluster import ClusterRows, InstanceRow, WorkerRow
from schemas.status import InstanceState

RECONCILE_INTERVAL_S: Final = 2.0
"""Seconds between two looks for steps; a change causes a look at once."""
_BACKOFF: Final = Backoff(first_s=1.0, longest_s=60.0)
_MOST_BACKED_OFF: Final = 65_536


class StepScheduler:
    """Scheduler of one term of leadership. Times are seconds of one monotonic clock."""

    def __init__(self, timeouts: ReconcileTimeouts, statuses: WorkerStatusCache) -> None:
        self._timeouts = timeouts
        self._statuses = statuses
        self._backoff = KeyedBackoff(_BACKOFF, _MOST_BACKED_OFF)
        self._alive_at_s: dict[str, float] = {}

    def due(
        self,
        rows: ClusterRows,
        launched: tuple[LaunchedWorker, ...],
        hardware: Mapping[str, HardwareType],
        now_s: float,
    ) -> tuple[ReconcileAction, ...]:
        """Return the steps to take now, at most one per worker.

        Args:
            rows: the wanted and the actual state of the cluster.
            launched: workers in the launcher's list.
            hardware: types of workers that the launcher can start, by name.
            now_s: the present time.
        """
        fleet = self._snapshot(rows, launched, hardware, now_s)
        for one in launched:
            if one.state is LaunchState.RUNNING and one.worker not in fleet.silent_s:
                self._backoff.reset(one.worker)
        steps = plan_reconciliation(fleet, self._timeouts)
        return tuple(action for action in steps if self._backoff.is_due(action.worker, now_s))

    def begin(self, action: ReconcileAction, hardware: Mapping[str, HardwareType], now_s: float) -> None:
        """Record that the launcher is called for a step, which backs off until the worker is seen running."""
        if action.step is ReconcileStep.START:
            # No second start before the worker's start time has passed.
            self._backoff.failed(action.worker, now_s, hardware[action.hardware].start_s)
        elif action.step is ReconcileStep.STOP:
            self._backoff.failed(action.worker, now_s)

    def _snapshot(
        self,
        rows: ClusterRows,
        launched: tuple[LaunchedWorker, ...],
        hardware: Mapping[str, HardwareType],
        now_s: float,
    ) -> FleetSnapshot:
        workers = self._statuses.with_liveness(rows.workers)
        return FleetSnapshot(
            wanted=tuple(rows.wanted),
            hardware=hardware,
            launched=launched,
            workers=workers,
            hosted=self._hosted(rows.instances),
            silent_s=self._silent_s(workers, now_s),
        )

    def _hosted(self, instances: Iterable[InstanceRow]) -> Counter[str]:
        held = {(row.worker, row.variant) for row in instances}
        held |= {(w, i.variant) for w, i in self._statuses.instances() if i.state is not InstanceState.INACTIVE}
        return Counter(worker for worker, _variant in held)

    def _silent_s(self, workers: Iterable[WorkerRow], now_s: float) -> dict[str, float]:
        alive_at_s = {row.name: now_s if row.alive else self._alive_at_s.get(row.name, now_s) for row in workers}
        self._alive_at_s = alive_at_s
        return {row.name: now_s - alive_at_s[row.name] for row in workers if not row.alive}
