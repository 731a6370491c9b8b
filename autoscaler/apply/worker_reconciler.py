"""Starts and stops workers until they match the wanted numbers: periodically, and after each change.

* Each step is recorded in a transaction under the leader's lock before it runs. A process that has lost the lock can
  write nothing, so it starts and stops nothing. A repeated step has no further effect, because the launcher identifies
  workers by name.
* At most one step per worker is in progress. A worker that does not start, or whose launcher call fails, is retried
  with exponential back-off. Other workers do not wait for it.
* While Postgres or the launcher cannot be reached, no steps are taken and running workers are left alone.
"""

import asyncio
import logging
from collections import Counter as Tally
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from prometheus_client import Counter, Gauge

from autoscaler.apply.reconcile_plan import (
    FleetSnapshot,
    ReconcileAction,
    ReconcileStep,
    ReconcileTimeouts,
    plan_reconciliation,
)
from autoscaler.decide.snapshot import HardwareType
from autoscaler.launchers.base import Launcher, LauncherError
from autoscaler.launchers.launched_worker import LaunchedWorker, LaunchState
from autoscaler.observe.status_cache import WorkerStatusCache
from process.backoff import Backoff, KeyedBackoff
from process.outages import FailureLog
from process.pauses import wait_within
from schemas.rows.cluster import DecisionKind, DecisionRow, InstanceRow, WorkerRow
from schemas.status import InstanceState
from store.errors import StoreUnavailable
from store.leader import Leadership
from store.pool import DatabaseSession, Pool
from store.samples import write_decisions
from store.scaling import drain_workers, read_cluster, remove_worker, undrain_workers

STEPS: Final = Counter("infaas_autoscaler_worker_steps", "Steps of starting and stopping workers.", ["step", "outcome"])
WORKERS: Final = Gauge("infaas_autoscaler_workers", "Worker processes by state.", ["hardware", "state"])
_INTERVAL_S: Final = 2.0
_BACKOFF: Final = Backoff(first_s=1.0, longest_s=60.0)
_MOST_BACKED_OFF: Final = 65_536

log = logging.getLogger(__name__)


