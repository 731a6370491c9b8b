"""Latency of a variant as a function of the batch size, from what was measured."""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Final

import msgspec

from schemas.interpolation import interpolate

BATCH_OVERHEAD_S: Final = 0.0005
"""Seconds that a batch costs beside its computation, about: a thread is woken, and waits for the interpreter."""
PIECE_S: Final = 0.005
"""Predicted seconds of a piece of a large query, unless one batch takes longer: others wait for no more than that."""
PIECES_SHARE: Final = 0.25
"""Share of the slots' time that pieces have while other online work waits."""
_CALL_S: Final = 2e-5
"""Seconds that a call of a session costs beside its computation, where several are made in a row."""
_AS_GOOD: Final = 0.01
"""Share by which a batch size may be slower per input and still count as the best."""
_MOST_NOISE: Final = 0.1
_LEAST_GROWTH: Final = 0.7


class BatchLatency(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What was measured at one batch size; seconds."""

    batch: int
    p50_s: float
    p99_s: float
    cpu_s: float = 0.0
    """CPU seconds of all threads, the median; 0 where it was not measured."""
    runs: int = 0
    """Runs behind these; 0 where it was not counted."""
    discarded: int = 0
    """Runs that met a busy machine and do not count."""
    noise: float = 0.0
    """Share by which measurements apart in time differ, or that was lost to others."""
    mean_s: float | None = None
    """Where the time depends on what the inputs are, and not only on how many, as a cascade's does. Then the mean is
    what load and price count with, and the p99 what a promise does; elsewhere the median is both."""

    @property
    def typical_s(self) -> float:
        """Seconds that count in the long run."""
        return self.p50_s if self.mean_s is None else self.mean_s

    @property
    def promised_s(self) -> float:
        """Seconds within which nearly every such batch is computed."""
        return self.p50_s if self.mean_s is None else max(self.p99_s, self.mean_s)


def is_noisy(measured: Sequence[BatchLatency]) -> bool:
    """Whether something else had the machine all the time, or must have: more inputs took less time."""
    falls = any(after.typical_s < _LEAST_GROWTH * before.typical_s for before, after in pairwise(measured))
    return falls or any(point.noise > _MOST_NOISE for point in measured)


class LatencyModel:
    """Predicts the seconds a batch takes, in constant time; more inputs never take less.

    Everyone who predicts from a profile does so by this class, so that all predict the same. Measured medians of
    neighbouring batches sometimes cross by noise: what grew stays grown, since it is a prediction that grows with the
    work which lets a selector filter candidates once for a whole class of queries.

    Between measured sizes it interpolates, beyond the largest it extrapolates along the last segment. INFaaS predicts
    with one least-squares line over batches 1, 4 and 8; the line is kept in the profile to compare variants, but a
    line misses small batches (fixed cost, vector widths) by more than deadlines of milliseconds allow.
    """

    __slots__ = ("_best_batch", "_promised", "_table", "correction", "max_batch")

    def __init__(self, measured: Sequence[BatchLatency], max_batch: int, correction: float = 1.0) -> None:
        """`correction` multiplies all that was measured: what was seen of it since, over long."""
        if not measured:
            raise ValueError("a latency model needs at least one measured batch size")
        self.max_batch = max_batch
        self.correction = correction
        self._table = _table([(m.batch, correction * m.typical_s) for m in measured], max_batch)
        self._promised = self._table
        self._best_batch = 0
        if any(m.mean_s is not None for m in measured):
            promised = _table([(m.batch, correction * m.promised_s) for m in measured], max_batch)
            self._promised = [max(seconds) for seconds in zip(promised, self._table, strict=True)]

    @property
    def is_even(self) -> bool:
        """Whether batches of a size all take about as long."""
        return self._promised is self._table

    @property
    def best_batch(self) -> int:
        """The batch size of the highest throughput; the smallest of those that are as good but for a percent.

        A larger one would take as long for each input, and keep all in it, and the next batch, waiting for the last.
        """
        if not self._best_batch:
            per_input = [(self._table[size] + BATCH_OVERHEAD_S) / size for size in range(1, self.max_batch + 1)]
            enough = min(per_input) * (1 + _AS_GOOD)
            self._best_batch = 1 + next(index for index, seconds in enumerate(per_input) if seconds <= enough)
        return self._best_batch

    @property
    def piece_inputs(self) -> int:
        """Inputs of a piece: as many best batches as are computed in `PIECE_S`, at least one.

        A query with more inputs is large: it is computed in pieces, and other queries are computed between them.
        """
        best = self.best_batch
        return best * max(int(PIECE_S / (self._table[best] + _CALL_S)), 1)

    def is_large(self, inputs: int) -> bool:
        """Whether a query of so many inputs is computed in pieces."""
        return inputs > self.max_batch and inputs > self.piece_inputs

    def query_s(self, inputs: int) -> float:
        """Seconds within which a slot computes a query that has it alone, and whatever number of inputs."""
        if not self.is_large(inputs):
            return self.promised_s(inputs)
        best, pieces = self.best_batch, math.ceil(inputs / self.piece_inputs)
        seconds = math.ceil(inputs / best) * (self._table[best] + _CALL_S) + pieces * BATCH_OVERHEAD_S
        return max(self.promised_s(inputs), seconds)

    def batch_s(self, batch: int) -> float:
        """Seconds of one batch of `batch` inputs; a larger batch than `max_batch` runs in several parts."""
        return self._table[batch] if batch <= self.max_batch else _in_parts(self._table, batch)

    def promised_s(self, batch: int) -> float:
        """Seconds within which nearly every such batch is computed; more than `batch_s` where inputs differ."""
        return self._promised[batch] if batch <= self.max_batch else _in_parts(self._promised, batch)

    def input_s(self) -> float:
        """Seconds an input takes at the largest batch: the reciprocal of the peak throughput."""
        return self._table[self.max_batch] / self.max_batch


def _table(points: Sequence[tuple[int, float]], max_batch: int) -> list[float]:
    """Seconds by batch size, from 0 on; never falling."""
    batches, seconds = zip(*sorted(points), strict=True)
    grown = list(zip(batches, accumulate(seconds, max), strict=True))
    # The outer maximum is for what interpolation rounds.
    return [0.0, *accumulate((_seconds_at(grown, b) for b in range(1, max_batch + 1)), max)]


def _seconds_at(points: Sequence[tuple[float, float]], batch: int) -> float:
    if len(points) == 1:
        return points[0][1] * batch / points[0][0]
    return max(interpolate(points, batch), 0.0)


def _in_parts(table: Sequence[float], batch: int) -> float:
    """Seconds of more inputs than a batch may hold: full ones one after the other, then the rest."""
    parts, rest = divmod(batch, len(table) - 1)
    return parts * table[-1] + table[rest]
