"""Time series of a simulation: queries by window of their arrival, and samples of the fleet."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simulator.history import FleetSample
from simulator.outcomes import QueryOutcome
from simulator.simulation import SimulationResult

Vector = NDArray[np.float64]
_WINDOWS: Final = 200
_LEAST_WINDOW_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class QuerySeries:
    """Queries by window. Rates are queries per second; NaN: the window has no such query."""

    window_s: float
    time_s: Vector
    """Begin of each window."""
    arrived: Vector
    answered: Vector
    """Answers in time, by the time of the answer."""
    late: Vector
    refused: Vector
    """Queries that were refused, expired or failed, by the time of that outcome."""
    violations: Vector
    """Share of the window's online arrivals that were not answered in time."""
    accuracy: Vector
    """Mean accuracy of the online queries of the window that were answered in time, weighted by inputs."""


def query_series(result: SimulationResult) -> QuerySeries:
    """Return the queries of a simulation by window."""
    trace, columns = result.scenario.trace, result.queries
    window_s = max(trace.duration_s / _WINDOWS, _LEAST_WINDOW_S)
    count = max(math.ceil(trace.duration_s / window_s), 1)
    arrival = np.minimum((trace.time_s / window_s).astype(np.int64), count - 1)
    online = trace.is_online
    in_time = columns.outcome == QueryOutcome.ANSWERED
    served = online & in_time
    inputs = trace.inputs[served].astype(np.float64)
    accuracies = np.array([variant.accuracy for variant in result.scenario.catalogue.variants])

    def ended(rows: NDArray[np.bool_]) -> Vector:
        """Return the rate of these queries by the time of their outcome; those after the trace are left out."""
        windows = (columns.ended_s[rows] / window_s).astype(np.int64)
        return _counts(windows[windows < count], count) / window_s

    arrived_online = _counts(arrival[online], count)
    return QuerySeries(
        window_s=window_s,
        time_s=np.arange(count, dtype=np.float64) * window_s,
        arrived=_counts(arrival, count) / window_s,
        answered=ended(in_time),
        late=ended(columns.outcome == QueryOutcome.LATE),
        refused=ended(np.isin(columns.outcome, (QueryOutcome.REFUSED, QueryOutcome.EXPIRED, QueryOutcome.FAILED))),
        violations=1 - _ratio(_counts(arrival[served], count), arrived_online),
        accuracy=_ratio(
            _counts(arrival[served], count, inputs * accuracies[columns.variant[served]]),
            _counts(arrival[served], count, inputs),
        ),
    )


def sampled(samples: Sequence[FleetSample], read: Callable[[FleetSample], Mapping[str, float]]) -> dict[str, Vector]:
    """Return the values that `read` returns of each sample, by name; absent ones are 0."""
    rows = [read(sample) for sample in samples]
    names = sorted({name for row in rows for name in row})
    return {name: np.array([row.get(name, 0.0) for row in rows]) for name in names}


def _counts(windows: NDArray[np.int64], count: int, weights: Vector | None = None) -> Vector:
    return np.bincount(windows, weights, minlength=count).astype(np.float64)


def _ratio(part: Vector, whole: Vector) -> Vector:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
