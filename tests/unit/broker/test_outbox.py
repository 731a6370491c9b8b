"""Tests of `Outbox`: whatever Kafka and receivers do, each record is done once, and no topic delays another."""

import asyncio
from collections import Counter
from collections.abc import Callable

from aiokafka import TopicPartition
from hypothesis import settings as profile
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from broker.delivery.in_flight import InFlightTracker, RecordMemory
from broker.delivery.outbox import Message, Outbox
from broker.kafka.types import InvalidRecord, KafkaError, Record, RecordTooLarge, UnknownTopic
from broker.producing.producer import Ack, OnAck, Producer
from broker.replies.sender_connection import OnEnd, OnUnwanted
from schemas.errors import QueryError
from schemas.headers import RawHeaders
from schemas.result import OK, error_value
from schemas.topics import DEAD_LETTERS
from tests.unit.broker.quick_loop import QuickLoop
from tests.waiting import until

TIMEOUT_S = 10.0
TOPICS = ("variant", "replies-a", "replies-b")


class Kafka(Producer):
    """Producer that acknowledges or fails each record by the present state of its topic."""

    def __init__(self) -> None:
        self.result_timeout_s = 120.0
        self.written: list[tuple[str, bytes | None]] = []
        self.error: dict[str, Callable[[], KafkaError] | None] = {}
        self.leaderless: set[str] = set()
        self.acknowledging = 0.0

    def acknowledging_s(self) -> float:
        return self.acknowledging

    def now_ms(self) -> float:
        return 0.0

    async def post(
        self,
        topic: str,
        value: bytes | None,
        on_ack: OnAck,
        *,
        key: bytes | None = None,
        headers: RawHeaders | None = None,
        partition: int | None = None,
        linger_s: float = 0.0,
    ) -> None:
        loop = asyncio.get_running_loop()
        if topic in self.leaderless:
            loop.call_later(TIMEOUT_S, on_ack, KafkaError("no leader"))
        elif (make := self.error.get(topic)) is not None and not (make is RecordTooLarge and value == b"small"):
            loop.call_later(0.001, on_ack, make())
        else:
            self.written.append((topic, value))
            loop.call_later(0.001, on_ack, Ack(topic, 0, len(self.written)))


class Streams:
    """Reply streams that take a result, lose it after a second, or refuse it."""

    def __init__(self) -> None:
        self.way: bool | None = None

    def send(self, stream: str, headers: RawHeaders, value: bytes, on_end: OnEnd) -> bool:
        if self.way is None:
            return False
        asyncio.get_running_loop().call_later(0.001 if self.way else 1.0, on_end, self.way)
        return True

    def send_part(self, stream: str, headers: RawHeaders, value: bytes, on_unwanted: OnUnwanted) -> bool:
        raise AssertionError("an outbox sends no parts")


