"""Poisson arrivals: gaps are independent and exponentially distributed."""

from numpy.random import Generator

from simulator.workloads.arrival_process import ArrivalProcess, ArrivalSample, PositiveRate, piecewise_poisson


class Poisson(ArrivalProcess, frozen=True, kw_only=True, tag="poisson"):
    """Poisson process of constant rate."""

    rate: PositiveRate

    def sample(self, duration_s: float, random: Generator) -> ArrivalSample:
        """See `ArrivalProcess`."""
        return ArrivalSample(piecewise_poisson((0, duration_s), self.rate, random))
