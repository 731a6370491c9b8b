"""Encodes each lag reading as its changes since the previous one, with health and the sums of the minute.

A row holds only the changes since the row before, and once a minute everything. So a reader needs to look back at most
one minute to know the full state.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autoscaler.observe.backlogs import TopicBacklog
from autoscaler.record.group_health import HEALTHS, GroupHealthWindow
from autoscaler.record.lag_minute import LagMinuteAggregator, minute_of
from broker.lag.reader import LagObservation
from schemas import topics
from schemas.rows.samples import GroupHealth, LagMinute, LagReading
from schemas.status import SERVING, WorkerStatus

_STALLED: Final = HEALTHS.index(GroupHealth.STALLED)
_LAGGING: Final = HEALTHS.index(GroupHealth.LAGGING)


class LagDeltaEncoder:
    """Encoder of the readings of one set of group partitions, starting with the first reading."""

    def __init__(self, first: LagObservation, ids: Collection[int]) -> None:
        self.group_partitions = first.group_partitions
        self._ids = np.fromiter(ids, np.int64, len(self.group_partitions))
        self._health = GroupHealthWindow(len(self.group_partitions))
        self._sums = LagMinuteAggregator(first)
        self._minute: datetime | None = None
        self._before: tuple[NDArray[np.generic], ...] | None = None
        self._rows: dict[str, slice] = {}
        """Rows of a reading, by topic of a variant."""
        self._offline = np.zeros(len(self.group_partitions), np.bool_)
        self._of_selectors = np.zeros(len(self.group_partitions), np.bool_)
        for row, group_partition in enumerate(self.group_partitions):
            self._offline[row] = topics.is_offline(group_partition.topic)
            if group_partition.group in (topics.SELECTOR_GROUP, topics.OFFLINE_SELECTOR_GROUP):
                self._of_selectors[row] = True
            else:
                begin = self._rows.get(group_partition.topic, slice(row, row)).start
                self._rows[group_partition.topic] = slice(begin, row + 1)

    def judge(self, reading: LagObservation, workers: Iterable[WorkerStatus], *, selectors: bool) -> NDArray[np.int8]:
        """Return the health of each group partition; `selectors` is true if any selector is active."""
        served = self._of_selectors & selectors
        for worker in workers:
            for instance in worker.instances:
                owned = instance.partitions if instance.state in SERVING else ()
                for topic in topics.variant_topics(instance.variant):
                    rows = self._rows.get(topic, slice(0, 0))
                    numbers = [p.partition for p in owned if p.partition < rows.stop - rows.start]
                    served[[rows.start + number for number in numbers]] = True
        found = self._health.judge(reading.committed, reading.lag, served, reading.lost > 0)
        # Offline queries may wait long until something is idle; while their reader lives that is no alarm.
        found[self._offline & (found == _STALLED)] = _LAGGING
        return found

    def encode(
        self, at: datetime, reading: LagObservation, healths: NDArray[np.int8]
    ) -> tuple[LagReading, LagMinute | None]:
        """Return the row of this reading, and the previous minute's row if that minute has ended."""
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
        """Make the next row a full one, because the last one was not written."""
        self._before = None

    def waiting(self, reading: LagObservation, before: Mapping[str, TopicBacklog]) -> dict[str, TopicBacklog]:
        """Return the waiting records of each topic that has any; where lag is unknown, at least those of `before`."""
        records, ages = dict[str, int](), dict[str, float]()
        rows, lag_s = np.flatnonzero(reading.lag > 0), reading.lag_s
        for row, lag, age_s in zip(rows.tolist(), reading.lag[rows].tolist(), lag_s[rows].tolist(), strict=True):
            topic = self.group_partitions[row].topic
            records[topic] = records.get(topic, 0) + lag
            if age_s == age_s:
                ages[topic] = max(ages.get(topic, 0.0), age_s)
        found = {topic: TopicBacklog(count, ages.get(topic)) for topic, count in records.items()}
        for topic in {self.group_partitions[row].topic for row in np.flatnonzero(reading.lag < 0).tolist()}:
            if topic in before and records.get(topic, 0) < before[topic].records:
                found[topic] = before[topic]
        return found


def _changed(before: tuple[NDArray[np.generic], ...], now: tuple[NDArray[np.generic], ...]) -> NDArray[np.intp]:
    different = np.zeros(len(now[0]), np.bool_)
    for one, other in zip(before, now, strict=True):
        different |= (one != other) & ((one == one) | (other == other))  # nan to nan is no change
    return np.flatnonzero(different)
