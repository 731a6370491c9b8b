"""Health of a serving instance: INFaaS's states as a table with hysteresis. Pure.

An instance is overloaded when it gets as much work as its profile allows. It is interfered when its batches take longer
than profiled though it is not overloaded: other programs use the same caches, memory and cores.

Each condition begins at one limit and ends at a lower one. The limits are those of INFaaS's code: 2.5 and 1.5 times the
profiled latency, 1.1 and 0.8 seconds of outstanding work, 1.0 and 0.8 of the profiled peak throughput.
"""

from typing import Final, NamedTuple

from schemas.status import InstanceState

SLOWDOWN_BEGINS: Final = 2.5
SLOWDOWN_ENDS: Final = 1.5
BACKLOG_BEGINS_S: Final = 1.1
BACKLOG_ENDS_S: Final = 0.8
LOAD_BEGINS: Final = 1.0
LOAD_ENDS: Final = 0.8

NOISE_S: Final = 1e-3
_WEIGHT: Final = 0.1
_UNEVEN_WEIGHT: Final = 0.02
_LARGE_WEIGHT: Final = 0.3
_LARGE_KEPT: Final = 0.99
"""Share of the excess factor of large queries that remains after each period. Queries predicted to be late are refused,
so without this decay no query would show that the excess is over."""


class HealthReading(NamedTuple):
    """Measures of an instance that determine its state."""

    slowdown: float
    """Measured over profiled latency of a batch."""
    load: float
    """Online inputs that arrived in the last second, over the profiled peak throughput of its slots."""
    backlog_s: float
    """Predicted seconds to compute the waiting online inputs."""


def next_state(state: InstanceState, reading: HealthReading) -> InstanceState:
    """Return the state that follows `state`, a serving one, after `reading`."""
    return _TABLE[state, _overloaded(state, reading), _interfered(state, reading)]


def _overloaded(state: InstanceState, reading: HealthReading) -> bool:
    if state is InstanceState.OVERLOADED:
        return reading.load > LOAD_ENDS or reading.backlog_s > BACKLOG_ENDS_S
    return reading.load >= LOAD_BEGINS or reading.backlog_s >= BACKLOG_BEGINS_S


def _interfered(state: InstanceState, reading: HealthReading) -> bool:
    limit = SLOWDOWN_ENDS if state is InstanceState.INTERFERED else SLOWDOWN_BEGINS
    return reading.slowdown >= limit


_ACTIVE, _OVERLOADED, _INTERFERED = InstanceState.ACTIVE, InstanceState.OVERLOADED, InstanceState.INTERFERED
_TABLE: Final[dict[tuple[InstanceState, bool, bool], InstanceState]] = {
    # state, overloaded, interfered -> state
    (_ACTIVE, False, False): _ACTIVE,
    (_ACTIVE, False, True): _INTERFERED,
    (_ACTIVE, True, False): _OVERLOADED,
    (_ACTIVE, True, True): _OVERLOADED,
    (_OVERLOADED, False, False): _ACTIVE,
    (_OVERLOADED, False, True): _INTERFERED,
    (_OVERLOADED, True, False): _OVERLOADED,
    (_OVERLOADED, True, True): _OVERLOADED,
    (_INTERFERED, False, False): _ACTIVE,
    (_INTERFERED, False, True): _INTERFERED,
    (_INTERFERED, True, False): _OVERLOADED,
    (_INTERFERED, True, True): _INTERFERED,  # the load did not cause it: it needs another worker, not a replica
}


class BatchMeter:
    """Smoothed measures of an instance's batches, and its load in periods of about a second.

    `slowdown` adds a millisecond to both sides before it compares: a batch of 10 us that takes 100 us met a busy
    machine, but no deadline depends on it. In each period without a batch it halves its distance from 1. Otherwise an
    instance that is not chosen because it is interfered would never recover.

    `queue_slowdown` counts all the time since the previous batch in the same slot, if work was left then: decoding,
    encoding and other programs are included. Batches of other instances in the slot are not, because selectors count
    them as backlog.

    Where inputs differ in time, a batch that takes ten times the mean is no sign of trouble, so each batch has a
    smaller weight there.
    """

    def __init__(self, *, even: bool = True) -> None:
        self._weight = _WEIGHT if even else _UNEVEN_WEIGHT
        self.batch_size = 0.0
        self.batch_s = 0.0
        self.slowdown = 1.0
        self.queue_slowdown = 1.0
        self.large_factor = 1.0
        self.load = 0.0
        self.online_per_query = 0.0
        """Mean number of online inputs of a query; offline queries count as 0."""
        self._batches = 0
        self._queries = 0
        self._arrived = 0
        self._ended_s: dict[int, float] = {}
        """End of the last batch by slot, if work was left then."""

    def arrived(self, online_inputs: int) -> None:
        """Count a query that was read; `online_inputs` is 0 for an offline query."""
        self._queries += 1
        self._arrived += online_inputs

    def computed(
        self, inputs: int, seconds: float, profiled_s: float, ended_s: float,
        *, left: bool, slot: int = 0, consecutive: bool = True,
    ) -> None:  # fmt: skip
        """Record a batch that was answered at `ended_s`; `left`: work is left.

        `consecutive`: its slot computed nothing of another instance since this instance's previous batch.
        """
        before_s = self._ended_s.pop(slot, ended_s)
        passed_s = max(ended_s - before_s, seconds) if consecutive else seconds
        if left:
            self._ended_s[slot] = ended_s
        self.queue_slowdown = self._smooth(self.queue_slowdown, passed_s / max(profiled_s, 1e-6))
        first = self.batch_size == 0.0
        self._batches += 1
        self.batch_size = inputs if first else self._smooth(self.batch_size, inputs)
        self.batch_s = seconds if first else self._smooth(self.batch_s, seconds)
        self.slowdown = self._smooth(self.slowdown, (seconds + NOISE_S) / (profiled_s + NOISE_S))

    def interrupted(self, slot: int) -> None:
        """Ignore the time since the slot's previous batch, because the slot computed a piece of a large query."""
        self._ended_s.pop(slot, None)

    def large_answered(self, seconds: float, predicted_s: float) -> None:
        """Record the seconds from send to answer of a large query, and those predicted for all large queries held."""
        self.large_factor += _LARGE_WEIGHT * (max(seconds / max(predicted_s, 1e-6), 1.0) - self.large_factor)

    def end_period(self, seconds: float, input_s: float) -> None:
        """End a period of `seconds`; `input_s` is the reciprocal of the profiled peak throughput of all slots."""
        self.load = self._arrived * input_s / seconds
        if not self._batches:
            self.slowdown = 1.0 + (self.slowdown - 1.0) / 2
            self.queue_slowdown = 1.0 + (self.queue_slowdown - 1.0) / 2
        self.large_factor = 1.0 + (self.large_factor - 1.0) * _LARGE_KEPT
        if self._queries:
            self.online_per_query = self._arrived / self._queries
        self._arrived = self._batches = self._queries = 0

    def _smooth(self, old: float, new: float) -> float:
        return old + self._weight * (new - old)
