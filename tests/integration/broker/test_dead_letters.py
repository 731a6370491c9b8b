"""Tests of dead letters on a real Kafka: writing, finding, replaying and dropping them.

All tests of a session share the topic, so each test uses the letters of a task of its own.
"""

import asyncio
from collections.abc import Sequence
from uuid import uuid4

import pytest

from broker.dead_letters import dead_letters
from broker.dead_letters.dead_letters import DeadLetters, ReplayReport
from broker.dead_letters.letter import parse_letter, publish_dead_letter
from broker.dead_letters.stored_letter import LetterCursor, LetterFilter, LetterState, StoredLetter
from broker.delivery.consumer import Consumer
from broker.fetch.tail import Tail
from broker.kafka.settings import KafkaSettings
from broker.kafka.topic_lifecycle import delete_topics
from broker.kafka.topics import ensure_system_topics, ensure_task_topics
from broker.kafka.types import Record
from broker.producing.producer import Producer
from schemas import headers as h
from schemas.result import OK
from schemas.topics import DEAD_LETTERS, results_topic, task_topic, variant_topic
from tests.waiting import PATIENCE_S


async def test_publish_dead_letter_keeps_whole_record_and_reason(kafka: KafkaSettings, topic: str) -> None:
    await ensure_system_topics(kafka)
    async with Producer(kafka, "test") as producer, Consumer(kafka, "test", group=topic) as consumer:
        await producer.send_and_wait(topic, b"\xffvalue", key=b"k", headers=[("infaas-id", b"7")], partition=3)
        await consumer.assign(topic, [3])
        async with asyncio.timeout(PATIENCE_S):
            original = (await consumer.poll())[0]
        await (await publish_dead_letter(producer, original, "not ünderstood", attempts=3))
    async with Consumer(kafka, "test", group=f"look-{topic}") as consumer, asyncio.timeout(PATIENCE_S):
        await consumer.assign(DEAD_LETTERS, [0])
        letter = None
        while letter is None or letter.topic != topic:
            for record in await consumer.poll():
                letter = parse_letter(record)
                consumer.done(record)
                if letter.topic == topic:
                    break
    assert (letter.topic, letter.partition, letter.offset) == (topic, 3, 0)
    assert (letter.reason, letter.attempts) == ("not ünderstood", 3)
    assert (letter.key, letter.value, letter.headers) == (b"k", b"\xffvalue", [("infaas-id", b"7")])


class Desk:
    """Task with its topics and dead letters."""

    def __init__(self, kafka: KafkaSettings, producer: Producer) -> None:
        self.task = f"t-{uuid4().hex[:12]}"
        self.kafka = kafka
        self.producer = producer
        self.box = DeadLetters(kafka)

    async def give_up(self, *ids: str, topic: str | None = None, reason: str = "on purpose") -> None:
        for number, query in enumerate(ids):
            headers = ((h.ID, query.encode()), (h.TASK, self.task.encode()), (h.DEADLINE_MS, b"1.0"))
            record = Record(topic or task_topic(self.task), 0, number, 0, 0, b"k", query.encode(), headers)
            await (await publish_dead_letter(self.producer, record, reason))

    async def find(self, *, done: bool = False, reason: str | None = None) -> list[StoredLetter]:
        return await self.box.find(LetterFilter(task=self.task, done=done, reason=reason))

    async def replay(self) -> ReplayReport:
        return await self.box.replay(await self.find())

    async def asked_again(self) -> list[Record]:
        async with Tail(self.kafka, "test", [task_topic(self.task)], since_ms=0.0) as tail:
            return [record async for record in tail.past()]


@pytest.fixture
async def desk(kafka: KafkaSettings, producer: Producer) -> Desk:
    await ensure_system_topics(kafka)
    found = Desk(kafka, producer)
    await ensure_task_topics(kafka, found.task, 1)
    return found


@pytest.fixture
async def producer(kafka: KafkaSettings):
    async with Producer(kafka, "test") as opened:
        yield opened


