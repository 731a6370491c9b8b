"""Flash crowd: a constant rate that rises to a multiple of itself, holds there, and falls back."""

from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.random import Generator

from simulator.workloads.arrival_process import (
    ArrivalProcess,
    ArrivalSample,
    PositiveRate,
    Seconds,
    Times,
    piecewise_poisson,
)


class FlashCrowd(ArrivalProcess, frozen=True, kw_only=True, tag="flash-crowd"):
    """Poisson process whose rate is linear in each phase of a flash crowd."""

    rate: PositiveRate
    """Rate before and after."""
    factor: Annotated[float, Meta(ge=1, le=10_000)]
    """Highest rate divided by `rate`."""
    at: Seconds
    """Time at which the rise begins."""
    rise: Seconds = 0
    hold: Seconds
    fall: Seconds = 0

    def sample(self, duration_s: float, random: Generator) -> ArrivalSample:
        """See `ArrivalProcess`."""
        phases = np.minimum(np.cumsum([0, self.at, self.rise, self.hold, self.fall]), duration_s)
        highest = self.rate * np.array([1, self.factor, self.factor, self.factor, 1])
        time_s = piecewise_poisson([*phases, duration_s], highest, random)
        bound = highest[np.searchsorted(phases, time_s, side="right") - 1]
        return ArrivalSample(time_s[random.random(len(time_s)) * bound < self._rate(time_s)])

    def _rate(self, time_s: Times) -> Times:
        edges = np.cumsum([self.at, self.rise, self.hold, self.fall])
        return self.rate * np.interp(time_s, edges, [1, self.factor, self.factor, 1])
