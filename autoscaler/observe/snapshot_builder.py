"""Puts together what a decision is made from: rows, what was heard lately, what can be started, what people want."""

from collections.abc import Callable, Iterable, Mapping

import msgspec

from autoscaler.apply.worker_reconciler import WorkerReconciler
from autoscaler.decide.snapshot import ClusterSnapshot, DecisionMemory, HardwareType, ScaleBounds
from autoscaler.observe.load_window import LoadWindow
from autoscaler.observe.status_cache import WorkerStatusCache
from autoscaler.record.recorder import Recorder
from schemas.rows.placement import WorkerRow
from schemas.rows.scaling import Pin, PinKind, WantedWorkers
from store.catalog import Catalog
from store.cluster import read_cluster
from store.pool import Pool


class SnapshotBuilder:
    """Of one term of lead."""

    def __init__(
        self, pool: Pool, view: WorkerStatusCache, window: LoadWindow, recorder: Recorder, fleet: WorkerReconciler,
        min_workers: Mapping[str, int], *, can_add_partitions: bool, clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._pool = pool
        self._view = view
        self._window = window
        self._recorder = recorder
        self._fleet = fleet
        self._least_workers = min_workers
        self._can_add_partitions = can_add_partitions
        self._clock = clock
        self._runtimes: dict[str, tuple[str, ...]] = {}

    async def assess(self, catalog: Catalog, memory: DecisionMemory) -> ClusterSnapshot:
        """The situation now.

        Raises:
            StoreUnavailable: Postgres is away.
        """
        rows = await read_cluster(self._pool)
        now_s = self._clock()
        self._view.forget(catalog.variants, {row.name for row in rows.workers})
        self._window.forget(catalog.tasks, now_s)
        workers = self._view.judged(rows.workers)
        hardware = self._hardware(workers)
        return ClusterSnapshot(
            known=self._recorder.known and self._window.loads_known(now_s),
            workers=workers,
            instances=tuple(rows.instances),
            demand_age_s=self._view.demand_age_s(),
            idle_s=self._view.idle_s(),
            observed_s=self._view.observed_s,
            classes=self._window.class_loads(now_s),
            instance_loads=self._window.instance_loads(),
            worker_loads=self._window.worker_loads(),
            hardware=hardware,
            wanted_workers=self._wanted(hardware, rows.wanted, workers),
            bounds=bounds_of(rows.pins, self._least_workers),
            paused=rows.control.paused,
            can_add_partitions=self._can_add_partitions,
            history=self._window.history(),
            memory=memory,
        )

    def _hardware(self, workers: Iterable[WorkerRow]) -> tuple[HardwareType, ...]:
        """What can be started; where a launcher cannot know which runtimes there would be, as of the last worker."""
        self._runtimes |= {row.hardware: row.runtimes for row in workers}
        return tuple(
            kind if kind.runtimes else msgspec.structs.replace(kind, runtimes=self._runtimes.get(kind.name, ()))
            for kind in self._fleet.hardware
        )

    def _wanted(
        self, hardware: Iterable[HardwareType], wanted: Iterable[WantedWorkers], workers: Iterable[WorkerRow]
    ) -> dict[str, int]:
        """As written; of a hardware that nobody has decided on yet, those that there are."""
        there = {one.worker: one.hardware for one in self._fleet.launched}
        there |= {row.name: row.hardware for row in workers if row.alive}
        present = dict.fromkeys((kind.name for kind in hardware), 0)
        for kind in there.values():
            present[kind] = present.get(kind, 0) + 1
        return present | {row.hardware: row.count for row in wanted}


def bounds_of(pins: Iterable[Pin], min_workers: Mapping[str, int]) -> tuple[ScaleBounds, ...]:
    """What people pinned, and the least workers by the settings where nobody pinned a least."""
    bounds = {(pin.kind.value, pin.name): (pin.minimum, pin.maximum) for pin in pins}
    for hardware, setting in min_workers.items():
        minimum, maximum = bounds.get((PinKind.HARDWARE, hardware), (None, None))
        if minimum is None:
            # A most that somebody pinned below it goes before.
            bounds[PinKind.HARDWARE, hardware] = setting if maximum is None else min(setting, maximum), maximum
    return tuple(
        ScaleBounds(kind=kind, name=name, minimum=minimum, maximum=maximum)
        for (kind, name), (minimum, maximum) in bounds.items()
    )
