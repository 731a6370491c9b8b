"""Distributions of durations, and samplers that draw from them quickly."""

from collections.abc import Iterator
from math import log
from typing import Annotated, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

_BLOCK: Final = 4096
_Z99: Final = 2.3263478740408408
"""99th percentile of the standard normal distribution."""
Seconds = Annotated[float, msgspec.Meta(ge=0)]


class Duration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Distribution of a duration: by quantiles if `measured_s` has any, else lognormal."""

    p50_s: Seconds
    p99_s: Seconds
    measured_s: tuple[Seconds, ...] = ()
    """Values at equal steps of probability from 0 to 1, ascending; at least two. Between them it is linear."""

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Draw `count` durations in seconds."""
        if self.measured_s:
            steps = np.linspace(0.0, 1.0, len(self.measured_s))
            return np.interp(random.random(count), steps, self.measured_s)
        return self.p50_s * spread(self.p50_s, self.p99_s, random, count)


def spread(p50_s: float, p99_s: float, random: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Draw factors of the median from the lognormal distribution with this median and 99th percentile."""
    if p50_s <= 0.0 or p99_s <= p50_s:
        return np.ones(count)
    return np.exp(random.standard_normal(count) * log_deviation(p50_s, p99_s))


def log_deviation(p50_s: float, p99_s: float) -> float:
    """Return the standard deviation of the logarithm of the lognormal distribution with these quantiles."""
    return log(p99_s / p50_s) / _Z99 if p99_s > p50_s > 0.0 else 0.0


def draws(duration: Duration, random: np.random.Generator) -> Iterator[float]:
    """Yield durations in seconds without end."""
    while True:
        yield from duration.draw(random, _BLOCK).tolist()


def normal_draws(random: np.random.Generator) -> Iterator[float]:
    """Yield standard normal values without end."""
    while True:
        yield from random.standard_normal(_BLOCK).tolist()
