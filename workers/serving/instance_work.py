"""Work of one instance that computes batches: its queue, its pace of offline queries, and its measures. Pure.

    arrived (a query was read) -> queue.add -> next_batch -> computed (a batch has ended) -> backlog.remove (answered)

Rules.
* The slowdown of a batch includes the effect of its inputs' lengths. Predictions add that effect themselves, so the
  queue's slowdown is without it.
* Times are seconds of one monotonic clock, the same as that of the deadlines.

The caller guards `queue`, and calls of `next_batch`, with the lock of the executor. The rest belongs to one thread.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Generic

from msgspec.structs import replace

from schemas.latency import LatencyModel
from schemas.status import InstanceStatus
from workers.serving.measured_work import K, MeasuredWork
from workers.serving.offline_throttle import OfflineThrottle, QueuedInputs
from workers.slots.batch_queue import BatchQueue, NextBatch, WaitingBatches, batch_s, inputs_by_urgency
from workers.slots.footprint import Footprint
from workers.slots.large_queries import W

_LENGTH_WEIGHT: Final = 0.2
"""Weight of a batch in the mean length factor."""
_LEAST_FACTOR: Final = 0.01


class InstanceWork(MeasuredWork[K], Generic[K, W]):
    """Work and health of one instance that computes batches."""

    def __init__(self, queue: BatchQueue[W], footprint: Footprint, now_s: float, *, lengths_vary: bool) -> None:
        """Begin at `now_s` with an empty queue; `lengths_vary`: the time of an input depends on its length."""
        super().__init__(now_s, parallel=footprint.parallel, even=queue.latency.is_even)
        self.queue = queue
        self.footprint = footprint
        self.throttle = OfflineThrottle()
        self._length_factor = 1.0  # mean of recent length factors; the measured slowdown includes it
        self._lengths_vary = lengths_vary

    @property
    def latency(self) -> LatencyModel:
        """Latency model of its predictions."""
        return self.queue.latency

    @property
    def online_waiting(self) -> int:
        """Online inputs that were read and wait for their computation; those of large queries do not count."""
        return self.queue.online_inputs

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

    def with_batches(
        self, status: InstanceStatus, *, waiting: Iterable[W], done_inputs: float, now_s: float
    ) -> InstanceStatus:
        """Return a status of this instance with its batches and its large queries.

        Args:
            status: status as returned by `status`.
            waiting: the waiting online work of the queue.
            done_inputs: inputs of batches under way that should be computed by now.
            now_s: present time.
        """
        return replace(
            status,
            queued_large=self.backlog.large_queries,
            queued_large_inputs=self.backlog.large,
            large_factor=self.meter.large_factor,
            waiting_inputs=inputs_by_urgency(waiting, now_s),
            done_inputs=done_inputs,
            queue_slowdown=self.meter.queue_slowdown,
        )
