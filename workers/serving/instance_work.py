"""Work of one instance: its queue, the inputs that it holds, and the measures of its batches. Pure.

    arrived (a query was read) -> queue.add -> next_batch -> computed (a batch has ended) -> backlog.remove (answered)

Rules.
* The backlog holds the inputs that were read and not answered. A new query waits behind them.
* The slowdown of a batch includes the effect of its inputs' lengths. Predictions add that effect themselves, so the
  queue's slowdown is without it.
* Times are seconds of one monotonic clock, the same as that of the deadlines.

The caller guards `queue`, and calls of `next_batch`, with the lock of the executor. The rest belongs to one thread.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from schemas.latency import LatencyModel
from schemas.status import InstanceState, InstanceStatus, PartitionStatus
from workers.serving.health import BatchMeter, HealthReading, next_state
from workers.serving.offline_throttle import OfflineThrottle, QueuedInputs
from workers.slots.batch_queue import BatchQueue, NextBatch, WaitingBatches, batch_s, inputs_by_urgency
from workers.slots.footprint import Footprint
from workers.slots.large_queries import W

_PERIOD_S: Final = 1.0
_LENGTH_WEIGHT: Final = 0.2
"""Weight of a batch in the mean length factor."""
_LEAST_FACTOR: Final = 0.01

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


class InstanceWork(Generic[K, W]):
    """Work and health of one instance that serves."""

    def __init__(self, queue: BatchQueue[W], footprint: Footprint, now_s: float, *, lengths_vary: bool) -> None:
        """Begin at `now_s` with an empty queue; `lengths_vary`: the time of an input depends on its length."""
        self.queue = queue
        self.footprint = footprint
        self.backlog: InstanceBacklog[K] = InstanceBacklog()
        self.meter = BatchMeter(even=queue.latency.is_even)
        self.throttle = OfflineThrottle()
        self.state = InstanceState.ACTIVE
        self._length_factor = 1.0  # mean of recent length factors; the measured slowdown includes it
        self._lengths_vary = lengths_vary
        self._period_began_s = now_s

    @property
    def latency(self) -> LatencyModel:
        """Latency model of its predictions."""
        return self.queue.latency

    def use_latency_model(self, latency: LatencyModel, *, lengths_vary: bool) -> None:
        """Predict by this latency model from now on."""
        self.queue.use_latency_model(latency)
        self._lengths_vary = lengths_vary

    def arrived(self, key: K, inputs: int, *, large: bool, offline: bool) -> None:
        """Count a query that was read."""
        self.backlog.add(key, inputs, large=large, offline=offline)
        self.meter.arrived(0 if large or offline else inputs)

    @property
    def slowdown(self) -> float:
        """Current over predicted latency, without the effect of input lengths."""
        if not self._lengths_vary:
            return self.meter.slowdown
        return max(self.meter.slowdown / self._length_factor, 1.0)

    def next_batch(self, slots: int, now_s: float) -> NextBatch[W]:
        """Take the next batch, and all expired work, out of the queue; `slots` batches may begin now."""
        return self.queue.next_batch(now_s, self.slowdown, slots)

    def predicted_s(self, batch: Sequence[W]) -> float:
        """Return the seconds that a batch is predicted to take at present."""
        return batch_s(self.latency, batch, self.slowdown)

    def computed(
        self, batch: Sequence[W], seconds: float, now_s: float, *, slot: int, consecutive: bool, left: bool
    ) -> float:
        """Record a batch of queries that are not large.

        Args:
            batch: its work, not empty.
            seconds: measured seconds.
            now_s: time of its answers.
            slot: slot that computed it.
            consecutive: true if the slot computed nothing of another instance since this instance's previous batch.
            left: true if online work of this instance is left, in the queue or unread.

        Returns:
            The seconds that the profile predicts for inputs of such lengths.
        """
        inputs = sum([work.inputs for work in batch])
        predicted_s, longest = self.latency.batch_s(inputs), 1.0
        if self._lengths_vary:
            extra_s = inputs * max(work.extra_s for work in batch)
            longest = max(1.0 + extra_s / predicted_s, _LEAST_FACTOR)
            self._length_factor += _LENGTH_WEIGHT * (longest - self._length_factor)
        # Offline work waits for online work, so the time between its batches is no measure of the queue.
        left = left and not batch[0].offline
        self.meter.computed(inputs, seconds, predicted_s, now_s, left=left, slot=slot, consecutive=consecutive)
        return predicted_s * longest

    def offline_room(self, now_s: float, *, online: bool) -> int:
        """Return the number of offline queries to read now; `online`: online queries are expected."""
        queued = QueuedInputs(self.queue.online_inputs + self.queue.large_inputs, self.queue.offline_inputs)
        enough = self.footprint.parallel * self.queue.best_batch  # inputs that keep all slots of this instance busy
        return self.throttle.room(queued, enough, online=online, now_s=now_s)

    def waiting_batches(self) -> list[WaitingBatches]:
        """Return the batches that the waiting online queries make."""
        return self.queue.online_batches(self.meter.slowdown, self.footprint.width)

    def update_health(self, now_s: float, unread: int) -> None:
        """Update the state once per period; `unread`: online queries that wait in its topic."""
        elapsed = now_s - self._period_began_s
        if elapsed < _PERIOD_S:
            return
        meter, input_s = self.meter, self.latency.input_s() / self.footprint.parallel
        meter.end_period(elapsed, input_s)
        self._period_began_s = now_s
        online = self.queue.online_inputs + unread * meter.online_per_query
        self.state = next_state(self.state, HealthReading(meter.slowdown, meter.load, online * input_s))

    def status(
        self,
        variant: str,
        answers: AnswerCounts,
        *,
        partitions: Sequence[PartitionStatus],
        offline_partitions: Sequence[PartitionStatus],
        queued: int,
        waiting: Iterable[W],
        done_inputs: float,
        now_s: float,
    ) -> InstanceStatus:
        """Return the status of the instance.

        Args:
            variant: name of its variant.
            answers: its answers so far.
            partitions: its partitions of the topic of online queries.
            offline_partitions: its partitions of the topic of offline queries.
            queued: queries that were fetched and not yet answered.
            waiting: the waiting online work of the queue.
            done_inputs: inputs of batches under way that should be computed by now.
            now_s: present time.
        """
        meter, backlog = self.meter, self.backlog
        return InstanceStatus(
            variant=variant,
            state=self.state,
            partitions=tuple(partitions),
            offline_partitions=tuple(offline_partitions),
            queued=queued,
            queued_inputs=backlog.online + backlog.large + backlog.offline,
            queued_offline_inputs=backlog.offline,
            queued_large=backlog.large_queries,
            queued_large_inputs=backlog.large,
            large_factor=meter.large_factor,
            waiting_inputs=inputs_by_urgency(waiting, now_s),
            done_inputs=done_inputs,
            max_batch=self.latency.max_batch,
            parallel=self.footprint.parallel,
            batch_size=meter.batch_size,
            batch_s=meter.batch_s,
            slowdown=meter.slowdown,
            correction=self.latency.correction,
            queue_slowdown=meter.queue_slowdown,
            answered=answers.answered,
            inputs=answers.inputs,
            late=answers.late,
            expired=answers.expired,
        )
