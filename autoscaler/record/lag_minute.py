"""Sums the readings of a minute while they are taken, so that they need not be read again."""

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
        """Number of readings with known lag."""
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
        """Return the row of the minute that began at `at`, with the `ids` of group partitions with lag or progress."""
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
        """Return the aggregator of the next minute; progress since the last reading counts there."""
        return LagMinuteAggregator(self._last)


def minute_of(at: datetime) -> datetime:
    """Return the start of the minute that contains `at`."""
    return at.replace(second=0, microsecond=0)


def _advance(before: NDArray[np.int64], after: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the progress of offsets; 0 where unknown or negative. Never committed counts as offset 0."""
    unknown = (before < -1) | (after < 0)
    return np.where(unknown, 0, np.maximum(after - np.maximum(before, 0), 0))
