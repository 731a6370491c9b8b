"""Recent load as rates: queries by load class, answers by instance, utilisation by worker.

Pure data. It is fed with reports of selectors and answers of workers, with monotonic times, and returns rates of the
last seconds before a time. Statuses of workers are read from the status cache. Memory is bounded by the window, by the
selectors that reported in it, and by the tasks and variants that they named.

* Reports of a selector are aligned by their order, not by the clock: the latest reports of all selectors form the
  latest second. Aligned by our clock, two reports would sometimes fall into one second and show a false peak.
* A silent selector counts with its last report, moved back by its age. When all selectors are silent the load is
  unknown, which is not zero: see `loads_known`.
* Selectors count the inputs that headers claim. Inputs that a worker finds missing are subtracted from later reports of
  the same class, down to one input per query.
* A class without queries in the window is remembered for `REMEMBERED_S`, at the rate of its queries in the time since.
  Otherwise a rare class would be a requirement in some decisions only: the cheapest fleet would alternate, and the
  delays of scaling would keep the workers of both.
* The peak of a class is the third-busiest second of the last minute. A burst of two seconds is over before a worker has
  started for it, and counts if it comes again. A minute covers the start of a worker: a shorter memory leaves workers
  that were ordered for a peak without the instances for it.
* Rates of instances and workers come from cumulative counters, between the oldest and the latest status in the cache.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from heapq import nlargest
from typing import Final, TypeVar

import msgspec

from autoscaler.decide.expected_load import TREND_S
from autoscaler.decide.snapshot import ClassLoad, InstanceLoad, WorkerLoad
from autoscaler.observe.status_cache import ReceivedStatus, WorkerStatusCache
from schemas.load_classes import ClassAnswers, ClassCount, LoadClass, SelectorLoad
from schemas.status import InstanceState, InstanceStatus

WINDOW_S: Final = 10
PEAK_S: Final = 60
SILENT_S: Final = 3.0
REMEMBERED_S: Final = 300.0
_PEAK_RANK: Final = 3
"""Place of the second whose rate counts as the peak, among those of `PEAK_S` from the busiest on."""
_KEPT_SHARE: Final = 0.9
"""Weight of earlier counts against those of the latest second."""

_Counts = TypeVar("_Counts", ClassCount, ClassAnswers)


class _Sums:
    """Load of one class over the window, by second, the latest first."""

    __slots__ = ("inputs", "queries")

    def __init__(self, seconds: int) -> None:
        self.inputs = [0.0] * seconds
        self.queries = 0.0


class _QuerySizes:
    """Queries of a task and their inputs, with exponential decay."""

    __slots__ = ("inputs", "queries")

    def __init__(self) -> None:
        self.inputs = self.queries = 0.0

    def add(self, count: ClassCount) -> None:
        self.inputs = _KEPT_SHARE * self.inputs + count.inputs
        self.queries = _KEPT_SHARE * self.queries + count.queries


class _Report(msgspec.Struct, frozen=True):
    at_s: float
    covers_s: float
    load: SelectorLoad


class LoadWindow:
    """Load of the last seconds, during one term of leadership.

    Times are of the clock of `statuses` and must not decrease from call to call.
    """

    def __init__(self, statuses: WorkerStatusCache, seconds: int = WINDOW_S) -> None:
        self._statuses = statuses
        self._seconds = seconds
        self._reports: dict[str, deque[_Report]] = {}
        self._query_sizes: dict[str, _QuerySizes] = {}
        self._history: dict[str, deque[float]] = {}
        self._rates: dict[LoadClass, deque[float]] = {}
        """Inputs a second of each class, one value a second, the latest last."""
        self._first_s: float | None = None
        self._arrived: dict[LoadClass, ClassCount] = {}
        self._answered: dict[LoadClass, ClassAnswers] = {}
        self._last: dict[LoadClass, tuple[float, ClassLoad]] = {}
        """Last load of each remembered class, and its time."""
        self._unfounded: dict[LoadClass, int] = {}
        """Counted inputs that workers found missing and that are not subtracted yet, by class without tenants."""

    # -- what comes in -------------------------------------------------------------------------------------------------

    def on_load(self, load: SelectorLoad, now_s: float) -> None:
        """Add a selector's report of the last second."""
        if self._first_s is None:
            self._first_s = now_s
        if self._unfounded:
            load = msgspec.structs.replace(load, classes=tuple(map(self._without_unfounded, load.classes)))
        reports = self._reports.setdefault(load.selector, deque(maxlen=self._seconds))
        before = reports[-1].load.at_ms if reports else load.at_ms - 1000
        # Measured by the broker's clock. After a clock change or a restart of the selector, one second is assumed.
        covers_s = (load.at_ms - before) / 1000
        reports.append(_Report(now_s, covers_s if 0.5 <= covers_s <= 2 * SILENT_S else 1.0, load))
        _add(self._arrived, load.classes)
        for count in load.classes:
            if count.queries:
                self._query_sizes.setdefault(count.load_class.task, _QuerySizes()).add(count)

    def on_answers(self, answers: Iterable[ClassAnswers]) -> None:
        """Add a worker's answers since its last status."""
        answered = tuple(answers)
        _add(self._answered, answered)
        for count in answered:
            if count.unfounded:
                self._unfounded[count.load_class] = self._unfounded.get(count.load_class, 0) + count.unfounded

    def _without_unfounded(self, count: ClassCount) -> ClassCount:
        """Return a selector's count without the inputs that workers found missing."""
        of_all = _of_all_tenants(count.load_class)
        taken = min(self._unfounded.get(of_all, 0), max(count.inputs - count.queries, 0))
        if not taken:
            return count
        self._unfounded[of_all] -= taken
        if not self._unfounded[of_all]:
            del self._unfounded[of_all]
        return msgspec.structs.replace(count, inputs=count.inputs - taken)

    def tick(self, now_s: float) -> None:
        """Add the present load of each class and task to what is remembered, if it is known. Call it once a second."""
        if not self.loads_known(now_s):
            return
        by_task, by_class = dict.fromkeys(self._history, 0.0), dict.fromkeys(self._rates, 0.0)
        for load_class, sums in self._sums(now_s).items():
            by_task[load_class.task] = by_task.get(load_class.task, 0.0) + sums.inputs[0]
            by_class[load_class] = sums.inputs[0]
        for task, inputs_per_s in by_task.items():
            self._history.setdefault(task, deque(maxlen=TREND_S)).append(inputs_per_s)
        for load_class, inputs_per_s in by_class.items():
            self._rates.setdefault(load_class, deque(maxlen=PEAK_S)).append(inputs_per_s)
        self._rates = {load_class: rates for load_class, rates in self._rates.items() if any(rates)}

    def forget(self, tasks: Iterable[str], now_s: float) -> None:
        """Drop all but the history of these tasks and the selectors that reported within the window."""
        kept = set(tasks)
        self._history = {task: past for task, past in self._history.items() if task in kept}
        self._query_sizes = {task: sizes for task, sizes in self._query_sizes.items() if task in kept}
        self._unfounded = {known: count for known, count in self._unfounded.items() if known.task in kept}
        self._last = {known: last for known, last in self._last.items() if known.task in kept}
        self._rates = {known: rates for known, rates in self._rates.items() if known.task in kept}
        self._reports = {n: r for n, r in self._reports.items() if now_s - r[-1].at_s <= self._seconds}

    def take_arrivals(self) -> list[ClassCount]:
        """Return and clear the queries counted since the last call; bounded by the number of load classes."""
        arrived, self._arrived = list(self._arrived.values()), {}
        return arrived

    def take_answers(self) -> list[ClassAnswers]:
        """Return and clear the answers counted since the last call; bounded by the number of load classes."""
        answered, self._answered = list(self._answered.values()), {}
        return answered

    # -- what it shows -------------------------------------------------------------------------------------------------

    def loads_known(self, now_s: float) -> bool:
        """Return true if the load is known: if a selector reported recently, or none ever did."""
        return self._first_s is None or self.has_selectors(now_s)

    def has_selectors(self, now_s: float) -> bool:
        """Return true if any selector reported recently."""
        return self.selector_count(now_s) > 0

    def selector_count(self, now_s: float) -> int:
        """Return the number of selectors that reported recently."""
        return sum(now_s - reports[-1].at_s <= SILENT_S for reports in self._reports.values())

    def class_loads(self, now_s: float) -> tuple[ClassLoad, ...]:
        """Return the load of each class with queries in the window, and of each remembered class."""
        seen_s = min(self._seconds, int(now_s - (self._first_s if self._first_s is not None else now_s)) + 1)
        present = {
            load_class: ClassLoad(
                load_class=load_class,
                inputs_per_s=sum(sums.inputs) / seen_s,
                peak_per_s=self._peak(load_class),
                mean_batch=sum(sums.inputs) / sums.queries,
            )
            for load_class, sums in self._sums(now_s).items()
            if sums.queries
        }
        last = {name: last for name, last in self._last.items() if now_s - last[0] < REMEMBERED_S}
        remembered = [
            msgspec.structs.replace(_remembered(load, now_s - at_s, self._seconds), peak_per_s=self._peak(name))
            for name, (at_s, load) in last.items()
            if name not in present
        ]
        self._last = last | {name: (now_s, load) for name, load in present.items()}
        return (*present.values(), *remembered)

    def _peak(self, load_class: LoadClass) -> float:
        """Return the rate of the class's third-busiest second of the last minute; 0 before it has three."""
        busiest = nlargest(_PEAK_RANK, self._rates.get(load_class, ()))
        return busiest[-1] if len(busiest) == _PEAK_RANK else 0.0

    def lanes(self, now_s: float) -> dict[str, int]:
        """Return the offline queries of lanes that active selectors hold, by task."""
        found = dict[str, int]()
        for reports in self._reports.values():
            if now_s - reports[-1].at_s <= SILENT_S:
                for task, count in reports[-1].load.lanes.items():
                    found[task] = found.get(task, 0) + count
        return found

    def instance_loads(self) -> tuple[InstanceLoad, ...]:
        """Return the load of each instance whose worker sent a recent status."""
        return tuple(
            self._instance_load(worker, received, instance)
            for worker, received in self._statuses.histories()
            for instance in received[-1].status.instances
        )

    def worker_loads(self) -> tuple[WorkerLoad, ...]:
        """Return the load of each worker that sent a recent status."""
        found: list[WorkerLoad] = []
        for worker, received in self._statuses.histories():
            status, passed_s = received[-1].status, received[-1].at_s - received[0].at_s
            busy_s = status.busy_s - received[0].status.busy_s
            interfered = any(i.state is InstanceState.INTERFERED for i in status.instances)
            utilisation = min(busy_s / (status.slots * passed_s), 1.0) if passed_s > 0 else 0.0
            found.append(WorkerLoad(worker=worker, utilisation=utilisation, memory_used=status.memory_used,
                                    interfered=interfered))  # fmt: skip
        return tuple(found)

    def mean_inputs(self) -> dict[str, float]:
        """Return the mean number of inputs in a recent query, by task."""
        return {task: sizes.inputs / sizes.queries for task, sizes in self._query_sizes.items()}

    def history(self) -> dict[str, tuple[float, ...]]:
        """Return the recent inputs a second of each task, one value a second, the latest last."""
        return {task: tuple(past) for task, past in self._history.items()}

    def _sums(self, now_s: float) -> dict[LoadClass, _Sums]:
        found: dict[LoadClass, _Sums] = {}
        for reports in self._reports.values():
            # A report is due each second; a late one does not mean that the selector is idle.
            late = int(max(now_s - reports[-1].at_s - 1.0, 0.0))
            for second, report in enumerate(reversed(reports), start=late):
                if second >= self._seconds:
                    break
                for count in report.load.classes:
                    sums = found.setdefault(count.load_class, _Sums(self._seconds))
                    sums.inputs[second] += count.inputs / report.covers_s
                    sums.queries += count.queries / report.covers_s
        return found

    def _instance_load(self, worker: str, received: Sequence[ReceivedStatus], instance: InstanceStatus) -> InstanceLoad:
        # Start at the oldest status of this load of the instance: counters restart when it is loaded again.
        at_s, before = next(
            (h.at_s, found)
            for h in received
            if (found := h.instances.get(instance.variant)) is not None and found.answered <= instance.answered
        )
        passed_s = received[-1].at_s - at_s
        return InstanceLoad(
            variant=instance.variant,
            worker=worker,
            state=instance.state,
            inputs_per_s=(instance.inputs - before.inputs) / passed_s if passed_s > 0 else 0.0,
            slowdown=instance.slowdown,
            correction=instance.correction,
            answer_lengths=instance.answer_lengths,
        )


def _remembered(load: ClassLoad, age_s: float, window_s: float) -> ClassLoad:
    """Return the load of a class whose last queries left the window `age_s` ago."""
    inputs_per_s = load.inputs_per_s * window_s / (window_s + age_s)
    return msgspec.structs.replace(load, inputs_per_s=inputs_per_s, age_s=age_s)


def _of_all_tenants(load_class: LoadClass) -> LoadClass:
    return load_class if load_class.tenant is None else msgspec.structs.replace(load_class, tenant=None)


def _add(sums: dict[LoadClass, _Counts], counts: Iterable[_Counts]) -> None:
    """Add counts, summed over tenants, because workers do not know a query's tenant."""
    for count in counts:
        load_class = _of_all_tenants(count.load_class)
        of_all = count if load_class is count.load_class else msgspec.structs.replace(count, load_class=load_class)
        known = sums.get(of_all.load_class)
        sums[of_all.load_class] = of_all if known is None else _sum(known, of_all)


def _sum(one: _Counts, other: _Counts) -> _Counts:
    names = one.__struct_fields__[1:]
    return msgspec.structs.replace(one, **{name: getattr(one, name) + getattr(other, name) for name in names})
