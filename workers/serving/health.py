"""Health of a serving instance, and drift of its profile, both from the times of its batches. Pure.

Health: INFaaS's states as a table with hysteresis. An instance is overloaded when it gets as much work as its profile
allows. It is interfered when its batches take longer than profiled though it is not overloaded: other programs use the
same caches, memory and cores. Each condition begins at one limit and ends at a lower one. The limits are those of
INFaaS's code: 2.5 and 1.5 times the profiled latency, 1.1 and 0.8 seconds of outstanding work, 1.0 and 0.8 of the
profiled peak throughput.

Drift: a profile is wrong if batches differ from it for long, though nothing visible disturbs them. Short interference
is the subject of the slowdown, which follows within a few batches and forgets as fast. Rules.

* Only undisturbed batches count: no other slot of the worker computed at the same time, and the machine had CPU time
  left. On a machine that is always busy nothing is learned or changed.
* An unseen disturbance makes a batch slower, never faster. So the lower quartile of a window of batches counts.
* `WINDOWS` windows in a row must agree: all differ from the current prediction in the same direction, and are alike
  among themselves. Values that vary do not show a different profile. One window that agrees with the prediction keeps
  it.
* A correction is a factor between `LEAST` and `MOST`. A difference beyond these means a fault, not a wrong measurement.
* A difference of less than a millisecond is ignored, because no deadline depends on it.
"""

from collections import deque
from collections.abc import Sequence
from statistics import fmean, median, quantiles
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
        self,
        inputs: int,
        seconds: float,
        profiled_s: float,
        ended_s: float,
        *,
        left: bool,
        slot: int = 0,
        consecutive: bool = True,
    ) -> None:
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


WINDOWS: Final = 10
LEAST_BATCHES: Final = 20
"""Least number of undisturbed batches in a window."""
TOLERANCE: Final = 1.25
"""Factor by which all windows must differ from the current prediction."""
ALIKE: Final = 1.5
"""Largest factor between windows that agree."""
NO_DIFFERENCE: Final = 1.1
"""Factor up to which the profile counts as right."""
LEAST: Final = 0.25
MOST: Final = 8.0
QUIET_CPU: Final = 0.7
"""Largest share of the machine's CPU time in use at which a batch counts as undisturbed."""
_MOST_BATCHES: Final = 500
_UNEVEN_BATCHES: Final = 10
"""Factor of the batches per window for variants whose inputs differ in time."""


class DriftWindow(NamedTuple):
    """Undisturbed batches of one period."""

    began_s: float
    ratio: float
    """Their measured over their profiled time."""


class Correction(NamedTuple):
    """Factor to multiply a profile by."""

    factor: float
    since_s: float
    """Start of the observations, in seconds of the monotonic clock."""


def correct(factor: float, windows: Sequence[DriftWindow]) -> Correction | None:
    """Return the correction that should replace `factor` after these windows (1: the profile is right), or None."""
    ratios = [window.ratio for window in windows[-WINDOWS:]]
    if len(ratios) < WINDOWS or max(ratios) > ALIKE * min(ratios):
        return None
    if min(ratios) <= factor * TOLERANCE and max(ratios) >= factor / TOLERANCE:
        return None
    seen = round(min(max(median(ratios), LEAST), MOST), 2)
    if 1 / NO_DIFFERENCE <= seen <= NO_DIFFERENCE:
        seen = 1.0
    return None if seen == factor else Correction(seen, windows[-WINDOWS].began_s)


def ratio_of(seconds: float, profiled_s: float) -> float:
    """Return measured over profiled time, or 1 if the difference is below the noise."""
    return 1.0 if abs(seconds - profiled_s) <= NOISE_S else seconds / profiled_s


class DriftMeter:
    """Meter of the drift of one instance, in windows of batches.

    Args:
        window_s: least seconds of a window; it is longer until it has enough batches.
        factor: the current correction.
        even: true if batches of one size take about the same time; otherwise means over more batches are compared.
    """

    def __init__(self, window_s: float, factor: float = 1.0, *, even: bool = True) -> None:
        self.factor = factor
        self._window_s = window_s
        self._even = even
        self._least = LEAST_BATCHES if even else LEAST_BATCHES * _UNEVEN_BATCHES
        self._windows: deque[DriftWindow] = deque(maxlen=WINDOWS)
        self._began_s = 0.0
        self._ratios: list[float] = []

    def computed(self, seconds: float, profiled_s: float, now_s: float) -> Correction | None:
        """Record an undisturbed batch. Returns the correction that holds from now on, if it has changed."""
        if not self._ratios:
            self._began_s = now_s
        if len(self._ratios) < _MOST_BATCHES:
            self._ratios.append(ratio_of(seconds, profiled_s))
        if len(self._ratios) < self._least or now_s - self._began_s < self._window_s:
            return None
        ratio = quantiles(self._ratios, n=4)[0] if self._even else fmean(self._ratios)
        self._windows.append(DriftWindow(self._began_s, ratio))
        self._ratios.clear()
        found = correct(self.factor, [*self._windows])
        if found is not None:
            self.factor = found.factor
            self._windows.clear()
        return found
