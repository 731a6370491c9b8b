"""Tests of outages: Kafka unreachable, a port in use, and a stop during a query."""

import asyncio
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest

from broker.kafka.servers.apache import ApacheKafka
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import ensure_task_topics
from gateway.model_directory import ModelDirectory
from gateway.service import open_gateway
from gateway.settings import GatewaySettings
from schemas.errors import OperatorError
from tests.integration.gateway.conftest import NOWHERE, Running, catalog_of
from tests.integration.gateway.responder import answering
from tests.integration.gateway.test_inference import error_of, json_body
from tests.waiting import PATIENCE_S


async def test_kafka_outage_is_503_without_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # no query becomes a probe, however slow
    monkeypatch.setattr("gateway.limits.kafka_health._PROBE_INTERVAL_S", PATIENCE_S)
    task = f"digits-{uuid4().hex[:8]}"
    settings = GatewaySettings(port=0, ack_timeout_s=3.0)
    broker = ApacheKafka(tmp_path)
    async with broker:
        quick = broker.settings.model_copy(update={"request_timeout_ms": 5000})
        await ensure_task_topics(broker.settings, task, 1)
        gateway = open_gateway(settings, quick, ModelDirectory(catalog_of(task)), NOWHERE, asyncio.Event())
        url, query_client = await gateway.__aenter__()
    try:
        async with aiohttp.ClientSession() as http:
            for limit_s in (60.0, 2.5):  # the first query detects the outage; the next is refused without waiting
                async with (
                    asyncio.timeout(limit_s),
                    http.post(f"{url}/v2/models/{task}/infer", data=json_body()) as response,
                ):
                    assert response.status == 503
                    assert response.headers["Retry-After"]
                    assert "Kafka" in await error_of(response)
            async with http.get(f"{url}/v2/health/ready") as response:
                told = response.status, await response.json()
                assert told == (503, {"ready": False, "reason": "Kafka accepts no queries"}), "and not where it is"
        assert query_client.in_flight == 0
    finally:
        await gateway.__aexit__(None, None, None)


async def test_port_in_use_names_flag(gateway: Running, kafka: KafkaSettings) -> None:
    port = int(gateway.url.rpartition(":")[2])
    other = open_gateway(
        GatewaySettings(port=port), kafka, ModelDirectory(catalog_of(gateway.task)), NOWHERE, asyncio.Event()
    )
    with pytest.raises(OperatorError, match="--port"):
        await other.__aenter__()


async def test_body_limit_above_kafkas_is_refused(kafka: KafkaSettings) -> None:
    settings = GatewaySettings(port=0, max_body_bytes=kafka.max_record_bytes)
    with pytest.raises(OperatorError, match="INFAAS_KAFKA_MAX_RECORD_BYTES"):
        await open_gateway(settings, kafka, ModelDirectory(catalog_of("digits")), NOWHERE, asyncio.Event()).__aenter__()


async def test_stop_lets_running_queries_finish(kafka: KafkaSettings) -> None:
    task = f"digits-{uuid4().hex[:8]}"
    await ensure_task_topics(kafka, task, 1)
    async with answering(kafka, task) as responder, aiohttp.ClientSession() as http:
        responder.silent = True
        gateway = open_gateway(
            GatewaySettings(port=0), kafka, ModelDirectory(catalog_of(task)), NOWHERE, asyncio.Event()
        )
        url, _query_client = await gateway.__aenter__()
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(_status(http, f"{url}/v2/models/{task}/infer"))
            await responder.wait_seen(1)
            closing = tasks.create_task(gateway.__aexit__(None, None, None))
            await asyncio.sleep(0)
            assert not closing.done()
            await responder.answer_late()
        assert running.result() == 200


async def _status(http: aiohttp.ClientSession, url: str) -> int:
    async with http.post(url, data=json_body()) as response:
        return response.status
