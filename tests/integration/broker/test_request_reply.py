"""Tests of request and reply: each result reaches its waiting request, once."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from prometheus_client import REGISTRY

from broker.delivery.consumer import Consumer, Record
from broker.fetch.fetch_request import FetchPace
from broker.kafka.client import open_admin
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_topics
from broker.producing.producer import Ack
from broker.replies.request_reply import Reply, RequestReply
from process.cpus import CpuMeter
from schemas.errors import Internal, Overloaded
from schemas.headers import CORRELATION, LINGER_NS, RawHeaders, as_text
from schemas.query import MOST_LINGER_MS
from schemas.result import Result
from schemas.topics import reply_topic
from tests.integration.broker.records import read
from tests.waiting import PATIENCE_S, read_until


def headers(query_id: str) -> RawHeaders:
    return [("infaas-id", query_id.encode()), ("infaas-status", b"ok")]


def dropped(reason: str) -> float:
    return REGISTRY.get_sample_value("infaas_replies_dropped_total", {"reason": reason}) or 0.0


class Asker:
    """Sends requests to a topic that nobody reads; the test itself sends the results."""

    def __init__(self, requests: RequestReply, tasks: asyncio.TaskGroup, topic: str) -> None:
        self.requests = requests
        self.topic = topic
        self._tasks = tasks
        self._correlations: dict[str, bytes] = {}

    async def ask(self, query_id: str) -> asyncio.Task[Result]:
        """Start a request, and return its task once the query is sent."""
        sent = asyncio.Event()

        def on_sent(_ack: asyncio.Future[Ack], _reply: Reply) -> None:
            waiting = self.requests._waiting  # pyright: ignore[reportPrivateUsage]
            self._correlations[query_id] = next(reversed(waiting)).encode()
            sent.set()

        waiting = self._tasks.create_task(
            self.requests.ask(query_id, self.topic, b"?", headers(query_id), on_sent=on_sent)
        )
        asked = asyncio.ensure_future(sent.wait())
        await asyncio.wait({asked, waiting}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        return waiting

    def correlation(self, query_id: str) -> bytes:
        """Return the correlation of the last request with an id."""
        return self._correlations[query_id]

    async def answer(self, query_id: str, value: bytes, correlation: bytes | None = None) -> None:
        """Answer the last request with an id, by its correlation or the given one."""
        told = [*headers(query_id), (CORRELATION, correlation or self._correlations[query_id])]
        await self.requests.producer.send_and_wait(self.requests.reply_topic, value, headers=told)


async def asked_topic(kafka: KafkaSettings) -> str:
    topic = f"asked-{uuid4().hex}"
    await ensure_topics(kafka, [TopicSpec(topic)])
    return topic


async def test_request_reply_delivers_result_once(kafka: KafkaSettings) -> None:
    owner, before, topic = str(uuid4()), dropped("duplicate"), await asked_topic(kafka)
    async with RequestReply(kafka, owner) as requests, asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        assert requests.reply_topic == reply_topic(owner)
        asker = Asker(requests, tasks, topic)
        first, second = await asker.ask("1"), await asker.ask("2")
        assert requests.in_flight == 2
        for query_id, value in (("2", b"two"), ("1", b"one"), ("1", b"again")):
            await asker.answer(query_id, value)
        assert (await first).value == b"one"
        assert (await second).value == b"two"
        last = await asker.ask("3")
        await asker.answer("3", b"three")
        assert (await last).id == "3"
        assert dropped("duplicate") == before + 1
        assert requests.in_flight == 0


async def test_requests_linger_on_busy_machine(kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only after enough requests have arrived: the first ones do not linger."""

    def full(_meter: CpuMeter) -> float:
        return 1.0

    monkeypatch.setattr(CpuMeter, "busy", full)
    count, topic = 100, await asked_topic(kafka)
    async with (
        RequestReply(kafka, str(uuid4())) as requests,
        Consumer(kafka, "test", group=topic) as asked,
        asyncio.timeout(PATIENCE_S),
        asyncio.TaskGroup() as tasks,
    ):
        await asked.assign(topic, [0])
        waiting = [
            tasks.create_task(requests.ask(str(number), topic, b"?", headers(str(number)), left_s=60.0))
            for number in range(count)
        ]
        lingered: list[float] = []
        for record in await read(asked, count):
            lingered.append(int(as_text(record.headers).get(LINGER_NS, "0")) / 1e6)
            got = [(name, text or b"") for name, text in record.headers]
            await requests.producer.send(requests.reply_topic, record.key, headers=got)
        assert [(await reply).value for reply in waiting] == [b"%d" % number for number in range(count)]
    assert lingered[0] == 0
    assert lingered[-1] == MOST_LINGER_MS


async def test_deliver_makes_later_topic_result_a_duplicate(kafka: KafkaSettings) -> None:
    before, topic = dropped("duplicate"), await asked_topic(kafka)
    async with RequestReply(kafka, str(uuid4())) as requests, asyncio.TaskGroup() as tasks:
        asker = Asker(requests, tasks, topic)
        waiting = await asker.ask("1")
        correlation = asker.correlation("1").decode()
        requests.deliver(Result(id="1", correlation=correlation, status="ok", value=b"by a stream"))
        assert (await waiting).value == b"by a stream"
        await asker.answer("1", b"by the topic")
        last = await asker.ask("2")
        await asker.answer("2", b"two")
        await last
    assert dropped("duplicate") == before + 1


