"""Load on one topic by Kafka, of the same kind as the HTTP client's.

It is plain aiokafka in a process of its own, `python -m bench.peers.kafka_load`, which reads the run's parameters from
its standard input and prints its report. It costs several times as much CPU as the HTTP client, so its CPU time is
shown beside the servers'.
"""

import asyncio
import random
import sys
import time
import uuid
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import ConsumerRecord

from bench.core.figures import percentile
from bench.load_client.http_load import LoadReport, LoadShape, RequestTally
from bench.load_client.http_message import RawAnswer, SampledAnswer
from broker.settings import KafkaSettings
from broker.topics import TopicSpec, ensure_topics
from schemas import headers as h
from schemas.topics import REPLIES

_GRACE_S: Final = 20.0
_SAMPLES: Final = 32
_STATUS: Final = {"ok": 200}
_REFUSED: Final = 503


class KafkaQuery(msgspec.Struct, frozen=True):
    """Record to send, without its id."""

    value: bytes
    headers: dict[str, str]


class KafkaRun(msgspec.Struct, frozen=True):
    """Parameters of the process."""

    bootstrap: str
    fetch_max_wait_ms: int
    topic: str
    queries: list[KafkaQuery]
    shape: LoadShape


class KafkaOutcome(msgspec.Struct, frozen=True):
    """Report of the process."""

    report: LoadReport
    samples: list[SampledAnswer]


class KafkaLoad:
    """Load on a topic, of randomly drawn queries, with one process per run."""

    def __init__(self, kafka: KafkaSettings, topic: str, queries: Sequence[KafkaQuery]) -> None:
        self._kafka = kafka
        self._topic = topic
        self._queries = list(queries)
        self.samples: list[SampledAnswer] = []
        """Sampled answers of the last run."""

    async def run(self, shape: LoadShape) -> LoadReport:
        """Run the load. Returns the report.

        Raises:
            RuntimeError: the process failed.
        """
        run = KafkaRun(self._kafka.bootstrap, self._kafka.fetch_max_wait_ms, self._topic, self._queries, shape)
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.peers.kafka_load", stdin=pipe, stdout=pipe
        )
        try:
            async with asyncio.timeout(shape.seconds + shape.drain_s + _GRACE_S):
                output, _ = await process.communicate(msgspec.json.encode(run))
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise RuntimeError("the load by Kafka failed")
        outcome = msgspec.json.decode(output, type=KafkaOutcome)
        self.samples = outcome.samples
        return outcome.report


class _Pending(msgspec.Struct, frozen=True):
    """Query that was sent."""

    due_s: float
    kind: int


