"""Builds the snapshot for a decision: rows, recent statuses and load, backlogs, hardware types and bounds.

Pure: the caller reads the rows and passes the clock.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from autoscaler.decide.snapshot import Backlog, ClusterSnapshot, DecisionMemory, HardwareType
from autoscaler.launchers.launched_worker import LaunchedWorker
from autoscaler.observe.load_window import LoadWindow
from autoscaler.observe.status_cache import WorkerStatusCache
from process.security.access import users_by_name
from schemas.catalog import Catalog
from schemas.jobs import DatedWork
from schemas.rows.catalog import Variant
from schemas.rows.cluster import ClusterRows, Pin, PinKind, WantedWorkers, WorkerRow
from schemas.topics import LANES, offline_topic, offline_variant_topic, task_topic, variant_topic
from schemas.versions import versions_of


class TopicBacklog(msgspec.Struct, frozen=True):
    """Waiting records of a topic."""

    records: int
    age_s: float | None
    """Age of the oldest in seconds; None if unknown."""


class SnapshotBuilder:
    """Builder of snapshots for one term of leadership; remembers the runtimes seen on each hardware."""

    def __init__(
        self, statuses: WorkerStatusCache, load_window: LoadWindow, min_workers: Mapping[str, int], *,
        can_add_partitions: bool, clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._statuses = statuses
        self._load_window = load_window
        self._min_workers = min_workers
        self._can_add_partitions = can_add_partitions
        self._clock = clock
        self._runtimes: dict[str, tuple[str, ...]] = {}

    def build(
        self, rows: ClusterRows, catalog: Catalog, memory: DecisionMemory, hardware: Iterable[HardwareType],
        launched: Iterable[LaunchedWorker], waiting: Mapping[str, TopicBacklog], dated: Collection[DatedWork] = (), *,
        readings_known: bool,
    ) -> ClusterSnapshot:  # fmt: skip
        """Build the snapshot of the present.

        Args:
            rows: the wanted and the actual state of the cluster.
            catalog: the registered tasks and variants.
            memory: memory of the previous decision.
            hardware: types of workers that the launcher can start.
            launched: workers that the launcher has started.
            waiting: waiting records at the last reading, by topic.
            dated: offline work with a deadline.
            readings_known: true if the last reading succeeded.
        """
        now_s = self._clock()
        self._statuses.forget(catalog.variants, {row.name for row in rows.workers})
        self._load_window.forget(catalog.tasks, now_s)
        workers = self._statuses.with_liveness(rows.workers)
        waiting = with_lanes(waiting, self._load_window.lanes(now_s))
        hardware = with_others(self._with_runtimes(hardware, workers), workers, launched)
        least = dict(self._min_workers)
        least |= {one.name: least[one.name] + len(one.others) for one in hardware if one.name in least}
        return ClusterSnapshot(
            known=readings_known and self._load_window.loads_known(now_s),
            workers=workers,
            instances=tuple(rows.instances),
            demand_age_s=self._statuses.demand_age_s(),
            asked_age_s=self._statuses.asked_age_s(),
            idle_s=self._statuses.idle_s(),
            use_rates=self._statuses.use_rates(),
            observed_s=self._statuses.observed_s,
            classes=self._load_window.class_loads(now_s),
            instance_loads=self._load_window.instance_loads(),
            worker_loads=self._load_window.worker_loads(),
            backlogs=backlogs_of(
                waiting, catalog.tasks, catalog.variants.values(), self._load_window.mean_inputs(), dated
            ),
            hardware=hardware,
            wanted_workers=_wanted_workers(hardware, rows.wanted, workers, launched),
            bounds=bounds_of(rows.pins, least),
            paused=rows.control.paused,
            can_add_partitions=self._can_add_partitions,
            history=self._load_window.history(),
            memory=memory,
            versions=versions_of(catalog.architectures, catalog.rollouts),
            users=users_by_name(catalog.access, catalog.architectures.values()),
        )

    def _with_runtimes(
        self, hardware: Iterable[HardwareType], workers: Iterable[WorkerRow]
    ) -> tuple[HardwareType, ...]:
        """Return the types, with the runtimes of the last seen worker where the launcher does not know them."""
        self._runtimes |= {row.hardware: row.runtimes for row in workers}
        return tuple(
            one if one.runtimes else msgspec.structs.replace(one, runtimes=self._runtimes.get(one.name, ()))
            for one in hardware
        )


def with_others(
    hardware: Iterable[HardwareType], workers: Iterable[WorkerRow], launched: Iterable[LaunchedWorker]
) -> tuple[HardwareType, ...]:
    """Return the types, each with its living workers that the launcher did not start."""
    own, others = {one.worker for one in launched}, dict[str, list[str]]()
    for row in workers:
        if row.alive and not row.draining and row.name not in own:
            others.setdefault(row.hardware, []).append(row.name)
    return tuple(msgspec.structs.replace(one, others=tuple(others.get(one.name, ()))) for one in hardware)


def _wanted_workers(
    hardware: Iterable[HardwareType],
    wanted: Iterable[WantedWorkers],
    workers: Iterable[WorkerRow],
    launched: Iterable[LaunchedWorker],
) -> dict[str, int]:
    """Return the wanted number of workers by hardware; the present number where nothing was decided yet."""
    there = {one.worker: one.hardware for one in launched}
    there |= {row.name: row.hardware for row in workers if row.alive}
    present = dict.fromkeys((one.name for one in hardware), 0)
    for name in there.values():
        present[name] = present.get(name, 0) + 1
    return present | {row.hardware: row.count for row in wanted}


def bounds_of(pins: Iterable[Pin], min_workers: Mapping[str, int]) -> tuple[Pin, ...]:
    """Return the pinned bounds, with minimums of workers from the settings where none is pinned."""
    bounds = {(pin.kind, pin.name): pin for pin in pins}
    for hardware, setting in min_workers.items():
        pin = bounds.get((PinKind.HARDWARE, hardware), Pin(kind=PinKind.HARDWARE, name=hardware))
        if pin.minimum is None:
            # A pinned maximum below the setting has priority.
            minimum = setting if pin.maximum is None else min(setting, pin.maximum)
            bounds[PinKind.HARDWARE, hardware] = msgspec.structs.replace(pin, minimum=minimum)
    return tuple(bounds.values())


def with_lanes(waiting: Mapping[str, TopicBacklog], held: Mapping[str, int]) -> Mapping[str, TopicBacklog]:
    """Return the backlogs with the lag of lanes added to the offline topics of their tasks.

    Lanes mix the queries of all tasks. Their lag is divided in proportion to the queries of lanes that selectors hold,
    `held`.
    """
    lanes, total = waiting.get(LANES), sum(held.values())
    if lanes is None or not total:
        return waiting
    found = dict(waiting)
    for task, count in held.items():
        own, records = found.get(offline_topic(task)), round(lanes.records * count / total)
        if own is None or not own.records:
            found[offline_topic(task)] = TopicBacklog(records, lanes.age_s)
        else:
            age_s = None if own.age_s is None or lanes.age_s is None else max(own.age_s, lanes.age_s)
            found[offline_topic(task)] = TopicBacklog(own.records + records, age_s)
    return found


def backlogs_of(
    waiting: Mapping[str, TopicBacklog],
    tasks: Collection[str],
    variants: Iterable[Variant],
    mean_inputs: Mapping[str, float],
    dated: Collection[DatedWork] = (),
) -> tuple[Backlog, ...]:
    """Return the backlogs of these tasks and variants, in inputs.

    A query holds one or more inputs. The number of inputs in waiting queries is estimated by the mean of recent
    queries. Sent queries with a deadline are backlogs of their own, so the offline topic of their task counts without
    them. The few that wait in topics of variants count twice: selectors put a fraction of a second of work there.

    Args:
        waiting: waiting records, by topic.
        tasks: names of the tasks.
        variants: the variants of all tasks.
        mean_inputs: mean number of inputs in a query, by task; 1 if absent.
        dated: offline work with a deadline.
    """
    sent = Counter[str]()
    for work in dated:
        sent[offline_topic(work.task)] += work.sent
    topics: dict[str, tuple[str, str | None, bool]] = {}
    for task in tasks:
        topics[task_topic(task)] = (task, None, False)
        topics[offline_topic(task)] = (task, None, True)
    for variant in variants:
        topics[variant_topic(variant.name)] = (variant.task, variant.name, False)
        topics[offline_variant_topic(variant.name)] = (variant.task, variant.name, True)
    undated = tuple(
        Backlog(
            task=task,
            variant=variant,
            offline=offline,
            inputs=max(found.records - sent[topic], 0) * mean_inputs.get(task, 1.0),
            age_s=found.age_s,
        )
        for topic, found in waiting.items()
        if topic in topics
        for task, variant, offline in (topics[topic],)
    )
    return undated + tuple(
        Backlog(
            task=work.task,
            offline=True,
            inputs=(work.sent + work.unsent) * mean_inputs.get(work.task, 1.0),
            left_s=work.left_s,
        )
        for work in dated
        if work.task in tasks
    )
