"""Demand of a trace by kind and window, and the largest batches that it allows."""

from dataclasses import dataclass
from math import ceil, inf
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simulator.scenario import Scenario
from simulator.trace import Trace

_WINDOWS: Final = 120
_LEAST_WINDOW_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowedDemand:
    """Queries after the warm-up. Arrays have a row for each of the trace's kinds, and a column for each window."""

    windows: int
    window_s: float
    window: NDArray[np.int64]
    """Window of each query of the trace; negative in the warm-up."""
    queries: NDArray[np.float64]
    span: NDArray[np.int64]
    """By kind: windows after that of the arrival until the deadline; `windows` without a deadline."""
    batch_limit: NDArray[np.int64]
    """Largest number of inputs in a batch with a query that is in time."""


def demand_of(scenario: Scenario) -> WindowedDemand:
    """Return the demand of a scenario's trace."""
    trace = scenario.trace
    seconds = max(trace.duration_s - scenario.warm_up_s, 1e-9)
    windows = min(max(int(seconds / _LEAST_WINDOW_S), 1), _WINDOWS)
    window_s = seconds / windows
    window = np.minimum(np.floor((trace.time_s - scenario.warm_up_s) / window_s).astype(np.int64), windows - 1)
    counted = window >= 0
    queries = np.zeros((len(trace.kinds), windows))
    np.add.at(queries, (trace.kind[counted], window[counted]), 1.0)
    spans = [
        windows if kind.latency_ms is None else min(max(ceil(kind.latency_ms / 1e3 / window_s), 1), windows)
        for kind in trace.kinds
    ]
    span = np.array(spans, np.int64)
    limits = _batch_limits(trace, window, windows, span)
    return WindowedDemand(
        windows=windows, window_s=window_s, window=window, queries=queries, span=span, batch_limit=limits
    )


def _batch_limits(trace: Trace, window: NDArray[np.int64], windows: int, span: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the largest batches, shape (kinds, windows).

    Inputs of a batch that starts at s can be in time only if they arrived in the task's longest latency before s. Their
    number is largest right after an arrival, between the query's own one and its deadline.
    """
    limits = np.zeros((len(trace.kinds), windows), np.int64)
    for task in sorted({kind.task for kind in trace.kinds}):
        kinds = [number for number, kind in enumerate(trace.kinds) if kind.task == task]
        most, unlimited = _inputs_together(trace, kinds, window, windows)
        for number in kinds:
            for column in range(windows):
                limits[number, column] = most[column : column + span[number] + 1].max() + unlimited
    return np.maximum(limits, np.array([kind.batch for kind in trace.kinds])[:, None])


def _inputs_together(
    trace: Trace, kinds: list[int], window: NDArray[np.int64], windows: int
) -> tuple[NDArray[np.int64], int]:
    """Return the most inputs with a deadline that wait at once, by window, and all inputs without one."""
    latency_s = [inf if kind.latency_ms is None else kind.latency_ms / 1e3 for kind in trace.kinds]
    inputs = trace.inputs
    limited = [number for number in kinds if latency_s[number] < inf]
    endless = np.isin(trace.kind, [number for number in kinds if latency_s[number] == inf])
    rows = np.isin(trace.kind, limited)
    time_s, total = trace.time_s[rows], np.concatenate([[0], np.cumsum(inputs[rows])])
    longest_s = max((latency_s[number] for number in limited), default=0.0)
    since = np.searchsorted(time_s, time_s - longest_s, side="left")
    waiting = total[np.searchsorted(time_s, time_s, side="right")] - total[since]
    most, column = np.zeros(windows, np.int64), window[rows]
    np.maximum.at(most, column[column >= 0], waiting[column >= 0])
    return most, int(inputs[endless].sum())
