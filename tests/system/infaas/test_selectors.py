"""Two selectors share the queries of a task, and decide each of them once, as a client that is not ours counts."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientSession
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from broker.client import open_admin
from broker.settings import KafkaSettings
from tests.system.infaas.conftest import Cli
from zoo.samples import DATA, labelled

pytestmark = pytest.mark.timeout(400)
QUERIES = 1000
REGISTERED, GROWN = 2, 4
"""Partitions that the task was registered with, and those that two selectors share."""
TASK, RESULTS, VARIANT = "infaas.tasks.digits", "infaas.results.digits", "infaas.variants.linear.onnx-fp32.cpu"


async def test_two_selectors_decide_each_query_once(cli: Cli) -> None:
    async with cli.up("--selectors=2"):
        state = await cli.json("status", "--wait")
        await register(cli)
        await until_grown(state["kafka"])
        metrics = [state["services"][name]["metrics"] for name in ("selector", "selector-1")]
        asked: set[str] = set()
        async with asyncio.timeout(120):
            # A member hears of a new topic in its own time; until then the other decides alone.
            while not asked or 0 in [await decisions(url) for url in metrics]:
                asked |= await ask(state["kafka"], len(asked))
        answered = await results(state["kafka"], len(asked))
        assert Counter(query_id for query_id, _ in answered) == Counter(asked)
        assert {status for _, status in answered} == {"ok"}
        assert await forwarded(state["kafka"]) == len(asked)  # by offsets: nothing was decided twice


async def ask(kafka: str, first: int) -> set[str]:
    """Send so many queries, spread over the partitions; returns their ids."""
    body, asked = query(), {f"asked-{first + number}" for number in range(QUERIES)}
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        for number, query_id in enumerate(sorted(asked)):
            headers = [("infaas-id", query_id.encode())]
            await producer.send(TASK, body, headers=headers, partition=number % GROWN)
    return asked


async def register(cli: Cli) -> None:
    inputs, labels = labelled("digits")
    validation = cli.home / "validation.npz"
    np.savez(validation, allow_pickle=False, label=labels, **inputs)
    named = ("--task=digits", "--name=linear", f"--validation={validation}", "--variant=onnx-fp32")
    await cli.json("register", str(Path(DATA) / "digits_linear.onnx"), *named, f"--partitions={REGISTERED}")
    await cli.json("query", "linear")  # it is loaded


async def until_grown(kafka: str) -> None:
    """Wait until the task has partitions for both selectors; its results stay where clients look for them."""
    async with asyncio.timeout(120):
        while await partitions(kafka, TASK) < GROWN:  # noqa: ASYNC110 - Kafka has no event for it
            await asyncio.sleep(0.1)
    assert await partitions(kafka, RESULTS) == REGISTERED


async def partitions(kafka: str, topic: str) -> int:
    async with open_admin(KafkaSettings(bootstrap=kafka)) as admin:
        (described,) = await admin.describe_topics([topic])
    return len(described["partitions"])


def query() -> bytes:
    inputs, _labels = labelled("digits")
    data: list[float] = inputs["input"][:1].ravel().tolist()
    tensor: dict[str, Any] = {"name": "input", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": data}
    return json.dumps({"inputs": [tensor]}).encode()


async def results(kafka: str, count: int) -> list[tuple[str, str]]:
    """The first so many results of the task, and all that are there by then: id and status."""
    found: list[tuple[str, str]] = []
    consumer = AIOKafkaConsumer(RESULTS, bootstrap_servers=kafka, auto_offset_reset="earliest")
    async with consumer, asyncio.timeout(120):
        while len(found) < count:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    fields = {name: value.decode() for name, value in record.headers}
                    found.append((fields["infaas-id"], fields["infaas-status"]))
    return found


async def forwarded(kafka: str) -> int:
    """Records of the variant's topic that are ours, the query that loaded it not counted."""
    async with AIOKafkaConsumer(bootstrap_servers=kafka) as consumer:
        numbers = range(await partitions(kafka, VARIANT))
        ends = await consumer.end_offsets([TopicPartition(VARIANT, number) for number in numbers])
    return sum(ends.values()) - 1


async def decisions(metrics: str) -> float:
    async with ClientSession() as http, http.get(metrics) as answer:
        lines = (await answer.text()).splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("infaas_selector_decisions_total{"))
