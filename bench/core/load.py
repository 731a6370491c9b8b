"""Open-loop load: queries are sent at a fixed rate, regardless of late answers, and every answer is timed.

Closed loops hide queueing, because a slow answer delays the next query. An open loop does not.
"""

import asyncio
import time
import uuid
from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from prometheus_client import REGISTRY

from broker.features import broker_features
from broker.reply_stream.receiver import ReplyStreamReceiver
from broker.settings import KafkaSettings
from broker.topics import TopicSpec, ensure_topics
from schemas import headers as h
from schemas.oip import encode_request
from schemas.topics import REPLIES
from zoo.samples import labelled

_LAST_ANSWERS_S = 20.0


class AnsweredQuery(msgspec.Struct, frozen=True):
    """Latency and status of a query."""

    total_ms: float
    """Time from send to answer."""
    overhead_ms: float
    """Time from send to answer, minus the model's computation."""
    status: str


class OpenLoopLoad:
    """Load on one topic, up to the capacity of one client process; an async context manager.

    With `listens` it also receives results over a reply stream, as the client library and the gateway do.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        topic: str,
        value: bytes,
        headers: Sequence[tuple[str, bytes]],
        *,
        listens: bool = False,
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

    async def __aenter__(self) -> "OpenLoopLoad":
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

    async def run(self, rate: float, seconds: float, patience_s: float = _LAST_ANSWERS_S) -> list[AnsweredQuery]:
        """Send `rate` queries per second for `seconds`. Returns the answers.

        Raises:
            TimeoutError: answers are missing `patience_s` seconds after the last send.
        """
        self._sent.clear()
        self._answers = []
        self._all_answered.clear()
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(self._read(), name="read answers")
            await self._send(rate, round(rate * seconds))
            async with asyncio.timeout(patience_s):
                await self._all_answered.wait()
            reading.cancel()
        return self._answers

    async def _send(self, rate: float, count: int) -> None:
        reply_to = (h.REPLY_TO, self._replies.encode())
        self._expected = count
        loop = asyncio.get_running_loop()
        start = loop.time()
        for number in range(count):
            delay = start + number / rate - loop.time()
            if delay > 0:
                await asyncio.sleep(delay)
            query_id = uuid.uuid4().hex.encode()
            sent_ns = time.time_ns()
            self._sent[query_id] = sent_ns
            fixed = [(h.ID, query_id), reply_to, (h.SENT_NS, str(sent_ns).encode())]
            await self._producer.send(self._topic, self._value, key=query_id, headers=[*fixed, *self._headers])

    async def _read(self) -> None:
        async for record in self._consumer:
            self._take(record.headers)

    def _take(self, headers: Iterable[tuple[str, bytes]], _value: bytes = b"") -> None:
        fields = dict(headers)
        sent_ns = self._sent.pop(fields[h.ID], None)
        if sent_ns is None:
            return
        total_ns = time.time_ns() - sent_ns
        compute_ns = int(fields.get(h.COMPUTE_NS, b"0"))
        status = fields.get(h.STATUS, b"ok").decode()
        self._answers.append(AnsweredQuery(total_ns / 1e6, (total_ns - compute_ns) / 1e6, status))
        if len(self._answers) == self._expected:
            self._all_answered.set()


def small_query() -> tuple[bytes, list[tuple[str, bytes]]]:
    """Make a query of one small input: the record's value and its headers."""
    inputs, _labels = labelled("digits")
    query = encode_request({name: array[:1] for name, array in inputs.items()})
    return query.value, [
        (h.CONTENT_TYPE, query.content_type.encode()),
        (h.JSON_LENGTH, str(query.json_length).encode()),
    ]


def silence_s(answered_s: Iterable[float], killed_s: float, near_s: float) -> float:
    """Return the longest time without an answer within `near_s` seconds after the kill; all in seconds of one clock."""
    near = sorted(at for at in answered_s if killed_s <= at <= killed_s + near_s) or [killed_s + near_s]
    return max(later - earlier for earlier, later in pairwise([killed_s, *near]))


def repeated_results() -> int:
    """Count the duplicate results that the client library of this process has dropped so far."""
    return int(REGISTRY.get_sample_value("infaas_replies_dropped_total", {"reason": "duplicate"}) or 0)
