"""Tests of the overload bench's clients: Kafka load with wasted queries, and the bare HTTP refuser."""

import asyncio
import sys
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.core.baseline import forward
from bench.load.kafka_load import LibrdkafkaLoad
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_topics
from process.sockets import LOOPBACK, free_port
from tests.waiting import PATIENCE_S

PARTITIONS = 2
REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody"


async def test_librdkafka_load_writes_wasted_queries_to_unread_topic(kafka: KafkaSettings) -> None:
    topic = f"asked-{uuid4().hex[:8]}"
    await ensure_topics(kafka, [TopicSpec(topic, PARTITIONS)])
    answering = asyncio.create_task(forward(kafka, topic, ""))
    async with LibrdkafkaLoad(kafka, topic, b"value", []) as load:
        answers = await load.run(100.0, 0.5, 300.0, patience_s=PATIENCE_S)
    answering.cancel()
    assert [answer.status for answer in answers] == ["ok"] * 50
    assert await written(kafka, topic) == 50
    assert await written(kafka, load.unread) == 150


async def written(kafka: KafkaSettings, topic: str) -> int:
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap) as consumer:
        ends = await consumer.end_offsets([TopicPartition(topic, number) for number in range(PARTITIONS)])
    return sum(ends.values())


async def test_bare_refuser_refuses_each_complete_request() -> None:
    port = free_port()
    command = (sys.executable, "-m", "bench.load.bare_refuser", str(port), str(len(REQUEST)))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            assert await process.stdout.readline() == b"ready\n"
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            for sent in (REQUEST, REQUEST + REQUEST[:10], REQUEST[10:]):
                writer.write(sent)
                assert (await reader.readuntil(b'later"}')).startswith(b"HTTP/1.1 503 ")
            writer.close()
    finally:
        process.kill()
        await process.wait()
