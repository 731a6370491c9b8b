"""Tests of the producer during Kafka failures: each send ends in time, and writes resume at once after recovery.

The cluster has two brokers; the first is also the controller. Tests suspend a broker's process and resume it later: its
partitions lose their leader, and its clients see a network that drops all packets.
"""

import asyncio
import time
from uuid import uuid4

import pytest
from aiokafka.admin import NewTopic

from broker.delivery.consumer import Consumer
from broker.kafka.client import open_admin
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_topics
from broker.kafka.types import KafkaError, UnknownTopic
from broker.producing.producer import Producer
from tests.integration.broker.conftest import CLUSTER_TIMEOUT_S
from tests.integration.broker.records import read
from tests.kafka_cluster import Cluster

STOPPED_S = 4.0
"""Seconds of suspension; longer than the controller waits for a broker."""


@pytest.fixture
async def topic(cluster: Cluster) -> str:
    name = f"test-{uuid4()}"
    patient = cluster.settings.model_copy(update={"request_timeout_ms": 10_000})
    await ensure_topics(patient, [TopicSpec(name, 2)])
    return name


async def sent_until(producer: Producer, topic: str, until: float) -> list[KafkaError | None]:
    """Send pairs of records to both partitions; check that each send ends in time, and return the errors."""
    ends = list[KafkaError | None]()
    while time.monotonic() < until:
        pair = [await producer.send(topic, b"outage", partition=number) for number in (0, 1)]
        done, waiting = await asyncio.wait(pair, timeout=CLUSTER_TIMEOUT_S * 5)
        assert not waiting, "a record has no end"
        assert len(done) == 2
        for future in pair:
            error = future.exception()
            assert error is None or isinstance(error, KafkaError)
            ends.append(error)
    return ends


async def values_of(kafka: KafkaSettings, topic: str, partition: int, until: int) -> dict[int, bytes | None]:
    """Return the values in a partition by offset, up to an offset."""
    async with Consumer(kafka, "test", group=topic) as consumer:
        await consumer.assign(topic, [partition])
        found = await read(consumer, until + 1)
    return {record.offset: record.value for record in found if record.offset <= until}


async def test_producer_fails_records_in_outage_and_recovers(cluster: Cluster, topic: str) -> None:
    """Acknowledged records keep their order in the log, each once, and every other record of the log has failed.

    A request that a suspended broker has in its socket is written when the broker is resumed, even after later records
    and although its records have failed long ago.
    """
    async with Producer(cluster.settings, "test") as producer:
        before = [await producer.send_and_wait(topic, b"before", partition=number) for number in (0, 1)]
        async with cluster.stopped(1), cluster.stopped(2):
            under_way = [await producer.send(topic, b"outage", partition=number) for number in (0, 1)]
            unknown = await producer.send(f"new-{uuid4()}", b"x")
            await sent_until(producer, topic, time.monotonic() + STOPPED_S)
            assert all(future.done() for future in under_way)
            assert not isinstance(unknown.exception(), UnknownTopic), "nobody said that it does not exist"
        await cluster.until_led(topic, partitions=2)
        after = [await producer.send_and_wait(topic, b"after", partition=number) for number in (0, 1)]
        assert all(new.offset > old.offset for old, new in zip(before, after, strict=True))
        more = [await producer.send(topic, b"%d" % number, partition=0) for number in range(10)]
        offsets = [before[0].offset, after[0].offset, *[(await ack).offset for ack in more]]
    values = await values_of(cluster.settings, topic, 0, until=max(offsets))
    assert offsets == sorted(offsets)
    assert [values.pop(offset) for offset in offsets] == [b"before", b"after", *(b"%d" % n for n in range(10))]
    assert set(values.values()) <= {b"outage"}, "written twice, or not by this test"


async def test_slow_partition_delays_no_other_of_its_broker(cluster: Cluster) -> None:
    """Kafka acknowledges a record once all replicas have it, and answers a connection's requests in order."""
    slow, quick = f"slow-{uuid4()}", f"quick-{uuid4()}"
    async with open_admin(cluster.settings) as admin:
        await admin.create_topics([NewTopic(slow, -1, -1, {0: [1, 2]}), NewTopic(quick, -1, -1, {0: [1], 1: [1]})])
    patient = cluster.settings.model_copy(update={"request_timeout_ms": 30_000})
    async with Producer(patient, "test") as producer:
        written = 0
        await cluster.until_replicated(slow)
        for topic, partition in [(slow, 0), (quick, 0), (quick, 1)]:
            await producer.send_and_wait(topic, b"first", partition=partition)
        async with cluster.stopped(2):
            # A record in the same request as the slow one waits with it, once; later records do not.
            acks = [await producer.send(slow, b"0", partition=0), await producer.send(quick, b"0", partition=0)]
            await asyncio.sleep(0)  # let their request leave
            while not acks[0].done():
                await producer.send_and_wait(quick, b"%d" % written, partition=1)
                written += not acks[0].done()
            await acks[1]
            assert written > 1, "it waited for the slow one"
        offsets = [(await producer.send_and_wait(topic, b"last", partition=0)).offset for topic in (slow, quick)]
    assert offsets == [2, 2], "written twice, or not at all"


async def test_partition_without_leader_delays_no_other(cluster: Cluster, topic: str) -> None:
    leaders = await cluster.until_led(topic, partitions=2)
    (lost,) = (number for number, leader in leaders.items() if leader == 2)
    kept = 1 - lost
    async with Producer(cluster.settings, "test", max_in_flight=20) as producer:
        for number in (kept, lost):
            await producer.send_and_wait(topic, b"x", partition=number)
        async with cluster.stopped(2):
            early = await producer.send(topic, b"x", partition=lost)
            await asyncio.wait([early])
            assert isinstance(early.exception(), KafkaError)
            await cluster.until_led(topic, partitions=1)
            late = [await producer.send(topic, b"late", partition=lost) for _ in range(10)]
            for _ in range(20):  # more than `max_in_flight` allows beside them
                await producer.send_and_wait(topic, b"x", partition=kept)
            for future in late:
                with pytest.raises(KafkaError):
                    await future
        await cluster.until_led(topic, partitions=2)
        assert (await producer.send_and_wait(topic, b"x", partition=lost)).offset > 0


async def test_producer_exit_ends_in_time_during_outage(cluster: Cluster, topic: str) -> None:
    producer = await Producer(cluster.settings, "test").__aenter__()
    sent = [await producer.send(topic, b"x", partition=number) for number in (0, 1)]
    await asyncio.gather(*sent)
    async with cluster.stopped(1), cluster.stopped(2):
        sent = [await producer.send(topic, b"x", partition=number) for number in (0, 1)]
        async with asyncio.timeout(30):
            await producer.__aexit__(None, None, None)
        for future in sent:
            with pytest.raises(KafkaError):
                await future
    await cluster.until_led(topic, partitions=2)
