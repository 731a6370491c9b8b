"""Fixtures: a stage for a selector, and a client that sends queries to it."""

import asyncio
from collections.abc import AsyncGenerator

import msgspec
import pytest

from broker.fetch.tail import Tail
from broker.kafka.settings import KafkaSettings
from broker.producing.producer import Producer
from schemas.topics import DEAD_LETTERS, DEMAND, variant_topics
from store.pool import Pool
from tests.integration.selector.stage import Stage, empty, use_own_names
from tests.unit.selector.story import instance


@pytest.fixture(autouse=True)
def own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    use_own_names(monkeypatch)


@pytest.fixture
async def stage(kafka: KafkaSettings, store_pool: Pool, database: str) -> AsyncGenerator[Stage]:
    made = Stage(kafka, store_pool, database)
    await made.prepare()
    topics = [made.replies, *variant_topics(made.cheap), *variant_topics(made.good), DEAD_LETTERS, DEMAND]
    async with (
        Tail(kafka, "ears", topics) as tail,
        Producer(kafka, "worker") as mouth,
        asyncio.TaskGroup() as tasks,
    ):
        made.said = [instance(made.cheap, partitions=(0, 1)), instance(made.good, partitions=(0,))]
        made.said = [msgspec.structs.replace(s, partitions=empty(s)) for s in made.said]
        speaking = tasks.create_task(made.speak(mouth), name="speak")
        listening = tasks.create_task(made.listen(tail), name="listen")
        yield made
        speaking.cancel()
        listening.cancel()


@pytest.fixture
async def client(kafka: KafkaSettings) -> AsyncGenerator[Producer]:
    async with Producer(kafka, "client") as producer:
        yield producer
