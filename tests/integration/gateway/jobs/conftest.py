"""Fixtures of the jobs tests: a gateway, jobs services, and a responder in place of selectors and workers."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple
from uuid import uuid4

import aiohttp
import pytest

from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import ensure_system_topics, ensure_task_topics
from gateway.jobs.service import serve
from gateway.jobs.settings import JobsSettings
from gateway.model_directory import ModelDirectory
from gateway.service import open_gateway
from gateway.settings import GatewaySettings
from schemas.jobs import JobState
from store.pool import Pool
from tests.example_rows import register
from tests.integration.gateway.conftest import catalog_of
from tests.integration.gateway.responder import VARIANT, Responder, answering
from tests.integration.gateway.test_inference import json_body
from tests.waiting import read_until

QUICK = JobsSettings(interval_s=0.1, retry_pause_s=0.05, deadline_grace_s=0.0, webhook_pause_s=0.05)
ENDED = ("succeeded", "failed", "cancelled")


class Office(NamedTuple):
    """Environment of a test: the gateway, the responder and the database of jobs."""

    url: str
    task: str
    http: aiohttp.ClientSession
    responder: Responder
    pool: Pool
    kafka: KafkaSettings
    dsn: str

    @property
    def jobs_url(self) -> str:
        return f"{self.url}/v2/models/{self.task}/jobs"

    async def submit(self, body: bytes | None = None, query: str = "", **headers: str) -> Any:
        """Submit one or several jobs; return the content of the response and its Location header."""
        sent = {name.replace("_", "-"): text for name, text in headers.items()}
        data = json_body() if body is None else body
        async with self.http.post(f"{self.jobs_url}{query}", data=data, headers=sent) as answer:
            content = await answer.json()
            assert answer.status == 202, content
            return content | {"location": answer.headers["Location"]}

    async def submit_many(self, count: int, **headers: str) -> list[str]:
        body = b"\n".join(json_body() for _ in range(count))
        return (await self.submit(body, **{"content_type": "application/x-ndjson"} | headers))["ids"]

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.http.get(f"{self.jobs_url}{path}") as answer:
            return answer.status, json.loads(await answer.read())

    async def status(self, job_id: str) -> Any:
        status, content = await self.get(f"/{job_id}")
        assert status == 200, content
        return content

    async def ended(self, job_id: str) -> Any:
        """Wait until the job has ended; return its status."""
        return await read_until(lambda: self.status(job_id), lambda job: job["state"] in ENDED)

    async def number(self, state: JobState) -> int:
        return await self.pool.fetch_value(int, "SELECT count(*) FROM jobs WHERE state = $1", state) or 0

    async def all_in(self, state: JobState, ids: Sequence[str]) -> None:
        await read_until(lambda: self.number(state), lambda found: found == len(ids))


@asynccontextmanager
async def jobs_service(office: Office, settings: JobsSettings = QUICK) -> AsyncGenerator[None]:
    """Run a jobs service while the context is open."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(serve(settings, office.kafka, office.dsn, stop))
        try:
            yield
        finally:
            stop.set()
            await running


@pytest.fixture
def gateway_settings() -> GatewaySettings:
    return GatewaySettings(port=0)


@pytest.fixture
async def office(
    kafka: KafkaSettings, database: str, store_pool: Pool, gateway_settings: GatewaySettings
) -> AsyncGenerator[Office]:
    task = f"jobs-{uuid4().hex[:8]}"
    await ensure_system_topics(kafka)
    await ensure_task_topics(kafka, task, 1)
    await register(store_pool, VARIANT, task=task)
    async with AsyncExitStack() as stack:
        responder = await stack.enter_async_context(answering(kafka, task))
        models, stop = ModelDirectory(catalog_of(task)), asyncio.Event()
        url, _ = await stack.enter_async_context(open_gateway(gateway_settings, kafka, models, database, stop))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield Office(url, task, http, responder, store_pool, kafka, database)


@pytest.fixture
async def served(office: Office) -> AsyncGenerator[Office]:
    """Environment with a running jobs service."""
    async with jobs_service(office):
        yield office
