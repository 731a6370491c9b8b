"""Test of a cascade: registered by the command line, queried over HTTP, on two workers of which one is killed."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import aiohttp
import numpy as np
import pytest
from numpy.typing import NDArray

from broker.settings import KafkaSettings
from broker.topics import ensure_system_topics
from process.liveness import responds
from process.ports import LOOPBACK, free_port
from runtimes.catalog import find_runtime
from runtimes.confidence import ConfidenceMeasure, unsure_rows
from runtimes.protocol import LoadOptions
from schemas.rows.placement import InstanceRow
from schemas.status import SERVING
from store.placement import list_instances
from store.pool import Pool
from tests.load import Pace
from tests.processes import service, variables_of
from tests.system.infaas.conftest import Cli
from tests.system.infaas.plain_client import PATIENCE_S
from tests.waiting import read_until, until
from zoo.samples import DATA, labelled

pytestmark = pytest.mark.timeout(400)
SERVICES: Final = ("workers", "workers", "selector", "autoscaler", "gateway")
FILES: Final = {"linear": "digits_linear.onnx", "cnn": "digits_cnn.onnx"}
THRESHOLD: Final = 0.9
ROWS: Final = 200
RATE: Final = 50.0
AGAIN_PER_S: Final = 20.0

Scores = NDArray[np.float32]


async def test_cascade_answers_every_row_although_worker_dies(
    kafka: KafkaSettings, database: str, store_pool: Pool, tmp_path: Path, cli: Cli
) -> None:
    env = variables_of(kafka, database, tmp_path)
    task = f"digits-{uuid4().hex[:8]}"
    await ensure_system_topics(kafka)
    for name, file in FILES.items():
        await cli.register(file, f"--name={task}-{name}", task=task, data="digits", env=env)
    made = await cli.json(
        *("cascade", task, f"--first={task}-linear.onnx-fp32.cpu", f"--then={task}-cnn.onnx-fp32.cpu", "--name=both"),
        *(f"--threshold={THRESHOLD}", f"--validation={cli.home.parent / 'validation.npz'}"),
        **env,
    )
    variant = made[0]["variant"]["name"]
    assert variant == "both.onnx-fp32-onnx-fp32-t900.cpu"
    assert made[0]["profile"]["accuracy_source"] == "measured"
    await cli.json("scale", "pin", "variant", variant, "--min=2", **env)
    async with AsyncExitStack() as stack:
        processes: list[asyncio.subprocess.Process] = []
        gateway = ""
        for name in SERVICES:
            port = free_port()
            ports = {f"INFAAS_{name.upper()}_{'PORT' if name == 'gateway' else 'METRICS_PORT'}": str(port)}
            processes.append(await stack.enter_async_context(service(name, env=env | ports)))
            gateway = f"http://{LOOPBACK}:{port}"
        await read_until(lambda: list_instances(store_pool), lambda rows: serves_on_two(rows, variant), PATIENCE_S)
        answers = await ask_all(gateway, variant, processes[0])
    inputs = labelled("digits")[0]["input"][:ROWS]
    linear, cnn = (computed(file, inputs) for file in FILES.values())
    unsure = set(unsure_rows(linear, ConfidenceMeasure.SOFTMAX, THRESHOLD).tolist())
    assert 0 < len(unsure) < ROWS, "both stages have something to answer"
    for row, scores in answers.items():
        np.testing.assert_allclose(scores, cnn[row] if row in unsure else linear[row], rtol=1e-3, atol=1e-3)


async def ask_all(gateway: str, variant: str, worker: asyncio.subprocess.Process) -> dict[int, Scores]:
    """Query each row at a steady rate and kill a worker after a third of them; return one answer per row."""
    answers: dict[int, Scores] = {}
    images = labelled("digits")[0]["input"]

    async def ask(http: aiohttp.ClientSession, row: int) -> None:
        body = tensor(images[row : row + 1])
        async for _ in Pace(AGAIN_PER_S):
            with suppress(aiohttp.ClientError):
                async with http.post(
                    f"{gateway}/v2/models/{variant}/infer", json=body, headers={"infaas-id": f"row-{row}"}
                ) as answer:
                    if answer.status == 200:
                        outputs = (await answer.json())["outputs"]
                        answers[row] = np.array(outputs[0]["data"], np.float32)
                        return

    async with asyncio.timeout(PATIENCE_S), aiohttp.ClientSession() as http, asyncio.TaskGroup() as asking:
        await until(lambda: responds(http, f"{gateway}/v2/models/{variant}/ready"))
        async for row in Pace(RATE, ROWS):
            asking.create_task(ask(http, row))
            if row == ROWS // 3:
                worker.kill()
    assert answers.keys() == set(range(ROWS))
    return answers


def serves_on_two(rows: list[InstanceRow], variant: str) -> bool:
    return len({row.worker for row in rows if row.variant == variant and row.state in SERVING}) == 2


def tensor(image: NDArray[Any]) -> Mapping[str, Any]:
    data: list[float] = image.ravel().tolist()
    return {"inputs": [{"name": "input", "shape": list(image.shape), "datatype": "FP32", "data": data}]}


def computed(file: str, inputs: NDArray[Any]) -> NDArray[Any]:
    """Compute a stage's outputs, one row after the other."""
    session = find_runtime("onnx").load(DATA / file, "cpu", LoadOptions(precision="fp32"))
    return np.concatenate([session.infer({"input": inputs[row : row + 1]})["logits"] for row in range(len(inputs))])
