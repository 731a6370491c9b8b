"""Test of a cascade: registered by the command line, queried over HTTP, on two workers of which one is killed."""

import asyncio
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import aiohttp
import numpy as np
import pytest
from numpy.typing import NDArray

from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import ensure_system_topics
from process.health import responds
from runtimes.catalog import find_runtime
from runtimes.composite import ConfidenceMeasure, unsure_rows
from runtimes.protocol import LoadOptions
from schemas.rows.cluster import InstanceRow
from schemas.status import SERVING
from store.placement import list_instances
from store.pool import Pool
from tests.doc_commands import block, run_commands
from tests.processes import environment, services, variables_of
from tests.system.infaas.conftest import Cli
from tests.system.infaas.plain_client import PATIENCE_S, body_of, post, steadily
from tests.waiting import read_until, until
from zoo.samples import DATA, labelled

pytestmark = pytest.mark.needs_minutes

SERVICES: Final = ("workers", "workers", "selector", "autoscaler", "gateway")
FILES: Final = {"linear": "digits_linear.onnx", "cnn": "digits_cnn.onnx"}
THRESHOLD: Final = 0.9
ROWS: Final = 200
RATE: Final = 50.0

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
    await run_documented(task, cli.home.parent, env)
    await cli.json("scale", "pin", "variant", variant, "--min=2", **env)
    async with services(SERVICES, env) as started:
        await read_until(lambda: list_instances(store_pool), lambda rows: serves_on_two(rows, variant), PATIENCE_S)
        answers = await ask_all(started.urls["gateway"][0], variant, started.processes["workers"][0])
    inputs = labelled("digits")[0]["input"][:ROWS]
    linear, cnn = (computed(file, inputs) for file in FILES.values())
    unsure = set(unsure_rows(linear, ConfidenceMeasure.SOFTMAX, THRESHOLD).tolist())
    assert 0 < len(unsure) < ROWS, "both stages have something to answer"
    for row, scores in answers.items():
        np.testing.assert_allclose(scores, cnn[row] if row in unsure else linear[row], rtol=1e-3, atol=1e-3)


async def run_documented(task: str, folder: Path, env: Mapping[str, str]) -> None:
    """Run the commands of `docs/models.md` about cascades."""
    shutil.copy(folder / "validation.npz", folder / "digits.npz")
    own = {f"digits-{name}": f"{task}-{name}" for name in FILES}
    own |= {f"{command} digits ": f"{command} {task} " for command in ("cascade", "plot")}
    await run_commands(block("docs/models.md#3"), folder, environment(env), own)
    assert (folder / "variants.png").stat().st_size


async def ask_all(gateway: str, variant: str, worker: asyncio.subprocess.Process) -> dict[int, Scores]:
    """Query each row at a steady rate and kill a worker after a third of them; return one answer per row."""
    answers: dict[int, Scores] = {}
    images, model = labelled("digits")[0]["input"], f"{gateway}/v2/models/{variant}"

    async def ask(http: aiohttp.ClientSession, row: int) -> None:
        if row == ROWS // 3:
            worker.kill()
        body = json.dumps(body_of(images[row : row + 1])).encode()
        answer = await post(http, [f"{model}/infer"], body, 200, **{"infaas-id": f"row-{row}"})
        answers[row] = np.array(json.loads(answer)["outputs"][0]["data"], np.float32)

    async with aiohttp.ClientSession() as http:
        await until(lambda: responds(http, f"{model}/ready"))
    await steadily(ask, RATE, ROWS)
    assert answers.keys() == set(range(ROWS))
    return answers


def serves_on_two(rows: list[InstanceRow], variant: str) -> bool:
    return len({row.worker for row in rows if row.variant == variant and row.state in SERVING}) == 2


def computed(file: str, inputs: NDArray[Any]) -> NDArray[Any]:
    """Compute a stage's outputs, one row after the other."""
    session = find_runtime("onnx").load(DATA / file, "cpu", LoadOptions(precision="fp32"))
    return np.concatenate([session.infer({"input": inputs[row : row + 1]})["logits"] for row in range(len(inputs))])
