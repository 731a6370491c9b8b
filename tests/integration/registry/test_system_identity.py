"""Tests of the system identity in Kafka: one system per namespace; a second is refused with the remedy."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from broker.kafka.settings import KafkaSettings
from broker.kafka.topic_lifecycle import delete_topics
from broker.kafka.topics import partitions_of, until_gone
from registry.system_identity import join_system
from schemas.errors import OperatorError
from schemas.topics import SYSTEM
from store.pool import open_pool
from store.system import read_system
from tests.postgres_fixtures import OTHER_SYSTEM, fresh_database
from tests.processes import environment, output_of, variables_of
from tests.waiting import until

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def own_kafka(kafka: KafkaSettings) -> AsyncGenerator[KafkaSettings]:
    """Yield a Kafka that belongs to no system; the next system of another test claims it."""
    await unclaim(kafka)
    yield kafka
    await unclaim(kafka)


async def unclaim(kafka: KafkaSettings) -> None:
    await delete_topics(kafka, [SYSTEM])
    await until_gone(kafka, [SYSTEM])


@pytest.fixture
async def systems(postgres_server: str, template: str) -> AsyncGenerator[list[str]]:
    """Yield the DSNs of four systems."""
    async with AsyncExitStack() as stack:
        databases = [await stack.enter_async_context(fresh_database(postgres_server, template)) for _ in range(4)]
        for dsn in databases:
            async with open_pool(dsn, max_size=1) as pool:
                await pool.execute(OTHER_SYSTEM)
        yield databases


async def _join(dsn: str, kafka: KafkaSettings, *, take_over: bool = False) -> str:
    """Join the system; return the refusal, or an empty text."""
    async with open_pool(dsn, max_size=1) as pool:
        try:
            await join_system(pool, kafka, take_over=take_over)
        except OperatorError as error:
            return str(error)
    return ""


async def test_second_system_is_refused_with_remedy(own_kafka: KafkaSettings, systems: list[str]) -> None:
    first, second, *_ = systems
    assert await _join(first, own_kafka) == ""
    refusal = await _join(second, own_kafka)
    assert "belong to another system" in refusal
    assert "INFAAS_KAFKA_NAMESPACE" in refusal
    assert "INFAAS_POSTGRES" in refusal
    assert "take-over" in refusal
    assert await _join(first, own_kafka) == ""


async def test_one_of_four_systems_wins_a_race(own_kafka: KafkaSettings, systems: list[str]) -> None:
    refusals = await asyncio.gather(*(_join(dsn, own_kafka) for dsn in systems * 2))
    assert sum(not refusal for refusal in refusals) == 2
    assert refusals[:4] == [refusals[4], *refusals[5:]]
    assert await asyncio.gather(*(_join(dsn, own_kafka) for dsn in systems)) == refusals[:4]


async def test_take_over_moves_the_topics(own_kafka: KafkaSettings, systems: list[str]) -> None:
    first, second, third, _ = systems
    await _join(first, own_kafka)
    took = await asyncio.gather(*(_join(dsn, own_kafka, take_over=True) for dsn in (second, third)))
    assert sum(not refusal for refusal in took) >= 1  # both succeed if one came after the other
    owners = [dsn for dsn in systems if not await _join(dsn, own_kafka)]
    assert len(owners) == 1
    assert owners[0] in (second, third)


async def test_wiped_kafka_is_claimed_again(own_kafka: KafkaSettings, systems: list[str]) -> None:
    assert await _join(systems[0], own_kafka) == ""
    await unclaim(own_kafka)
    assert await _join(systems[0], own_kafka) == ""
    assert "another system" in await _join(systems[1], own_kafka)


async def test_invalid_identity_records_are_ignored(own_kafka: KafkaSettings, systems: list[str]) -> None:
    await _join(systems[0], own_kafka)
    async with AIOKafkaProducer(bootstrap_servers=own_kafka.bootstrap) as producer:
        mine = b'{"system": "mine"}', b'{"system": "mine", "replaces": "x"}'
        for value in (b"", b"{}", b"\xff", b'{"system": 1}', *mine):
            await producer.send_and_wait(SYSTEM, value)
    assert await _join(systems[0], own_kafka) == ""


async def test_embedded_broker_keeps_a_claim(embedded_kafka: KafkaSettings, systems: list[str]) -> None:
    assert await _join(systems[0], embedded_kafka) == ""
    assert "another system" in await _join(systems[1], embedded_kafka)
    await delete_topics(embedded_kafka, [SYSTEM])


@pytest.mark.parametrize("module", ["selector", "workers", "gateway", "autoscaler", "gateway.jobs", "registry.service"])
async def test_service_of_second_system_does_not_start(
    own_kafka: KafkaSettings, systems: list[str], tmp_path: Path, module: str
) -> None:
    await _join(systems[0], own_kafka)
    code, output = await output_of("-m", module, env=variables_of(own_kafka, systems[1], tmp_path))
    assert code == 1
    assert "belong to another system" in output
    assert "Traceback" not in output


async def test_namespace_keeps_two_systems_apart(own_kafka: KafkaSettings, systems: list[str], tmp_path: Path) -> None:
    await _join(systems[0], own_kafka)
    variables = variables_of(own_kafka, systems[1], tmp_path) | {"INFAAS_KAFKA_NAMESPACE": "staging"}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "selector", env=environment(variables))
    try:
        await until(lambda: _exists(own_kafka, "staging.status"), timeout_s=60)
    finally:
        process.terminate()
        assert await process.wait() == 0
    code, output = await output_of("-m", "selector", "--check", env=variables_of(own_kafka, systems[1], tmp_path))
    assert code == 1
    assert "namespace staging" in output
    async with open_pool(systems[1], max_size=1) as pool:
        assert (await read_system(pool)).namespace == "staging"


async def test_take_over_by_command_line(own_kafka: KafkaSettings, systems: list[str], tmp_path: Path) -> None:
    await _join(systems[0], own_kafka)
    command = ("-m", "infaas.cli.main", "db", "take-over")
    code, output = await output_of(*command, env=variables_of(own_kafka, systems[1], tmp_path))
    assert code == 0, output
    assert await _join(systems[1], own_kafka) == ""
    assert "another system" in await _join(systems[0], own_kafka)


async def _exists(kafka: KafkaSettings, topic: str) -> bool:
    return bool(await partitions_of(kafka, [topic]))
