"""Encodes each reading of lag as what changed since the one before, with its health and the sums of the minute.

A row names only what changed since the row before, and everything once a minute, so that nobody has to look further
back than a minute to know how things are.
"""

from collections.abc import Collection, Iterable
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from autoscaler.record.group_health import GroupHealthWindow
from autoscaler.record.lag_minute import LagMinuteAggregator, minute_of
from broker.lag.reader import LagObservation
from schemas import topics
from schemas.rows.samples import LagMinute, LagReading
from schemas.status import SERVING, WorkerStatus


class LagDeltaEncoder:
    """Encoder of the readings of one set of group partitions, from the first reading on."""

    def __init__(self, first: LagObservation, ids: Collection[int]) -> None:
        self.group_partitions = first.group_partitions
        self._ids = np.fromiter(ids, np.int64, len(self.group_partitions))
        self._health = GroupHealthWindow(len(self.group_partitions))
        self._sums = LagMinuteAggregator(first)
        self._minute: datetime | None = None
        self._before: tuple[NDArray[np.generic], ...] | None = None
        self._rows: dict[str, slice] = {}
        """Columns of a reading, by topic of a variant."""
        self._of_selectors = np.zeros(len(self.group_partitions), np.bool_)
        for row, group_partition in enumerate(self.group_partitions):
            if group_partition.group in (topics.SELECTOR_GROUP, topics.OFFLINE_SELECTOR_GROUP):
                self._of_selectors[row] = True
            else:
                begin = self._rows.get(group_partition.topic, slice(row, row)).start
                self._rows[group_partition.topic] = slice(begin, row + 1)

    def judge(self, reading: LagObservation, workers: Iterable[WorkerStatus], *, selectors: bool) -> NDArray[np.int8]:
        """Health of each group partition; `selectors` says whether any selector speaks."""
        served = self._of_selectors & selectors
        for worker in workers:
            for instance in worker.instances:
                rows = self._rows.get(topics.variant_topic(instance.variant))
                if rows is not None and instance.state in SERVING:
                    numbers = [p.partition for p in instance.partitions if p.partition < rows.stop - rows.start]
                    served[[rows.start + number for number in numbers]] = True
        return self._health.judge(reading.committed, reading.lag, served)

    def encode(
        self, at: datetime, reading: LagObservation, healths: NDArray[np.int8]
    ) -> tuple[LagReading, LagMinute | None]:
        """Row of this reading, and that of the minute before if it has ended."""
        minute = minute_of(at)
        ended = None
        if self._minute is not None and self._minute != minute:
            ended = self._sums.to_row(self._minute, self._ids)
            self._sums = self._sums.next_minute()
        before = self._before if self._minute == minute else None
        self._minute = minute
        self._sums.add(reading)
        columns = (reading.end, reading.committed, reading.lag, reading.since_s, healths)
        rows = np.arange(len(self.group_partitions)) if before is None else _changed(before, columns)
        self._before = columns
        end, committed, lag, since_s, health = (column[rows].tolist() for column in columns)
        row = LagReading(
            at=at,
            whole=before is None,
            group_partitions=self._ids[rows].tolist(),
            end_offsets=end,
            committed=committed,
            lags=lag,
            since_s=since_s,
            healths=health,
        )
        return row, ended

    def reset(self) -> None:
        """Make the next row whole, since the last one was not written."""
        self._before = None

    def ages(self, reading: LagObservation, variants: Iterable[str]) -> dict[str, dict[int, float | None]]:
        """Seconds since the oldest unanswered query came, by variant and partition; None is unknown."""
        lag_s = reading.lag_s
        found: dict[str, dict[int, float | None]] = {}
        for variant in variants:
            rows = self._rows.get(topics.variant_topic(variant))
            if rows is not None:
                ages = lag_s[rows].tolist()
                found[variant] = {number: None if age != age else age for number, age in enumerate(ages)}
        return found

    def waiting_variants(self, reading: LagObservation) -> set[str]:
        """Variants in whose topic something waits."""
        rows = np.flatnonzero((reading.lag > 0) & ~self._of_selectors).tolist()
        return {self.group_partitions[row].topic.removeprefix(topics.VARIANTS) for row in rows}


def _changed(before: tuple[NDArray[np.generic], ...], now: tuple[NDArray[np.generic], ...]) -> NDArray[np.intp]:
    different = np.zeros(len(now[0]), np.bool_)
    for one, other in zip(before, now, strict=True):
        different |= (one != other) & ((one == one) | (other == other))  # nan is not news
    return np.flatnonzero(different)
