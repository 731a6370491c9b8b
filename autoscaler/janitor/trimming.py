"""Finds the records of work that may be deleted: those committed by every group that reads them."""

from collections.abc import Mapping

from broker.lag.reader import LagObservation
from broker.topic_logs import LogPartition
from schemas.topics import is_work


def idle_ends(reading: LagObservation, trimmed: Mapping[LogPartition, int]) -> dict[LogPartition, int]:
    """Return the end offsets of partitions of work whose records are all committed and were trimmed."""
    found = dict[LogPartition, int]()
    busy = set[LogPartition]()
    rows = zip(reading.group_partitions, reading.committed.tolist(), reading.end.tolist(), strict=True)
    for (_group, topic, number), committed, end in rows:
        partition = LogPartition(topic, number)
        if is_work(topic) and committed == end == trimmed.get(partition):
            found[partition] = end
        else:
            busy.add(partition)
    return {partition: end for partition, end in found.items() if partition not in busy}


def trimmable(reading: LagObservation, trimmed: Mapping[LogPartition, int]) -> dict[LogPartition, int]:
    """Return the offsets up to which partitions may be trimmed, unless they were `trimmed` to there already.

    Never beyond a commit: a partition with a group that has committed nothing, or whose commit is unknown, is kept.
    """
    committed = dict[LogPartition, int]()
    for (_group, topic, number), offset in zip(reading.group_partitions, reading.committed.tolist(), strict=True):
        if is_work(topic):
            partition = LogPartition(topic, number)
            committed[partition] = min(committed.get(partition, offset), offset)
    return {
        partition: offset for partition, offset in committed.items() if offset > 0 and offset != trimmed.get(partition)
    }
