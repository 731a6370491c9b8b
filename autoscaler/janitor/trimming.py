"""Which records of work are done, so that they may be deleted: those that every group that reads them has committed."""

from collections.abc import Mapping

from broker.lag.reader import LagObservation
from broker.topic_logs import LogPartition
from schemas.topics import is_work


def idle_ends(reading: LagObservation, trimmed: Mapping[LogPartition, int]) -> dict[LogPartition, int]:
    """Ends of partitions of work all of whose records are done and were deleted, as far as Kafka deletes them."""
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
    """Offsets before which the records of partitions may be deleted, where they have not been `trimmed` to that before.

    Never beyond what is committed: a partition of which any group has committed nothing, or of which that is unknown,
    keeps all that it has.
    """
    committed = dict[LogPartition, int]()
    for (_group, topic, number), offset in zip(reading.group_partitions, reading.committed.tolist(), strict=True):
        if is_work(topic):
            partition = LogPartition(topic, number)
            committed[partition] = min(committed.get(partition, offset), offset)
    return {
        partition: offset for partition, offset in committed.items() if offset > 0 and offset != trimmed.get(partition)
    }
