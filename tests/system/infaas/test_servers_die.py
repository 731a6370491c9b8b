"""Kafka and Postgres of `infaas up` are killed: what was asked is answered all the same."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from tests.system.infaas.conftest import Cli
from tests.system.infaas.test_selectors import REGISTERED, query, register

pytestmark = pytest.mark.timeout(400)
TASKS, RESULTS = "infaas.tasks.digits", "infaas.results.digits"
PATIENCE_S = 90.0
_PAUSE_S = 0.02


async def test_a_killed_server_is_started_again_and_no_query_is_lost(cli: Cli) -> None:
    async with cli.up():
        state = await cli.json("status", "--wait")
        assert set(state["servers"]) == {"kafka", "postgres"}
        await register(cli)
        async with asking(state["kafka"]) as answered:
            await answered.wait_for_more(50)
            for name, address in (("kafka", state["kafka"]), ("postgres", None)):
                before = state["servers"][name]
                assert address in (None, before["address"])
                os.kill(before["pid"], signal.SIGKILL)
                if name == "kafka":
                    await all_say_that_kafka_is_away(state["services"])
                await answered.wait_for_more(50)
                state = await state_when(cli, lambda now, name=name: now["servers"][name]["restarts"] == 1)
                after = state["servers"][name]
                assert after["pid"] != before["pid"]
                assert after["address"] == before["address"]
                assert after["state"] == "running"
            await cli.json("query", "linear")  # by HTTP, too
        assert answered.missing() == set()
        assert all(service["restarts"] == 0 for service in state["services"].values())


async def test_what_the_embedded_broker_held_is_said_to_be_lost(cli: Cli) -> None:
    async with cli.up("--kafka=embedded"):
        state = await cli.json("status", "--wait")
        await register(cli)
        os.kill(state["servers"]["kafka"]["pid"], signal.SIGKILL)
        state = await state_when(cli, lambda now: now["servers"]["kafka"]["restarts"] == 1)
        assert "lost" in state["servers"]["kafka"]["alarm"]
        _, shown, _ = await cli.run("status")
        assert "alarm" in shown
        await cli.json("query", "linear")  # its topics are there again, and nobody waits for what was


async def all_say_that_kafka_is_away(services: Any) -> None:
    async with ClientSession() as http, asyncio.TaskGroup() as tasks:
        for service in services.values():
            tasks.create_task(says_that_kafka_is_away(http, service["health"]))


async def says_that_kafka_is_away(http: ClientSession, ready: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            async with http.get(ready) as answer:
                if answer.status == 503 and "Kafka" in (await answer.json())["reason"]:
                    break
    async with http.get(ready.replace("/ready", "/live")) as answer:
        assert answer.status == 200


class Answered:
    """Ids that Kafka acknowledged, and those that have a result."""

    def __init__(self) -> None:
        self.asked = set[str]()
        self.results = set[str]()
        self._more = asyncio.Condition()

    def missing(self) -> set[str]:
        return self.asked - self.results

    async def add(self, ids: set[str]) -> None:
        async with self._more:
            self.results |= ids
            self._more.notify_all()

    async def wait_for_more(self, count: int) -> None:
        wanted = len(self.results) + count
        async with asyncio.timeout(PATIENCE_S), self._more:
            await self._more.wait_for(lambda: len(self.results) >= wanted)

    async def wait_for_all(self) -> None:
        async with asyncio.timeout(PATIENCE_S), self._more:
            await self._more.wait_for(lambda: not self.missing())


@asynccontextmanager
async def asking(kafka: str) -> AsyncGenerator[Answered]:
    """A client that is not ours: asks as long as the context is open, then waits until all is answered."""
    answered = Answered()
    consumer = AIOKafkaConsumer(RESULTS, bootstrap_servers=kafka, auto_offset_reset="earliest")
    async with (
        consumer,
        AIOKafkaProducer(bootstrap_servers=kafka, acks="all") as producer,
        asyncio.TaskGroup() as tasks,
    ):
        reading = tasks.create_task(read(consumer, answered))
        sending = tasks.create_task(send(producer, answered))
        yield answered
        sending.cancel()
        await answered.wait_for_all()
        reading.cancel()


async def send(producer: AIOKafkaProducer, answered: Answered) -> None:
    body, number = query(), 0
    while True:
        number += 1
        query_id = f"asked-{number}"
        try:
            await producer.send_and_wait(
                TASKS, body, headers=[("infaas-id", query_id.encode())], partition=number % REGISTERED
            )
        except KafkaError:
            continue
        answered.asked.add(query_id)
        await asyncio.sleep(_PAUSE_S)


async def read(consumer: AIOKafkaConsumer, answered: Answered) -> None:
    while True:
        try:
            found = await consumer.getmany(timeout_ms=500)
        except KafkaError:
            continue
        ids = {dict(record.headers)["infaas-id"].decode() for records in found.values() for record in records}
        await answered.add(ids)


async def state_when(cli: Cli, holds: Callable[[Any], bool]) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            state = await cli.json("status", "--wait")
            if holds(state):
                return state
