"""Test of floods of offline queries next to online ones, through two selectors."""

import asyncio
import os
import signal
from collections import Counter
from typing import Final

import pytest

from infaas.client import Answer, InfaasClient
from schemas.topics import offline_topic, results_topic, task_topic
from tests.system.infaas.conftest import Cli
from tests.system.infaas.plain_client import results_of, write, written
from tests.system.infaas.test_selectors import REGISTERED, forwarded, register
from zoo.samples import labelled

pytestmark = pytest.mark.needs_minutes

TASK: Final = "flooded"
FLOOD: Final = 24_000
ONLINE: Final = 20
LATENCY_MS: Final = 10_000
"""Long enough for a busy machine; a count shows that online queries do not wait for the flood."""
RAW: Final = 400


async def test_offline_flood_does_not_delay_online_queries(shared: Cli) -> None:
    state = await shared.state()
    await register(shared, TASK)
    one = {name: values[:1] for name, values in labelled("digits")[0].items()}
    async with InfaasClient(kafka=state["kafka"]) as client, results_of(state["kafka"], TASK) as results:
        await client.infer(TASK, one)  # all connections are open from here on
        before = await forwarded(state["kafka"], TASK)
        asked = await write_offline(state["kafka"], offline_topic(TASK), "flood", FLOOD)
        online = [client.infer(TASK, one, latency_ms=LATENCY_MS) for _ in range(ONLINE)]
        answers = await asyncio.gather(*online, return_exceptions=True)
        assert [answer for answer in answers if not isinstance(answer, Answer)] == []
        assert await written(state["kafka"], results_topic(TASK)) < FLOOD, (
            "the flood was over before the online queries were answered"
        )
        assert await results.of(asked) == Counter(asked)
        # by offsets: no query was decided twice
        assert await forwarded(state["kafka"], TASK) - before == FLOOD + ONLINE

        moved = await write_offline(state["kafka"], task_topic(TASK), "moved", RAW)
        assert await results.of(moved) == Counter(moved)

        asked = await write_offline(state["kafka"], offline_topic(TASK), "killed", FLOOD // 5)
        await results.until(lambda: not asked.isdisjoint(results.seen))
        os.kill(state["services"]["selector"]["pid"], signal.SIGKILL)
        assert (await results.of(asked)).keys() == asked


async def write_offline(kafka: str, topic: str, name: str, count: int) -> set[str]:
    """Write `count` offline queries by plain aiokafka; return their ids."""
    return await write(kafka, topic, (f"{name}-{number}" for number in range(count)), REGISTERED, mode="offline")
