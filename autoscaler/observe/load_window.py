"""The recent past, as rates: what was asked by load class, what instances answered, how busy workers were.

Pure and plain data: it is fed with what selectors said and with readings of lag, each with the monotonic time at which
that was, and answers for the last seconds before a time; what workers said it asks of the status cache. Everything in
it is bounded by the window, by who spoke within it, and by the tasks and variants that they named.

* A selector's reports are lined up by their order, not by the clock: the latest of each make up the latest second. Cut
  into seconds of our own clock, two reports would at times fall into one second and show a peak that never was.
* A selector that fell silent counts by the age of what it last said. When all are silent the load is unknown, which is
  not zero: `loads_known` says so.
* A selector counts the inputs that headers claim. What a worker finds not to be there is taken off what selectors
  report next of the same class, down to one input a query.
* Rates of instances and workers come from cumulative counters, over the time between the oldest and the latest status
  that the cache keeps.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from autoscaler.decide.snapshot import ClassLoad, InstanceLoad, WorkerLoad
from autoscaler.observe.status_cache import ReceivedStatus, WorkerStatusCache
from schemas.load_classes import ClassAnswers, ClassCount, LoadClass, SelectorLoad
from schemas.status import InstanceState, InstanceStatus

WINDOW_S: Final = 10
HISTORY_S: Final = 900
SILENT_S: Final = 3.0
_SPACING_S: Final = 0.9
"""Between two statuses that are kept; workers speak ten times a second while they have queries."""

_KEPT_SHARE: Final = 0.9
"""Share for which what was counted before counts beside a second's queries."""

_Counts = TypeVar("_Counts", ClassCount, ClassAnswers)


class _Sums:
    """Load of one class over the window, by second; the latest is the first."""

    __slots__ = ("inputs", "queries")

    def __init__(self, seconds: int) -> None:
        self.inputs = [0.0] * seconds
        self.queries = 0.0