async def test_replay_sends_each_letter_once_with_its_id(desk: Desk) -> None:
    await desk.give_up("a", "b")
    await desk.give_up("c", topic=variant_topic("gone.onnx-fp32.cpu"), reason="its worker died")
    assert [stored.query for stored in await desk.find(reason="WORKER")] == ["c"]
    assert (await desk.replay()).replayed == 3
    assert await desk.find() == []
    assert await desk.replay() == ReplayReport()
    found = await desk.asked_again()
    assert [(record.value, dict(record.headers)[h.ID]) for record in found] == [
        (b"a", b"a"),
        (b"b", b"b"),
        (b"c", b"c"),
    ]
    assert all(h.DEADLINE_MS not in dict(record.headers) for record in found), "which has passed long ago"
    assert [stored.state for stored in await desk.find(done=True)] == [LetterState.REPLAYED] * 3


async def test_concurrent_replays_send_each_letter_once(desk: Desk) -> None:
    await desk.give_up(*map(str, range(50)))
    letters, other = await desk.find(), DeadLetters(desk.kafka)
    reports = await asyncio.gather(desk.box.replay(letters), other.replay(letters))
    assert sum(report.replayed for report in reports) == 50
    assert sorted(int(record.value or b"") for record in await desk.asked_again()) == [*range(50)]


async def test_replay_resumes_interrupted_replay_unless_answered(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first replay dies at the worst moment: the letters are sent, but not yet marked as replayed."""
    await desk.give_up("a", "b")
    cut_off = DeadLetters(desk.kafka)
    mark = cut_off._mark  # pyright: ignore[reportPrivateUsage] - the replay dies here

    async def die(producer: Producer, outcomes: Sequence[tuple[StoredLetter, LetterState]]) -> object:
        if any(state is LetterState.REPLAYED for _, state in outcomes):
            raise ZeroDivisionError
        return await mark(producer, outcomes)

    monkeypatch.setattr(cut_off, "_mark", die)
    with pytest.raises(ZeroDivisionError):
        await cut_off.replay(await desk.find())
    assert [stored.state for stored in await desk.find()] == [LetterState.CLAIMED] * 2
    assert [*(await desk.replay()).passed_over.values()] == [dead_letters._CLAIMED] * 2  # pyright: ignore[reportPrivateUsage]
    answer = [(h.ID, b"a"), (h.STATUS, OK.encode())]
    await desk.producer.send_and_wait(results_topic(desk.task), b"{}", key=b"a", headers=answer)
    monkeypatch.setattr("broker.dead_letters.stored_letter.CLAIM_MS", 0)
    report = await desk.replay()
    assert (report.replayed, report.answered, report.passed_over) == (1, 1, {})
    assert [record.value for record in await desk.asked_again()] == [b"a", b"b", b"b"]
    assert [stored.state for stored in await desk.find(done=True)] == [LetterState.ANSWERED, LetterState.REPLAYED]


async def test_replay_out_of_time_returns_cursor(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "_CHUNK", 1)
    await desk.give_up("u", "v", "w")
    report = await desk.box.replay(await desk.find(), 0.0)
    assert report.replayed == 1
    left = LetterFilter(task=desk.task, after=LetterCursor.parse(report.after))
    assert [stored.query for stored in await desk.box.find(left)] == ["v", "w"]


async def test_replay_skips_letters_without_results_topic(desk: Desk) -> None:
    await desk.give_up("a")
    await delete_topics(desk.kafka, [results_topic(desk.task)])
    (why,) = (await desk.replay()).passed_over.values()
    assert why.startswith("its reply topic")
    assert [stored.state for stored in await desk.find()] == [LetterState.OPEN], "it can still be looked at"


async def test_drop_deletes_dropped_letters_and_keeps_others(desk: Desk) -> None:
    """Drops the letters of earlier tests, too, since all share one topic."""
    await desk.producer.send_and_wait(DEAD_LETTERS, b"not one of ours")
    await desk.give_up("a", "b", "c")
    rest = [stored for stored in await desk.box.find(LetterFilter()) if stored.query not in ("b", "c")]
    assert await desk.box.drop(rest) == len(rest)
    assert [stored.query for stored in await desk.find(done=True)] == ["b", "c"]
    (first, _second) = await desk.find()
    shown = await desk.box.show(first.id)
    assert shown is not None
    assert (shown.letter.value, shown.query) == (b"b", "b")
    assert (await desk.replay()).replayed == 2
