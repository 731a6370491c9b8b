"""Workers follow load: real servers, processes and a real model, under more load than one worker can take."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from broker.settings import KafkaSettings
from infaas.client import InfaasClient
from schemas.errors import DeadlineExceeded, Overloaded
from tests.system.infaas.conftest import Cli
from zoo.samples import DATA, labelled

pytestmark = pytest.mark.timeout(600)
VARIANT = "mnist-resnet.onnx-fp32.cpu"
EAGER = {
    "INFAAS_AUTOSCALER_DOWNSCALE_DELAY_S": "1",
    "INFAAS_AUTOSCALER_DOWNSCALE_DELAY_LOADS": "1",
    "INFAAS_AUTOSCALER_WORKER_DOWNSCALE_DELAY_S": "1",
    "INFAAS_AUTOSCALER_WORKER_DOWNSCALE_DELAY_STARTS": "0.1",
}
QUERIES_PER_S = 100
INPUTS = 16
LATENCY_MS = 5000
"""Enough for a worker that shares its core: this is about the scale, not about deadlines."""


async def test_load_starts_a_second_worker_and_idleness_stops_it(cli: Cli) -> None:
    async with cli.up("--max-workers=2", "--cores-per-worker=1", "--oversubscribe", "--policy=greedy", **EAGER):
        state = await cli.json("status", "--wait")
        kafka = KafkaSettings(bootstrap=state["kafka"], fetch_max_wait_ms=state["fetch_max_wait_ms"])
        inputs, labels = labelled("mnist")
        validation = cli.home / "validation.npz"
        np.savez(validation, allow_pickle=False, label=labels[:200], **{n: v[:200] for n, v in inputs.items()})
        named = ("--task=mnist", f"--validation={validation}", "--variant=onnx-fp32", "--max-batch=4")
        await cli.json("register", str(DATA / "mnist_resnet.onnx"), *named, "--name=mnist-resnet")

        async with InfaasClient(kafka=kafka) as client:
            some = {name: values[:INPUTS] for name, values in inputs.items()}
            async with asked(client, some) as answers:
                await until(lambda: answers.workers >= {"cpu-0", "cpu-1"})
        assert set(answers.refused) <= {Overloaded, DeadlineExceeded}

        before = (await cli.json("status", "--wait"))["services"]
        os.kill(before["autoscaler"]["pid"], signal.SIGKILL)  # its successor knows both workers, and which may go
        await scale_when(cli, lambda scale: {w["name"] for w in scale["workers"]} == {"cpu-0"})
        after = (await cli.json("status", "--wait"))["services"]
        assert after["worker-cpu-0"]["pid"] == before["worker-cpu-0"]["pid"]
        scale = await cli.json("scale", "status")
        assert [row["count"] for row in scale["wanted"]] == [1]
        assert sorted(p for row in scale["instances"] for p in row["partitions"]) == [0, 1, 2, 3]
        steps = [row["action"] for row in await cli.json("scale", "history", "cpu-1") if row["kind"] == "worker"]
        assert [steps[0], *steps[-2:]] == ["start", "drain", "stop"]
        [why] = await cli.json("scale", "explain", "cpu")
        assert (why["action"], why["policy"]) == ("want", "greedy")
        assert why["explanation"]["workers"]["cpu"]["wanted"] == 1


class Answers:
    """What came of queries that are asked at a steady rate."""

    def __init__(self) -> None:
        self.refused: list[type[Exception]] = []
        self.workers: set[str] = set()
        """Names of the workers that answered."""


@asynccontextmanager
async def asked(client: InfaasClient, inputs: Any) -> AsyncGenerator[Answers]:
    answers, stop = Answers(), asyncio.Event()

    async def ask() -> None:
        try:
            answer = await client.infer("mnist", inputs, latency_ms=LATENCY_MS)
            answers.workers.add(answer.worker)
        except (Overloaded, DeadlineExceeded) as error:
            answers.refused.append(type(error))

    async def ask_steadily(tasks: asyncio.TaskGroup) -> None:
        while not stop.is_set():
            tasks.create_task(ask())
            await asyncio.sleep(1 / QUERIES_PER_S)

    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(ask_steadily(tasks))
        try:
            yield answers
        finally:
            stop.set()
            await asking


async def until(check: Callable[[], bool], within_s: float = 180.0) -> None:
    async with asyncio.timeout(within_s):
        while not check():  # noqa: ASYNC110 - answers come one by one
            await asyncio.sleep(0.05)


async def scale_when(cli: Cli, holds: Callable[[Any], bool]) -> None:
    async with asyncio.timeout(180):
        while not holds(await cli.json("scale", "status")):
            pass  # each look is a process that takes its time
