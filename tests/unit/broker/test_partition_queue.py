"""Tests of `PartitionQueue`: batches keep their sequence, and each record waits in one place or has ended once."""

from typing import Any

from aiokafka.partitioner import DefaultPartitioner
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import settings as profile
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker.producing.partition_queue import ANONYMOUS, PartitionQueue, ProducerIdentity, choose_queue
from broker.producing.records import PendingRecord


class PartitionLog:
    """Log of one partition at a broker: records, and the next sequence of each producer."""

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self._next: dict[tuple[int, int], int] = {}
        self._last: dict[tuple[int, int], int] = {}

    def write(self, data: bytes) -> bool:
        """Write a batch unless it is a duplicate; return false if its sequence is wrong."""
        batch: Any = MemoryRecords(data).next_batch()
        who, first = (batch.producer_id, batch.producer_epoch), batch.base_sequence
        values = [bytes(record.value or b"") for record in batch]
        if who == ANONYMOUS:
            self.values += values
            return True
        if self._last.get(who) == first:
            return True
        if self._next.get(who, 0) != first:
            return False
        self._last[who], self._next[who] = first, first + len(values)
        self.values += values
        return True


class QueueMachine(RuleBasedStateMachine):
    """Attempts of every outcome: written, lost before or after the broker received them, refused as too large."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = PartitionQueue("t", 0)
        self.log = PartitionLog()
        self.identities = 0
        self.ends: dict[bytes, list[str]] = {}
        self.records: dict[bytes, PendingRecord] = {}
        self.now = 0.0

    def end(self, record: PendingRecord, how: str) -> None:
        if record.on_ack is not None:
            record.on_ack = None
            self.ends[record.value or b""].append(how)

    @rule(count=st.integers(1, 5))
    def add(self, count: int) -> None:
        for _ in range(count):
            value = b"%d" % len(self.ends)
            self.ends[value] = []
            record = PendingRecord(value, None, [], 0, self.now + 10, lambda _outcome: None)
            self.records[value] = record
            self.queue.waiting.append(record)

    @precondition(lambda self: not self.queue.in_request)
    @rule()
    def take(self) -> None:
        self.queue.drop_ended()
        if self.queue.identity is None:
            self.identities += 1
            self.queue.identity = ProducerIdentity(self.identities, 0)
        self.queue.take(0)

    @precondition(lambda self: self.queue.in_request)
    @rule(arrived=st.booleans())
    def lose_answer(self, arrived: bool) -> None:
        batch = self.queue.batch
        assert batch is not None
        if arrived:
            assert self.log.write(batch.data), "out of sequence"
        batch.maybe_written = True
        self.queue.in_request = False

    @precondition(lambda self: self.queue.in_request)
    @rule()
    def answer(self) -> None:
        batch = self.queue.batch
        assert batch is not None
        assert self.log.write(batch.data), "out of sequence"
        for record in batch.records:
            self.end(record, "written")
        self.queue.in_request = False
        self.queue.written()

    @precondition(lambda self: self.queue.in_request)
    @rule()
    def refuse_as_too_large(self) -> None:
        batch = self.queue.batch
        assert batch is not None
        self.queue.in_request = False
        if batch.maybe_written:
            self.queue.forget_identity()
        if len(batch.records) == 1:
            self.end(batch.records[0], "refused")
        else:
            self.queue.split()
        self.queue.put_back()

    @rule(seconds=st.sampled_from([1.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        for record in self.queue.expired(self.now):
            self.end(record, "late")

    @invariant()
    def each_record_is_somewhere_or_has_ended_once(self) -> None:
        batch = self.queue.batch.pending() if self.queue.batch else []
        here = [record.value or b"" for record in [*batch, *self.queue.waiting]]
        assert len(here) == len(set(here))
        for value, ends in self.ends.items():
            assert (value in here) != bool(ends)
            assert len(ends) <= 1

    @invariant()
    def what_is_acknowledged_is_written_in_order(self) -> None:
        written = [value for value, ends in self.ends.items() if ends == ["written"]]
        there = list(dict.fromkeys(self.log.values))
        assert [value for value in there if value in set(written)] == written


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = profile(max_examples=60, stateful_step_count=40, deadline=None)


def test_choose_queue_partitions_keys_as_other_clients_do() -> None:
    queues = [PartitionQueue("t", number) for number in range(4)]
    for key in (b"a", b"b", b"c", b"query-1", b""):
        assert choose_queue(queues, key, None).number == DefaultPartitioner()(key, [0, 1, 2, 3], [])
    queues[2].leader = 1
    assert choose_queue(queues, None, None) is queues[2], "no key: one that has a leader"
    assert choose_queue(queues, b"a", 3) is queues[3]
