"""Fixtures of the tests of OpenAI's API: a gateway with an encoder of texts, its jobs service, and OpenAI's client."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pytest
from openai import AsyncOpenAI

from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import ensure_system_topics, ensure_task_topics
from gateway.jobs.service import serve
from gateway.model_directory import ModelDirectory
from gateway.service import open_gateway
from gateway.settings import GatewaySettings
from store.pool import Pool
from store.registry import put_architecture, put_task, put_variant
from tests.integration.gateway.jobs.conftest import QUICK
from tests.integration.gateway.responder import Responder, answering
from tests.openai_tasks import catalog_of_encoder, encoded


class OpenAiSystem(NamedTuple):
    """A gateway with the task of an encoder, and the objects around it."""

    url: str
    task: str
    client: AsyncOpenAI
    responder: Responder
    models: ModelDirectory
    pool: Pool
    kafka: KafkaSettings
    dsn: str
    home: Path

    def settings(self, **changes: object) -> GatewaySettings:
        """Return settings of a gateway of this system."""
        return GatewaySettings.model_validate({"port": 0, "home": self.home, "max_body_bytes": 64 * 1024} | changes)


def openai_client(url: str, key: str = "none") -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


@pytest.fixture
async def encoder(
    kafka: KafkaSettings, database: str, store_pool: Pool, tmp_path: Path
) -> AsyncGenerator[OpenAiSystem]:
    """System without a jobs service."""
    task = f"sentences-{uuid4().hex[:8]}"
    await ensure_system_topics(kafka)
    await ensure_task_topics(kafka, task, 1)
    catalog = catalog_of_encoder(task)
    await put_task(store_pool, catalog.tasks[task])
    for architecture in catalog.architectures.values():
        await put_architecture(store_pool, architecture)
    for variant in catalog.variants.values():
        await put_variant(store_pool, variant, catalog.profiles[variant.name])
    async with AsyncExitStack() as stack:
        responder = await stack.enter_async_context(answering(kafka, task, encoded))
        models = ModelDirectory(catalog)
        settings = GatewaySettings(port=0, home=tmp_path, max_body_bytes=64 * 1024)
        opened = open_gateway(settings, kafka, models, database, asyncio.Event())
        url, _ = await stack.enter_async_context(opened)
        client = await stack.enter_async_context(openai_client(url))
        yield OpenAiSystem(url, task, client, responder, models, store_pool, kafka, database, tmp_path)


@pytest.fixture
async def system(encoder: OpenAiSystem) -> AsyncGenerator[OpenAiSystem]:
    """System with a jobs service."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(serve(QUICK, encoder.kafka, encoder.dsn, stop))
        try:
            yield encoder
        finally:
            stop.set()
            await running
