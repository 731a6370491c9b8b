"""Test of OpenAI's API on a whole system whose processes are killed: OpenAI's client gets each line of a batch once."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openai import AsyncOpenAI
from openai.types import Batch

from tests.processing_files import text_model, write_tokenizer
from tests.system.infaas.conftest import Cli
from tests.waiting import read_until

TASK = "phrases"
LINES = 3000
KILLED = ("gateway", "jobs", "selector", "worker")
GOOD, BAD = [0.0, 1.0], [1.0, 0.0]
"""Vectors of the words in the order of the model's table: counts of `bad` and `good`."""
ENDED = ("failed", "completed", "expired", "cancelled")
PATIENCE_S = 180.0


async def register(cli: Cli, folder: Path) -> None:
    """Register a model that counts words as an embedding task."""
    text_model(folder / "counts.onnx")
    write_tokenizer(folder / "tokenizer.json")
    np.savez(folder / "texts.npz", text=np.array([b"good film", b"bad film", b"a very good film", b"bad"] * 8))
    words = (f"--task={TASK}", f"--name={TASK}-counts", f"--tokenizer={folder / 'tokenizer.json'}", "--measure=cosine")
    await cli.json(
        "register", str(folder / "counts.onnx"), *words, f"--calibration={folder / 'texts.npz'}", "--variant=onnx-fp32"
    )


def a_line(number: int) -> str:
    body = {"model": TASK, "input": "bad" if number % 2 else "good"}
    return json.dumps({"custom_id": str(number), "method": "POST", "url": "/v1/embeddings", "body": body})


async def test_killed_processes_lose_no_line_of_a_batch(pairs: Cli, tmp_path: Path) -> None:
    """There are two of each process, and one of each is killed."""
    state = await pairs.state()
    services: dict[str, Any] = state["services"]
    killed = [next(key for key in services if key.startswith(name)) for name in KILLED]
    await register(pairs, tmp_path)
    async with AsyncOpenAI(base_url=f"{state['gateway']}/v1", api_key="me", max_retries=20) as client:
        answer = await client.embeddings.create(model=TASK, input=["good", "bad"], extra_body={"allow_late": True})
        assert [one.embedding for one in answer.data] == [GOOD, BAD]
        batch = await begin(client)
        await read_until(lambda: client.batches.retrieve(batch.id), has_answers, PATIENCE_S)
        for name in killed:
            os.kill(services[name]["pid"], signal.SIGKILL)
        batch = await read_until(
            lambda: client.batches.retrieve(batch.id), lambda found: found.status in ENDED, PATIENCE_S
        )
        assert batch.status == "completed", batch
        assert batch.output_file_id is not None
        text = (await client.files.content(batch.output_file_id)).text
    await pairs.state_when(lambda now: all(now["services"][name]["pid"] != services[name]["pid"] for name in killed))
    answers = [json.loads(line) for line in text.splitlines()]
    assert sorted(int(one["custom_id"]) for one in answers) == list(range(LINES))
    for one in answers:
        wanted = BAD if int(one["custom_id"]) % 2 else GOOD
        assert one["response"]["body"]["data"][0]["embedding"] == pytest.approx(wanted)


def has_answers(batch: Batch) -> bool:
    assert batch.status in ("validating", "in_progress"), batch
    return batch.request_counts is not None and batch.request_counts.completed > 0


async def begin(client: AsyncOpenAI) -> Batch:
    content = "\n".join(map(a_line, range(LINES))).encode()
    file = await client.files.create(file=("lines.jsonl", content), purpose="batch")
    return await client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
