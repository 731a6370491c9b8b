"""Tests of `FetchedPartition`: each record is taken once and in order, and lost records are counted.

The log is fetched in parts. Some batches are damaged in the log, others only on their way.
"""

import asyncio

from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from broker.fetch.fetched_partition import BELIEVED_AFTER, FetchedPartition, Losses
from tests.unit.broker.test_record_batches import batch_of

Sizes = list[int]


class Log:
    """Log of batches; the batches numbered in `broken` never fit their checksum."""

    def __init__(self, sizes: Sizes, broken: set[int]) -> None:
        self.batches: list[tuple[int, int, bytes]] = []
        self.lost: set[int] = set()
        first = 0
        for number, size in enumerate(sizes):
            data = batch_of([b"%d" % (first + place) for place in range(size)], first)
            if number in broken:
                data = damaged(data)
                self.lost.update(range(first, first + size))
            self.batches.append((first, first + size, data))
            first += size
        self.end = first

    def fetch(self, position: int, count: int, noise: set[int]) -> bytes:
        """Return up to `count` batches from `position` on; batches in `noise` are damaged on their way."""
        found = [batch for batch in self.batches if batch[1] > position][:count]
        return b"".join(damaged(data, 31) if place in noise else data for place, (_, _, data) in enumerate(found))


def damaged(batch: bytes, at: int = 30) -> bytes:
    return batch[:at] + bytes([batch[at] ^ 0xFF]) + batch[at + 1 :]


def lost(topic: str) -> float:
    return REGISTRY.get_sample_value("infaas_records_lost_total", {"topic": topic, "why": "damaged"}) or 0.0


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=8),
    broken=st.sets(st.integers(0, 7), max_size=3),
    start=st.integers(0, 6),
    data=st.data(),
)
def test_fetched_partition_takes_each_record_once_in_order(
    sizes: Sizes, broken: set[int], start: int, data: st.DataObject
) -> None:
    log, key = Log(sizes, broken), TopicPartition("fetched-partition", 0)
    loop = asyncio.new_event_loop()
    state = FetchedPartition(key, start, loop.create_future(), Losses())
    loop.close()
    state.move_to(start)
    before, noisy = lost(key.topic), BELIEVED_AFTER - 1
    taken: list[int] = []
    while state.taken < log.end:
        if state.position < log.end and (not state.ready or data.draw(st.booleans())):
            noise = data.draw(st.sets(st.integers(0, 2))) if noisy else set[int]()
            noisy -= bool(noise)
            assert state.add(log.fetch(state.position, data.draw(st.integers(1, 3)), noise), log.end)
        taken += [record.offset for record in state.take(data.draw(st.integers(1, 5))).records]
    expected = range(start, log.end)
    assert taken == [offset for offset in expected if offset not in log.lost]
    assert lost(key.topic) - before == len(log.lost.intersection(expected))
    assert state.take(1) == ([], {})
    assert not state.held_bytes
