"""Tests of the outbox: retries, dead letters and answers for messages that are not acknowledged."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

import msgspec
import pytest

from broker.dead_letters.dead_letters import DeadLetters
from broker.dead_letters.letter import BURST_BYTES, HEAD_BYTES, TOPIC, parse_letter
from broker.dead_letters.stored_letter import LetterFilter
from broker.delivery.consumer import Consumer, Record
from broker.delivery.outbox import Message, Outbox
from broker.delivery.undelivered import BACKOFF, STALL_S, FailedSend, GiveUp, Retry, next_step
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_system_topics, ensure_topics
from broker.kafka.types import KafkaError, NotAllowed, RecordTooLarge, UnknownTopic
from broker.producing.produce_api import error_of
from broker.producing.producer import Ack, OnAck, Producer
from schemas.errors import Internal, InvalidRequest, QueryError
from schemas.headers import ATTEMPTS, RawHeaders
from schemas.result import OK, error_value
from schemas.topics import DEAD_LETTERS
from tests.waiting import PATIENCE_S

QUERY, RESULT, ERROR = "", OK, "overloaded"
RECORD = Record("infaas.variants.v", 1, 7, 0, 0, b"k", b"value", (("infaas-id", b"q"),))


def message(status: str = RESULT, topic: str = "replies", value: bytes = b"answer") -> Message:
    return Message(topic, value, [], b"q", status=status)


def failed(error: KafkaError, status: str = RESULT, attempts: int = 1) -> FailedSend:
    return FailedSend(RECORD, message(status), attempts, error)


class TestNextStep:
    """Tests of the pure decision about a failed send."""

    @pytest.mark.parametrize("max_attempts", [None, 3], ids=["worker", "selector"])
    @pytest.mark.parametrize("status", [QUERY, RESULT, ERROR])
    def test_next_step_retries_transient_error_with_back_off(self, status: str, max_attempts: int | None) -> None:
        assert next_step(failed(KafkaError(), status), max_attempts) == Retry(BACKOFF.pause_s(1))
        assert next_step(failed(KafkaError(), status, attempts=2), max_attempts) == Retry(BACKOFF.pause_s(2))

    @pytest.mark.parametrize("max_attempts", [None, 3], ids=["worker", "selector"])
    def test_next_step_gives_up_result_of_unknown_topic(self, max_attempts: int | None) -> None:
        for status in (RESULT, ERROR):
            step = next_step(failed(UnknownTopic(), status), max_attempts)
            assert step == GiveUp("the result's topic replies does not exist", None, final=True)

    @pytest.mark.parametrize("max_attempts", [None, 3], ids=["worker", "selector"])
    def test_next_step_gives_up_result_of_forbidden_client_topic(self, max_attempts: int | None) -> None:
        step = next_step(failed(NotAllowed()), max_attempts)
        assert step == GiveUp("the system may not write to the result's topic replies", None, final=True)
        own = FailedSend(RECORD, message(RESULT, "infaas.results.t"), 1, NotAllowed())
        assert next_step(own, max_attempts) == Retry(BACKOFF.pause_s(1)), "somebody will put that right"

    @pytest.mark.parametrize("error", [error_of(code) for code in (32, 43, 44, 76, 87)], ids=repr)
    def test_next_step_gives_up_result_refused_by_client_topic(self, error: KafkaError) -> None:
        step = next_step(failed(error), None)
        assert isinstance(step, GiveUp)
        assert step.final
        assert type(error).__name__ in step.reason
        own = FailedSend(RECORD, message(RESULT, "infaas.results.t"), 1, error)
        assert next_step(own, None) == Retry(BACKOFF.pause_s(1)), "its configuration is the operator's to mend"

    @pytest.mark.parametrize("max_attempts", [None, 3], ids=["worker", "selector"])
    def test_next_step_gives_up_too_large_record_with_answer(self, max_attempts: int | None) -> None:
        for status in (QUERY, RESULT):
            step = next_step(failed(RecordTooLarge(), status), max_attempts)
            assert isinstance(step, GiveUp)
            assert step.final
            assert isinstance(step.answer, InvalidRequest)
            assert "6 bytes" in str(step.answer)

    def test_next_step_gives_up_too_large_error_without_answer(self) -> None:
        step = next_step(failed(RecordTooLarge(), ERROR), None)
        assert isinstance(step, GiveUp)
        assert step.answer is None

    def test_next_step_retries_query_of_unknown_topic(self) -> None:
        assert next_step(failed(UnknownTopic(), QUERY), 3) == Retry(BACKOFF.pause_s(1))

    def test_next_step_limits_attempts_of_selectors_only(self) -> None:
        step = next_step(failed(KafkaError(), QUERY, attempts=3), 3)
        assert isinstance(step, GiveUp)
        assert not step.final
        assert isinstance(step.answer, Internal)
        assert next_step(failed(KafkaError(), QUERY, attempts=1000), None) == Retry(BACKOFF.longest_s)


class Kafka(Producer):
    """Fake Kafka that acknowledges, refuses or holds records by topic."""

    def __init__(self) -> None:
        self.result_timeout_s = 120.0
        self.sent: list[tuple[str, bytes | None]] = []
        self.fails: dict[str, list[KafkaError]] = {}
        self.stuck: set[str] = set()
        self.silent: set[str] = set()
        """Topics that acknowledge nothing until `speak`."""
        self._unsaid: list[tuple[str, OnAck]] = []

    def acknowledging_s(self) -> float:
        return 0.0

    def now_ms(self) -> float:
        return 0.0

    def speak(self, topic: str) -> None:
        self.silent.discard(topic)
        unsaid, self._unsaid = self._unsaid, []
        for name, on_ack in unsaid:
            on_ack(Ack(name, 0, 0))

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
        self.sent.append((topic, value))
        if topic in self.stuck:
            await asyncio.Event().wait()
        if topic in self.silent:
            self._unsaid.append((topic, on_ack))
            return
        errors = self.fails.get(topic)
        on_ack(errors.pop(0) if errors else Ack(topic, 0, 0))


def make_error_result(record: Record, error: QueryError) -> Message:
    return Message("replies", error_value(str(error)), [], record.key, status=error.code.value)


class Clockwork(Kafka):
    """Fake Kafka that acknowledges other records all the time."""

    def acknowledging_s(self) -> float:
        return 100.0


class Site:
    """Outbox and the records that it finished."""

    def __init__(self, kafka: Kafka, max_attempts: int | None, places: int = 1000) -> None:
        self.done: list[tuple[Record, Message | None]] = []
        self.news = asyncio.Event()
        self.outbox = Outbox(kafka, self.on_done, make_error_result, max_attempts=max_attempts, places=places)

    def on_done(self, record: Record, sent: Message | None) -> None:
        self.done.append((record, sent))
        self.news.set()

    async def until(self, holds: Callable[[], bool], timeout_s: float = 30.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not holds():
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def running(kafka: Kafka, max_attempts: int | None = None, places: int = 1000) -> AsyncGenerator[Site]:
    site = Site(kafka, max_attempts, places)
    async with asyncio.TaskGroup() as tasks:
        retrying = tasks.create_task(site.outbox.retry_failed())
        yield site
        retrying.cancel()


def record(offset: int, value: bytes = b"value") -> Record:
    return Record("infaas.variants.v", 1, offset, 0, 0, b"k", value, ())


async def test_outbox_resends_thousand_failed_results_in_seconds() -> None:
    kafka = Kafka()
    kafka.fails["replies"] = [KafkaError()] * 1000
    async with running(kafka) as site:
        for offset in range(1000):
            await site.outbox.send(record(offset), message())
        await site.until(lambda: len(site.done) == 1000, timeout_s=10)
    assert Counter(done.offset for done, _ in site.done) == Counter(range(1000))


async def test_outbox_stuck_topic_delays_no_other() -> None:
    kafka = Kafka()
    kafka.fails = {"stuck": [KafkaError()], "replies": [KafkaError()]}
    async with running(kafka) as site:
        await site.outbox.send(record(0), message(topic="stuck"))
        kafka.stuck.add("stuck")
        await site.outbox.send(record(1), message())
        await site.until(lambda: len(site.done) == 1)
        assert site.done == [(record(1), message())]
        assert kafka.sent.count(("stuck", b"answer")) == 2


async def test_outbox_dead_letters_result_after_timeout() -> None:
    kafka = Clockwork()
    kafka.result_timeout_s = 0.2
    kafka.fails["replies"] = [KafkaError()] * 100
    async with running(kafka) as site:
        await site.outbox.send(record(0), message())
        await site.until(lambda: len(site.done) == 1)
    assert site.done == [(record(0), None)]
    assert [topic for topic, _ in kafka.sent][-1] == DEAD_LETTERS


async def test_outbox_retries_result_during_kafka_outage() -> None:
    kafka = Kafka()
    kafka.result_timeout_s = 0.01
    kafka.fails["replies"] = [KafkaError()] * 3
    async with running(kafka) as site:
        await site.outbox.send(record(0), message())
        await site.until(lambda: len(site.done) == 1)
    assert site.done == [(record(0), message())]


@pytest.mark.parametrize(("kafka", "buried"), [(Clockwork(), 75), (Kafka(), 0)], ids=["there", "away"])
async def test_outbox_limits_results_of_silent_topic(kafka: Kafka, buried: int) -> None:
    """Results above the limit become dead letters if Kafka acknowledges other records; otherwise they wait."""
    kafka.silent.add("replies")
    async with running(kafka, places=100) as site:
        for offset in range(100):
            await site.outbox.send(record(offset), message())
        await site.outbox.send(record(100), message(topic="others"))
        assert [sent for _, sent in site.done] == [message(topic="others")]
        assert kafka.sent.count(("replies", b"answer")) == 25
        if buried:
            await site.until(lambda: len(site.done) == 1 + buried)
            assert kafka.sent.count((DEAD_LETTERS, b"value")) == buried
            await site.outbox.send(record(101), message())
            await site.until(lambda: len(site.done) == 2 + buried, timeout_s=STALL_S / 2)
            return
        kafka.speak("replies")
        await site.until(lambda: len(site.done) == 101)
        assert all(sent is not None for _, sent in site.done)


async def test_outbox_writes_letter_then_answer_then_finishes_record() -> None:
    kafka = Kafka()
    kafka.fails = {"replies": [RecordTooLarge()]}
    async with running(kafka) as site:
        await site.outbox.send(record(3), message(value=b"far too large"))
        await site.until(lambda: len(site.done) == 1)
    assert [topic for topic, _ in kafka.sent] == ["replies", DEAD_LETTERS, "replies"]
    ((done, sent),) = site.done
    assert done == record(3)
    assert sent is not None
    assert sent.status == "invalid_request"
    assert b"13 bytes" in (sent.value or b"")


async def test_outbox_bounds_bytes_of_dead_letters() -> None:
    kafka, count, size = Kafka(), 300, 300_000
    async with running(kafka) as site:
        for offset in range(count):
            site.outbox.give_up(record(offset, b"x" * size), "refused")
        other = msgspec.structs.replace(record(count, b"y" * size), topic="infaas.tasks.other")
        site.outbox.give_up(other, "refused")
        await site.until(lambda: len(site.done) == count + 1)
    kept = [value or b"" for topic, value in kafka.sent if topic == DEAD_LETTERS]
    assert len(kept) == count + 1
    assert sum(map(len, kept)) <= BURST_BYTES + size + count * HEAD_BYTES
    assert b"y" * size in kept, "another topic's letters are kept whole"
    assert all(len(value) in (size, HEAD_BYTES // 2) for value in kept)


async def test_outbox_finishes_record_if_answer_cannot_arrive() -> None:
    kafka = Kafka()
    kafka.fails = {"replies": [RecordTooLarge(), UnknownTopic()]}
    async with running(kafka) as site:
        await site.outbox.send(record(3), message())
        await site.until(lambda: len(site.done) == 1)
    assert site.done == [(record(3), None)]
    assert [topic for topic, _ in kafka.sent].count(DEAD_LETTERS) == 1


async def test_outbox_retries_message_if_dead_letter_fails() -> None:
    kafka = Kafka()
    kafka.fails = {"variant": [KafkaError()] * 2, DEAD_LETTERS: [KafkaError()]}
    async with running(kafka, max_attempts=2) as site:
        await site.outbox.send(record(3), message(QUERY, topic="variant"))
        await site.until(lambda: len(site.done) == 1)
    assert site.done == [(record(3), message(QUERY, topic="variant"))]
    assert [topic for topic, _ in kafka.sent] == ["variant", "variant", DEAD_LETTERS, "variant"]


async def test_outbox_decides_again_on_unsent_query() -> None:
    kafka, tries = Kafka(), list[int]()
    kafka.fails = {"variant": [KafkaError()]}
    site = Site(kafka, 3)

    async def decide_again(record: Record, attempts: int) -> None:
        tries.append(attempts)
        await outbox.send(record, message(QUERY, topic="another"), attempts)

    outbox = Outbox(kafka, site.on_done, make_error_result, max_attempts=3, decide_again=decide_again)
    async with asyncio.TaskGroup() as tasks:
        retrying = tasks.create_task(outbox.retry_failed())
        await outbox.send(record(3), message(QUERY, topic="variant"))
        await site.until(lambda: len(site.done) == 1)
        retrying.cancel()
    assert tries == [2]
    assert kafka.sent == [("variant", b"answer"), ("another", b"answer")]


async def test_outbox_dead_letters_and_answers_too_large_record(kafka: KafkaSettings) -> None:
    """A record of the largest size leaves no space for the headers of a dead letter, nor for a result."""
    await ensure_system_topics(kafka)
    replies = f"replies-{uuid4().hex}"
    await ensure_topics(kafka, [TopicSpec(replies)])
    small = kafka.model_copy(update={"max_record_bytes": 50_000})
    done = asyncio.Event()
    great = Record(replies, 1, 11, 0, 0, b"k", b"v" * 49_900, ())

    def answer(record: Record, error: QueryError) -> Message:
        return msgspec.structs.replace(make_error_result(record, error), topic=replies)

    async with (
        Producer(small, "test") as producer,
        Consumer(kafka, "test", group=f"look-{replies}") as letters,
        Consumer(kafka, "test", group=replies) as consumer,
        asyncio.timeout(PATIENCE_S),
        asyncio.TaskGroup() as tasks,
    ):
        outbox = Outbox(producer, lambda _record, _sent: done.set(), answer)
        retrying = tasks.create_task(outbox.retry_failed())
        await outbox.send(great, Message(replies, b"x" * 60_000, [], b"q", status=OK))
        await done.wait()
        retrying.cancel()
        await consumer.assign(replies, [0])
        (answered,) = await consumer.poll()
        assert b"60000 bytes" in (answered.value or b"")
        await letters.assign(DEAD_LETTERS, [0])
        found = list[Record]()
        while not found:
            for read in await letters.poll():
                found += [read] if dict(read.headers).get(TOPIC) == replies.encode() else []
                letters.done(read)
        letter = parse_letter(found[0])
        assert letter.shortened
        assert (letter.value or b"") == b"v" * len(letter.value or b"")
        assert 10_000 < len(letter.value or b"") < 49_900
        assert ATTEMPTS not in dict(letter.headers)
    box = DeadLetters(kafka)
    report = await box.replay(await box.find(LetterFilter(reason="60000 bytes")))
    assert (report.replayed, [*report.passed_over.values()]) == (0, ["the letter was shortened"])