class _QuerySizes:
    """Recent queries of a task and their inputs; what is older counts for less."""

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
    """Load of the last seconds, during one term of lead.

    Times are of the clock of `statuses`, and never run backwards from call to call.
    """

    def __init__(self, statuses: WorkerStatusCache, seconds: int = WINDOW_S, history_s: int = HISTORY_S) -> None:
        self._statuses = statuses
        self._seconds = seconds
        self._history_s = history_s
        self._reports: dict[str, deque[_Report]] = {}
        self._query_sizes: dict[str, _QuerySizes] = {}
        self._history: dict[str, deque[float]] = {}
        self._first_s: float | None = None
        self._arrived: dict[LoadClass, ClassCount] = {}
        self._answered: dict[LoadClass, ClassAnswers] = {}
        self._unfounded: dict[LoadClass, int] = {}
        """Inputs, by class without its tenants, that were counted, were not there, and are still to be taken off."""

    # -- what comes in -------------------------------------------------------------------------------------------------

    def on_load(self, load: SelectorLoad, now_s: float) -> None:
        """Take in what a selector was asked in the last second."""
        if self._first_s is None:
            self._first_s = now_s
        if self._unfounded:
            load = msgspec.structs.replace(load, classes=tuple(map(self._without_unfounded, load.classes)))
        reports = self._reports.setdefault(load.selector, deque(maxlen=self._seconds))
        before = reports[-1].load.at_ms if reports else load.at_ms - 1000
        # By the broker's clock; where that was set, or the selector restarted, it is taken to have meant a second.
        covers_s = (load.at_ms - before) / 1000
        reports.append(_Report(now_s, covers_s if 0.5 <= covers_s <= 2 * SILENT_S else 1.0, load))
        _add(self._arrived, load.classes)
        for count in load.classes:
            if count.queries:
                self._query_sizes.setdefault(count.load_class.task, _QuerySizes()).add(count)

    def on_answers(self, answers: Iterable[ClassAnswers]) -> None:
        """Take in what a worker has answered since it last spoke."""
        answered = tuple(answers)
        _add(self._answered, answered)
        for count in answered:
            if count.unfounded:
                self._unfounded[count.load_class] = self._unfounded.get(count.load_class, 0) + count.unfounded

    def _without_unfounded(self, count: ClassCount) -> ClassCount:
        """A count of a selector less what workers found not to be there."""
        of_all = _of_all_tenants(count.load_class)
        taken = min(self._unfounded.get(of_all, 0), max(count.inputs - count.queries, 0))
        if not taken:
            return count
        self._unfounded[of_all] -= taken
        if not self._unfounded[of_all]:
            del self._unfounded[of_all]
        return msgspec.structs.replace(count, inputs=count.inputs - taken)

    def tick(self, now_s: float) -> None:
        """Add the present load of each task to its history, if it is known; to be called each second."""
        if not self.loads_known(now_s):
            return
        present = dict.fromkeys(self._history, 0.0)
        for load_class, sums in self._sums(now_s).items():
            present[load_class.task] = present.get(load_class.task, 0.0) + sums.inputs[0]
        for task, inputs_per_s in present.items():
            self._history.setdefault(task, deque(maxlen=self._history_s)).append(inputs_per_s)

    def restore_history(self, history: Mapping[str, Iterable[float]]) -> None:
        """Begin with the history that an earlier leader recorded: inputs a second by task, the latest last."""
        for task, inputs_per_s in history.items():
            self._history[task] = deque(inputs_per_s, maxlen=self._history_s)

    def forget(self, tasks: Iterable[str], now_s: float) -> None:
        """Forget all but the history of these tasks and the selectors that spoke within the window."""
        kept = set(tasks)
        self._history = {task: past for task, past in self._history.items() if task in kept}
        self._query_sizes = {task: sizes for task, sizes in self._query_sizes.items() if task in kept}
        self._unfounded = {known: count for known, count in self._unfounded.items() if known.task in kept}
        self._reports = {n: r for n, r in self._reports.items() if now_s - r[-1].at_s <= self._seconds}

    def take_arrivals(self) -> list[ClassCount]:
        """Return and forget what was asked since the last call; bounded by how coarse the classes are."""
        arrived, self._arrived = list(self._arrived.values()), {}
        return arrived

    def take_answers(self) -> list[ClassAnswers]:
        """Return and forget what was answered since the last call; bounded likewise."""
        answered, self._answered = list(self._answered.values()), {}
        return answered

    # -- what it shows -------------------------------------------------------------------------------------------------

    def loads_known(self, now_s: float) -> bool:
        """Whether the load is known: not when there were selectors, and none has spoken lately."""
        return self._first_s is None or self.has_selectors(now_s)

    def has_selectors(self, now_s: float) -> bool:
        """Whether any selector spoke lately."""
        return self.selector_count(now_s) > 0

    def selector_count(self, now_s: float) -> int:
        """Number of selectors that spoke lately."""
        return sum(now_s - reports[-1].at_s <= SILENT_S for reports in self._reports.values())

    def class_loads(self, now_s: float) -> tuple[ClassLoad, ...]:
        """Load of each class that was asked for in the window."""
        seen_s = min(self._seconds, int(now_s - (self._first_s if self._first_s is not None else now_s)) + 1)
        return tuple(
            ClassLoad(
                load_class=load_class,
                inputs_per_s=sum(sums.inputs) / seen_s,
                peak_per_s=max(sums.inputs),
                mean_batch=sum(sums.inputs) / sums.queries,
            )
            for load_class, sums in self._sums(now_s).items()
            if sums.queries
        )

    def lanes(self, now_s: float) -> dict[str, int]:
        """Offline queries that selectors which spoke lately hold of lanes, by task."""
        found = dict[str, int]()
        for reports in self._reports.values():
            if now_s - reports[-1].at_s <= SILENT_S:
                for task, count in reports[-1].load.lanes.items():
                    found[task] = found.get(task, 0) + count
        return found

    def instance_loads(self) -> tuple[InstanceLoad, ...]:
        """Load of each instance whose worker spoke lately."""
        return tuple(
            self._instance_load(worker, received, instance)
            for worker, received in self._statuses.histories()
            for instance in received[-1].status.instances
        )

    def worker_loads(self) -> tuple[WorkerLoad, ...]:
        """Load of each worker that spoke lately."""
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
        """Mean number of inputs in a recent query, by task; of those that were asked for since this began."""
        return {task: sizes.inputs / sizes.queries for task, sizes in self._query_sizes.items()}

    def history(self) -> dict[str, tuple[float, ...]]:
        """Inputs a second of each task, one value a second, the latest last."""
        return {task: tuple(past) for task, past in self._history.items()}

    def _sums(self, now_s: float) -> dict[LoadClass, _Sums]:
        found: dict[LoadClass, _Sums] = {}
        for reports in self._reports.values():
            # A report is due each second; one that is late has not made the selector idle.
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
        # The oldest status of this life of the instance: one that was loaded again began to count anew.
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
            batch_size=instance.batch_size,
        )


def _of_all_tenants(load_class: LoadClass) -> LoadClass:
    return load_class if load_class.tenant is None else msgspec.structs.replace(load_class, tenant=None)


def _add(sums: dict[LoadClass, _Counts], counts: Iterable[_Counts]) -> None:
    """Add counts, of whichever tenants: who answers does not know whose they are."""
    for count in counts:
        load_class = _of_all_tenants(count.load_class)
        of_all = count if load_class is count.load_class else msgspec.structs.replace(count, load_class=load_class)
        known = sums.get(of_all.load_class)
        sums[of_all.load_class] = of_all if known is None else _sum(known, of_all)


def _sum(one: _Counts, other: _Counts) -> _Counts:
    names = one.__struct_fields__[1:]
    return msgspec.structs.replace(one, **{name: getattr(one, name) + getattr(other, name) for name in names})
