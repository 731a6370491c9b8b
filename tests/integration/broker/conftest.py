"""Fixtures of the broker tests: a topic for each test."""

from uuid import uuid4

import pytest

from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_topics


@pytest.fixture
async def topic(kafka: KafkaSettings) -> str:
    """Name of a new topic of four partitions; tests use it as a group's name, too."""
    name = f"test-{uuid4()}"
    await ensure_topics(kafka, [TopicSpec(name, 4)])
    return name
