"""Diurnal arrivals: a Poisson process whose rate follows a cosine, sampled by thinning (Lewis and Shedler, 1979)."""

from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.random import Generator

from simulator.workloads.arrival_process import (
    ArrivalProcess,
    ArrivalSample,
    PositiveRate,
    PositiveSeconds,
    piecewise_poisson,
)


class Diurnal(ArrivalProcess, frozen=True, kw_only=True, tag="diurnal"):
    """Poisson process of the rate `rate * (1 + amplitude * cos(2 pi (t / period - phase)))`."""

    rate: PositiveRate
    """Mean rate over a period."""
    amplitude: Annotated[float, Meta(ge=0, le=1)] = 0.5
    period: PositiveSeconds = 86_400
    phase: Annotated[float, Meta(ge=0, le=1)] = 0.5
    """Time of the highest rate as a fraction of the period."""

    def sample(self, duration_s: float, random: Generator) -> ArrivalSample:
        """See `ArrivalProcess`."""
        highest = 1 + self.amplitude
        time_s = piecewise_poisson((0, duration_s), self.rate * highest, random)
        wave = 1 + self.amplitude * np.cos(2 * np.pi * (time_s / self.period - self.phase))
        return ArrivalSample(time_s[random.random(len(time_s)) * highest < wave])
