"""Markov-modulated Poisson arrivals: the rate changes at random between states, so arrivals are correlated over time.

Each state lasts an exponentially distributed time; the next one is any other state with equal probability. The process
begins in its stationary distribution. With two states the autocovariance of the rate decays as
`exp(-(1 / m1 + 1 / m2) * lag)`, with the mean durations `m1` and `m2` (Fischer and Meier-Hellstern, The
Markov-modulated Poisson process (MMPP) cookbook, 1993).
"""

from typing import Annotated, Final

import numpy as np
from msgspec import Meta
from numpy.random import Generator
from numpy.typing import NDArray

from simulator.workloads.arrival_process import (
    ArrivalProcess,
    ArrivalSample,
    PositiveSeconds,
    Rate,
    Times,
    piecewise_poisson,
)

_MOST_VISITS: Final = 1 << 20


class MarkovModulated(ArrivalProcess, frozen=True, kw_only=True, tag="markov"):
    """Markov-modulated Poisson process with two or more states.

    Raises:
        ValueError: the states have not as many rates as durations.
    """

    rates: Annotated[tuple[Rate, ...], Meta(min_length=2)]
    """Rate in each state."""
    means: Annotated[tuple[PositiveSeconds, ...], Meta(min_length=2)]
    """Mean duration of each state in seconds."""

    def __post_init__(self) -> None:
        """Check the lengths."""
        if len(self.rates) != len(self.means):
            raise ValueError(f"there are {len(self.rates)} rates, but {len(self.means)} means; give one for each state")

    def sample(self, duration_s: float, random: Generator) -> ArrivalSample:
        """See `ArrivalProcess`."""
        states, ends_s = self._visits(duration_s, random)
        edges_s = np.minimum(np.concatenate([[0.0], ends_s]), duration_s)
        return ArrivalSample(piecewise_poisson(edges_s, np.array(self.rates)[states], random))

    def _visits(self, duration_s: float, random: Generator) -> tuple[NDArray[np.int64], Times]:
        """Draw the visited states and the times at which they end, until `duration_s`."""
        means = np.array(self.means)
        visits = min(int(2 * duration_s / means.mean()) + 16, _MOST_VISITS)
        states, ends_s = list[NDArray[np.int64]](), list[Times]()
        state, time_s = int(random.choice(len(means), p=means / means.sum())), 0.0
        while time_s < duration_s:
            moves = random.integers(1, len(means), visits)
            path = np.cumsum(np.concatenate([[state], moves])) % len(means)
            states.append(path[:-1])
            ends_s.append(time_s + np.cumsum(random.exponential(means[path[:-1]])))
            state, time_s = int(path[-1]), float(ends_s[-1][-1])
        return np.concatenate(states), np.concatenate(ends_s)
