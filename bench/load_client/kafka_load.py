"""Open-loop load on one topic by librdkafka, whose CPU cost is small, so that the system is the bottleneck.

Queries are sent when they are due, in groups at high rates. A latency counts from the due time of its query, as in the
HTTP client. Queries linger for librdkafka's default of 5 ms.

A part of the load may be wasted: written as the same bytes by the same producer, to a topic without consumers. So the
load on the system can be lowered while the cost of sending, on this machine and in Kafka, stays the same.
"""

import asyncio
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Final, Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition

from bench.core.load import AnsweredQuery
from broker.settings import KafkaSettings
from broker.topics import TopicSpec, ensure_topics
from schemas import headers as h
from schemas.topics import REPLIES

LINGER_MS: Final = 5
"""Default of kafka-clients 4 and librdkafka."""
_TICK_S: Final = 0.001
"""Least seconds between two checks for due queries."""
_POLL_S: Final = 0.1


class LibrdkafkaLoad:
    """Load on one topic, one run at a time; an async context manager. It sends and receives in two threads."""

    def __init__(
        self,
        kafka: KafkaSettings,
        topic: str,
        value: bytes,
        headers: Sequence[tuple[str, bytes]],
        *,
        linger_ms: int = LINGER_MS,
    ) -> None:
        self._kafka = kafka
        self._topic = topic
        self._value = value
        self._headers = list(headers)
        self._linger_ms = linger_ms
        word = uuid.uuid4().hex[:12]
        self._replies = f"{REPLIES}bench-{word}"
        self.unread = f"bench-unread-{word}"
        """Topic of the wasted part."""
        self._due_s: dict[bytes, float] = {}
        self._answers: list[AnsweredQuery] = []
        self._expected = 0
        self._all_answered, self._stopped = threading.Event(), threading.Event()

    async def __aenter__(self) -> Self:
        common = {"bootstrap.servers": self._kafka.bootstrap}
        self._producer = Producer({**common, "linger.ms": self._linger_ms, "enable.idempotence": True})
        self._consumer = Consumer(
            {**common, "group.id": "bench", "enable.auto.commit": False,
             "fetch.wait.max.ms": self._kafka.fetch_max_wait_ms}
        )  # fmt: skip
        found = await asyncio.to_thread(self._producer.list_topics, self._topic, 10.0)
        partitions = len(found.topics[self._topic].partitions)
        await ensure_topics(self._kafka, [TopicSpec(self._replies), TopicSpec(self.unread, partitions)])
        self._consumer.assign([TopicPartition(self._replies, 0, OFFSET_BEGINNING)])
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await asyncio.to_thread(self._producer.flush, 10.0)
        await asyncio.to_thread(self._consumer.close)

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
                await asyncio.to_thread(self._ask, rate, wasted)
                if not await asyncio.to_thread(self._all_answered.wait, patience_s):
                    raise TimeoutError(f"{len(self._due_s)} queries have no answer")
            finally:
                self._stopped.set()
        return self._answers

    def _ask(self, rate: float, wasted: float) -> None:
        """Send all expected queries, interleaved with the wasted ones."""
        began_s, both = time.monotonic(), rate + wasted
        sent, asked, credit = 0, 0, 0.0
        while asked < self._expected and not self._stopped.is_set():
            due_s = began_s + sent / both
            early_s = due_s - time.monotonic()
            if early_s > 0:
                self._producer.poll(0)
                time.sleep(max(early_s, _TICK_S))
                continue
            sent += 1
            credit += rate
            if credit >= both:
                credit -= both
                asked += 1
                self._send(self._topic, due_s)
            else:
                self._send(self.unread, due_s)

    def _send(self, topic: str, due_s: float) -> None:
        query_id = uuid.uuid4().hex.encode()
        if topic == self._topic:
            self._due_s[query_id] = due_s
        fixed = [(h.ID, query_id), (h.REPLY_TO, self._replies.encode()), (h.SENT_NS, b"%d" % time.time_ns())]
        self._producer.produce(topic, self._value, query_id, headers=[*fixed, *self._headers])

    def _listen(self) -> None:
        while not self._stopped.is_set():
            message = self._consumer.poll(_POLL_S)
            if message is not None and message.error() is None:
                self._take(message)

    def _take(self, message: Message) -> None:
        fields = {name: text for name, text in message.headers() or () if isinstance(text, bytes)}
        due_s = self._due_s.pop(fields.get(h.ID, b""), None)
        if due_s is None:
            return
        total_ms = 1e3 * (time.monotonic() - due_s)
        compute_ms = int(fields.get(h.COMPUTE_NS, b"0")) / 1e6
        status = fields.get(h.STATUS, b"ok").decode()
        self._answers.append(AnsweredQuery(total_ms, total_ms - compute_ms, status))
        if len(self._answers) == self._expected:
            self._all_answered.set()
