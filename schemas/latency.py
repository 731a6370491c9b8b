"""Latency of a variant as a function of the batch size and of the length of its inputs, from its profile.

The latencies of a profile are those of batches of the sample inputs. If the model has a dynamic axis besides the batch,
shorter inputs take less time. The saving depends on the model: attention grows with the square of the length, other
layers grow linearly, and a small model hardly depends on it. The profile therefore contains the times of a few other
lengths, all at one batch size. The prediction adds the difference to the sample's length once for each input of a
batch, because the fixed cost of a batch does not depend on the length. It interpolates linearly between measured
lengths.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, pairwise
from statistics import fmean, linear_regression
from typing import Final

import msgspec


def interpolate(points: Sequence[tuple[float, float]], at: float) -> float:
    """Interpolate linearly at `at`; outside the points, extrapolate along the nearest segment.

    `points` are sorted, at least two.
    """
    right = min(max(bisect_left(points, (at, 0.0)), 1), len(points) - 1)
    (x0, y0), (x1, y1) = points[right - 1], points[right]
    return y0 + (y1 - y0) * (at - x0) / (x1 - x0)


def interpolation_error(points: Sequence[tuple[float, float]]) -> float:
    """Return the relative error of linear interpolation, estimated at each inner point from its two neighbours.

    The result is the root mean square; it is 0 with fewer than three points.
    """
    ordered = sorted(points)
    errors = [
        interpolate([ordered[at - 1], ordered[at + 1]], ordered[at][0]) / ordered[at][1] - 1
        for at in range(1, len(ordered) - 1)
    ]
    return math.sqrt(sum(error * error for error in errors) / len(errors)) if errors else 0.0


BATCH_OVERHEAD_S: Final = 0.0005
"""Approximate overhead of a batch in seconds, besides its computation: a thread must wake and get the interpreter
lock."""
PIECE_S: Final = 0.005
"""Predicted seconds of one piece of a large query, unless a single batch takes longer. Other queries wait for one piece
at most."""
PIECES_SHARE: Final = 0.25
"""Share of the slots' time that pieces of large queries get while other online queries wait."""
_CALL_S: Final = 2e-5
"""Overhead in seconds of each session call in a sequence of calls."""
_AS_GOOD: Final = 0.01
"""Relative difference in time per input up to which a batch size counts as the best one."""
_MOST_NOISE: Final = 0.1
_LEAST_GROWTH: Final = 0.7


