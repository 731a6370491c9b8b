"""Fixtures: a running gateway in the test's event loop, with a responder behind its topics."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import NamedTuple
from uuid import uuid4

import aiohttp
import pytest
from openai import AsyncOpenAI

from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import ensure_task_topics
from gateway.model_directory import ModelDirectory
from gateway.query_client import QueryClient
from gateway.service import open_gateway
from gateway.settings import GatewaySettings
from process.sockets import free_port
from schemas.catalog import Catalog
from tests.example_rows import a_profile, a_task, a_variant, an_architecture
from tests.generative_tasks import Writer, catalog_of_writer, writing_answers
from tests.integration.gateway.responder import VARIANT, Responder, answering


def catalog_of(task: str) -> Catalog:
    """Return a catalog: a task with one ready variant, and an architecture without variants."""
    return Catalog(
        tasks={task: a_task(task)},
        architectures={"mlp": an_architecture("mlp", task), "empty": an_architecture("empty", task)},
        variants={VARIANT: a_variant(VARIANT, task)},
        profiles={VARIANT: a_profile(VARIANT)},
    )


SYSTEM_SECRET = b"a secret of 32 bytes for a system"
NOWHERE = "postgresql://postgres@127.0.0.1:1/none"
"""DSN of a database that does not exist; the gateway connects only when a test uses jobs."""


class Running(NamedTuple):
    """A running gateway and the objects around it."""

    url: str
    task: str
    http: aiohttp.ClientSession
    responder: Responder
    query_client: QueryClient
    stop: asyncio.Event

    @property
    def infer_url(self) -> str:
        return f"{self.url}/v2/models/{self.task}/infer"


@pytest.fixture
def gateway_settings() -> GatewaySettings:
    return GatewaySettings(port=0, max_body_bytes=64 * 1024, max_in_flight=4, grace_s=0.2)


@pytest.fixture
async def gateway(kafka: KafkaSettings, gateway_settings: GatewaySettings) -> AsyncGenerator[Running]:
    task = f"digits-{uuid4().hex[:8]}"
    await ensure_task_topics(kafka, task, 1)
    async with AsyncExitStack() as stack:
        stop = asyncio.Event()
        responder = await stack.enter_async_context(answering(kafka, task))
        models = ModelDirectory(catalog_of(task))
        url, query_client = await stack.enter_async_context(
            open_gateway(gateway_settings, kafka, models, NOWHERE, stop, system_secret=SYSTEM_SECRET)
        )
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield Running(url, task, http, responder, query_client, stop)


class WritingSystem(NamedTuple):
    """A gateway with a generative task, and the objects around it."""

    url: str
    task: str
    client: AsyncOpenAI
    http: aiohttp.ClientSession
    writer: Writer
    query_client: QueryClient
    grpc: str
    """Address of gRPC."""


@pytest.fixture
async def writing(kafka: KafkaSettings) -> AsyncGenerator[WritingSystem]:
    task = f"text-{uuid4().hex[:8]}"
    await ensure_task_topics(kafka, task, 1)
    settings = GatewaySettings(port=0, grpc_port=free_port(), max_body_bytes=64 * 1024, grace_s=0.2)
    async with AsyncExitStack() as stack:
        writer = await stack.enter_async_context(writing_answers(kafka, task))
        opened = open_gateway(settings, kafka, ModelDirectory(catalog_of_writer(task)), NOWHERE, asyncio.Event())
        url, query_client = await stack.enter_async_context(opened)
        client = AsyncOpenAI(base_url=f"{url}/v1", api_key="me", max_retries=0)
        await stack.enter_async_context(client)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield WritingSystem(url, task, client, http, writer, query_client, f"127.0.0.1:{settings.grpc_port}")
