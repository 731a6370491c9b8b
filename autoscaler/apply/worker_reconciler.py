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
from datetime import UTC, datetime
from typing import Final

from prometheus_client import Counter, Gauge

from autoscaler.apply.reconcile_plan import ReconcileAction, ReconcileStep, ReconcileTimeouts
from autoscaler.apply.step_scheduler import RECONCILE_INTERVAL_S, StepScheduler
from autoscaler.decide.snapshot import HardwareType
from autoscaler.launchers.base import Launcher, LauncherError
from autoscaler.launchers.launched_worker import LaunchedWorker
from autoscaler.observe.status_cache import WorkerStatusCache
from process.outages import FailureLog
from process.pauses import wait_within
from schemas.rows.cluster import DecisionKind, DecisionRow
from store.errors import StoreUnavailable
from store.leader import Leadership
from store.pool import DatabaseSession, Pool
from store.samples import write_decisions
from store.scaling import drain_workers, read_cluster, remove_worker, undrain_workers

STEPS: Final = Counter("infaas_autoscaler_worker_steps", "Steps of starting and stopping workers.", ["step", "outcome"])
WORKERS: Final = Gauge("infaas_autoscaler_workers", "Worker processes by state.", ["hardware", "state"])

log = logging.getLogger(__name__)


class WorkerReconciler:
    """Reconciler of workers during one term of leadership."""

    def __init__(
        self, launcher: Launcher, timeouts: ReconcileTimeouts, pool: Pool, lead: Leadership, statuses: WorkerStatusCache
    ) -> None:
        self._launcher = launcher
        self._pool = pool
        self._lead = lead
        self._scheduler = StepScheduler(timeouts, statuses)
        self._clock = asyncio.get_running_loop().time
        self._busy: set[str] = set()
        self._failures = FailureLog("reconciling workers", "scaling is suspended")
        self._wake = asyncio.Event()
        self._tasks: asyncio.TaskGroup
        self.launched = tuple[LaunchedWorker, ...]()
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
                if await wait_within(RECONCILE_INTERVAL_S, self._wake):
                    self._wake.clear()

    # -- reading -------------------------------------------------------------------------------------------------------

    async def _reconcile(self) -> None:
        # Copied before reading: if a step ends during the reads, they may show the state before it.
        busy = set(self._busy)
        self.launched = tuple(await self._launcher.running())
        rows = await read_cluster(self._pool)
        self._set_gauges()
        for action in self._scheduler.due(rows, self.launched, self._launcher.hardware, self._clock()):
            if action.worker not in busy | self._busy:
                self._busy.add(action.worker)
                self._tasks.create_task(self._execute(action), name=f"{action.step} {action.worker}")

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
        self._scheduler.begin(action, self._launcher.hardware, self._clock())
        if action.step is ReconcileStep.START:
            await self._launcher.start(action.hardware, action.worker)
        elif action.step is ReconcileStep.STOP:
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
