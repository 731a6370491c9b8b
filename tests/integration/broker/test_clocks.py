"""Tests of record ages with two brokers whose clocks differ."""

import asyncio
import shutil
import time
from collections.abc import Generator
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic

from broker.delivery.consumer import Consumer, Record
from broker.kafka.client import open_admin
from broker.producing.producer import Producer
from tests.kafka_cluster import Cluster, first_broker, joined
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.needs_faketime

APART_S = 20.0
"""Difference of the clocks in seconds; longer than any delay on a busy machine."""
_WRAPPER = """#!/bin/sh
LD_PRELOAD={library} FAKETIME=+{apart_s}s exec {java} "$@"
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Generator[Cluster]:
    """Two brokers; the clock of the second is ahead."""
    java, libraries = shutil.which("java"), [*Path("/usr/lib").glob("**/libfaketimeMT.so.1")]
    if not (java and libraries):
        pytest.skip("libfaketime, and java on PATH, are needed for a broker whose clock is wrong")
    folder = tmp_path_factory.mktemp("clocks")
    wrapper = folder / "bin" / "java"
    wrapper.parent.mkdir()
    wrapper.write_text(_WRAPPER.format(library=libraries[0], apart_s=APART_S, java=java))
    wrapper.chmod(0o755)
    with first_broker(folder / "first") as settings, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(wrapper.parent), prepend=":")
        with joined(settings, folder / "first", folder / "second") as found:
            yield found


async def topic_on_both(cluster: Cluster) -> str:
    name = f"clocks-{uuid4().hex[:8]}"
    stamped = {"message.timestamp.type": "LogAppendTime"}
    async with open_admin(cluster.settings) as admin:
        await admin.create_topics([NewTopic(name, -1, -1, {0: [1], 1: [2]}, stamped)])
    await cluster.until_led(name, partitions=2)
    return name


async def read(consumer: Consumer, count: int) -> dict[int, Record]:
    """Read `count` records; return the last one of each partition."""
    found, seen = dict[int, Record](), 0
    async with asyncio.timeout(PATIENCE_S):
        while seen < count:
            for record in await consumer.poll():
                found[record.partition] = record
                consumer.done(record)
                seen += 1
    return found


async def test_record_age_is_corrected_for_each_brokers_clock(cluster: Cluster) -> None:
    topic = await topic_on_both(cluster)
    async with (
        AIOKafkaProducer(bootstrap_servers=cluster.settings.bootstrap) as client,
        Producer(cluster.settings, "test") as producer,
        Consumer(cluster.settings, "test", group=topic, clocks=producer.clock) as both,
        Consumer(cluster.settings, "test", group=f"{topic}-reader") as reader,
    ):
        for number in (0, 1):
            await producer.send_and_wait(topic, b"x", partition=number)
        for consumer in (both, reader):
            await consumer.assign(topic, [0, 1])
            await read(consumer, 2)
        sent_s = time.monotonic()
        stamps = [(await client.send_and_wait(topic, b"x", partition=number)).timestamp for number in (0, 1)]
        assert APART_S * 500 < stamps[1] - stamps[0] < APART_S * 1500, "the clocks do not differ"
        for consumer in (both, reader):
            records, read_s = await read(consumer, 2), time.monotonic()
            for number, record in records.items():
                appended_s = (record.timestamp - consumer.offset_ms(record)) / 1e3
                assert sent_s - 0.1 <= appended_s <= read_s + 0.1, f"partition {number}"
                assert abs(producer.offset_ms(topic, number) - consumer.offset_ms(record)) < APART_S * 500
