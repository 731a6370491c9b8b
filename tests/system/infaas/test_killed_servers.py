"""Test of `infaas up` when its Kafka or Postgres is killed: all queries are answered nevertheless."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientSession

from schemas.topics import task_topic
from tests.load import Pace
from tests.processes import suspended
from tests.system.infaas.conftest import Cli
from tests.system.infaas.plain_client import PATIENCE_S, Results, results_of, write_steadily
from tests.system.infaas.test_selectors import REGISTERED, model_of, register
from tests.waiting import until

TASK = "outlives-servers"
RATE = 50.0
"""Queries per second."""


async def test_killed_servers_restart_and_lose_no_query(shared: Cli) -> None:
    state = await shared.state()
    first = state
    assert set(state["servers"]) == {"kafka", "postgres"}
    await register(shared, TASK)
    async with asking(state["kafka"]) as results:
        await more(results)
        for name, address in (("kafka", state["kafka"]), ("postgres", None)):
            before = state["servers"][name]
            assert address in (None, before["address"])
            async with suspended(state["pid"]):  # the supervisor; it might restart Kafka before the services notice
                os.kill(before["pid"], signal.SIGKILL)
                if name == "kafka":
                    await all_say_that_kafka_is_away(state["services"])
            await more(results)
            again = before["restarts"] + 1
            state = await shared.state_when(
                lambda now, name=name, again=again: now["servers"][name]["restarts"] == again
            )
            after = state["servers"][name]
            assert after["pid"] != before["pid"]
            assert after["address"] == before["address"]
            assert after["state"] == "running"
        await shared.json("query", model_of(TASK))  # over HTTP, too
    assert restarts(state) == restarts(first)


def restarts(state: Any) -> dict[str, int]:
    return {name: service["restarts"] for name, service in state["services"].items()}


async def all_say_that_kafka_is_away(services: Any) -> None:
    async with ClientSession() as http, asyncio.TaskGroup() as tasks:
        for service in services.values():
            tasks.create_task(says_that_kafka_is_away(http, service["health"]))


async def says_that_kafka_is_away(http: ClientSession, ready: str) -> None:
    async def says_so() -> bool:
        async with http.get(ready) as answer:
            return answer.status == 503 and "Kafka" in (await answer.json())["reason"]

    await until(says_so, PATIENCE_S)
    async with http.get(ready.replace("/ready", "/live")) as answer:
        assert answer.status == 200


@asynccontextmanager
async def asking(kafka: str) -> AsyncGenerator[Results]:
    """Send queries while the context is open, then wait until all acknowledged ones are answered."""
    asked = set[str]()
    async with results_of(kafka, TASK) as results, asyncio.TaskGroup() as tasks:
        pace = Pace(RATE)
        sending = tasks.create_task(write_steadily(kafka, task_topic(TASK), "asked", pace, REGISTERED, asked))
        yield results
        sending.cancel()
        await results.of(asked)


async def more(results: Results) -> None:
    """Wait until 50 more queries are answered."""
    wanted = len(results.seen) + 50
    await results.until(lambda: len(results.seen) >= wanted)
