"""The simulated autoscaler: the production observation, decision and reconciliation over in-memory rows."""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np

from autoscaler.apply.reconcile_plan import ReconcileAction, ReconcileStep
from autoscaler.apply.step_scheduler import RECONCILE_INTERVAL_S, StepScheduler
from autoscaler.decide.optimizer.milp import solve_targets
from autoscaler.decide.placement_builder import partition_count
from autoscaler.decide.plan import InstanceChange, ScalePlan, SolverTargets
from autoscaler.decide.planner import Planner
from autoscaler.decide.snapshot import DecisionMemory, Policy
from autoscaler.observe.load_window import LoadWindow
from autoscaler.observe.snapshot_builder import SnapshotBuilder, TopicBacklog
from autoscaler.observe.status_cache import STATUS_TTL_S, WorkerStatusCache
from schemas.catalog import Catalog
from schemas.load_classes import SelectorLoad
from schemas.names import worker_name
from schemas.rows.catalog import Task
from schemas.rows.cluster import InstanceRow
from schemas.status import Demand, InstanceState, WorkerStatus
from schemas.topics import offline_topic
from simulator.cluster.cluster import Cluster
from simulator.cluster.variant import SimulatedVariant
from simulator.cluster.worker import SimulatedWorker
from simulator.durations import draws
from simulator.services.launcher import SimulatedLauncher
from simulator.services.rows import SimulatedRows

if TYPE_CHECKING:
    from simulator.system import ScaleChanges

_FAR_S: Final = 1e9
"""Time limit of the solver that never ends it, so that results do not depend on the speed of the machine."""


