"""Steps: Poisson arrivals whose rate changes at fixed times; the steps repeat for as long as the stream lasts."""

from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.random import Generator

from simulator.workloads.arrival_process import ArrivalProcess, ArrivalSample, PositiveSeconds, Rate, piecewise_poisson


class RateSteps(ArrivalProcess, frozen=True, kw_only=True, tag="steps"):
    """Poisson process of piecewise constant rate.

    Raises:
        ValueError: the steps have not as many rates as lengths.
    """

    rates: Annotated[tuple[Rate, ...], Meta(min_length=1)]
    """Rate of each step."""
    lengths: Annotated[tuple[PositiveSeconds, ...], Meta(min_length=1)]
    """Length of each step in seconds."""

    def __post_init__(self) -> None:
        """Check the lengths."""
        if len(self.rates) != len(self.lengths):
            raise ValueError(f"there are {len(self.rates)} rates, but {len(self.lengths)} lengths; give one per step")

    @property
    def length_s(self) -> float:
        """Length of all steps together."""
        return sum(self.lengths)

    def sample(self, duration_s: float, random: Generator) -> ArrivalSample:
        """See `ArrivalProcess`."""
        rounds = int(np.ceil(duration_s / self.length_s))
        edges = np.minimum(np.cumsum([0.0, *(self.lengths * rounds)]), duration_s)
        return ArrivalSample(piecewise_poisson(edges, self.rates * rounds, random))