class _Asking:
    """One run: the waiting queries, and the counts of answers."""

    def __init__(self, run: KafkaRun, producer: AIOKafkaProducer, reply_to: str) -> None:
        self._run = run
        self._producer = producer
        self._reply_to = (h.REPLY_TO, reply_to.encode())
        self._draws = random.Random(run.shape.seed)
        self._waiting: dict[bytes, _Pending] = {}
        self._latencies_ms: list[float] = []
        self._statuses: Counter[int] = Counter()
        self._kinds = [[0, 0, 0] for _ in run.queries]
        self._lags_ms: list[float] = []
        self._samples: deque[SampledAnswer] = deque(maxlen=_SAMPLES)
        self._all_answered = asyncio.Event()
        self._cpu_s = time.process_time()
        self._started_s = time.monotonic()
        self._end_s = self._started_s + run.shape.seconds

    async def send_all(self) -> None:
        """Send the queries that are due until the end of the run, then wait for the last answers."""
        shape = self._run.shape
        if shape.rate:
            await self._send_at(shape.rate)
        else:
            for _ in range(shape.connections):
                await self._send(time.monotonic())
        await asyncio.sleep(self._end_s - time.monotonic())  # no event marks the end of the run
        if self._waiting:
            with suppress(TimeoutError):
                async with asyncio.timeout(shape.drain_s):
                    await self._all_answered.wait()
        self._elapsed_s = time.monotonic() - self._started_s

    async def _send_at(self, rate: float) -> None:
        due_s = self._started_s
        while (due_s := due_s + self._draws.expovariate(rate)) < self._end_s:
            delay_s = due_s - time.monotonic()
            if delay_s > 0:
                await asyncio.sleep(delay_s)
            self._lags_ms.append(1e3 * (time.monotonic() - due_s))
            await self._send(due_s)

    async def _send(self, due_s: float) -> None:
        kind = self._draws.randrange(len(self._run.queries))
        query = self._run.queries[kind]
        query_id = uuid.uuid4().hex.encode()
        self._waiting[query_id] = _Pending(due_s, kind)
        self._kinds[kind][0] += 1
        headers = [(name, text.encode()) for name, text in query.headers.items()]
        fixed = [(h.ID, query_id), self._reply_to, (h.SENT_NS, b"%d" % time.time_ns())]
        await self._producer.send(self._run.topic, query.value, key=query_id, headers=[*fixed, *headers])

    async def read(self, consumer: AIOKafkaConsumer) -> None:
        """Read answers until cancelled; in a closed loop, send the next query after each."""
        async for record in consumer:
            if self._take(record) and not self._run.shape.rate and time.monotonic() < self._end_s:
                await self._send(time.monotonic())

    def _take(self, record: ConsumerRecord[bytes | None, bytes | None]) -> bool:
        """Count an answer. Returns false if it belongs to no waiting query."""
        fields = h.as_text(record.headers)
        pending = self._waiting.pop(fields[h.ID].encode(), None)
        if pending is None:
            return False
        now_s = time.monotonic()
        if not self._waiting and now_s >= self._end_s:
            self._all_answered.set()
        latency_ms = 1e3 * (now_s - pending.due_s)
        status = _STATUS.get(fields.get(h.STATUS, "ok"), _REFUSED)
        self._statuses[status] += 1
        if status == 200:
            objective_ms = self._run.shape.objective_ms
            self._latencies_ms.append(latency_ms)
            self._kinds[pending.kind][1] += 1
            self._kinds[pending.kind][2] += not objective_ms or latency_ms <= objective_ms
            if len(self._samples) < _SAMPLES or self._draws.random() < 0.01:
                self._samples.append(SampledAnswer(pending.kind, RawAnswer(fields, record.value or b"")))
        return True

    def outcome(self) -> KafkaOutcome:
        """Return the report and the samples."""
        kinds = [RequestTally(*counts) for counts in self._kinds]
        latencies_ms = self._latencies_ms or [0.0]
        report = LoadReport(
            sent=sum(kind.sent for kind in kinds),
            answered=sum(kind.answered for kind in kinds),
            in_time=sum(kind.in_time for kind in kinds),
            statuses=dict(self._statuses),
            broken=0,
            unanswered=len(self._waiting),
            p50_ms=percentile(latencies_ms, 0.5),
            p90_ms=percentile(latencies_ms, 0.9),
            p99_ms=percentile(latencies_ms, 0.99),
            max_ms=max(latencies_ms),
            elapsed_s=self._elapsed_s,
            cpu_s=time.process_time() - self._cpu_s,
            lag_p99_ms=percentile(self._lags_ms or [0.0], 0.99),
            connections=1,
            kinds=kinds,
        )
        return KafkaOutcome(report, list(self._samples))


async def ask(run: KafkaRun) -> KafkaOutcome:
    """Run the load with the given parameters."""
    settings = KafkaSettings(bootstrap=run.bootstrap, fetch_max_wait_ms=run.fetch_max_wait_ms)
    replies = f"{REPLIES}bench-{uuid.uuid4().hex[:12]}"
    await ensure_topics(settings, [TopicSpec(replies)])
    consumer = AIOKafkaConsumer(bootstrap_servers=run.bootstrap, fetch_max_wait_ms=run.fetch_max_wait_ms)
    producer = AIOKafkaProducer(bootstrap_servers=run.bootstrap, acks="all", enable_idempotence=True)
    async with consumer, producer:
        consumer.assign([TopicPartition(replies, 0)])
        await consumer.seek_to_end()
        asking = _Asking(run, producer, replies)
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(asking.read(consumer), name="read answers")
            await asking.send_all()
            reading.cancel()
        return asking.outcome()


def main() -> None:
    """Read the parameters, run the load, and print the report."""
    run = msgspec.json.decode(sys.stdin.buffer.read(), type=KafkaRun)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(ask(run))))


if __name__ == "__main__":
    main()
