"""Survival of a batch of OpenAI's API: `python -m tests.chaos.batches [--lines N]`.

A system with two processes of each service on Apache Kafka accepts a batch of N lines, sent by OpenAI's client. While
it runs, every process is killed at once, including Kafka and Postgres. The system is started again in the same folder,
and each line must be answered once, with its own vector; the exit code is 0 only then.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from openai import APIConnectionError, AsyncOpenAI
from openai.types import Batch
from rich.console import Console

from bench.core.system import SystemUnderTest, infaas, running_at
from tests.chaos.jobs import kill_all, services_of
from tests.processing_files import WORDS, text_model, write_tokenizer

TASK: Final = "phrases"
_ANSWERED_S: Final = 900.0
_LOOK_S: Final = 0.2
_ENDED: Final = ("failed", "completed", "expired", "cancelled")


class BatchReport(NamedTuple):
    """Result of the run."""

    lines: int
    answered_before: int
    """Lines that were answered at the kill."""
    up_s: float
    """Seconds from the kill until the system was ready again."""
    answered_s: float
    """Seconds from then until the batch had ended."""
    status: str
    answers: int
    """Lines of the output file."""
    wrong: int
    """Lines whose answer is missing, repeated, or another line's."""

    @property
    def passed(self) -> bool:
        """True if every line has its answer, once."""
        return self.status == "completed" and self.answers == self.lines and not self.wrong


def main() -> None:
    """Parse the command line, run, and print the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.batches")
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--of-each", type=int, default=2, help="processes of each service")
    arguments = parser.parse_args()
    report = asyncio.run(survive(arguments.lines, arguments.of_each, Console(stderr=True)))
    print(json.dumps(report._asdict()))
    sys.exit(not report.passed)


async def survive(count: int, of_each: int, console: Console) -> BatchReport:
    """Begin a batch, kill everything while it runs, start it again, and check each line."""
    flags = services_of(of_each)
    with tempfile.TemporaryDirectory(prefix="infaas-batch-") as folder:
        home = Path(folder) / "home"
        async with running_at(home, "apache", flags=flags) as system:
            await _register(home, Path(folder))
            async with _client(system) as client:
                content = "\n".join(map(_line, range(count))).encode()
                file = await client.files.create(file=("lines.jsonl", content), purpose="batch")
                batch = await client.batches.create(
                    input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h"
                )
                batch = await _batch_when(client, batch.id, lambda found: _completed(found) > 0)
            console.log(f"killing all processes with {_completed(batch)} of {count} lines answered")
            await kill_all(system)
        killed = time.monotonic()
        async with running_at(home, "apache", flags=flags) as system:
            up_s, began = time.monotonic() - killed, time.monotonic()
            console.log(f"up again after {up_s:.1f} s")
            async with _client(system) as client:
                ended = await _batch_when(client, batch.id, lambda found: found.status in _ENDED)
                answered_s = time.monotonic() - began
                console.log(f"{ended.status} {answered_s:.1f} s later; reading the answers")
                text = (await client.files.content(ended.output_file_id or "")).text
            await kill_all(system)  # a normal shutdown would only take time
    lines = text.splitlines()
    return BatchReport(count, _completed(batch), up_s, answered_s, ended.status, len(lines), _wrong(lines, count))


async def _register(home: Path, folder: Path) -> None:
    """Register a model that counts the words `bad` and `good` of a text as an embedding task."""
    text_model(folder / "counts.onnx")
    write_tokenizer(folder / "tokenizer.json")
    np.savez(folder / "texts.npz", text=np.array([word.encode() for word in WORDS[2:]] * 8))
    files = (f"--tokenizer={folder / 'tokenizer.json'}", f"--calibration={folder / 'texts.npz'}")
    words = (f"--task={TASK}", "--name=counts", "--measure=cosine", "--variant=onnx-fp32", *files)
    await infaas(home, "register", str(folder / "counts.onnx"), *words)


def _client(system: SystemUnderTest) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{system.gateway}/v1", api_key="me", max_retries=10)


async def _batch_when(client: AsyncOpenAI, batch_id: str, holds: Callable[[Batch], bool]) -> Batch:
    """Wait until `holds` is true for a batch; return it."""
    async with asyncio.timeout(_ANSWERED_S):
        while True:
            try:
                batch = await client.batches.retrieve(batch_id)
            except APIConnectionError:
                batch = None
            if batch is not None and holds(batch):
                return batch
            await asyncio.sleep(_LOOK_S)


def _completed(batch: Batch) -> int:
    return 0 if batch.request_counts is None else batch.request_counts.completed


def _text_of(number: int) -> str:
    """Return the text of a line, whose words spell its number in binary."""
    return " ".join("good" if bit == "1" else "bad" for bit in f"{number:b}")


def _vector_of(number: int) -> list[float]:
    ones = f"{number:b}".count("1")
    return [len(f"{number:b}") - ones, ones]


def _line(number: int) -> str:
    body = {"model": TASK, "input": _text_of(number)}
    return json.dumps({"custom_id": str(number), "method": "POST", "url": "/v1/embeddings", "body": body})


def _wrong(lines: list[str], count: int) -> int:
    """Count the lines whose answer is missing, repeated or another line's."""
    right = set[int]()
    for line in lines:
        found = json.loads(line)
        number = int(found["custom_id"])
        if number not in right and found["response"]["body"]["data"][0]["embedding"] == _vector_of(number):
            right.add(number)
    return count - len(right) + len(lines) - len(right)


if __name__ == "__main__":
    main()
