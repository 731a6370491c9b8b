"""Tests of a log that was truncated and extended: its new records are read, and lost records are counted."""

import asyncio
import struct
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from prometheus_client import REGISTRY

from broker.delivery.consumer import Consumer
from broker.kafka.servers.apache import ApacheKafka
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_topics
from broker.kafka.types import Record
from broker.lag.reader import LagReader
from process.sockets import free_port
from tests.integration.broker.records import read
from tests.kafka_fixtures import need_apache
from tests.waiting import read_until

TOPIC = "cut"
FOR_LONG_S = 3600.0


def lost() -> float:
    return REGISTRY.get_sample_value("infaas_records_lost_total", {"topic": TOPIC, "why": "cut"}) or 0.0


async def write(kafka: KafkaSettings, *values: bytes) -> None:
    """Write values, each a batch of its own."""
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        for value in values:
            await producer.send_and_wait(TOPIC, value, partition=0)


def cut(home: Path, kept: int) -> None:
    """Keep only the first `kept` batches of the partition, as after a power failure or an unclean election."""
    data = home / "data"
    for name in (".kafka_cleanshutdown", "recovery-point-offset-checkpoint"):
        (data / name).unlink(missing_ok=True)
    log = data / f"{TOPIC}-0" / "00000000000000000000.log"
    content, at = log.read_bytes(), 0
    for _ in range(kept):
        (length,) = struct.unpack_from(">i", content, at + 8)
        at += 12 + length
    log.write_bytes(content[:at])


def values(records: list[Record]) -> list[tuple[int, bytes | None]]:
    return [(record.offset, record.value) for record in records]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    need_apache()
    return tmp_path


async def test_consumer_reads_truncated_log_from_the_cut(home: Path) -> None:
    port, before = free_port(), lost()
    async with asyncio.timeout(300):
        async with ApacheKafka(home, port) as kafka:
            await ensure_topics(kafka.settings, [TopicSpec(TOPIC)])
            await write(kafka.settings, *(b"old %d" % number for number in range(10)))
            consumer = Consumer(kafka.settings, "test", group="readers")
            await consumer.__aenter__()
            await consumer.assign(TOPIC, [0])
            for record in await read(consumer, 10):
                consumer.done(record)
            assert await consumer.commit()
            consumer.rest(FOR_LONG_S)  # until the log is longer than before the cut
        cut(home, 6)
        async with ApacheKafka(home, port) as kafka, LagReader(kafka.settings) as reader:
            await write(kafka.settings, *(b"new %d" % number for number in range(8)))
            consumer.rest(0.0)
            records = await read(consumer, 8)
            assert values(records) == [(6 + number, b"new %d" % number) for number in range(8)]
            assert lost() - before == 4
            for record in records:
                consumer.done(record)

            async def lag() -> list[int]:
                return (await reader.read_until_known({"readers": [TOPIC]})).lag.tolist()

            await read_until(lag, lambda found: found == [0])
            await consumer.__aexit__(None, None, None)
