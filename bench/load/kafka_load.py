"""Load on one topic by a Kafka client: aiokafka as in the client library, or librdkafka, which costs little CPU.

`ClientLoad` has the costs of a Python client, with and without a reply stream. `LibrdkafkaLoad` leaves the system the
bottleneck: a latency counts from the due time of its query, as in the HTTP client, and queries linger for librdkafka's
default of 5 ms. A part of its load may be wasted: written as the same bytes by the same producer, to a topic without
consumers. So the load on the system can be lowered while the cost of sending, on this machine and in Kafka, stays the
same. `ReportedLoad` is the same client with the shapes and the report of the HTTP client.
"""

import asyncio
import random
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Self

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer
from confluent_kafka import TopicPartition as AssignedPartition

from bench.core.figures import percentile
from bench.load.http_load import LoadReport, LoadShape, RequestTally
from bench.load.http_message import RawAnswer, SampledAnswer
from bench.load.pace import pace
from broker.kafka.cluster import broker_features
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_topics
from broker.replies.receiver import ReplyStreamReceiver
from schemas import headers as h
from schemas.errors import DeadlineExceeded, Overloaded
from schemas.topics import REPLIES

LINGER_MS: Final = 5
"""Default of kafka-clients 4 and librdkafka."""
_LAST_ANSWERS_S: Final = 20.0
_TICK_S: Final = 0.001
"""Least seconds between two checks for due queries."""
_POLL_S: Final = 0.1
_READING_S: Final = 10.0
_SAMPLES: Final = 32
_STATUSES: Final = {"ok": 200, DeadlineExceeded.code: DeadlineExceeded.http_status}
"""HTTP status of a result; that of any other is that of a refusal."""

Headers = Sequence[tuple[str, bytes]]


class AnsweredQuery(msgspec.Struct, frozen=True):
    """Latency and status of a query."""

    total_ms: float
    """Time from send to answer."""
    overhead_ms: float
    """Time from send to answer, minus the model's computation."""
    status: str

    @property
    def refused(self) -> bool:
        """True for an error other than a passed deadline: such a query is late."""
        return self.status not in _STATUSES


def _answered(total_ms: float, fields: Mapping[str, bytes]) -> AnsweredQuery:
    compute_ms = int(fields.get(h.COMPUTE_NS, b"0")) / 1e6
    return AnsweredQuery(total_ms, total_ms - compute_ms, fields.get(h.STATUS, b"ok").decode())


class ClientLoad:
    """Open loop by aiokafka, up to the capacity of one client process; an async context manager.

    With `listens` it also receives results over a reply stream, as the client library and the gateway do.
    """

    def __init__(
        self, kafka: KafkaSettings, topic: str, value: bytes, headers: Headers, *, listens: bool = False
    ) -> None:
        self._kafka = kafka
        self._topic = topic
        self._value = value
        self._headers = list(headers)
        self._replies = f"{REPLIES}bench-{uuid.uuid4().hex[:12]}"
        self._sent: dict[bytes, int] = {}
        self._answers: list[AnsweredQuery] = []
        self._all_answered = asyncio.Event()
        self._receiver = ReplyStreamReceiver(kafka.reply_stream, self._take) if listens else None

    async def __aenter__(self) -> Self:
        await ensure_topics(self._kafka, [TopicSpec(self._replies)])
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=self._kafka.bootstrap, fetch_max_wait_ms=self._kafka.fetch_max_wait_ms
        )
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._kafka.bootstrap,
            acks="all",
            enable_idempotence=(await broker_features(self._kafka)).idempotence,
        )
        await self._consumer.start()
        await self._producer.start()
        self._consumer.assign([TopicPartition(self._replies, 0)])
        await self._consumer.seek_to_end()
        if self._receiver is not None:
            await self._receiver.__aenter__()
            self._headers.append((h.REPLY_STREAM, self._receiver.header))
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._producer.stop()
        await self._consumer.stop()
        if self._receiver is not None:
            await self._receiver.__aexit__(None, None, None)

    async def run(self, rate: float, seconds: float) -> list[AnsweredQuery]:
        """Send `rate` queries per second for `seconds`. Returns the answers.

        Raises:
            TimeoutError: answers are missing 20 s after the last send.
        """
        self._sent.clear()
        self._answers = []
        self._expected = round(rate * seconds)
        self._all_answered.clear()
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(self._read(), name="read answers")
            async for _ in pace(rate, self._expected):
                await self._send()
            async with asyncio.timeout(_LAST_ANSWERS_S):
                await self._all_answered.wait()
            reading.cancel()
        return self._answers

    async def _send(self) -> None:
        query_id = uuid.uuid4().hex.encode()
        sent_ns = time.time_ns()
        self._sent[query_id] = sent_ns
        fixed = [(h.ID, query_id), (h.REPLY_TO, self._replies.encode()), (h.SENT_NS, str(sent_ns).encode())]
        await self._producer.send(self._topic, self._value, key=query_id, headers=[*fixed, *self._headers])

    async def _read(self) -> None:
        async for record in self._consumer:
            self._take(record.headers)

    def _take(self, headers: Iterable[tuple[str, bytes]], _value: bytes = b"") -> None:
        fields = dict(headers)
        sent_ns = self._sent.pop(fields[h.ID], None)
        if sent_ns is None:
            return
        self._answers.append(_answered((time.time_ns() - sent_ns) / 1e6, fields))
        if len(self._answers) == self._expected:
            self._all_answered.set()


