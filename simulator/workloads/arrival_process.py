"""Base of the arrival processes, and the sampling of Poisson processes that several of them share.

A process is plain data that JSON describes: the field `process` is the name, the others are its parameters. Rates are
queries per second, times seconds. The bounds of parameters end mistakes such as infinity, not large workloads.
"""

from typing import Annotated, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

Rate = Annotated[float, Meta(ge=0, le=1e7)]
PositiveRate = Annotated[float, Meta(gt=0, le=1e7)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
PositiveSeconds = Annotated[float, Meta(gt=0, le=1e9)]
Times = NDArray[np.float64]


class ArrivalSample(NamedTuple):
    """Arrivals that were drawn from a process."""

    time_s: Times
    """Ascending times."""
    units: NDArray[np.int64] | None = None
    """Size of each query, if the process knows it."""
    client: NDArray[np.int64] | None = None
    """Client that sent each query, if the process knows it."""


class ArrivalProcess(msgspec.Struct, frozen=True, kw_only=True, tag_field="process", forbid_unknown_fields=True):
    """Stochastic process, or recording, that yields arrivals.

    `sample(duration_s, random)` of each process draws an `ArrivalSample` whose times are at least 0 and below
    `duration_s`.
    """

    @property
    def length_s(self) -> float | None:
        """Length of the process in seconds; None: it has no end."""
        return None


def piecewise_poisson(edges_s: ArrayLike, rates_per_s: ArrayLike, random: Generator) -> Times:
    """Draw ascending times of a Poisson process whose rate is constant between edges.

    Args:
        edges_s: ascending times at which the rate changes, the begin and the end included.
        rates_per_s: rate of each piece; there is one less than edges.
        random: source of randomness.
    """
    edges = np.asarray(edges_s, np.float64)
    lengths = np.diff(edges)
    counts = random.poisson(np.asarray(rates_per_s) * lengths)
    time_s = np.repeat(edges[:-1], counts) + np.repeat(lengths, counts) * random.random(counts.sum())
    time_s.sort()
    return time_s
