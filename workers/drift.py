"""Drift of a profile on this worker, detected from the times of its batches over long. Pure: the clock is an argument.

Short interference is the subject of the slowdown (`health`), which follows within a few batches and forgets as fast. A
profile is wrong if batches differ from it for long, though nothing visible disturbs them.

Rules.
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

from workers.health import NOISE_S

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
