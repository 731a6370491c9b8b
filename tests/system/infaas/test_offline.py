"""A flood of offline queries beside online ones, through two selectors of a system as a person starts it."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from infaas.client import Answer, InfaasClient
from schemas.errors import QueryError
from tests.system.infaas.conftest import Cli
from tests.system.infaas.test_selectors import PARTITIONS, forwarded, query, register, results
from zoo.samples import labelled

pytestmark = pytest.mark.timeout(400)
FLOOD = 10_000
ONLINE = 20
RAW = 400
WAIT_S = 120.0


async def test_a_flood_of_offline_queries_takes_nothing_from_online_ones(cli: Cli) -> None:
    async with cli.up("--selectors=2"), cli_client(cli) as (state, client):
        await register(cli)
        one = {name: values[:1] for name, values in labelled("digits")[0].items()}
        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as tasks:
            flood = Flood()
            tasks.create_task(flood.ask(client, one, FLOOD))
            await flood.reaches(FLOOD // 20)
            online = await asyncio.gather(
                *(client.infer("digits", one, latency_ms=1000) for _ in range(ONLINE)), return_exceptions=True
            )
            beside = flood.count
        assert [a for a in online if not isinstance(a, Answer)] == []
        assert beside < FLOOD, "the flood was over before the online queries were answered"
        assert flood.outcomes == Counter({"ok": FLOOD})
        assert await forwarded(state["kafka"]) == FLOOD + ONLINE  # by offsets: nothing was decided twice

        await write_offline_to_the_online_topic(client, state["kafka"])

        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as tasks:
            flood = Flood()
            tasks.create_task(flood.ask(client, one, FLOOD // 4))
            await flood.reaches(FLOOD // 20)
            os.kill(state["services"]["selector"]["pid"], signal.SIGKILL)
        assert flood.outcomes == Counter({"ok": FLOOD // 4})


@asynccontextmanager
async def cli_client(cli: Cli) -> AsyncGenerator[tuple[Any, InfaasClient]]:
    state = await cli.json("status", "--wait")
    async with InfaasClient(kafka=state["kafka"], max_in_flight=2 * FLOOD) as client:
        yield state, client


class Flood:
    """Offline queries, all at once, and what has become of them so far."""

    def __init__(self) -> None:
        self.outcomes = Counter[str]()
        self.count = 0
        self._news = asyncio.Event()

    async def ask(self, client: InfaasClient, inputs: Any, count: int) -> None:
        same = (inputs for _ in range(count))
        async for answer in client.infer_many("digits", same, in_flight=count, mode="offline", timeout_s=WAIT_S):
            self.outcomes[answer.code if isinstance(answer, QueryError) else "ok"] += 1
            self.count += 1
            self._news.set()

    async def reaches(self, count: int) -> None:
        while self.count < count:
            self._news.clear()
            await self._news.wait()


async def write_offline_to_the_online_topic(client: InfaasClient, kafka: str) -> None:
    """A client of another make may do so: its queries are moved, and each is answered once."""
    from aiokafka import AIOKafkaProducer

    asked = {f"raw-{number}" for number in range(RAW)}
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer, asyncio.timeout(WAIT_S):
        for number, query_id in enumerate(sorted(asked)):
            headers = [("infaas-id", query_id.encode()), ("infaas-mode", b"offline")]
            await producer.send("infaas.tasks.digits", query(), headers=headers, partition=number % PARTITIONS)
    answered = await results(kafka, RAW)
    assert Counter(query_id for query_id, _ in answered) == Counter(asked)
    assert {status for _, status in answered} == {"ok"}
