"""Tests of the logs of topics in a cluster with a broker that does not answer, and without Kafka."""

import time
from pathlib import Path
from uuid import uuid4

import pytest

from broker.kafka.admin import open_librdkafka_admin, read_configs
from broker.kafka.cluster import ping
from broker.kafka.offsets import UNKNOWN
from broker.kafka.topics import TopicSpec, correct_topics, ensure_topics
from broker.kafka.types import TopicPartition
from broker.producing.producer import Producer
from broker.topic_logs import delete_before, partition_ends
from process.sockets import free_port
from schemas.errors import OperatorError
from tests.integration.broker.conftest import CLUSTER_TIMEOUT_S
from tests.kafka_cluster import Cluster
from tests.waiting import read_until, until


def librdkafka_threads() -> list[str]:
    names = [task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if name.startswith("rdk:")]


async def test_delete_before_passes_partitions_without_leader(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    topic = f"test-{uuid4()}"
    await ensure_topics(cluster.settings, [TopicSpec(topic, 2)])
    leaders = await cluster.leaders(topic)
    (there,) = [TopicPartition(topic, number) for number, node in leaders.items() if node == 1]
    (away,) = [TopicPartition(topic, number) for number, node in leaders.items() if node == 2]
    async with Producer(cluster.settings, "test") as producer:
        for partition in (there, away):
            await producer.send_and_wait(topic, b"x", partition=partition.partition)

    async def without_leader() -> bool:
        return (await cluster.leaders(topic)).get(away.partition) == -1

    async def deleted() -> bool:
        return await delete_before(cluster.settings, {there: 1, away: 1}) == {there}

    async def ends() -> dict[TopicPartition, int]:
        try:
            return await partition_ends(cluster.settings, [topic])
        except OperatorError:
            return {}

    async with cluster.stopped(2):
        await until(deleted)  # librdkafka may ask the hanging broker for the leaders, and then finds none
        assert f"{topic} {away.partition} keeps its records: Kafka does not answer" in caplog.text
        await until(without_leader)
        await read_until(ends, lambda found: found == {there: 1, away: UNKNOWN})
        await until(deleted)


async def test_ping_answers_while_one_broker_hangs(cluster: Cluster) -> None:
    addresses = ",".join(f"{node['host']}:{node['port']}" for node in await cluster.until_joined())
    both = cluster.settings.model_copy(update={"bootstrap": addresses})
    for node in (1, 2):
        async with cluster.stopped(node):
            assert await ping(both) in (1, 2), "the cluster may have excluded the node by now"


async def test_librdkafka_admin_fails_in_time_and_ends_its_threads(cluster: Cluster) -> None:
    async with open_librdkafka_admin(cluster.settings) as admin:
        assert librdkafka_threads()
        async with cluster.stopped(1), cluster.stopped(2):
            began_s = time.monotonic()
            with pytest.raises(OperatorError, match="Kafka does not answer"):
                await read_configs(admin, ["any"])
            assert time.monotonic() - began_s < 3 * CLUSTER_TIMEOUT_S
    assert librdkafka_threads() == []
    away = cluster.settings.model_copy(update={"bootstrap": f"127.0.0.1:{free_port()}"})
    for act in (correct_topics(away, ["infaas.system"]), delete_before(away, {TopicPartition("any", 0): 1})):
        with pytest.raises(OperatorError, match="cannot reach Kafka"):
            await act
    assert librdkafka_threads() == []
