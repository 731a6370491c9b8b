"""Floods of offline queries beside online ones, through two selectors of a system as a person starts it."""

import asyncio
import os
import signal
from collections import Counter
from typing import Final

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from infaas.client import Answer, InfaasClient
from schemas.topics import offline_topic, results_topic, task_topic
from tests.system.infaas.conftest import Cli
from tests.system.infaas.test_selectors import REGISTERED, forwarded, query, register
from zoo.samples import labelled

pytestmark = pytest.mark.timeout(400)
TASK: Final = "digits"
FLOOD: Final = 12_000
ONLINE: Final = 20
RAW: Final = 400
WAIT_S: Final = 120.0


async def test_floods_of_offline_queries_are_answered_and_take_nothing_from_online_ones(cli: Cli) -> None:
    async with cli.up("--selectors=2"):
        state = await cli.json("status", "--wait")
        await register(cli)
        one = {name: values[:1] for name, values in labelled(TASK)[0].items()}
        async with InfaasClient(kafka=state["kafka"]) as client, Results(state["kafka"]) as results:
            await client.infer(TASK, one)  # all is connected
            before = await forwarded(state["kafka"])
            asked = await write(state["kafka"], offline_topic(TASK), "flood", FLOOD)
            online = [client.infer(TASK, one, latency_ms=1000) for _ in range(ONLINE)]
            answers = await asyncio.gather(*online, return_exceptions=True)
            assert [answer for answer in answers if not isinstance(answer, Answer)] == []
            assert await results.present() < FLOOD, "the flood was over before the online queries were answered"
            assert await results.of(asked) == Counter(asked)
            assert await forwarded(state["kafka"]) - before == FLOOD + ONLINE  # by offsets: none was decided twice

            moved = await write(state["kafka"], task_topic(TASK), "moved", RAW)
            assert await results.of(moved) == Counter(moved)

            asked = await write(state["kafka"], offline_topic(TASK), "killed", FLOOD // 5)
            await results.some_of(asked)
            os.kill(state["services"]["selector"]["pid"], signal.SIGKILL)
            assert (await results.of(asked)).keys() == asked


async def write(kafka: str, topic: str, name: str, count: int) -> set[str]:
    """Ids of so many offline queries, which a plain client has written."""
    asked = {f"{name}-{number}" for number in range(count)}
    body = query()
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer, asyncio.timeout(WAIT_S):
        for number, query_id in enumerate(asked):
            headers = [("infaas-id", query_id.encode()), ("infaas-mode", b"offline")]
            await producer.send(topic, body, headers=headers, partition=number % REGISTERED)
    return asked


class Results:
    """What comes to the task's topic of results, read to the end of what was asked for."""

    def __init__(self, kafka: str) -> None:
        self._consumer = AIOKafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest")
        self._partitions = [TopicPartition(results_topic(TASK), number) for number in range(REGISTERED)]
        self._seen = Counter[str]()

    async def __aenter__(self) -> "Results":
        await self._consumer.start()
        self._consumer.assign(self._partitions)
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._consumer.stop()

    async def present(self) -> int:
        """Number of results that there are."""
        return sum((await self._consumer.end_offsets(self._partitions)).values())

    async def of(self, asked: set[str]) -> Counter[str]:
        """How often each of these was answered, once all have been; all of them well."""
        async with asyncio.timeout(WAIT_S):
            while not self._seen.keys() >= asked:
                await self._read()
        return Counter({query_id: count for query_id, count in self._seen.items() if query_id in asked})

    async def some_of(self, asked: set[str]) -> None:
        """Wait until one of these is answered."""
        async with asyncio.timeout(WAIT_S):
            while not self._seen.keys() & asked:
                await self._read()

    async def _read(self) -> None:
        for records in (await self._consumer.getmany(timeout_ms=500)).values():
            for record in records:
                fields = {name: value.decode() for name, value in record.headers}
                assert fields["infaas-status"] == "ok", record.value
                self._seen[fields["infaas-id"]] += 1