class _Librdkafka(ABC):
    """Producer and consumer of librdkafka; an async context manager. It sends and receives in two threads."""

    def __init__(self, kafka: KafkaSettings, topic: str, linger_ms: int) -> None:
        self._kafka = kafka
        self._topic = topic
        self._linger_ms = linger_ms
        word = uuid.uuid4().hex[:12]
        self._replies = f"{REPLIES}bench-{word}"
        self.unread = f"bench-unread-{word}"
        """Topic of the wasted part."""
        self._all_answered, self._stopped = threading.Event(), threading.Event()

    async def __aenter__(self) -> Self:
        common = {"bootstrap.servers": self._kafka.bootstrap}
        self._producer = Producer({**common, "linger.ms": self._linger_ms, "enable.idempotence": True})
        consumer = {
            "group.id": "bench",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": self._kafka.fetch_max_wait_ms,
        }
        self._consumer = Consumer({**common, **consumer})
        found = await asyncio.to_thread(self._producer.list_topics, self._topic, 10.0)
        partitions = len(found.topics[self._topic].partitions)
        await ensure_topics(self._kafka, [TopicSpec(self._replies), TopicSpec(self.unread, partitions)])
        self._consumer.assign([AssignedPartition(self._replies, 0, OFFSET_BEGINNING)])
        await asyncio.to_thread(self._until_read)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await asyncio.to_thread(self._producer.flush, 10.0)
        await asyncio.to_thread(self._consumer.close)

    def _until_read(self) -> None:
        """Wait until the consumer reads: of a new topic it reads nothing for a second, and answers would be late."""
        self._producer.produce(self._replies, b"")
        self._producer.flush(_READING_S)
        until_s = time.monotonic() + _READING_S
        while (message := self._consumer.poll(_POLL_S)) is None or message.error() is not None:
            if time.monotonic() > until_s:
                raise TimeoutError(f"the consumer has read nothing for {_READING_S:g} s")

    def _produce(self, topic: str, query_id: bytes, value: bytes, headers: Headers) -> None:
        fixed = [(h.ID, query_id), (h.REPLY_TO, self._replies.encode()), (h.SENT_NS, b"%d" % time.time_ns())]
        self._producer.produce(topic, value, query_id, headers=[*fixed, *headers])

    def _wait_until(self, due_s: float) -> bool:
        """Return true once `due_s` has come; otherwise sleep for a while, and return false."""
        early_s = due_s - time.monotonic()
        if early_s > 0:
            self._producer.poll(0)
            time.sleep(max(early_s, _TICK_S))
        return early_s <= 0

    def _listen(self) -> None:
        while not self._stopped.is_set():
            message = self._consumer.poll(_POLL_S)
            if message is not None and message.error() is None:
                fields = {name: text for name, text in message.headers() or () if isinstance(text, bytes)}
                self._take(fields, message.value() or b"")

    @abstractmethod
    def _take(self, fields: Mapping[str, bytes], value: bytes) -> None:
        """Take an answer, in the listening thread."""


