"""Work of one instance of either kind: the inputs that it holds, its measures, its state and its status. Pure.

Rules.
* The backlog holds the inputs that were read and not answered. A new query waits behind them.
* The state follows from the measures of a period of a second, and from the online inputs that wait at its end.
* Times are seconds of one monotonic clock.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from schemas.answer_lengths import LengthCount
from schemas.latency import LatencyModel
from schemas.status import InstanceState, InstanceStatus, PartitionStatus
from workers.serving.health import BatchMeter, HealthReading, next_state
from workers.slots.batch_queue import WaitingBatches

_PERIOD_S: Final = 1.0

K = TypeVar("K", bound=Hashable)


class _Held(NamedTuple):
    """Inputs of one query, by kind of work."""

    online: int = 0
    large: int = 0
    """Inputs of a large online query; other online work is computed between its pieces."""
    offline: int = 0


_NOTHING: Final = _Held()


class InstanceBacklog(Generic[K]):
    """Inputs that one instance holds, by the key of their query."""

    def __init__(self) -> None:
        self._held: dict[K, _Held] = {}
        self.online = 0
        """Inputs of online queries that are not large."""
        self.large = 0
        self.large_queries = 0
        self.offline = 0

    def add(self, key: K, inputs: int, *, large: bool, offline: bool) -> None:
        """Count the inputs of a query that was read."""
        held = _Held(offline=inputs) if offline else _Held(large=inputs) if large else _Held(inputs)
        self._held[key] = held
        self._count(held, 1)

    def remove(self, key: K) -> None:
        """Remove a query that is done; no-op if it was removed before."""
        self._count(self._held.pop(key, _NOTHING), -1)

    def remove_matching(self, matches: Callable[[K], bool]) -> None:
        """Remove all queries whose keys match, because another worker owns them now."""
        for key in [key for key in self._held if matches(key)]:
            self.remove(key)

    def _count(self, held: _Held, sign: int) -> None:
        self.online += sign * held.online
        self.offline += sign * held.offline
        if held.large:
            self.large += sign * held.large
            self.large_queries += sign


class AnswerCounts(Protocol):
    """Numbers of answers of one instance since it was loaded, as in `InstanceStatus`."""

    answered: int
    inputs: int
    late: int
    expired: int


class MeasuredWork(ABC, Generic[K]):
    """Backlog, measures and state of one instance that serves. Subclasses have the queue."""

    def __init__(self, now_s: float, *, parallel: int, even: bool) -> None:
        """Begin at `now_s`.

        Args:
            now_s: present time.
            parallel: maximum number of its batches that compute at the same time.
            even: true if batches of one size take about the same time.
        """
        self.backlog: InstanceBacklog[K] = InstanceBacklog()
        self.meter = BatchMeter(even=even)
        self.state = InstanceState.ACTIVE
        self._parallel = parallel
        self._period_began_s = now_s

    @property
    @abstractmethod
    def latency(self) -> LatencyModel:
        """Latency model of its predictions."""

    @property
    @abstractmethod
    def online_waiting(self) -> int:
        """Online inputs that were read and wait for their computation; those of large queries do not count."""

    @property
    def answer_lengths(self) -> tuple[LengthCount, ...]:
        """Recent answers by length; those of tensors have none."""
        return ()

    @abstractmethod
    def waiting_batches(self) -> list[WaitingBatches]:
        """Return the batches that the waiting online queries make."""

    def update_health(self, now_s: float, unread: int) -> None:
        """Update the state once per period; `unread`: online queries that wait in its topic."""
        elapsed = now_s - self._period_began_s
        if elapsed < _PERIOD_S:
            return
        meter, input_s = self.meter, self.latency.input_s() / self._parallel
        meter.end_period(elapsed, input_s)
        self._period_began_s = now_s
        online = self.online_waiting + unread * meter.online_per_query
        self.state = next_state(self.state, HealthReading(meter.slowdown, meter.load, online * input_s))

    def status(
        self,
        variant: str,
        answers: AnswerCounts,
        *,
        partitions: Sequence[PartitionStatus],
        offline_partitions: Sequence[PartitionStatus],
        queued: int,
    ) -> InstanceStatus:
        """Return the status of the instance.

        Args:
            variant: name of its variant.
            answers: its answers so far.
            partitions: its partitions of the topic of online queries.
            offline_partitions: its partitions of the topic of offline queries.
            queued: queries that were fetched and not yet answered.
        """
        meter, backlog, latency = self.meter, self.backlog, self.latency
        return InstanceStatus(
            variant=variant,
            state=self.state,
            partitions=tuple(partitions),
            offline_partitions=tuple(offline_partitions),
            queued=queued,
            queued_inputs=backlog.online + backlog.large + backlog.offline,
            queued_offline_inputs=backlog.offline,
            max_batch=latency.max_batch,
            parallel=self._parallel,
            batch_size=meter.batch_size,
            batch_s=meter.batch_s,
            slowdown=meter.slowdown,
            correction=latency.correction,
            answered=answers.answered,
            inputs=answers.inputs,
            late=answers.late,
            expired=answers.expired,
            answer_lengths=self.answer_lengths,
        )
