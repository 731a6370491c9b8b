"""Sums up the readings of a minute while they are taken, so that they need not be read again."""

from datetime import datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from broker.lag.reader import LagObservation
from schemas.rows.samples import LagMinute

MINUTE: Final = timedelta(minutes=1)


class LagMinuteAggregator:
    """Sums of one set of group partitions, since the minute began or since the set was made."""

    def __init__(self, first: LagObservation) -> None:
        group_partitions = len(first.group_partitions)
        self._readings = 0
        self._known = np.zeros(group_partitions, np.int64)
        """Number of readings in which the lag was known."""
        self._sum = np.zeros(group_partitions)
        self._lag_max = np.zeros(group_partitions, np.int64)
        self._lag_s_max = np.zeros(group_partitions)
        self._begin = self._last = first

    def add(self, reading: LagObservation) -> None:
        """Add a reading of the same group partitions."""
        known = reading.lag >= 0
        self._readings += 1
        self._known += known
        self._sum += np.where(known, reading.lag, 0)
        np.maximum(self._lag_max, reading.lag, out=self._lag_max)
        np.fmax(self._lag_s_max, reading.lag_s, out=self._lag_s_max)
        self._last = reading

    def to_row(self, at: datetime, ids: NDArray[np.int64]) -> LagMinute:
        """Row of the minute that began at `at`: group partitions that were behind or moved; `ids` are their numbers."""
        arrived = _advance(self._begin.end, self._last.end)
        completed = _advance(self._begin.committed, self._last.committed)
        shown = np.flatnonzero((self._lag_max > 0) | (arrived > 0) | (completed > 0))
        mean = self._sum[shown] / np.maximum(self._known[shown], 1)
        return LagMinute(
            at=at,
            readings=self._readings,
            group_partitions=ids[shown].tolist(),
            arrived=arrived[shown].tolist(),
            completed=completed[shown].tolist(),
            lag_max=self._lag_max[shown].tolist(),
            lag_mean=mean.tolist(),
            lag_s_max=self._lag_s_max[shown].tolist(),
        )

    def next_minute(self) -> "LagMinuteAggregator":
        """Aggregator of the minute that follows; what moved between its first reading and our last counts there."""
        return LagMinuteAggregator(self._last)


def minute_of(at: datetime) -> datetime:
    """The minute that `at` is in."""
    return at.replace(second=0, microsecond=0)


def _advance(before: NDArray[np.int64], after: NDArray[np.int64]) -> NDArray[np.int64]:
    """How far offsets moved; what was unknown, or went back, did not. Never committed counts as nothing committed."""
    unknown = (before < -1) | (after < 0)
    return np.where(unknown, 0, np.maximum(after - np.maximum(before, 0), 0))
