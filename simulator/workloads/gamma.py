"""Gamma arrivals: independent gaps with a given coefficient of variation, as in bursty production traffic.

A CV of 1 is a Poisson process; above 1 arrivals come in bursts, below 1 they are more regular. The process is
stationary: the first gap has the distribution of the time from a random instant to the next arrival (Cox, Renewal
Theory, 1962, section 5), or a short sample of a large CV would have far too many arrivals.
"""

import math
from typing import Annotated, Final

import numpy as np
from msgspec import Meta
from numpy.random import Generator

from simulator.workloads.arrival_process import ArrivalProcess, ArrivalSample, PositiveRate, Times

_MARGIN: Final = 3.0
"""Standard deviations of the number of arrivals that the first draw allows for."""
_MOST_GAPS: Final = 1 << 22


class GammaRenewal(ArrivalProcess, frozen=True, kw_only=True, tag="gamma"):
    """Renewal process whose gaps have a gamma distribution."""

    rate: PositiveRate
    cv: Annotated[float, Meta(ge=0.01, le=10_000)]
    """Standard deviation of the gaps divided by their mean."""

    def sample(self, duration_s: float, random: Generator) -> ArrivalSample:
        """See `ArrivalProcess`."""
        return ArrivalSample(gamma_times(self.rate, self.cv, duration_s, random))


def gamma_times(rate_per_s: float, cv: float, duration_s: float, random: Generator) -> Times:
    """Draw ascending times below `duration_s` of a stationary renewal process with gamma gaps."""
    shape, scale_s = 1 / cv**2, cv**2 / rate_per_s
    last_s = random.random() * random.gamma(shape + 1, scale_s)
    parts = [np.array([last_s])]
    while last_s < duration_s:
        expected = (duration_s - last_s) * rate_per_s
        gaps = min(int(expected + _MARGIN * cv * math.sqrt(expected)) + 2, _MOST_GAPS)
        parts.append(last_s + np.cumsum(random.gamma(shape, scale_s, gaps)))
        last_s = float(parts[-1][-1])
    time_s = np.concatenate(parts)
    return time_s[: np.searchsorted(time_s, duration_s)]
