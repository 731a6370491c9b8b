"""Tests of clients on a Kafka that ends SASL sessions after a few seconds."""

import asyncio
import logging
import time
from collections.abc import Generator
from uuid import uuid4

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from broker.delivery.consumer import Consumer
from broker.kafka.client import client_options, connect_client
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_topics
from broker.lag.reader import LagReader
from broker.producing.producer import Producer
from tests.secured_kafka import SecuredKafka, secured_broker
from tests.waiting import read_until, until

pytestmark = pytest.mark.needs_minutes

SESSION_MS = 3000
SESSIONS = 2


@pytest.fixture(scope="module")
def brief_sessions(tmp_path_factory: pytest.TempPathFactory) -> Generator[SecuredKafka]:
    with secured_broker(tmp_path_factory.mktemp("brief-sessions"), SESSION_MS) as secured:
        yield secured


@pytest.fixture
async def topic(brief_sessions: SecuredKafka) -> str:
    name = f"test-{uuid4()}"
    await ensure_topics(brief_sessions.system, [TopicSpec(name)])
    return name


class Load:
    """Load that writes numbers, reads them back, and reads the lag."""

    def __init__(self, kafka: KafkaSettings, topic: str) -> None:
        self.kafka = kafka
        self.topic = topic
        self.written = 0
        self.read: list[int] = []
        self.readings = 0

    async def write(self, until_s: float) -> None:
        async with Producer(self.kafka, "test") as producer:
            while time.monotonic() < until_s:
                pair = [await producer.send(self.topic, b"%d" % (self.written + n), partition=0) for n in range(5)]
                await asyncio.gather(*pair)
                self.written += 5
                await asyncio.sleep(0.02)

    async def consume(self) -> None:
        async with Consumer(self.kafka, "test", group=self.topic) as consumer:
            await consumer.assign(self.topic, [0])
            while True:
                for record in await consumer.poll():
                    self.read.append(int(record.value or b""))
                    consumer.done(record)

    async def look(self) -> None:
        """Read the lag repeatedly; raises any error of a connection."""
        async with LagReader(self.kafka) as reader:
            while True:
                await reader.read({self.topic: [self.topic]})
                self.readings += 1
                await asyncio.sleep(0.05)


async def test_clients_survive_expiring_sasl_sessions(
    brief_sessions: SecuredKafka, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    load = Load(brief_sessions.system, topic)
    await until_all_answers(load)
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        async with asyncio.TaskGroup() as tasks:
            others = [tasks.create_task(work()) for work in (load.consume, load.look)]
            await load.write(time.monotonic() + SESSIONS * SESSION_MS / 1000)

            async def read() -> int:
                return len(load.read)

            await read_until(read, lambda count: count >= load.written)
            for task in others:
                task.cancel()
    assert load.read == [*range(load.written)]
    assert load.readings > SESSIONS
    assert [record.message for record in caplog.records] == []


async def until_all_answers(load: Load) -> None:
    """Wait until coordinators answer and assign producer ids; a new cluster needs some seconds."""
    warm = f"{load.topic}-warm"
    await ensure_topics(load.kafka, [TopicSpec(warm)])
    async with LagReader(load.kafka) as reader, Producer(load.kafka, "warm") as producer:
        await reader.read_until_known({load.topic: [load.topic]})
        await producer.send_and_wait(warm, b"x")


async def test_idle_connection_works_after_session_expiry(brief_sessions: SecuredKafka) -> None:
    client = await connect_client(brief_sessions.system, "test")
    try:
        node = client.get_random_node()
        await client.fetch_all_metadata()
        assert await client.ready(node)
        await until_sessions_end(brief_sessions.system)
        await client.send(node, MetadataRequest([]))
    finally:
        await client.close()


async def until_sessions_end(kafka: KafkaSettings) -> None:
    """Wait until the broker ends the session of a connection that is not replaced; earlier sessions have ended, too."""
    client = AIOKafkaClient(**client_options(kafka, "observer"))
    try:
        await client.bootstrap()
        node = client.get_random_node()

        async def is_ended() -> bool:
            try:
                await client.send(node, MetadataRequest([]))
            except KafkaConnectionError:
                return True
            return False

        await until(is_ended)
    finally:
        await client.close()
