"""Finds data in Kafka that may be deleted: records of work that every group has committed, and abandoned reply topics.

Owners of reply topics (gateways and clients) append a claim to their topic every few minutes
(`broker/replies/request_reply.py`), and delete the topic when they end. Topics that remain belong to killed owners. A
topic counts as abandoned only by what the watch observed itself. Time without observations does not count, because
owners may have been unable to claim, too.

Pure: the caller passes times in seconds of a monotonic clock.
"""

from collections.abc import Mapping

from broker.kafka.types import TopicPartition
from broker.lag.reader import LagObservation
from schemas.topics import is_work


def idle_ends(reading: LagObservation, trimmed: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Return the end offsets of partitions of work whose records are all committed and were trimmed."""
    found = dict[TopicPartition, int]()
    busy = set[TopicPartition]()
    rows = zip(reading.group_partitions, reading.committed.tolist(), reading.end.tolist(), strict=True)
    for (_group, topic, number), committed, end in rows:
        partition = TopicPartition(topic, number)
        if is_work(topic) and committed == end == trimmed.get(partition):
            found[partition] = end
        else:
            busy.add(partition)
    return {partition: end for partition, end in found.items() if partition not in busy}


def trimmable(reading: LagObservation, trimmed: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Return the offsets up to which partitions may be trimmed, unless they were `trimmed` to there already.

    Never beyond a commit: a partition with a group that has committed nothing, or whose commit is unknown, is kept.
    """
    committed = dict[TopicPartition, int]()
    for (_group, topic, number), offset in zip(reading.group_partitions, reading.committed.tolist(), strict=True):
        if is_work(topic):
            partition = TopicPartition(topic, number)
            committed[partition] = min(committed.get(partition, offset), offset)
    return {
        partition: offset for partition, offset in committed.items() if offset > 0 and offset != trimmed.get(partition)
    }


class ReplyTopicWatch:
    """Watch over the end offsets of reply topics.

    Args:
        age_s: least time without an append until a topic is abandoned.
        gap_s: longest time between two observations; after a longer one all observations start again.
    """

    def __init__(self, age_s: float, gap_s: float) -> None:
        self._age_s = age_s
        self._gap_s = gap_s
        self._looked_s = -gap_s
        self._stood: dict[str, tuple[int, float]] = {}
        """End offset by topic, and the time since which it is unchanged."""

    def abandoned(self, ends: Mapping[str, int], now_s: float) -> list[str]:
        """Record the end offsets of all reply topics; return the abandoned ones."""
        before = self._stood if now_s - self._looked_s <= self._gap_s else {}
        self._looked_s = now_s
        self._stood = {
            topic: known if (known := before.get(topic)) is not None and known[0] == end else (end, now_s)
            for topic, end in ends.items()
        }
        return [topic for topic, (_end, since_s) in self._stood.items() if now_s - since_s >= self._age_s]
