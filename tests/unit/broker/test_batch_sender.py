"""Tests of `BatchSender`: records linger no longer than they may, and share the requests of their node."""

import asyncio
import struct
from collections.abc import Sequence
from math import inf
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from broker.kafka.encoded_request import RawResponse
from broker.kafka.types import KafkaError
from broker.producing.batch_sender import BatchSender
from broker.producing.partition_queue import PartitionQueue
from broker.producing.records import Ack, InFlightLimit, PendingRecord
from tests.unit.broker.quick_loop import QuickLoop

PARTITIONS = 3
TOPIC = b"t"
WRITTEN = struct.pack(">ih", 1, len(TOPIC)) + TOPIC + struct.pack(">i", PARTITIONS) + b"".join(
    struct.pack(">ihqqq", number, 0, 0, -1, 0) for number in range(PARTITIONS)
)  # fmt: skip


class Broker:
    """Broker that writes all records, answers after `answer_s`, and notes the time of each."""

    def __init__(self, loop: QuickLoop, answer_s: float) -> None:
        self.requests: list[list[PendingRecord]] = []
        self.sent_at: dict[PendingRecord, float] = {}
        self.queues = [PartitionQueue(TOPIC.decode(), number) for number in range(PARTITIONS)]
        for queue in self.queues:
            queue.leader = 1
        self._loop = loop
        self._answer_s = answer_s

    async def send(self, _node: int, _request: Any, *, group: Any) -> RawResponse:
        records = [r for queue in self.queues if queue.in_request and queue.batch for r in queue.batch.records]
        self.requests.append(records)
        self.sent_at.update(dict.fromkeys(records, self._loop.time()))
        await asyncio.sleep(self._answer_s)
        return RawResponse(WRITTEN)


class Added(NamedTuple):
    """Record, and the time at which it was added."""

    record: PendingRecord
    at: float
    linger_s: float


class Sending:
    """Sender on a loop whose clock advances instead of waiting."""

    def __init__(self, answer_s: float = 0.0) -> None:
        self.loop = QuickLoop()
        self.broker = Broker(self.loop, answer_s)
        self.written = 0
        self.added: list[Added] = []
        self.sender = self.loop.run_until_complete(self._start())

    async def _start(self) -> BatchSender:
        client: Any = self.broker
        sender = BatchSender(client, InFlightLimit(1000, 1_000_000), compression=0, timeout_s=10.0)
        sender.idempotent = False
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        sender.use_tasks(self._tasks)
        return sender

    def add(self, partition: int, linger_s: float) -> PendingRecord:
        """Add a record that may linger for `linger_s`."""
        now = self.loop.time()
        record = PendingRecord(b"v", None, [], 0, inf, self._on_ack)
        self.added.append(Added(record, now, linger_s))
        self.sender.add(self.broker.queues[partition], record, now + linger_s if linger_s else 0.0)
        return record

    def _on_ack(self, outcome: Ack | KafkaError) -> None:
        assert isinstance(outcome, Ack)
        self.written += 1

    def pass_time(self, seconds: float) -> None:
        self.loop.pass_time(seconds)

    def close(self) -> None:
        self.loop.run_until_complete(self._tasks.__aexit__(None, None, None))
        self.loop.close()


Steps = Sequence[tuple[float, int, float]]
"""Pauses in seconds, each with the partition and the linger of the record after it."""


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.001, 0.004, 0.02]), st.integers(0, PARTITIONS - 1),
            st.sampled_from([0.0, 0.001, 0.005, 0.01]),
        ),
        min_size=1, max_size=25,
    ),
    answer_s=st.sampled_from([0.0, 0.001, 0.01]),
)  # fmt: skip
def test_batch_sender_sends_records_in_time_and_in_order(steps: Steps, answer_s: float) -> None:
    sending = Sending(answer_s)
    for pause_s, partition, linger_s in steps:
        sending.pass_time(pause_s)
        sending.add(partition, linger_s)
    sending.pass_time(1.0)
    sent_at = sending.broker.sent_at
    assert sending.written == len(steps)
    for added in sending.added:  # a record that is due during a request is sent after its answer
        assert added.at <= sent_at[added.record] <= added.at + added.linger_s + answer_s + 1e-6
    in_order = [r for request in sending.broker.requests for r in request]
    for partition in range(PARTITIONS):
        ours = [a.record for a, step in zip(sending.added, steps, strict=True) if step[1] == partition]
        assert ours == [record for record in in_order if record in ours]
    sending.close()


def test_batch_sender_batches_lingering_records() -> None:
    sending = Sending()
    for partition in (0, 1, 0, 2):
        sending.add(partition, 0.01)
        sending.pass_time(0.002)
    assert sending.broker.requests == []
    sending.pass_time(0.01)
    assert [len(request) for request in sending.broker.requests] == [4]
    sending.close()


def test_batch_sender_sends_all_with_an_urgent_record() -> None:
    sending = Sending()
    sending.add(0, 10.0)
    sending.add(1, 10.0)
    sending.pass_time(1.0)
    assert sending.broker.requests == []
    sending.add(0, 0.0)
    sending.pass_time(0.001)
    assert [len(request) for request in sending.broker.requests] == [3]
    sending.close()


def test_batch_sender_lets_records_linger_after_a_request() -> None:
    sending = Sending(answer_s=0.001)
    sending.add(0, 0.0)
    sending.pass_time(0.0005)
    sending.add(0, 0.01)
    sending.pass_time(0.005)
    assert len(sending.broker.requests) == 1
    sending.pass_time(0.01)
    assert [len(request) for request in sending.broker.requests] == [1, 1]
    sending.close()


def test_linger_no_more_sends_waiting_records() -> None:
    sending = Sending(answer_s=0.001)
    sending.add(0, 0.0)
    sending.pass_time(0.0005)
    sending.add(0, 3600.0)
    sending.add(1, 3600.0)
    sending.sender.linger_no_more()
    sending.pass_time(0.01)
    assert sending.written == 3
    sending.close()
