"""Delays of a real system as settings of a simulation, from the times in the results of its queries.

The times are those of a run at a moderate load: the quantiles of waits for records. A query's wait at its worker counts
only if it found the worker idle, since the simulator itself computes the wait for other queries.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from simulator.durations import Duration
from simulator.scenario import Delays

_STEPS: Final = 101
_LEAST: Final = 20
"""Number of queries from which on quantiles are used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredTimes:
    """Times of answered queries in seconds, one element for each."""

    to_selector_s: NDArray[np.float64]
    """From the client's send to the selector's choice."""
    to_worker_s: NDArray[np.float64]
    """From the selector's send to the begin of the computation."""
    compute_s: NDArray[np.float64]
    """Computation of the query's batch."""
    total_s: NDArray[np.float64]
    """From the client's send to its result."""

    @property
    def result_s(self) -> NDArray[np.float64]:
        """From the end of the computation to the client's result."""
        return np.maximum(self.total_s - self.to_selector_s - self.to_worker_s - self.compute_s, 0.0)


def fit_delays(times: MeasuredTimes, base: Delays) -> Delays:
    """Return `base` with the measured distributions in place of its own, if there are enough queries."""
    if len(times.total_s) < _LEAST:
        return base
    idle = times.to_worker_s <= np.median(times.to_worker_s) + np.median(times.compute_s)
    return replace(
        base,
        to_selector=_duration(times.to_selector_s),
        to_worker=_duration(times.to_worker_s[idle]),
        result=_duration(times.result_s),
    )


def _duration(seconds: NDArray[np.float64]) -> Duration:
    quantiles = np.quantile(seconds, np.linspace(0.0, 1.0, _STEPS))
    p50_s, p99_s = (float(quantiles[at]) for at in (50, 99))
    return Duration(p50_s=p50_s, p99_s=p99_s, measured_s=tuple(np.round(quantiles, 6).tolist()))