class BatchLatency(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Measurements of one batch size, in seconds."""

    batch: int
    p50_s: float
    p99_s: float
    cpu_s: float = 0.0
    """Median CPU seconds of all threads; 0: not measured."""
    runs: int = 0
    """Number of timed runs; 0: not counted."""
    discarded: int = 0
    """Number of runs that were discarded because the machine was busy."""
    noise: float = 0.0
    """Relative difference between measurements at different times, or the share of time lost to other processes."""
    mean_s: float | None = None
    """Mean seconds, if the time depends on the content of the inputs, as in a cascade; otherwise None. Load and price
    then use the mean, and latency promises the p99. Without a mean, both use the median."""

    @property
    def typical_s(self) -> float:
        """Seconds that long-run load and price are computed from."""
        return self.p50_s if self.mean_s is None else self.mean_s

    @property
    def promised_s(self) -> float:
        """Seconds within which almost every such batch is computed."""
        return self.p50_s if self.mean_s is None else max(self.p99_s, self.mean_s)


def is_noisy(measured: Sequence[BatchLatency]) -> bool:
    """Return true if other processes disturbed the measurement, or a larger batch was much faster than a smaller."""
    falls = any(after.typical_s < _LEAST_GROWTH * before.typical_s for before, after in pairwise(measured))
    return falls or any(point.noise > _MOST_NOISE for point in measured)


class LatencyFit(msgspec.Struct, frozen=True):
    """Latency as a line over the batch size, `intercept_s + slope_s * batch`, with its error."""

    intercept_s: float
    slope_s: float
    error: float
    """Root mean square of the relative error at the measured sizes."""


def fit_latency(latency: Sequence[BatchLatency]) -> LatencyFit:
    """Return the least-squares line of p50 over batch; through the origin if there is only one size."""
    points = [(point.batch, point.typical_s) for point in latency]
    if len(points) == 1:
        return LatencyFit(0.0, points[0][1] / points[0][0], 0.0)
    slope, intercept = linear_regression(*zip(*points, strict=True))
    relative = [(intercept + slope * batch) / seconds - 1 for batch, seconds in points]
    return LatencyFit(intercept, slope, math.sqrt(fmean(error * error for error in relative)))


class LatencyModel:
    """Prediction of the seconds of a batch in constant time; more inputs never take less time.

    Every component that predicts from a profile must use this class, so that all predictions agree. Noise may make the
    measured median of a batch smaller than that of a smaller batch. The model replaces it by the larger value: because
    predictions never fall, a selector can filter candidates once for a whole class of queries.

    The model interpolates between measured batch sizes and extrapolates the last segment beyond the largest. INFaaS
    (Romero et al., 2021) instead fits one least-squares line to batches of 1, 4 and 8. The profile contains that line
    to compare variants, but its error at small batches is too large for deadlines of a few milliseconds.
    """

    __slots__ = ("_best_batch", "_table", "correction", "max_batch", "promised")

    def __init__(self, measured: Sequence[BatchLatency], max_batch: int, correction: float = 1.0) -> None:
        """Create the model; `correction`, the ratio observed in long-term operation, multiplies all measurements."""
        if not measured:
            raise ValueError("a latency model needs at least one measured batch size")
        self.max_batch = max_batch
        self.correction = correction
        self._table = _table([(m.batch, correction * m.typical_s) for m in measured], max_batch)
        self.promised = self._table
        """Seconds within which almost every batch of a size ends, by size from 0 to `max_batch`; read-only."""
        self._best_batch = 0
        if any(m.mean_s is not None for m in measured):
            promised = _table([(m.batch, correction * m.promised_s) for m in measured], max_batch)
            self.promised = [max(seconds) for seconds in zip(promised, self._table, strict=True)]

    @property
    def is_even(self) -> bool:
        """True if all batches of one size take about the same time."""
        return self.promised is self._table

    @property
    def best_batch(self) -> int:
        """Smallest batch size whose throughput is within 1 % of the highest.

        A larger batch would take as long for each input, and would delay both its own inputs and the next batch.
        """
        if not self._best_batch:
            per_input = [(self._table[size] + BATCH_OVERHEAD_S) / size for size in range(1, self.max_batch + 1)]
            enough = min(per_input) * (1 + _AS_GOOD)
            self._best_batch = 1 + next(index for index, seconds in enumerate(per_input) if seconds <= enough)
        return self._best_batch

    @property
    def piece_inputs(self) -> int:
        """Inputs of a piece: as many batches of `best_batch` as fit into `PIECE_S`, at least one.

        A query that has more inputs than this and than `max_batch` is large. It is computed in pieces, and batches of
        other queries are computed between them.
        """
        best = self.best_batch
        return best * max(int(PIECE_S / (self._table[best] + _CALL_S)), 1)

    def is_large(self, inputs: int) -> bool:
        """Return true if a query with this number of inputs is computed in pieces."""
        return inputs > self.max_batch and inputs > self.piece_inputs

    def query_s(self, inputs: int) -> float:
        """Return the seconds of a query with any number of inputs that has a slot to itself."""
        if not self.is_large(inputs):
            return self.promised_s(inputs)
        best, pieces = self.best_batch, math.ceil(inputs / self.piece_inputs)
        seconds = math.ceil(inputs / best) * (self._table[best] + _CALL_S) + pieces * BATCH_OVERHEAD_S
        return max(self.promised_s(inputs), seconds)

    def batch_s(self, batch: int) -> float:
        """Return the seconds of one batch of `batch` inputs; more than `max_batch` inputs run as several batches."""
        return self._table[batch] if batch <= self.max_batch else _in_parts(self._table, batch)

    def promised_s(self, batch: int) -> float:
        """Return the seconds within which almost every such batch ends; more than `batch_s` if the content matters."""
        return self.promised[batch] if batch <= self.max_batch else _in_parts(self.promised, batch)

    def input_s(self) -> float:
        """Return the seconds per input at the largest batch size, the reciprocal of the peak throughput."""
        return self._table[self.max_batch] / self.max_batch


def _table(points: Sequence[tuple[int, float]], max_batch: int) -> list[float]:
    """Return the seconds by batch size, starting at 0 and never decreasing."""
    batches, seconds = zip(*sorted(points), strict=True)
    grown = list(zip(batches, accumulate(seconds, max), strict=True))
    # `max` again, because interpolation may round downwards.
    return [0.0, *accumulate((_seconds_at(grown, b) for b in range(1, max_batch + 1)), max)]


def _seconds_at(points: Sequence[tuple[float, float]], batch: int) -> float:
    if len(points) == 1:
        return points[0][1] * batch / points[0][0]
    return max(interpolate(points, batch), 0.0)


def _in_parts(table: Sequence[float], batch: int) -> float:
    """Return the seconds of more inputs than one batch may hold: full batches in sequence, then the rest."""
    parts, rest = divmod(batch, len(table) - 1)
    return parts * table[-1] + table[rest]


LENGTH_BATCH: Final = 4
"""Batch size at which lengths are measured, or `max_batch` if that is smaller."""
_LONGEST: Final = 16.0
"""Limit of a predicted batch time as a multiple of the profiled time; the model does not extrapolate beyond it."""


class LengthLatency(msgspec.Struct, frozen=True, gc=False):
    """Measurement of one input length, in seconds."""

    length: int
    """Number of elements of an input's largest tensor."""
    p50_s: float
    typical: bool = False
    """True for the length at which the latencies by batch size were measured."""


class LengthModel:
    """Prediction of an input's additional time due to its length.

    A longer input never takes less time. Without measured lengths the additional time is 0.
    """

    __slots__ = ("_input_s", "_longest_s", "_points", "_typical")

    def __init__(self, measured: Sequence[LengthLatency], latency: LatencyModel) -> None:
        """Create the model from measured lengths and from the latency model that its predictions add to."""
        typical = next((point for point in measured if point.typical), None)
        self._points = _extras(measured, typical, latency) if typical is not None else []
        self._typical = typical.length if typical is not None else 0
        self._input_s = min(latency.batch_s(batch) / batch for batch in range(1, latency.max_batch + 1))
        self._longest_s = (_LONGEST - 1) * latency.batch_s(1)

    @property
    def varies(self) -> bool:
        """True if the time depends on the length."""
        return len(self._points) > 1

    def extra_s(self, length: int) -> float:
        """Return the additional seconds of an input of this length, negative if it takes less than a profiled input.

        A batch is never predicted to take less than the share of time that is proportional to its length.
        """
        if not self.varies:
            return 0.0
        least_s = (min(length / self._typical, 1.0) - 1.0) * self._input_s
        return min(max(interpolate(self._points, length), least_s), self._longest_s)


def _extras(
    measured: Sequence[LengthLatency], typical: LengthLatency, latency: LatencyModel
) -> list[tuple[float, float]]:
    inputs = min(LENGTH_BATCH, latency.max_batch)
    ordered = sorted(measured, key=lambda point: point.length)
    grown = accumulate((latency.correction * (point.p50_s - typical.p50_s) / inputs for point in ordered), max)
    return [(float(point.length), extra_s) for point, extra_s in zip(ordered, grown, strict=True)]


UNKNOWN_LENGTHS: Final = LengthModel((), LatencyModel([BatchLatency(1, 0.0, 0.0)], 1))
"""Model of a variant without measured lengths."""
