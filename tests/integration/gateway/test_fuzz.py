"""Test of the HTTP API by fuzzing: valid and mutated requests from the OpenAPI document."""

import asyncio
import json
import logging
from uuid import uuid4

import pytest

from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import ensure_task_topics
from gateway.model_directory import ModelDirectory
from gateway.service import open_gateway
from gateway.settings import GatewaySettings
from schemas.documents.__main__ import FOLDER
from tests.fuzz.http_fuzzing import fuzz_http
from tests.fuzz.mutations import mutate_http
from tests.integration.gateway.conftest import catalog_of
from tests.integration.gateway.responder import answering

pytestmark = pytest.mark.needs_campaign

EXAMPLES = 3
"""Requests per operation, besides those at the limits of the schema."""
MUTATIONS = 400


async def test_http_fuzz_answers_conform_to_openapi(
    kafka: KafkaSettings, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    task = f"digits-{uuid4().hex[:8]}"
    await ensure_task_topics(kafka, task, 1)
    settings, models = GatewaySettings(port=0, grace_s=0.2, wait_s=2.0), ModelDirectory(catalog_of(task))
    paths = json.loads((FOLDER / "openapi.json").read_text())["paths"]
    async with (
        answering(kafka, task),
        open_gateway(settings, kafka, models, database, asyncio.Event()) as (url, _),
    ):
        made = await fuzz_http(url, seed=1, examples=EXAMPLES)
        mutated = await mutate_http(url, seed=1, most=MUTATIONS)
    assert made.failures == 0, made.output
    assert made.operations == sum(map(len, paths.values())) - 1, "all but the document itself, which it has read"
    assert made.requests > made.operations
    assert mutated.failures == []
    assert mutated.requests == MUTATIONS
    assert mutated.statuses[200] > 0
    assert mutated.statuses[400] > 0
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
