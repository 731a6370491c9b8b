"""Kafka and Postgres of `infaas up` are killed: what was asked is answered all the same."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession

from schemas.topics import task_topic
from tests.load import Pace
from tests.processes import suspended
from tests.system.infaas.conftest import Cli
from tests.system.infaas.plain_client import PATIENCE_S, Results, results_of, write_steadily
from tests.system.infaas.test_selectors import REGISTERED, model_of, register
from tests.waiting import until

pytestmark = pytest.mark.timeout(400)
TASK = "outlives-servers"
RATE = 50.0
"""Queries a second."""


async def test_a_killed_server_is_started_again_and_no_query_is_lost(shared: Cli) -> None:
    state = await shared.json("status", "--wait")
    first = state
    assert set(state["servers"]) == {"kafka", "postgres"}
    await register(shared, TASK)
    async with asking(state["kafka"]) as results:
        await more(results)
        for name, address in (("kafka", state["kafka"]), ("postgres", None)):
            before = state["servers"][name]
            assert address in (None, before["address"])
            async with suspended(state["pid"]):  # who starts it again may else be faster than those who are asked
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
        await shared.json("query", model_of(TASK))  # by HTTP, too
    assert restarts(state) == restarts(first)


def restarts(state: Any) -> dict[str, int]:
    return {name: service["restarts"] for name, service in state["services"].items()}


async def test_what_the_embedded_broker_held_is_said_to_be_lost(cli: Cli) -> None:
    async with cli.up("--kafka=embedded"):
        state = await cli.json("status", "--wait")
        await register(cli, TASK)
        os.kill(state["servers"]["kafka"]["pid"], signal.SIGKILL)
        state = await cli.state_when(lambda now: now["servers"]["kafka"]["restarts"] == 1)
        assert "lost" in state["servers"]["kafka"]["alarm"]
        _, shown, _ = await cli.run("status")
        assert "alarm" in shown
        await cli.json("query", model_of(TASK))  # its topics are there again, and nobody waits for what was


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
    """Ask as long as the context is open, then wait until all that Kafka has is answered."""
    asked = set[str]()
    async with results_of(kafka, TASK) as results, asyncio.TaskGroup() as tasks:
        pace = Pace(RATE)
        sending = tasks.create_task(write_steadily(kafka, task_topic(TASK), "asked", pace, REGISTERED, asked))
        yield results
        sending.cancel()
        await results.of(asked)


async def more(results: Results) -> None:
    """Wait until some more are answered."""
    wanted = len(results.seen) + 50
    await results.until(lambda: len(results.seen) >= wanted)
