"""Test of scaling with real servers, processes and a real model, under more load than one worker can serve."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from broker.kafka.settings import KafkaSettings
from infaas.client import InfaasClient
from schemas.errors import DeadlineExceeded, Overloaded
from schemas.rows.cluster import DecisionKind, WorkerRow
from store.placement import list_workers
from store.pool import Pool
from store.samples import list_decisions
from tests.load import Pace
from tests.processes import variables_of
from tests.system.infaas.conftest import PREFIX, Cli
from tests.waiting import read_until, until
from zoo.samples import labelled

pytestmark = [pytest.mark.needs_minutes, pytest.mark.timeout(600)]
SECOND = f"{PREFIX}cpu-1"
WORKERS = {f"{PREFIX}cpu-0", SECOND}
EAGER = {
    "INFAAS_AUTOSCALER_DOWNSCALE_DELAY_S": "1",
    "INFAAS_AUTOSCALER_DOWNSCALE_DELAY_LOADS": "1",
    "INFAAS_AUTOSCALER_WORKER_DOWNSCALE_DELAY_STARTS": "0.1",
}
QUERIES_PER_S = 100
MORE_S = 8.0
"""Seconds between increases of the load, because the speed of the machine is unknown."""
MOST_ASKING = 6
INPUTS = 16
FOLLOWED_S = 180.0
LATENCY_MS = 5000
"""Long enough for a worker that shares its core; the test is about scaling, not deadlines."""


async def test_load_starts_second_worker_and_idleness_stops_it(
    kafka: KafkaSettings, database: str, store_pool: Pool, tmp_path: Path
) -> None:
    cli = Cli(tmp_path / "home", variables_of(kafka, database))
    async with cli.up("--max-workers=2", "--cores-per-worker=1", "--oversubscribe", "--policy=greedy", **EAGER):
        state = await cli.state()
        kafka = KafkaSettings(bootstrap=state["kafka"], fetch_max_wait_ms=state["fetch_max_wait_ms"])
        await cli.register("mnist_resnet.onnx", "--max-batch=4", "--name=mnist-resnet", task="mnist", most=200)

        async with InfaasClient(kafka=kafka) as client:
            some = {name: values[:INPUTS] for name, values in labelled("mnist")[0].items()}
            async with asked(client, some) as answers:
                await until(lambda: answers.workers >= WORKERS, FOLLOWED_S)
        assert set(answers.refused) <= {Overloaded, DeadlineExceeded}

        before = (await cli.state())["services"]
        os.kill(before["autoscaler"]["pid"], signal.SIGKILL)  # its successor must know both workers
        await read_until(lambda: list_workers(store_pool), one_works, FOLLOWED_S)
        scale = await cli.json("scale", "status")
        # Usually the first is kept; the second if the first, on a busy machine, became slower than its profile.
        kept = scale["workers"][0]["name"]
        (gone,) = WORKERS - {kept}
        after = (await cli.state())["services"]
        assert after[f"worker-{kept}"]["pid"] == before[f"worker-{kept}"]["pid"]
        assert [row["count"] for row in scale["wanted"]] == [1]
        assert sorted(p for row in scale["instances"] for p in row["partitions"]) == [0, 1]
        assert (await steps_of(store_pool, SECOND))[0] == "start"
        assert (await steps_of(store_pool, gone))[-2:] == ["drain", "stop"]
        [why] = await cli.json("scale", "explain", "cpu")
        assert (why["action"], why["policy"]) == ("want", "greedy")
        assert why["explanation"]["workers"]["cpu"]["wanted"] == 1


class Answers:
    """Outcomes of queries that are sent at a rising rate."""

    def __init__(self) -> None:
        self.refused: list[type[Exception]] = []
        self.workers: set[str] = set()
        """Names of the workers that answered."""


@asynccontextmanager
async def asked(client: InfaasClient, inputs: Any) -> AsyncGenerator[Answers]:
    answers = Answers()

    async def ask() -> None:
        try:
            answer = await client.infer("mnist", inputs, latency_ms=LATENCY_MS)
            answers.workers.add(answer.worker)
        except (Overloaded, DeadlineExceeded) as error:
            answers.refused.append(type(error))

    async def ask_steadily(tasks: asyncio.TaskGroup) -> None:
        async for _ in Pace(QUERIES_PER_S):
            tasks.create_task(ask())

    async def ask_more(tasks: asyncio.TaskGroup) -> None:
        async with asyncio.TaskGroup() as asking:
            async for _ in Pace(1 / MORE_S, MOST_ASKING):
                asking.create_task(ask_steadily(tasks))

    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(ask_more(tasks))
        try:
            yield answers
        finally:
            asking.cancel()


def one_works(workers: list[WorkerRow]) -> bool:
    return len(workers) == 1


async def steps_of(pool: Pool, worker: str) -> list[str]:
    steps = [row.action for row in await list_decisions(pool, about=worker) if row.kind is DecisionKind.WORKER]
    return steps[::-1]
