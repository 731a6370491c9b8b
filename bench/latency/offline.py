"""Online latency during a flood of offline queries, and the throughput of offline queries without online load.

Latency: the same open-loop load of small online queries runs alternately alone and while 100,000 offline queries wait;
the median of the rounds' percentiles counts. An online query may wait for the current batch, so the limit adds the time
of one batch to the factor. Throughput: offline queries against the same queries online without a deadline, both written
to their topic at once and answered by the same variant.
"""

import asyncio
import time
import uuid
from statistics import median
from typing import Final

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.core.figures import Figure, at_least, at_most
from bench.core.rounds import take_rounds
from bench.core.system import SystemUnderTest
from bench.latency.end_to_end import check_answered, totals_ms
from bench.load.kafka_load import AnsweredQuery, ClientLoad
from bench.load.pace import small_query
from broker.kafka.cluster import broker_features
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_topics
from schemas import headers as h
from schemas.latency import LatencyModel
from schemas.topics import REPLIES, query_topic, task_topic
from store.pool import open_pool
from store.registry import get_profile, list_variants

TASK: Final = "digits"
FLOOD: Final = 100_000
RATE: Final = 200.0
SECONDS: Final = 10.0
P50_LIMIT, P99_LIMIT = 1.5, 1.5
THROUGHPUT_QUERIES: Final = 20_000
THROUGHPUT_LIMIT: Final = 0.9
_VARIANT: Final = "digits-mlp.onnx-fp32.cpu"
_LOOK_INTERVAL_S: Final = 0.05
_ANSWERED_S: Final = 300.0


async def measure(system: SystemUnderTest, broker: str, *, flood: int = FLOOD) -> list[Figure]:
    """Measure p50 and p99 with and without a flood, and throughput; the system must be up, with `digits` placed."""
    figures = await _throughput(system.kafka, broker, min(flood, THROUGHPUT_QUERIES))
    value, headers = small_query()
    batch_ms = await _batch_ms(system)
    async with ClientLoad(system.kafka, task_topic(TASK), value, headers) as load, _Flood(system.kafka) as waiting:
        await load.run(RATE, 3.0)

        async def take(_number: int) -> tuple[list[AnsweredQuery], list[AnsweredQuery]]:
            alone = await load.run(RATE, SECONDS)
            await waiting.write(flood, offline=True)
            beside = await load.run(RATE, SECONDS)
            left = await waiting.left()
            await waiting.answered()
            if left <= 0:
                raise RuntimeError("the flood ended before the online queries")
            return beside, alone

        rounds = await take_rounds(take)
    check_answered(answers for both in rounds.taken for answers in both)
    for label, share, limit in (("p50", 0.5, P50_LIMIT), ("p99", 0.99, P99_LIMIT)):
        beside_ms, alone_ms = (totals_ms(side, share) for side in zip(*rounds.taken, strict=True))
        name = f"online at {RATE:g}/s beside {flood:,} offline, {label}"
        figure = at_most(name, broker, beside_ms, "ms", alone_ms, limit + batch_ms / median(alone_ms))
        figure = msgspec.structs.replace(figure, target=f"<= {limit:g}x and a batch of {batch_ms:.2g} ms")
        figures += rounds.of([figure])
    return figures


async def _throughput(kafka: KafkaSettings, broker: str, queries: int) -> list[Figure]:
    async with _Flood(kafka) as waiting:
        await waiting.write(queries // 4, offline=True, target=_VARIANT)
        await waiting.answered()

        async def take(_number: int) -> tuple[float, float]:
            return await waiting.rate(queries, offline=True), await waiting.rate(queries, offline=False)

        rounds = await take_rounds(take)
    offline, online = zip(*rounds.taken, strict=True)
    name = "offline over online queries, no other load"
    return rounds.of([at_least(name, broker, offline, "queries/s", online, THROUGHPUT_LIMIT)])


async def _batch_ms(system: SystemUnderTest) -> float:
    """Return the time of the largest batch of the task's variants, which an online query may have to wait for."""
    async with open_pool(system.postgres, max_size=1) as pool:
        variants = await list_variants(pool, task=TASK)
        profiles = [(variant, await get_profile(pool, variant.name)) for variant in variants]
    models = [LatencyModel(profile.latency, variant.max_batch) for variant, profile in profiles if profile is not None]
    return max(model.batch_s(model.max_batch) * 1e3 for model in models)


class _Flood:
    """Many queries written at once; the end offset of their reply topic tells how many are answered."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._replies = TopicPartition(f"{REPLIES}bench-{uuid.uuid4().hex[:12]}", 0)
        self._written = 0

    async def __aenter__(self) -> "_Flood":
        await ensure_topics(self._kafka, [TopicSpec(self._replies.topic)])
        self._consumer = AIOKafkaConsumer(bootstrap_servers=self._kafka.bootstrap)
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._kafka.bootstrap,
            acks="all",
            max_batch_size=256 * 1024,
            enable_idempotence=(await broker_features(self._kafka)).idempotence,
        )
        await self._consumer.start()
        await self._producer.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._producer.stop()
        await self._consumer.stop()

    async def write(self, count: int, *, offline: bool, target: str = "") -> None:
        """Write `count` queries."""
        value, described = small_query()
        headers = [*described, (h.REPLY_TO, self._replies.topic.encode())]
        if offline:
            headers.append((h.MODE, b"offline"))
        if target:
            headers.append((h.TARGET, target.encode()))
        topic = query_topic(TASK, offline=offline)
        for _ in range(count):
            query_id = uuid.uuid4().hex.encode()
            await self._producer.send(topic, value, key=query_id, headers=[(h.ID, query_id), *headers])
        await self._producer.flush()
        self._written += count

    async def rate(self, count: int, *, offline: bool) -> float:
        """Return the queries per second of `count` queries to the variant, with the time of writing them."""
        began = time.monotonic()
        await self.write(count, offline=offline, target=_VARIANT)
        await self.answered()
        return count / (time.monotonic() - began)

    async def left(self) -> int:
        """Return the number of unanswered queries."""
        ends = await self._consumer.end_offsets([self._replies])
        return self._written - ends[self._replies]

    async def answered(self) -> None:
        """Wait until all queries are answered."""
        async with asyncio.timeout(_ANSWERED_S):
            while True:
                if await self.left() <= 0:
                    return
                await asyncio.sleep(_LOOK_INTERVAL_S)
