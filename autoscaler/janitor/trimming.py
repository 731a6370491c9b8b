"""Which records of work are done, so that they may be deleted: those that every group that reads them has committed."""

from collections.abc import Mapping

from broker.lag.reader import LagObservation
from broker.topic_logs import LogPartition
from schemas.topics import is_work


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
