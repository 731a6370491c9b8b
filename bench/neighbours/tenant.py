"""Tenants of a system: plain aiokafka, with or without signatures, and the one that behaves well."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError

from bench.load.pace import pace, small_query
from process.security.signature import parse_key, sign
from schemas import headers as h
from schemas.topics import task_topic, tenant_prefix

TASK: Final = "digits"
LARGEST_BYTES: Final = 8 * 2**20
RATE: Final = 100.0
LATENCY_MS: Final = 200
_LAST_S: Final = 10.0
_STAGES: Final = {"task queue": h.TASK_QUEUE_NS, "variant queue": h.VARIANT_QUEUE_NS, "compute": h.COMPUTE_NS}


class TenantClient(msgspec.Struct, frozen=True):
    """A tenant's name and its access to Kafka."""

    name: str
    kafka: str
    key: str
    """Signing key; empty: its queries carry its name without a signature."""

    def reply_topic(self, name: str) -> str:
        """Return the name of a reply topic that this tenant may use."""
        return f"{tenant_prefix(self.name)}{name}" if self.key else f"replies.{self.name}.{name}"

    @asynccontextmanager
    async def sender(self, **options: Any) -> AsyncGenerator["Sender"]:
        """Open a producer of this tenant; `options` are aiokafka's."""
        producer = AIOKafkaProducer(bootstrap_servers=self.kafka, acks="all", max_request_size=LARGEST_BYTES, **options)
        async with producer:
            yield Sender(self, producer)


class Sender:
    """Producer of one tenant's queries."""

    def __init__(self, tenant: TenantClient, producer: AIOKafkaProducer) -> None:
        self._tenant = tenant
        self.producer = producer

    async def send(self, query_id: str, value: bytes, headers: Sequence[tuple[str, bytes]]) -> None:
        """Write a query to the task's topic, and wait until it is in a batch of the producer."""
        tenant = self._tenant
        fields = {h.ID: query_id, h.TENANT: tenant.name, **{name: text.decode() for name, text in headers}}
        if tenant.key:
            fields[h.SIGNATURE] = sign(parse_key(tenant.key), TASK, fields, value, int(time.time() * 1000))
        await self.producer.send(
            task_topic(TASK), value, headers=[(name, text.encode()) for name, text in fields.items()]
        )


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of the answers to a tenant's queries."""

    asked: int
    in_time: int
    """Queries answered with `ok` within the required latency, as measured by the tenant."""
    statuses: dict[str, int]
    """Results by status; `none`: queries without a result."""
    p50_ms: float
    p99_ms: float
    stages_ms: dict[str, float]
    """99th percentile of the time in each stage, of the answered queries."""

    @property
    def share(self) -> float:
        """Share of the queries that were answered in time."""
        return self.in_time / self.asked


async def make_topic(kafka: str, topic: str, configs: dict[str, str]) -> None:
    """Create a topic of one partition unless it exists."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=configs)])
    except TopicAlreadyExistsError:
        pass
    finally:
        await admin.close()


async def ask_steadily(tenant: TenantClient, count: int, run: str) -> Outcome:
    """Send queries at a steady rate, read all results, and count them."""
    topic = tenant.reply_topic(f"good-{run}")
    await make_topic(tenant.kafka, topic, {})
    sent: dict[str, float] = {}
    took: dict[str, float] = {}
    statuses = Counter[str]()
    stages: dict[str, list[int]] = {name: [] for name in _STAGES}
    async with AIOKafkaConsumer(bootstrap_servers=tenant.kafka) as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.seek_to_beginning()

        async def read() -> None:
            async for record in consumer:
                fields = h.as_text(record.headers)
                if (begun := sent.get(fields[h.ID])) is not None and fields[h.ID] not in took:
                    took[fields[h.ID]] = (time.perf_counter() - begun) * 1000
                    statuses[fields[h.STATUS]] += 1
                    for name, header in _STAGES.items():
                        stages[name].append(int(fields.get(header, 0)))
                    if fields[h.STATUS] != "ok":
                        took[fields[h.ID]] = float("inf")

        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(read())
            await _ask(tenant, count, topic, sent)
            end = time.monotonic() + _LAST_S
            while len(took) < count and time.monotonic() < end:  # noqa: ASYNC110 - the reader task sets no event
                await asyncio.sleep(0.1)
            reading.cancel()
    times = [took.get(query_id, float("inf")) for query_id in sent]
    statuses["none"] = count - len(took)
    return Outcome(
        asked=count,
        in_time=sum(ms <= LATENCY_MS for ms in times),
        statuses=dict(+statuses),
        p50_ms=float(np.quantile(times, 0.5, method="lower")),
        p99_ms=float(np.quantile(times, 0.99, method="lower")),
        stages_ms={name: float(np.quantile(ns or [0], 0.99)) / 1e6 for name, ns in stages.items()},
    )


async def _ask(tenant: TenantClient, count: int, topic: str, sent: dict[str, float]) -> None:
    value, headers = small_query()
    own = [(h.REPLY_TO, topic.encode()), (h.LATENCY_MS, str(LATENCY_MS).encode())]
    async with tenant.sender() as sender:
        async for number in pace(RATE, count):
            query_id = f"{topic}-{number}"
            sent[query_id] = time.perf_counter()
            await sender.send(query_id, value, [*headers, *own])
