"""Whoever opens connections tells once that Kafka is away, and once that it is back."""

from typing import Any

import aiokafka.client
import pytest

from broker.client import OUTAGE, close_client, new_client
from broker.settings import KafkaSettings


async def test_an_outage_is_told_once_and_its_end_once(
    kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionRefusedError

    client = new_client(kafka, "test-outage")
    await client.bootstrap()
    node = client.get_random_node()
    try:
        with monkeypatch.context() as away:
            away.setattr(aiokafka.client, "create_conn", refuse)
            for _ in range(2):
                assert not await client.ready(node)
            assert OUTAGE.lasts
        for _ in range(2):
            assert await client.ready(node)
        assert not OUTAGE.lasts
    finally:
        await close_client(client)
    said = [record.getMessage() for record in caplog.records if record.name == "process.outages"]
    assert [line.partition(" at ")[0] for line in said] == ["Kafka does not answer", "Kafka answers again"]