class LibrdkafkaLoad(_Librdkafka):
    """Open loop of one query at a steady rate, of which a part may be wasted; one run at a time."""

    def __init__(
        self, kafka: KafkaSettings, topic: str, value: bytes, headers: Headers, *, linger_ms: int = LINGER_MS
    ) -> None:
        super().__init__(kafka, topic, linger_ms)
        self._value = value
        self._headers = list(headers)
        self._due_s: dict[bytes, float] = {}
        self._answers: list[AnsweredQuery] = []
        self._expected = 0

    async def run(self, rate: float, seconds: float, wasted: float = 0.0, *, patience_s: float) -> list[AnsweredQuery]:
        """Send `rate` queries per second for `seconds`, and waste `wasted` more per second. Returns the answers.

        Raises:
            TimeoutError: answers are missing `patience_s` seconds after the last send.
        """
        self._due_s.clear()
        self._answers = []
        self._expected = round(rate * seconds)
        self._all_answered.clear()
        self._stopped.clear()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.to_thread(self._listen), name="listen")
            try:
                await asyncio.to_thread(self._send_all, rate, wasted)
                if not await asyncio.to_thread(self._all_answered.wait, patience_s):
                    raise TimeoutError(f"{len(self._due_s)} queries have no answer")
            finally:
                self._stopped.set()
        return self._answers

    def _send_all(self, rate: float, wasted: float) -> None:
        """Send all expected queries, interleaved with the wasted ones."""
        began_s, both = time.monotonic(), rate + wasted
        sent, asked, credit = 0, 0, 0.0
        while asked < self._expected and not self._stopped.is_set():
            due_s = began_s + sent / both
            if not self._wait_until(due_s):
                continue
            sent += 1
            credit += rate
            query_id = uuid.uuid4().hex.encode()
            if credit >= both:
                credit -= both
                asked += 1
                self._due_s[query_id] = due_s
                self._produce(self._topic, query_id, self._value, self._headers)
            else:
                self._produce(self.unread, query_id, self._value, self._headers)

    def _take(self, fields: Mapping[str, bytes], value: bytes) -> None:
        del value
        due_s = self._due_s.pop(fields.get(h.ID, b""), None)
        if due_s is not None:
            self._answers.append(_answered(1e3 * (time.monotonic() - due_s), fields))
            if len(self._answers) == self._expected:
                self._all_answered.set()


class KafkaQuery(msgspec.Struct, frozen=True):
    """Record to send, without its id."""

    value: bytes
    headers: Headers


class ReportedLoad:
    """Load of randomly drawn queries, with the shapes and the report of the HTTP client; without linger."""

    def __init__(self, kafka: KafkaSettings, topic: str, queries: Sequence[KafkaQuery]) -> None:
        self._kafka = kafka
        self._topic = topic
        self._queries = list(queries)
        self.samples: list[SampledAnswer] = []
        """Sampled answers of the last run."""

    async def run(self, shape: LoadShape) -> LoadReport:
        """Run the load: an open loop if the shape has a rate, or else a closed loop. Returns the report."""
        async with _DrawnQueries(self._kafka, self._topic, self._queries, shape) as run:
            report = await run.run()
        self.samples = list(run.samples)
        return report


