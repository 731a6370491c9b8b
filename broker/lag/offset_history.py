"""Ends of partitions at past readings, which give the time at which a record was written without reading it.

A record was written after the last reading at which the end had not passed it, and before the next one. Between the
two, records are assumed to be written at an even rate. So the time of a record is known to a fraction of the interval
between two readings, at no cost for the broker. Pure: the caller passes times in seconds of any one clock.

The history is bounded: when it is full, every other reading of its older half is dropped. The readings of the last
minute stay complete, and older ones get sparse with age, so the precision is always about proportional to the age.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

READINGS: Final = 128
UNSEEN: Final = -1
"""End that is not known, for example of a partition that did not exist yet."""


class OffsetHistory:
    """Ends of a fixed set of partitions at past readings, one column per partition."""

    def __init__(self, columns: int) -> None:
        self._at_s = np.zeros(READINGS)
        self._ends = np.full((READINGS, columns), UNSEEN, np.int64)
        self._count = 0

    def add(self, at_s: float, ends: NDArray[np.int64]) -> None:
        """Add a reading of all columns; an end that is UNSEEN is assumed to be unchanged."""
        if self._count == READINGS:
            self._thin()
        now, past = self._count, self._ends[: self._count]
        if now:
            before = past[-1]
            # The end went back, so the partition was made again.
            past[:, (ends < before) & (ends != UNSEEN)] = UNSEEN
            ends = np.where(ends == UNSEEN, before, ends)
        self._at_s[now] = at_s
        self._ends[now] = ends
        self._count += 1

    def written_s(self, columns: NDArray[np.intp], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the times at which records at these offsets, which are before the last ends, were written.

        nan: before the first reading.
        """
        count = self._count
        found = np.full(len(columns), np.nan)
        if count < 2 or not len(columns):
            return found
        ends = self._ends[:count, columns]
        last = (ends <= offsets).sum(axis=0) - 1
        known = np.flatnonzero((last >= 0) & (last < count - 1))
        low, at = ends[last[known], known], last[known]
        reaches = low != UNSEEN
        known, low, at = known[reaches], low[reaches], at[reaches]
        share = (offsets[known] - low + 0.5) / (ends[at + 1, known] - low)
        found[known] = self._at_s[at] + share * (self._at_s[at + 1] - self._at_s[at])
        return found

    def remapped(self, columns: int, new: NDArray[np.intp], old: NDArray[np.intp]) -> "OffsetHistory":
        """Copy the history for another set of partitions: its columns `new` are the columns `old` of this one."""
        history = OffsetHistory(columns)
        history._count = self._count
        history._at_s[:] = self._at_s
        history._ends[:, new] = self._ends[:, old]
        return history

    def _thin(self) -> None:
        half = READINGS // 2
        kept = np.r_[0:half:2, half:READINGS]
        self._count = len(kept)
        self._at_s[: self._count] = self._at_s[kept]
        self._ends[: self._count] = self._ends[kept]