async def test_requests_with_same_id_get_their_own_answers(kafka: KafkaSettings) -> None:
    """Covers concurrent requests, answered out of order, and a request whose predecessor is answered too late."""
    before, topic = dropped("late"), await asked_topic(kafka)
    async with (
        RequestReply(kafka, str(uuid4())) as requests,
        Consumer(kafka, "test", group=topic) as asked,
        asyncio.timeout(PATIENCE_S),
        asyncio.TaskGroup() as tasks,
    ):
        await asked.assign(topic, [0])

        async def answer(record: Record, value: bytes) -> None:
            got = [(name, text or b"") for name, text in record.headers]
            await requests.producer.send_and_wait(requests.reply_topic, value, headers=got)

        asker = Asker(requests, tasks, topic)
        waiting = [await asker.ask("1"), await asker.ask("1")]
        first, second = await read(asked, 2)
        await answer(second, b"second")
        await answer(first, b"first")
        assert [(await reply).value for reply in waiting] == [b"first", b"second"]

        with pytest.raises(TimeoutError):
            await requests.ask("1", topic, b"?", headers("1"), timeout_s=0.01)
        again = await asker.ask("1")
        late, mine = await read(asked, 2)
        await answer(late, b"of the one given up")
        await answer(mine, b"mine")
        assert (await again).value == b"mine"
        assert (await again).id == "1"
    assert dropped("late") == before + 1


async def test_result_without_the_correlation_is_dropped(kafka: KafkaSettings) -> None:
    """A forger sends results by aiokafka to the reply topic, under the id of a waiting query."""
    topic, reasons = await asked_topic(kafka), ("uncorrelated", "unknown", "late")
    before = [dropped(reason) for reason in reasons]
    async with (
        RequestReply(kafka, str(uuid4())) as requests,
        AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer,
        asyncio.timeout(PATIENCE_S),
        asyncio.TaskGroup() as tasks,
    ):
        asker = Asker(requests, tasks, topic)
        waiting = await asker.ask("order-1001")
        own = asker.correlation("order-1001")
        assert len(own.rpartition(b".")[0]) >= 16, "96 random bits"
        for told in ([], [(CORRELATION, b"1")], [(CORRELATION, own + b"1")]):
            await producer.send_and_wait(requests.reply_topic, b"forged", headers=[*headers("order-1001"), *told])
        await asker.answer("order-1001", b"its own")
        assert (await waiting).value == b"its own"
    assert [dropped(reason) - was for reason, was in zip(reasons, before, strict=True)] == [1, 1, 1]


async def test_request_reply_exit_deletes_its_topic(kafka: KafkaSettings) -> None:
    async with RequestReply(kafka, str(uuid4())) as requests:
        topic = requests.reply_topic
    async with open_admin(kafka) as admin:
        await read_until(admin.list_topics, lambda names: topic not in names)


async def test_request_reply_bounds_waiting_requests(kafka: KafkaSettings) -> None:
    topic = await asked_topic(kafka)
    async with RequestReply(kafka, str(uuid4()), max_in_flight=2) as requests, asyncio.TaskGroup() as tasks:
        asker = Asker(requests, tasks, topic)
        first, second = await asker.ask("1"), await asker.ask("2")
        with pytest.raises(Overloaded, match="2 queries"):
            await requests.ask("3", topic, b"?", headers("3"))
        first.cancel()
        await asyncio.wait({first})
        with pytest.raises(TimeoutError):
            await requests.ask("3", topic, b"?", headers("3"), timeout_s=0.01)
        assert requests.in_flight == 1
        second.cancel()


async def test_request_reply_skips_invalid_records(kafka: KafkaSettings) -> None:
    before, topic = dropped("invalid"), await asked_topic(kafka)
    async with RequestReply(kafka, str(uuid4())) as requests, asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        asker, send = Asker(requests, tasks, topic), requests.producer.send_and_wait
        waiting = await asker.ask("1")
        await send(requests.reply_topic, b"no headers")
        await send(requests.reply_topic, b"x", headers=[("infaas-id", b"\xff")])
        await send(requests.reply_topic, b"x", headers=[*headers("1"), ("infaas-compute-ns", b"soon")])
        await asker.answer("1", b"one")
        assert (await waiting).value == b"one"
    assert dropped("invalid") == before + 3


async def test_ask_fails_at_once_after_exit(kafka: KafkaSettings) -> None:
    topic, sent = await asked_topic(kafka), asyncio.Event()

    async def ask(requests: RequestReply, query_id: str) -> None:
        with pytest.raises(Internal):
            await requests.ask(query_id, topic, b"?", headers(query_id), on_sent=lambda _ack, _reply: sent.set())

    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks, RequestReply(kafka, str(uuid4())) as closed:
        waiting = tasks.create_task(ask(closed, "1"))
        await sent.wait()
    await waiting
    await ask(closed, "2")


@pytest.mark.parametrize(("broker", "wait_ms"), [("kafka", 500), ("embedded_kafka", 10)])
async def test_fetch_pace_depends_on_broker_features(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, broker: str, wait_ms: int
) -> None:
    made: list[FetchPace] = []

    class Noted(FetchPace):
        def __init__(self, settings: KafkaSettings, **how: Any) -> None:
            super().__init__(settings, **how)
            made.append(self)

    monkeypatch.setattr("broker.replies.request_reply.FetchPace", Noted)
    settings = KafkaSettings(bootstrap=request.getfixturevalue(broker).bootstrap)
    async with RequestReply(settings, f"test-{uuid4().hex[:8]}"):
        (pace,) = made
        assert pace.wait_ms(0.0) == wait_ms
