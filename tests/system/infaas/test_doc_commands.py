"""Tests of the commands in the manual: batch.md, clients.md, jobs.md, models.md, rollout.md and security.md."""

import json
import re
import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_topics
from tests.doc_commands import block, run_commands
from tests.system.infaas.conftest import Cli
from zoo.samples import DATA, labelled

pytestmark = pytest.mark.needs_minutes


@pytest.fixture
async def folder(shared: Cli, tmp_path: Path) -> Path:
    """Folder with the files of a user of the system: models and labelled data."""
    await shared.state()
    inputs, labels = labelled("digits")
    np.savez(tmp_path / "digits.npz", allow_pickle=False, label=labels[:300], **{k: v[:300] for k, v in inputs.items()})
    shutil.copy(DATA / "digits_linear.onnx", tmp_path / "my.onnx")
    shutil.copy(DATA / "digits_mlp.onnx", tmp_path / "better.onnx")
    return tmp_path


async def run(cli: Cli, folder: Path, text: str, changes: dict[str, str]) -> str:
    """Run commands by a system's command line."""
    return await run_commands(text, folder, cli.environment(), changes)


async def test_commands_of_rollouts_run(shared: Cli, folder: Path) -> None:
    word = uuid4().hex[:6]
    own = {"--task digits": f"--task d-{word} --variant onnx-fp32", "my-mlp": f"mlp-{word}"}
    await run(shared, folder, block("docs/rollout.md#0"), own | {"better.onnx": "my.onnx"})
    *_, rolled_back = (await run(shared, folder, block("docs/rollout.md#1"), own)).splitlines()
    assert "retired" in rolled_back


async def test_commands_of_access_run(shared: Cli, folder: Path) -> None:
    word = uuid4().hex[:6]
    own = {"my.onnx": f"my.onnx --name my-{word}", "--task digits": f"--task a-{word} --variant onnx-fp32",
           "show my": f"show my-{word}", "set my": f"set my-{word}"}  # fmt: skip
    assert "globex" in await run(shared, folder, block("docs/security.md#5"), own)


async def test_commands_of_keys_run(shared: Cli, folder: Path) -> None:
    word = uuid4().hex[:6]
    made: Any = await shared.json("keys", "create", f"--tenant=t-{word}")
    keys = {"3f9c0a1be204": made["id"], "acme": f"t-{word}"}
    assert made["id"] in await run(shared, folder, block("docs/security.md#2"), keys)
    await run(shared, folder, block("docs/security.md#3"), {"acme": f"t-{word}"})
    assert f"spiffe://t-{word}/batch" in {row["certificate"] for row in await shared.json("keys", "list")}
    code, _, err = await shared.run("tenants", "create", f"t-{word}")
    assert code == 0, err
    shown = await run(shared, folder, block("docs/security.md#9"), {"acme": f"t-{word}"})
    assert f"infaas-sk.t-{word}." in shown


async def test_commands_of_jobs_run(shared: Cli, folder: Path) -> None:
    word, state = uuid4().hex[:6], await shared.state()
    await shared.register_texts(f"text-{word}", name=f"textcnn-{word}")
    own = {"http://127.0.0.1:8080": state["gateway"], "sentiment-text": f"text-{word}"}
    place, begin, *others = block("docs/jobs.md#0").splitlines()
    shown = await run(shared, folder, f"{place}\n{begin}", own)
    assert " 202 " in shown
    (job,) = re.findall(r"^location: .*/(\S+)", shown, re.IGNORECASE | re.MULTILINE)
    rest = "\n".join([place, "set +e", *others, "true"])  # the block cancels the job, so it has no result
    shown = await run(shared, folder, rest, own | {"ID": job})
    assert shown.count(job) > 2
    await rate_reviews(shared, folder, f"text-{word}")


async def rate_reviews(cli: Cli, folder: Path, task: str) -> None:
    """Run the batch job that answers a topic, on some texts."""
    kafka, names = KafkaSettings(bootstrap=(await cli.state())["kafka"]), (f"reviews-of-{task}", f"ratings-of-{task}")
    await ensure_topics(kafka, [TopicSpec(name, 2) for name in names])
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        for number in range(20):
            await producer.send_and_wait(names[0], b'{"text": "a wonderful film"}', partition=number % 2)
    own = {"topic:reviews": f"topic:{names[0]}", "topic:ratings": f"topic:{names[1]}", "sentiment-text": task}
    await run(cli, folder, block("docs/clients.md#1"), own)
    ratings = AIOKafkaConsumer(
        names[1], bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    async with ratings:
        found = [json.loads((await anext(ratings)).value or b"") for _ in range(20)]
    assert [one["label"] for one in found] == [["positive"]] * 20


async def test_commands_of_batches_run(shared: Cli, folder: Path) -> None:
    word, rows = uuid4().hex[:6], labelled("mnist")[0]["input"][:100]
    np.savez(folder / "rows.npz", input=rows)
    await shared.register("mnist_cnn_s.onnx", f"--name=cnn-{word}", task=f"mnist-{word}", data="mnist")
    await run(shared, folder, block("docs/batch.md#0"), {"--task mnist": f"--task mnist-{word}"})
    assert len((folder / "results.jsonl").read_text().splitlines()) == len(rows)