class SimulatedAutoscaler:
    """Leading autoscaler, with the rows that it reads and writes."""

    def __init__(
        self,
        cluster: Cluster,
        random: np.random.Generator,
        held: Callable[[], Counter[str]],
        on_catalog: Callable[[Catalog], None],
    ) -> None:
        """`held` returns the offline queries that selectors hold, by task; `on_catalog` gets each new catalog."""
        self._cluster = cluster
        self._events = cluster.events
        self._scaling = cluster.scenario.scaling
        self._held = held
        self._on_catalog = on_catalog
        launching, delays = random.spawn(2)
        self.rows = SimulatedRows(self._scaling.pins, cluster.scenario.workers.heartbeat_timeout_s)
        self.launcher = SimulatedLauncher(cluster, launching, self._worker_started, self._worker_ended)
        self._placement = draws(cluster.scenario.delays.placement, delays)
        self._hardware = {one.name: one for one in cluster.scenario.catalogue.hardware_types()}
        self.catalog = self._read_catalog()
        clock = self._now
        self._statuses = WorkerStatusCache(clock, STATUS_TTL_S)
        self._load_window = LoadWindow(self._statuses)
        self._builder = SnapshotBuilder(
            self._statuses, self._load_window, self._scaling.min_workers, can_add_partitions=True, clock=clock
        )
        self._planner = Planner(self._scaling.limits, self._scaling.policy)
        self._memory = DecisionMemory()
        self._targets: SolverTargets | None = None
        self._solve_at = 0.0
        self._waiting: dict[str, TopicBacklog] = {}
        self._steps = StepScheduler(self._scaling.timeouts, self._statuses)
        self._deciding = False
        self._again = False
        self._stopped_until = 0.0
        self.changes: ScaleChanges = []
        cluster.state_changed = self._state_changed
        if self._scaling.enabled:
            self._events.after(0.0, self._record)
            self._events.after(0.0, self._reconcile)

    def _now(self) -> float:
        return self._events.now

    def _read_catalog(self) -> Catalog:
        variants = {name: variant.row for name, variant in self._cluster.variants.items()}
        tasks = {row.task: Task(name=row.task, inputs=(), outputs=()) for row in variants.values()}
        profiles = {name: variant.profile for name, variant in self._cluster.variants.items()}
        return Catalog(tasks=tasks, variants=variants, profiles=profiles)

    # -- input ---------------------------------------------------------------------------------------------------------

    def on_status(self, status: WorkerStatus) -> None:
        """Take a worker's status that has arrived now."""
        self._statuses.on_status(status)
        self._load_window.on_answers(status.answers)

    def on_load(self, load: SelectorLoad) -> None:
        """Take a selector's report that has arrived now."""
        self._load_window.on_load(load, self._events.now)

    def on_demand(self, variant: str) -> None:
        """Take a selector's demand, and decide soon."""
        task = self._cluster.variants[variant].row.task
        self._statuses.on_demand(Demand(task=task, variant=variant, at_ms=self._events.now * 1e3, reason="demand"))
        self._wake()

    def stop_until(self, time_s: float) -> None:
        """Make no decision until `time_s`."""
        self._stopped_until = time_s

    # -- decisions -----------------------------------------------------------------------------------------------------

    def _record(self, _argument: object) -> None:
        now = self._events.now
        self._load_window.tick(now)
        self._waiting = self._read_backlogs(now)
        served = {row.variant for row in self.rows.read(now).instances}
        queued = [v.name for v in self._cluster.variants.values() if any(topic in self._waiting for topic in v.topics)]
        self._statuses.mark_waiting(queued, served)
        self._wake()
        self._events.after(self._scaling.interval_s, self._record)

    def _read_backlogs(self, now: float) -> dict[str, TopicBacklog]:
        found = {offline_topic(task): TopicBacklog(records=count, age_s=None) for task, count in self._held().items()}
        for variant in self._cluster.variants.values():
            for number, topic in enumerate(variant.topics):
                logs = [pair[number] for pair in variant.partitions]
                lag = sum(log.lag for log in logs)
                if lag:
                    oldest_s = min((log.waiting[0].sent_s for log in logs if log.waiting), default=now)
                    found[topic] = TopicBacklog(records=lag, age_s=now - oldest_s)
        return found

    def _wake(self) -> None:
        """Decide now, or after the present decision."""
        if not self._scaling.enabled:
            return
        if self._deciding:
            self._again = True
        else:
            self._deciding = True
            self._events.after(0.0, self._decide)

    def _decide(self, _argument: object) -> None:
        now = self._events.now
        if now < self._stopped_until:
            self._deciding = False
            return
        snapshot = self._builder.build(
            self.rows.read(now), self.catalog, self._memory, self._hardware.values(), self.launcher.running(),
            self._waiting, readings_known=True,
        )  # fmt: skip
        ranking, plan = self._planner.plan(self.catalog, snapshot, self._targets)
        self._memory = plan.memory
        if self._scaling.policy is Policy.MILP and now >= self._solve_at:
            self._solve_at = now + self._scaling.solve_interval_s
            targets = solve_targets(ranking, snapshot, self._scaling.limits, _FAR_S)
            self._events.after(self._cluster.scenario.delays.solve_s, self._use_targets, targets)
        self._events.after(self._cluster.scenario.delays.decision_s, self._apply, plan)

    def _use_targets(self, targets: SolverTargets | None) -> None:
        changed, self._targets = targets != self._targets, targets
        if changed:
            self._wake()

    def _apply(self, plan: ScalePlan) -> None:
        now = self._events.now
        self.rows.put_wanted(plan.workers, now)
        self.rows.drain_workers(plan.drain, now)
        self.rows.change_instances(plan.changes)
        self.changes += ((now, one.action, one.variant, one.worker, one.reason) for one in plan.changes)
        self.changes += ((now, "want", one.hardware, str(one.count), one.reason) for one in plan.workers)
        if plan.partitions:
            self._grow(plan.partitions)
        self._update_wanted({change.variant for change in plan.changes})
        for worker in sorted({change.worker for change in plan.changes}):
            self._events.after(next(self._placement), self._follow_rows, worker)
        if plan.workers or plan.drain:
            self._events.after(0.0, self._reconcile_once)
        self._deciding = False
        if self._again:
            self._again = False
            self._wake()

    def _grow(self, partitions: dict[str, int]) -> None:
        for name, count in partitions.items():
            self._cluster.variants[name].grow(count)
        self.catalog = self._read_catalog()
        self._on_catalog(self.catalog)

    def _update_wanted(self, variants: set[str]) -> None:
        for name in variants:
            rows = self.rows.of_variant(name)
            self._cluster.variants[name].wanted_by = {worker: frozenset(row.partitions) for worker, row in rows.items()}

    def _follow_rows(self, name: str) -> None:
        """Make a worker follow its rows."""
        worker = self._cluster.workers.get(name)
        if worker is None or not worker.alive:
            return
        rows = self.rows.of_worker(name)
        for instance in list(worker.instances.values()):
            if not instance.is_ending:
                row = rows.get(instance.variant.name)
                instance.follow(None if row is None else row.partitions, 0 if row is None else row.max_batch)
        for variant in sorted(rows.keys() - worker.instances.keys(), key=self._load_order):
            row = rows[variant]
            instance = worker.begin_instance(self._cluster.variants[variant], row.max_batch)
            instance.follow(row.partitions, row.max_batch)

    def _load_order(self, variant: str) -> tuple[float, str]:
        """Return the sort key by which a worker reads the rows of its instances."""
        return self._cluster.variants[variant].profile.load_s, variant

    def _state_changed(self, variant: str, worker: str, state: InstanceState) -> None:
        self._events.after(next(self._placement), self._store_state, (variant, worker, state))
        if state is InstanceState.INACTIVE:  # a row that came back while it drained begins a new instance
            self._events.after(0.0, self._follow_rows, worker)

    def _store_state(self, report: tuple[str, str, InstanceState]) -> None:
        self.rows.report_state(*report)

    # -- workers -------------------------------------------------------------------------------------------------------

    def _worker_started(self, worker: SimulatedWorker) -> None:
        hardware = worker.hardware
        runtimes = {v.row.runtime for v in self._cluster.variants.values() if v.row.hardware == hardware.name}
        runtimes_of = hardware.runtimes or tuple(sorted(runtimes))
        self.rows.register_worker(worker.name, hardware, runtimes_of, worker.epoch, self._events.now)
        self._follow_rows(worker.name)
        self._wake()

    def _worker_ended(self, name: str) -> None:
        self.rows.retire_worker(name)
        self._wake()

    def _reconcile(self, _argument: object) -> None:
        self._reconcile_once()
        self._events.after(RECONCILE_INTERVAL_S, self._reconcile)

    def _reconcile_once(self, _argument: object = None) -> None:
        now = self._events.now
        if now < self._stopped_until:
            return
        rows, launched = self.rows.read(now), self.launcher.running()
        for action in self._steps.due(rows, launched, self._hardware, now):
            self._steps.begin(action, self._hardware, now)
            self._take_step(action)

    def _take_step(self, action: ReconcileAction) -> None:
        name, now = action.worker, self._events.now
        self.changes.append((now, action.step.value, action.hardware, name, action.reason))
        match action.step:
            case ReconcileStep.START:
                self.launcher.start(name, action.hardware)
            case ReconcileStep.STOP:
                self.launcher.stop(name)
            case ReconcileStep.DRAIN:
                self.rows.drain_workers([name], now)
            case ReconcileStep.KEEP:
                self.rows.undrain_worker(name)
            case ReconcileStep.REMOVE:
                self.rows.retire_worker(name)
        self._wake()

    # -- start ---------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the initial fleet, with its instances loaded."""
        scenario = self._cluster.scenario
        for hardware, count in sorted(scenario.fleet.items()):
            prefix = self._hardware[hardware].prefix
            for number in range(count):
                self.launcher.add_running(worker_name(hardware, number, prefix), hardware)
        for name, count in sorted(scenario.placed.items()):
            self._place(self._cluster.variants[name], count)

    def _place(self, variant: SimulatedVariant, count: int) -> None:
        hosts = [worker for worker in self._cluster.workers.values() if worker.hardware.name == variant.row.hardware]
        hosts.sort(key=lambda worker: worker.memory_used)
        hosts = hosts[:count]
        variant.grow(partition_count(len(hosts), variant.row.partitions))
        rows = [
            InstanceRow(
                variant=variant.name,
                worker=worker.name,
                partitions=tuple(range(place, variant.row.partitions, len(hosts))),
                max_batch=self._cluster.scenario.placed_batch.get(variant.name, variant.row.max_batch),
                reason="placed at the start",
            )
            for place, worker in enumerate(hosts)
        ]
        self.rows.change_instances(
            InstanceChange(action="place", variant=row.variant, worker=row.worker, reason=row.reason, wanted=row)
            for row in rows
        )
        self.catalog = self._read_catalog()
        self._update_wanted({variant.name})
        for worker, row in zip(hosts, rows, strict=True):
            worker.host(variant, row.max_batch, row.partitions)
            self.rows.report_state(variant.name, worker.name, InstanceState.ACTIVE)
