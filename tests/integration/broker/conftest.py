"""What the broker's tests share: a topic of their own."""

from uuid import uuid4

import pytest

from broker.settings import KafkaSettings
from broker.topics import TopicSpec, ensure_topics


@pytest.fixture
async def topic(kafka: KafkaSettings) -> str:
    """Four partitions; also used as the name of a group."""
    name = f"test-{uuid4()}"
    await ensure_topics(kafka, [TopicSpec(name, 4)])
    return name
