"""Tests of `python -m gateway` as a process, with its catalog in Postgres and tritonclient as its client."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import aiohttp
import numpy as np
import pytest

from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import ensure_task_topics
from process.health import responds
from process.sockets import free_port
from store.pool import Pool
from tests.example_rows import register
from tests.integration.gateway.responder import VARIANT, answering
from tests.processes import output_of, service, variables_of
from tests.waiting import until

METHODS = Path(__file__).with_name("triton_methods.py")
NOT_OFFERED = {
    "unload_model": "autoscaler",
    "update_trace_settings": "traceparent",
    "get_trace_settings": "traceparent",
    "update_log_settings": "log settings",
    "get_log_settings": "log settings",
    "register_system_shared_memory": "shared memory",
    "register_cuda_shared_memory": "shared memory",
}
"""Methods of tritonclient that are answered with status 400, and a word of the error message."""


@pytest.fixture
async def task(kafka: KafkaSettings, store_pool: Pool) -> str:
    name = f"digits-{uuid4().hex[:8]}"
    await ensure_task_topics(kafka, name, 1)
    await register(store_pool, VARIANT, task=name)
    return name


@pytest.fixture
def environment(kafka: KafkaSettings, database: str) -> dict[str, str]:
    return variables_of(kafka, database)


@asynccontextmanager
async def running(port: int, environment: dict[str, str]) -> AsyncGenerator[asyncio.subprocess.Process]:
    async with service("gateway", "--port", str(port), env=environment) as process, aiohttp.ClientSession() as http:

        async def ready() -> bool:
            assert process.returncode is None, "it has ended"
            return await responds(http, f"http://127.0.0.1:{port}/v2/health/ready")

        await until(ready)
        yield process


async def test_every_method_of_tritonclient_works(
    kafka: KafkaSettings, task: str, environment: dict[str, str], tmp_path: Path
) -> None:
    port, file = free_port(), tmp_path / "x.npy"
    np.save(file, np.arange(8, dtype=np.float32).reshape(2, 4))
    async with answering(kafka, task), running(port, environment) as gateway:
        code, output = await output_of(METHODS, f"127.0.0.1:{port}", task, file)
        assert code == 0, output
        methods: dict[str, dict[str, str]] = json.loads(output.splitlines()[-1])
        gateway.terminate()
        assert await gateway.wait() == 0
    for client, found in methods.items():
        assert len(found) > 25, client
        assert found.pop("classes") == "[[b'2.000000:1'], [b'10.000000:1']]"
        for method, outcome in found.items():
            if method in NOT_OFFERED:
                assert outcome.startswith("400 "), (client, method, outcome)
                assert NOT_OFFERED[method] in outcome
            else:
                assert outcome == "ok", (client, method, outcome)


async def test_gateway_check_prints_settings(environment: dict[str, str], database: str) -> None:
    code, output = await output_of("-m", "gateway", "--check", "--wait-s", "7", env=environment)
    assert code == 0, output
    assert "wait_s = 7.0" in output
    assert "Kafka: ok" in output
    assert "Postgres: ok" in output
    assert database not in output


async def test_gateway_failed_start_names_reason(environment: dict[str, str]) -> None:
    away = environment | {"INFAAS_POSTGRES": "postgresql://postgres@127.0.0.1:1/none"}
    code, output = await output_of("-m", "gateway", "--port", "0", env=away)
    assert code == 1
    assert "INFAAS_POSTGRES" in output
    assert "Traceback" not in output
