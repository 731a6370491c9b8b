"""Proteus's proactive batching: a batch waits for further queries as long as its first query can afford it.

Source: Ahmad et al., "Proteus: A High-Throughput Inference-Serving System with Accuracy Scaling", ASPLOS'24, section 5
(adaptive batching). With k queries in the queue, an idle device waits for one more until a batch of k + 1 would end at
the first deadline; a full batch begins at once.

Difference: the wait ends earlier by the hop to the client and the spread of the profile, so that answers are in time.
"""

from collections.abc import Callable, Iterator
from math import inf

from schemas.defaults import HOP_S
from schemas.latency import LatencyModel
from workers.slots.batch_queue import NO_DEADLINE, BatchQueue, Rank, Urgency
from workers.slots.large_queries import PieceTurn, W


class ProactiveQueue(BatchQueue[W]):
    """Batch queue that is not work conserving for online queries with deadlines."""

    def __init__(
        self,
        latency: LatencyModel,
        arrivals: Iterator[int],
        turn: PieceTurn,
        *,
        spread: float,
        clock: Callable[[], float],
        wake_at: Callable[[float], None],
    ) -> None:
        """Make an empty queue.

        Args:
            latency: latency model of the instance.
            arrivals: as for `BatchQueue`.
            turn: as for `BatchQueue`.
            spread: ratio of a batch's 99th percentile to its median.
            clock: returns the present time in seconds.
            wake_at: asks for a look at the queue at a time.
        """
        super().__init__(latency, arrivals, turn)
        self._spread = spread
        self._clock = clock
        self._wake_at = wake_at
        self._wakes_s = inf

    def urgency(self) -> Urgency | None:
        """Return the urgency of the most urgent work; None while it waits for more."""
        found = super().urgency()
        if found is None or found[0] != Rank.ONLINE or found[1] == NO_DEADLINE or self.online_inputs >= self.best_batch:
            return found
        begin_s = found[1] - HOP_S - self._spread * self.latency.promised_s(self.online_inputs + 1)
        now = self._clock()
        if begin_s <= now:
            return found
        if not now < self._wakes_s <= begin_s:
            self._wakes_s = begin_s
            self._wake_at(begin_s)
        return None
