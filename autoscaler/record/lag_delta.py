"""Encodes each lag reading as its changes since the previous one, with health, the sums of the minute, and losses.

A row holds only the changes since the row before, and once a minute everything. So a reader needs to look back at most
one minute to know the full state. The sums of a minute are added while its readings are taken, so that they need not be
read again.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autoscaler.observe.snapshot_builder import TopicBacklog
from autoscaler.record.group_health import HEALTHS, GroupHealthWindow
from broker.lag.reader import GroupPartition, LagObservation
from schemas import topics
from schemas.rows.samples import GroupHealth, LagMinute, LagReading, LagSample
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


class LossCounter:
    """Counter of the records that were deleted before their group had committed them, each once.

    The gap between a committed offset and the begin of the log appears in each reading until the group commits beyond
    it, so only its growth is counted. A group that was rewound, by a zombie or a person, has lost nothing that it had
    committed before: those records were finished and trimmed.

    Args:
        group_partitions: the order of values in a reading.
        accounted: offsets below which records are known to be committed, or were counted as lost.
    """

    def __init__(self, group_partitions: Sequence[GroupPartition], accounted: Mapping[GroupPartition, int]) -> None:
        self._group_partitions = group_partitions
        self._accounted = np.array([accounted.get(found, 0) for found in group_partitions], np.int64)

    @property
    def accounted(self) -> dict[GroupPartition, int]:
        """Offsets below which records are known to be committed or were counted as lost, to continue with."""
        return dict(zip(self._group_partitions, self._accounted.tolist(), strict=True))

    def count(self, reading: LagObservation) -> NDArray[np.int64]:
        """Add a reading; return the records lost since the previous one, by group partition."""
        accounted = np.maximum(self._accounted, reading.committed)
        # An end below the accounted offset: the topic was recreated.
        made_anew = (reading.end >= 0) & (reading.end < accounted)
        accounted[made_anew] = np.maximum(reading.committed[made_anew], 0)
        begins = np.where(reading.lost > 0, reading.committed + reading.lost, 0)
        lost = np.maximum(begins - accounted, 0)
        self._accounted = np.maximum(accounted, begins)
        return lost


def accounted_in(samples: Iterable[LagSample]) -> dict[GroupPartition, int]:
    """Return the offsets that an earlier leader accounted for: end offset less lag of its last reading."""
    return {
        GroupPartition(one.consumer_group, one.topic, one.partition): one.end_offset - one.lag
        for one in samples
        if one.committed is not None and one.end_offset is not None and one.lag is not None
    }