class _DrawnQueries(_Librdkafka):
    """One run of a `ReportedLoad`: the waiting queries, and the counts of answers."""

    def __init__(self, kafka: KafkaSettings, topic: str, queries: Sequence[KafkaQuery], shape: LoadShape) -> None:
        super().__init__(kafka, topic, linger_ms=0)
        self._queries = queries
        self._shape = shape
        self._draws = random.Random(shape.seed)
        self._waiting: dict[bytes, tuple[float, int]] = {}
        self._latencies_ms: list[float] = []
        self._statuses = Counter[int]()
        self._counts = [[0, 0, 0] for _ in queries]
        self._lags_ms: list[float] = []
        self.samples: deque[SampledAnswer] = deque(maxlen=_SAMPLES)

    async def run(self) -> LoadReport:
        """Send queries until the end of the run, and wait for the last answers. Returns the report."""
        began_s, cpu_s = time.monotonic(), time.process_time()
        self._end_s = began_s + self._shape.seconds
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.to_thread(self._listen), name="listen")
            try:
                await asyncio.to_thread(self._send_all, began_s)
                await asyncio.sleep(self._end_s - time.monotonic())  # no event marks the end of the run
                if self._waiting:
                    await asyncio.to_thread(self._all_answered.wait, self._shape.drain_s)
            finally:
                self._stopped.set()
        return self._report(time.monotonic() - began_s, time.process_time() - cpu_s)

    def _send_all(self, began_s: float) -> None:
        if not self._shape.rate:
            for _ in range(self._shape.connections):
                self._send(time.monotonic())
            return
        due_s = began_s
        while (due_s := due_s + self._draws.expovariate(self._shape.rate)) < self._end_s:
            while not self._wait_until(due_s):
                pass
            self._lags_ms.append(1e3 * (time.monotonic() - due_s))
            self._send(due_s)

    def _send(self, due_s: float) -> None:
        kind = self._draws.randrange(len(self._queries))
        query_id = uuid.uuid4().hex.encode()
        self._waiting[query_id] = due_s, kind
        self._counts[kind][0] += 1
        self._produce(self._topic, query_id, self._queries[kind].value, self._queries[kind].headers)
        self._producer.poll(0)  # a full queue of delivery reports refuses records

    def _take(self, fields: Mapping[str, bytes], value: bytes) -> None:
        """Count an answer; in a closed loop, send the next query."""
        if (waiting := self._waiting.pop(fields.get(h.ID, b""), None)) is None:
            return
        (due_s, kind), now_s = waiting, time.monotonic()
        answer = _answered(1e3 * (now_s - due_s), fields)
        self._statuses[_STATUSES.get(answer.status, Overloaded.http_status)] += 1
        if answer.status == "ok":
            self._latencies_ms.append(answer.total_ms)
            self._counts[kind][1] += 1
            self._counts[kind][2] += not self._shape.objective_ms or answer.total_ms <= self._shape.objective_ms
            if len(self.samples) < _SAMPLES or self._draws.random() < 0.01:
                texts = {name: text.decode() for name, text in fields.items()}
                self.samples.append(SampledAnswer(kind, RawAnswer(texts, value)))
        if not self._shape.rate and now_s < self._end_s:
            self._send(now_s)
        elif not self._waiting and now_s >= self._end_s:
            self._all_answered.set()

    def _report(self, elapsed_s: float, cpu_s: float) -> LoadReport:
        kinds = [RequestTally(*counts) for counts in self._counts]
        latencies_ms = self._latencies_ms or [0.0]
        p50_ms, p90_ms, p99_ms = (percentile(latencies_ms, share) for share in (0.5, 0.9, 0.99))
        return LoadReport(
            sent=sum(kind.sent for kind in kinds),
            answered=sum(kind.answered for kind in kinds),
            in_time=sum(kind.in_time for kind in kinds),
            statuses=dict(self._statuses),
            broken=0,
            unanswered=len(self._waiting),
            p50_ms=p50_ms,
            p90_ms=p90_ms,
            p99_ms=p99_ms,
            max_ms=max(latencies_ms),
            elapsed_s=elapsed_s,
            cpu_s=cpu_s,
            lag_p99_ms=percentile(self._lags_ms or [0.0], 0.99),
            connections=1,
            kinds=kinds,
        )
