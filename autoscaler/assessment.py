"""Puts together what a decision is made from: rows, what was heard lately, what can be started, what people want."""

from collections.abc import Callable, Iterable, Mapping

import msgspec

from autoscaler.decide.situation import Bounds, HardwareType, Memory, Situation
from autoscaler.fleet import FleetKeeper
from autoscaler.observe import Recorder
from autoscaler.view import View
from autoscaler.window import Window
from schemas.rows.placement import WorkerRow
from schemas.rows.scaling import Pin, PinKind, WantedWorkers
from store.catalog import Catalog
from store.cluster import read_cluster
from store.pool import Pool


class Assessor:
    """Of one term of lead."""

    def __init__(
        self, pool: Pool, view: View, window: Window, recorder: Recorder, fleet: FleetKeeper,
        least_workers: Mapping[str, int], *, can_add_partitions: bool, clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._pool = pool
        self._view = view
        self._window = window
        self._recorder = recorder
        self._fleet = fleet
        self._least_workers = least_workers
        self._can_add_partitions = can_add_partitions
        self._clock = clock
        self._runtimes: dict[str, tuple[str, ...]] = {}

    async def assess(self, catalog: Catalog, memory: Memory) -> Situation:
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
        return Situation(
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


def bounds_of(pins: Iterable[Pin], least_workers: Mapping[str, int]) -> tuple[Bounds, ...]:
    """What people pinned, and the least workers by the settings where nobody pinned a least."""
    bounds = {(pin.kind.value, pin.name): (pin.least, pin.most) for pin in pins}
    for hardware, setting in least_workers.items():
        least, most = bounds.get((PinKind.HARDWARE, hardware), (None, None))
        if least is None:
            # A most that somebody pinned below it goes before.
            bounds[PinKind.HARDWARE, hardware] = setting if most is None else min(setting, most), most
    return tuple(Bounds(kind=kind, name=name, least=least, most=most) for (kind, name), (least, most) in bounds.items())
