"""Test of two selectors that share the queries of a task and decide each query once."""

from collections import Counter

from schemas.topics import results_topic, task_topic, variant_topics
from tests.system.infaas.conftest import Cli
from tests.system.infaas.plain_client import PATIENCE_S, page, partitions, results_of, write, written
from tests.waiting import read_until, until

QUERIES = 1000
REGISTERED, GROWN = 2, 4
"""Partitions of the task at its registration, and the number that two selectors share."""
TASK = "decided-once"


async def test_two_selectors_decide_each_query_once(shared: Cli) -> None:
    state = await shared.state()
    await register(shared, TASK)
    await until_grown(state["kafka"])
    metrics = [state["services"][name]["metrics"] for name in ("selector", "selector-1")]
    before = [await decisions(url) for url in metrics]
    asked: set[str] = set()

    async def both_decide() -> bool:
        # A member learns of a new topic with a delay; until then the other one decides alone.
        ids = [f"asked-{len(asked) + number}" for number in range(QUERIES)]
        asked.update(await write(state["kafka"], task_topic(TASK), ids, GROWN))
        return all([await decisions(url) > then for url, then in zip(metrics, before, strict=True)])

    await until(both_decide, PATIENCE_S)
    async with results_of(state["kafka"], TASK) as results:
        await results.of(asked)
    assert results.seen == Counter(asked)
    assert await forwarded(state["kafka"], TASK) == len(asked)  # by offsets: no query was decided twice


async def register(cli: Cli, task: str) -> None:
    """Register a variant for a task of this test alone, and load it."""
    model = model_of(task)
    await cli.register("digits_linear.onnx", f"--name={model}", f"--partitions={REGISTERED}", task=task, data="digits")
    await cli.json("query", model)


def model_of(task: str) -> str:
    """Return the name of the model that `register` registers."""
    return f"{task}-linear"


async def until_grown(kafka: str) -> None:
    """Wait until the task has partitions for both selectors; the results topic must not grow."""
    await read_until(lambda: partitions(kafka, task_topic(TASK)), lambda found: found >= GROWN, PATIENCE_S)
    assert await partitions(kafka, results_topic(TASK)) == REGISTERED


async def forwarded(kafka: str, task: str) -> int:
    """Return the number of forwarded queries, without the one that loaded the variant."""
    return sum([await written(kafka, topic) for topic in variant_topics(f"{model_of(task)}.onnx-fp32.cpu")]) - 1


async def decisions(metrics: str) -> float:
    lines = (await page(metrics)).splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("infaas_selector_decisions_total{"))
