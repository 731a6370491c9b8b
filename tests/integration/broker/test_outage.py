"""Tests of the log of Kafka outages."""

from typing import Any

import aiokafka.client
import pytest

import broker.kafka.client
from broker.kafka.client import close_client, new_client
from broker.kafka.settings import KafkaSettings
from broker.kafka.types import KafkaError
from process.outages import Outage


async def test_outage_is_logged_once_at_start_and_end(
    kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionRefusedError

    outage = Outage("Kafka", (KafkaError,))  # a new one, without the stopped brokers of other tests
    monkeypatch.setattr(broker.kafka.client, "OUTAGE", outage)
    client = new_client(kafka, "test-outage")
    await client.bootstrap()
    node = client.get_random_node()
    try:
        with monkeypatch.context() as away:
            away.setattr(aiokafka.client, "create_conn", refuse)
            for _ in range(2):
                assert not await client.ready(node)
            assert outage.lasts
        for _ in range(2):
            assert await client.ready(node)
        assert not outage.lasts
    finally:
        await close_client(client)
    said = [record.getMessage() for record in caplog.records if record.name == "process.outages"]
    assert [line.partition(" at ")[0] for line in said] == ["Kafka does not answer", "Kafka answers again"]
