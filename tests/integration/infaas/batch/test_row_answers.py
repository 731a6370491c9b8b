"""Tests of `infer_rows` through Kafka: an answer per row, and an error only for the row on which the model fails."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from prometheus_client import REGISTRY

from broker.kafka.settings import KafkaSettings
from gateway.settings import GatewaySettings
from infaas.batch import infer_rows
from infaas.client import InfaasClient
from schemas import headers as h
from schemas.errors import ModelFailed, UnknownTask
from schemas.oip import decode_request
from schemas.topics import offline_topic
from tests.integration.gateway.conftest import Running, gateway
from tests.integration.gateway.responder import VARIANT, doubled
from tests.waiting import PATIENCE_S

__all__ = ["gateway"]
POISON = 13.0


@pytest.fixture
def gateway_settings() -> GatewaySettings:
    return GatewaySettings(port=0)


def fails_on_poison(fields: dict[str, str], value: bytes) -> tuple[bytes, dict[str, str]]:
    inputs = decode_request(value, int(fields[h.JSON_LENGTH])).inputs
    if (inputs["x"] == POISON).any():
        raise ModelFailed("thirteen")
    return doubled(fields, value)


async def rows(count: int) -> AsyncIterator[dict[str, Any]]:
    for number in range(count):
        yield {"x": np.full(4, number, np.float32)}


async def test_infer_rows_fails_only_the_faulty_row(gateway: Running, kafka: KafkaSettings) -> None:
    gateway.responder.answer = fails_on_poison
    async with InfaasClient(kafka=kafka) as client:
        answers = [answer async for answer in infer_rows(client, gateway.task, rows(100), rows_per_query=30)]
    assert [answer.number for answer in answers] == list(range(100))
    (failed,) = [answer for answer in answers if answer.error is not None]
    assert (failed.number, str(failed.error), dict(failed.outputs)) == (13, "thirteen", {})
    good = [answer for answer in answers if answer.error is None]
    assert [answer.outputs["y"].tolist() for answer in good] == [[2.0 * a.number] * 2 for a in good]
    assert {answer.variant for answer in good} == {VARIANT}
    assert set(gateway.responder.topics) == {offline_topic(gateway.task)}


async def test_infer_rows_can_be_closed_early(gateway: Running, kafka: KafkaSettings) -> None:
    def answer_once(fields: dict[str, str], value: bytes) -> tuple[bytes, dict[str, str]]:
        gateway.responder.silent = True
        return doubled(fields, value)

    def waiting() -> float | None:
        return REGISTRY.get_sample_value("infaas_replies_waiting_count")

    gateway.responder.answer = answer_once
    async with InfaasClient(kafka=kafka) as client, asyncio.timeout(PATIENCE_S):
        answers = infer_rows(client, gateway.task, rows(10**9), rows_per_query=2, in_flight=3)
        assert (await anext(answers)).number == 0
        await gateway.responder.wait_seen(4)
        assert waiting() == 3
        await answers.aclose()
        assert waiting() == 0
        assert not {"batch reader", "row stream"} & {task.get_name() for task in asyncio.all_tasks()}
    with pytest.raises(UnknownTask):
        async with InfaasClient(kafka=kafka) as client:
            await anext(infer_rows(client, "nothing", rows(1)))