class OutboxMachine(RuleBasedStateMachine):
    """Records whose queries or results go to topics that fail and recover."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = QuickLoop()
        self.kafka = Kafka()
        self.streams = Streams()
        self.done: Counter[int] = Counter()
        self.sent: dict[int, str] = {}
        """Topic of each record's message, by offset."""
        self.troubled: set[str] = set()
        """Topics that were in trouble: their messages may still wait for a retry."""

    @initialize(max_attempts=st.sampled_from([None, 2]), places=st.sampled_from([8, 1000]))
    def start(self, max_attempts: int | None, places: int) -> None:
        async def make() -> Outbox:
            return Outbox(
                self.kafka, self._on_done, self._error_result, max_attempts=max_attempts, streams=self.streams,
                places=places,
            )  # fmt: skip

        self.outbox = self.loop.run_until_complete(make())
        self.retrying = self.loop.create_task(self.outbox.retry_failed())

    def _on_done(self, record: Record, _sent: Message | None) -> None:
        self.done[record.offset] += 1

    def _error_result(self, record: Record, error: QueryError) -> Message:
        return Message("replies-b", error_value("small"), [], record.key, status=error.code.value)

    @rule(way=st.sampled_from([True, False, None]))
    def receiver(self, way: bool | None) -> None:
        """Make the receiver take results, lose them, or be unreachable."""
        self.streams.way = way

    @rule(seconds=st.sampled_from([0.0, 100.0]))
    def acknowledge_others(self, seconds: float) -> None:
        """Set for how long Kafka has acknowledged other records; 0 if it does not."""
        self.kafka.acknowledging = seconds

    @rule(topic=st.sampled_from(TOPICS), count=st.integers(1, 8), streamed=st.booleans())
    def send(self, topic: str, count: int, streamed: bool) -> None:
        async def send_all() -> None:
            for _ in range(count):
                offset = len(self.sent)
                self.sent[offset] = topic
                record = Record("infaas.variants.v", 1, offset, 0, 0, b"k", b"v", ())
                message = Message(topic, b"x", [], b"q")
                if topic != "variant":
                    message = Message(topic, b"x", [], b"q", status=OK, stream="somewhere" if streamed else "")
                await self.outbox.send(record, message)

        self.loop.run_until_complete(send_all())

    @rule(
        topic=st.sampled_from([*TOPICS, DEAD_LETTERS]),
        error=st.sampled_from([KafkaError, UnknownTopic, RecordTooLarge, InvalidRecord, None]),
    )
    def trouble(self, topic: str, error: Callable[[], KafkaError] | None) -> None:
        """Make a topic refuse its records; without an error it has no leader."""
        if topic == DEAD_LETTERS and error is not None:
            error = KafkaError  # the topic exists, and a letter is shortened until it fits
        self.troubled.add(topic)
        self.kafka.error[topic] = error
        if error is None:
            self.kafka.leaderless.add(topic)

    @rule(topic=st.sampled_from([*TOPICS, DEAD_LETTERS]))
    def recover(self, topic: str) -> None:
        self.kafka.error[topic] = None
        self.kafka.leaderless.discard(topic)

    @rule(seconds=st.sampled_from([0.01, 0.5, 60.0]))
    def wait(self, seconds: float) -> None:
        self.loop.pass_time(seconds)
        if seconds < 60:
            return
        for offset, topic in self.sent.items():
            if topic not in self.troubled:
                assert self.done[offset] == 1, f"{topic} waited for {self.troubled}"

    @invariant()
    def nothing_is_done_twice(self) -> None:
        assert all(count == 1 for count in self.done.values())

    def teardown(self) -> None:
        try:
            for topic in (*TOPICS, DEAD_LETTERS):
                self.recover(topic)
            self.loop.pass_time(300)
            assert self.done == Counter(self.sent.keys()), "a record is lost"
        finally:
            self.retrying.cancel()
            self.loop.run_until_complete(asyncio.wait({self.retrying}))
            self.loop.close()


TestOutboxMachine = OutboxMachine.TestCase
TestOutboxMachine.settings = profile(max_examples=40, stateful_step_count=30, deadline=None)


async def test_outbox_counts_unsent_results_as_in_flight() -> None:
    """Small queries with large results: while these cannot be sent, no more queries are taken."""
    kafka = Kafka()
    kafka.error["replies-a"] = lambda: KafkaError("not now")
    tracker = InFlightTracker(1000, RecordMemory(1_000_000))
    records = [Record("infaas.variants.v", 1, offset, 0, 0, b"k", b"v", ()) for offset in range(3)]
    tracker.hand_out(TopicPartition("infaas.variants.v", 1), {record.offset: 500 for record in records})
    outbox = Outbox(kafka, lambda record, _sent: tracker.done(record), lambda _record, _error: None, hold=tracker.hold)
    retrying = asyncio.create_task(outbox.retry_failed())
    for record in records:
        assert tracker.room
        await outbox.send(record, Message("replies-a", bytes(400_000), [], b"k", status=OK))
    assert not tracker.room
    del kafka.error["replies-a"]
    await until(lambda: not tracker.in_flight)
    assert tracker.room
    retrying.cancel()
