"""Whether a profile is wrong on this worker, from the times of its batches over long: pure, the clock is an argument.

What interferes for a while is the slowdown's to say (`health`): it follows within batches, and forgets as soon. A
profile is wrong if batches take another time than it says though nothing can be seen that disturbs them, and go on so.

Rules.
* Only undisturbed batches count: no other slot of the worker computed meanwhile, and the machine had CPU time left. On
  a machine that is always busy nothing is learned, and nothing is changed.
* What disturbs a batch unseen makes it slower, never faster. So of a window of batches the lower quartile counts.
* So many windows in a row must say the same, all of them beyond what is predicted now, and about alike: what jumps
  about is no other profile. One window that agrees with the prediction is enough to leave it.
* A correction is a factor within bounds; what is beyond is no measurement that was wrong but something that is broken.
* A difference of less than a millisecond is none: no deadline will notice.
"""

from collections import deque
from collections.abc import Sequence
from statistics import fmean, median, quantiles
from typing import Final, NamedTuple

from workers.health import NOISE_S

WINDOWS: Final = 10
LEAST_BATCHES: Final = 20
"""Undisturbed batches of a window, at least."""
TOLERANCE: Final = 1.25
"""Factor by which all windows must differ from what is predicted."""
ALIKE: Final = 1.5
"""Factor by which windows that say the same may differ from each other."""
NO_DIFFERENCE: Final = 1.1
"""Factor up to which the profile is right after all."""
LEAST: Final = 0.25
MOST: Final = 8.0
QUIET_CPU: Final = 0.7
"""Share of the machine's CPU time in use up to which a batch counts as undisturbed."""
_MOST_BATCHES: Final = 500
_UNEVEN_BATCHES: Final = 10
"""Times as many batches make a window where inputs differ."""


class DriftWindow(NamedTuple):
    """Undisturbed batches of some time."""

    began_s: float
    ratio: float
    """Their time over the profiled one."""


class Correction(NamedTuple):
    """What a profile is to be multiplied by."""

    factor: float
    since_s: float
    """Since when that was seen, by the monotonic clock."""


def correct(factor: float, windows: Sequence[DriftWindow]) -> Correction | None:
    """The correction that the last windows call for in the place of `factor`, 1 if the profile is right; or None."""
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
    """Measured over profiled time, 1 where they do not differ noticeably."""
    return 1.0 if abs(seconds - profiled_s) <= NOISE_S else seconds / profiled_s


class DriftMeter:
    """What is seen of an instance's batches, in windows.

    Args:
        window_s: seconds of a window, at least; it is longer until it has enough batches.
        factor: the correction that holds now.
        even: whether batches of a size all take about as long; else means are compared, of more batches.
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
        """Take an undisturbed batch; returns the correction that holds from now on, if that is another one."""
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
