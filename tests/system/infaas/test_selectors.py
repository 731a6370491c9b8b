"""Two selectors share the queries of a task, and decide each of them once, as a client that is not ours counts."""

from collections import Counter

import pytest
from aiohttp import ClientSession

from schemas.topics import results_topic, task_topic, variant_topics
from tests.system.infaas.conftest import Cli
from tests.system.infaas.plain_client import PATIENCE_S, partitions, results_of, write, written
from tests.waiting import read_until, until

pytestmark = pytest.mark.timeout(400)
QUERIES = 1000
REGISTERED, GROWN = 2, 4
"""Partitions that the task was registered with, and those that two selectors share."""
TASK = "digits"
TASK_TOPIC, VARIANT_TOPICS = task_topic(TASK), variant_topics("linear.onnx-fp32.cpu")


async def test_two_selectors_decide_each_query_once(cli: Cli) -> None:
    async with cli.up("--selectors=2"):
        state = await cli.json("status", "--wait")
        await register(cli)
        await until_grown(state["kafka"])
        metrics = [state["services"][name]["metrics"] for name in ("selector", "selector-1")]
        asked: set[str] = set()

        async def both_decide() -> bool:
            # A member hears of a new topic in its own time; until then the other decides alone.
            ids = [f"asked-{len(asked) + number}" for number in range(QUERIES)]
            asked.update(await write(state["kafka"], TASK_TOPIC, ids, GROWN))
            return 0 not in [await decisions(url) for url in metrics]

        await until(both_decide, PATIENCE_S)
        async with results_of(state["kafka"], TASK) as results:
            await results.of(asked)
        assert results.seen == Counter(asked)
        assert await forwarded(state["kafka"]) == len(asked)  # by offsets: nothing was decided twice


async def register(cli: Cli) -> None:
    """Register a variant of the task, and have it loaded."""
    await cli.register("digits_linear.onnx", "--name=linear", f"--partitions={REGISTERED}", task=TASK)
    await cli.json("query", "linear")


async def until_grown(kafka: str) -> None:
    """Wait until the task has partitions for both selectors; its results stay where clients look for them."""
    await read_until(lambda: partitions(kafka, TASK_TOPIC), lambda found: found >= GROWN, PATIENCE_S)
    assert await partitions(kafka, results_topic(TASK)) == REGISTERED


async def forwarded(kafka: str) -> int:
    """Records of the variant's topics that are ours, the query that loaded it not counted."""
    return sum([await written(kafka, topic) for topic in VARIANT_TOPICS]) - 1


async def decisions(metrics: str) -> float:
    async with ClientSession() as http, http.get(metrics) as answer:
        lines = (await answer.text()).splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("infaas_selector_decisions_total{"))