class WorkerReconciler:
    """Reconciler of workers during one term of leadership."""

    def __init__(
        self, launcher: Launcher, timeouts: ReconcileTimeouts, pool: Pool, lead: Leadership, statuses: WorkerStatusCache
    ) -> None:
        self._launcher = launcher
        self._timeouts = timeouts
        self._pool = pool
        self._lead = lead
        self._statuses = statuses
        self._clock = asyncio.get_running_loop().time
        self._backoff = KeyedBackoff(_BACKOFF, _MOST_BACKED_OFF)
        self._busy: set[str] = set()
        self._alive_at_s: dict[str, float] = {}
        self._failures = FailureLog("reconciling workers", "scaling is suspended")
        self._wake = asyncio.Event()
        self._tasks: asyncio.TaskGroup
        self.launched: tuple[LaunchedWorker, ...] = ()
        """Workers in the launcher's latest list."""

    @property
    def hardware(self) -> tuple[HardwareType, ...]:
        """Hardware types of workers that can be started."""
        return tuple(self._launcher.hardware.values())

    def wake(self) -> None:
        """Reconcile now, because a wanted number has changed."""
        self._wake.set()

    async def run(self) -> None:
        """Reconcile until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            while True:
                try:
                    await self._reconcile()
                except (LauncherError, StoreUnavailable) as error:
                    self._failures.failed(error)
                else:
                    self._failures.recovered()
                if await wait_within(_INTERVAL_S, self._wake):
                    self._wake.clear()

    # -- reading -------------------------------------------------------------------------------------------------------

    async def _reconcile(self) -> None:
        # Copied before reading: if a step ends during the reads, they may show the state before it.
        busy = set(self._busy)
        self.launched = tuple(await self._launcher.running())
        fleet = await self._snapshot()
        self._set_gauges()
        for one in self.launched:
            if one.state is LaunchState.RUNNING and one.worker not in fleet.silent_s:
                self._backoff.reset(one.worker)
        for action in plan_reconciliation(fleet, self._timeouts):
            if action.worker not in busy | self._busy and self._backoff.is_due(action.worker, self._clock()):
                self._busy.add(action.worker)
                self._tasks.create_task(self._execute(action), name=f"{action.step} {action.worker}")

    async def _snapshot(self) -> FleetSnapshot:
        rows = await read_cluster(self._pool)
        workers = self._statuses.with_liveness(rows.workers)
        return FleetSnapshot(
            wanted=tuple(rows.wanted),
            hardware=self._launcher.hardware,
            launched=self.launched,
            workers=workers,
            hosted=self._hosted(rows.instances),
            silent_s=self._silent_s(workers),
        )

    def _hosted(self, instances: Iterable[InstanceRow]) -> Tally[str]:
        held = {(row.worker, row.variant) for row in instances}
        held |= {(w, i.variant) for w, i in self._statuses.instances() if i.state is not InstanceState.INACTIVE}
        return Tally(worker for worker, _variant in held)

    def _silent_s(self, workers: tuple[WorkerRow, ...]) -> dict[str, float]:
        now_s = self._clock()
        alive_at_s = {row.name: now_s if row.alive else self._alive_at_s.get(row.name, now_s) for row in workers}
        self._alive_at_s = alive_at_s
        return {row.name: now_s - alive_at_s[row.name] for row in workers if not row.alive}

    def _set_gauges(self) -> None:
        WORKERS.clear()
        for (hardware, state), number in Tally((one.hardware, one.state) for one in self.launched).items():
            WORKERS.labels(hardware, state).set(number)

    # -- acting --------------------------------------------------------------------------------------------------------

    async def _execute(self, action: ReconcileAction) -> None:
        outcome = "failed"
        try:
            async with self._lead.transaction() as session:
                await _write(session, action)
            await self._call_launcher(action)
            outcome = "ok"
            log.info("%s %s: %s", action.step, action.worker, action.reason)
        except StoreUnavailable as error:
            log.warning("cannot %s %s: %s", action.step, action.worker, error)
        except LauncherError as error:
            await self._record_failure(action, error)
        finally:
            STEPS.labels(action.step, outcome).inc()
            self._busy.discard(action.worker)

    async def _call_launcher(self, action: ReconcileAction) -> None:
        if action.step is ReconcileStep.START:
            # Counts as failed until the worker is seen running: no second start before its start time has passed.
            self._backoff.failed(action.worker, self._clock(), self._launcher.hardware[action.hardware].start_s)
            await self._launcher.start(action.hardware, action.worker)
        elif action.step is ReconcileStep.STOP:
            self._backoff.failed(action.worker, self._clock())
            await self._launcher.stop(action.worker)

    async def _record_failure(self, action: ReconcileAction, error: LauncherError) -> None:
        log.warning("cannot %s %s: %s", action.step, action.worker, error)
        failed = _decision(action, f"{action.step} failed", str(error))
        try:
            async with self._lead.transaction() as session:
                await write_decisions(session, [failed])
        except StoreUnavailable as away:
            log.debug("failure not recorded: %s", away)


async def _write(session: DatabaseSession, action: ReconcileAction) -> None:
    match action.step:
        case ReconcileStep.DRAIN:
            await drain_workers(session, [action.worker])
        case ReconcileStep.KEEP:
            await undrain_workers(session, [action.worker])
        case ReconcileStep.REMOVE:
            await remove_worker(session, action.worker)
        case ReconcileStep.START | ReconcileStep.STOP:
            pass  # only calls the launcher
    await write_decisions(session, [_decision(action, action.step, action.reason)])


def _decision(action: ReconcileAction, what: str, reason: str) -> DecisionRow:
    return DecisionRow(
        at=datetime.now(UTC),
        kind=DecisionKind.WORKER,
        action=what,
        worker=action.worker,
        hardware=action.hardware,
        reason=reason,
    )
