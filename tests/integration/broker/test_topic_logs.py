"""Tests of the logs of topics in a cluster with a broker that does not answer, and without Kafka."""

import time
from collections.abc import Generator
from pathlib import Path
from uuid import uuid4

import pytest

from broker.kafka.admin import open_librdkafka_admin, read_configs
from broker.kafka.client import open_admin
from broker.kafka.cluster import ping
from broker.kafka.offsets import UNKNOWN
from broker.kafka.servers.apache import ApacheKafka
from broker.kafka.topics import TopicSpec, correct_topics, ensure_topics
from broker.kafka.types import TopicPartition
from broker.producing.producer import Producer
from broker.topic_logs import delete_before, partition_ends
from schemas.errors import OperatorError
from tests.kafka_cluster import Cluster, two_brokers
from tests.processes import suspended
from tests.waiting import read_until, until

TIMEOUT_S = 2.0


def librdkafka_threads() -> list[str]:
    names = [task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if name.startswith("rdk:")]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Generator[Cluster]:
    with two_brokers(tmp_path_factory.mktemp("two-kafkas"), int(TIMEOUT_S * 1000)) as found:
        yield found


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

    async with cluster.stopped(2):
        assert await delete_before(cluster.settings, {there: 1, away: 1}) == {there}, "the leader hangs"
        assert f"{topic} {away.partition} keeps its records: Kafka does not answer" in caplog.text
        await until(without_leader)
        assert await partition_ends(cluster.settings, [topic]) == {there: 1, away: UNKNOWN}
        assert await delete_before(cluster.settings, {there: 1, away: 1}) == {there}


async def test_ping_answers_while_one_broker_hangs(cluster: Cluster) -> None:
    async with open_admin(cluster.settings) as admin:
        described = await read_until(admin.describe_cluster, lambda found: len(found["brokers"]) == 2)
    addresses = ",".join(f"{node['host']}:{node['port']}" for node in described["brokers"])
    both = cluster.settings.model_copy(update={"bootstrap": addresses})
    for node in (1, 2):
        async with cluster.stopped(node):
            assert await ping(both) in (1, 2), "the cluster may have excluded the node by now"


async def test_librdkafka_admin_fails_in_time_and_ends_its_threads(tmp_path: Path) -> None:
    async with ApacheKafka(tmp_path) as kafka:
        hasty = kafka.settings.model_copy(update={"request_timeout_ms": int(TIMEOUT_S * 1000)})
        async with open_librdkafka_admin(hasty) as admin:
            assert librdkafka_threads()
            async with suspended(kafka.pid):
                began_s = time.monotonic()
                with pytest.raises(OperatorError, match="Kafka does not answer"):
                    await read_configs(admin, ["any"])
                assert time.monotonic() - began_s < 3 * TIMEOUT_S
        assert librdkafka_threads() == []
    for act in (correct_topics(hasty, ["infaas.system"]), delete_before(hasty, {TopicPartition("any", 0): 1})):
        with pytest.raises(OperatorError, match="cannot reach Kafka"):
            await act
    assert librdkafka_threads() == []
