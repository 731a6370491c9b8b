"""Fixtures of the broker tests: a topic for each test, and one cluster of two brokers."""

from collections.abc import Generator
from typing import Final
from uuid import uuid4

import pytest

from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_topics
from tests.kafka_cluster import Cluster, two_brokers

CLUSTER_TIMEOUT_S: Final = 3.0
"""Request timeout of the cluster's clients."""


@pytest.fixture
async def topic(kafka: KafkaSettings) -> str:
    """Name of a new topic of four partitions; tests use it as a group's name, too."""
    name = f"test-{uuid4()}"
    await ensure_topics(kafka, [TopicSpec(name, 4)])
    return name


@pytest.fixture(scope="session")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Generator[Cluster]:
    """Two brokers shared by all tests."""
    with two_brokers(tmp_path_factory.mktemp("two-kafkas"), int(CLUSTER_TIMEOUT_S * 1000)) as found:
        yield found


@pytest.fixture
async def cluster(brokers: Cluster) -> Cluster:
    """Two brokers that a test may suspend and resume; new topics have partitions on both."""
    await brokers.until_joined()
    return brokers
